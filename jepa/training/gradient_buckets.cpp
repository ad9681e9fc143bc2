#include <jepa/errors.hpp>
#include <jepa/training/gradient_buckets.hpp>

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/types.h>

#include <algorithm>

namespace jepa {

struct GradientBuckets::State {
  struct Bucket {
    torch::Tensor numbers;
    int64_t parameters = 0;
    int64_t waiting = 0;  ///< for so many of them
  };
  int64_t size;
  std::vector<Bucket> buckets;
  std::vector<size_t> bucket_of;  ///< by parameter
  std::vector<bool> arrived;      ///< by parameter
  size_t begun = 0;
  int64_t early = 0;
  Processes* processes = nullptr;  ///< null: no gradient is looked at

  void begin_next() {
    processes->begin_average(buckets[begun].numbers);
    ++begun;
  }

  void arrive(size_t parameter) {
    if (processes == nullptr) return;
    const size_t own = bucket_of[parameter];
    if (own < begun) {
      throw Error(
          "a gradient came after its average over processes had begun: the backward pass "
          "of a parameter's last use was not the last one of the step");
    }
    if (arrived[parameter]) return;
    arrived[parameter] = true;
    --buckets[own].waiting;
    while (begun < buckets.size() && buckets[begun].waiting == 0) begin_next();
  }
};

/// What keeps hooks alive: a parameter knows its accumulator only weakly.
struct GradientBuckets::Hooks {
  std::vector<decltype(torch::autograd::impl::grad_accumulator(torch::Tensor()))> accumulators;
};

GradientBuckets::GradientBuckets(int64_t bucket)
    : state_(std::make_shared<State>()), hooks_(std::make_unique<Hooks>()) {
  state_->size = std::max<int64_t>(bucket, 1);
}
GradientBuckets::~GradientBuckets() = default;
GradientBuckets::GradientBuckets(GradientBuckets&&) noexcept = default;

void GradientBuckets::add(const torch::Tensor& flat, const std::vector<torch::Tensor>& parameters,
                          const std::vector<torch::Tensor>& gradients) {
  State& state = *state_;
  int64_t end = flat.numel();
  int64_t count = 0;
  for (size_t i = parameters.size(); i-- > 0;) {
    const size_t parameter = state.bucket_of.size();
    state.bucket_of.push_back(state.buckets.size());
    state.arrived.push_back(false);
    ++count;
    auto accumulator = torch::autograd::impl::grad_accumulator(parameters[i]);
    accumulator->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(
        [shared = state_, parameter](const torch::autograd::variable_list& outputs,
                                     const torch::autograd::variable_list&) {
          shared->arrive(parameter);
          return outputs;
        }));
    hooks_->accumulators.push_back(std::move(accumulator));
    const int64_t begin = i == 0 ? 0 : gradients[i].storage_offset() - flat.storage_offset();
    if (end - begin < state.size && i > 0) continue;
    state.buckets.push_back({flat.narrow(0, begin, end - begin), count, count});
    end = begin;
    count = 0;
  }
}

void GradientBuckets::start(Processes& processes) {
  State& state = *state_;
  state.processes = &processes;
  state.begun = 0;
  state.arrived.assign(state.arrived.size(), false);
  for (auto& bucket : state.buckets) bucket.waiting = bucket.parameters;
}

void GradientBuckets::begin_rest(Processes& processes) {
  State& state = *state_;
  TORCH_CHECK(!state.buckets.empty(),
              "gradients are averaged over processes that the optimiser "
              "was not told of");
  if (state.processes == nullptr) start(processes);
  state.early = static_cast<int64_t>(state.begun);
  while (state.begun < state.buckets.size()) state.begin_next();
  state.processes = nullptr;
}

int64_t GradientBuckets::early() const { return state_->early; }

}  // namespace jepa

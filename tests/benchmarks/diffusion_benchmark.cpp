// Diffusion of moving digits: a training step, attention in both forms, sampling, decoding.
#include <eval/diffusion/sampler.hpp>
#include <eval/diffusion/training.hpp>
#include <jepa/generator.hpp>
#include <jepa/training/optimizer.hpp>

#include <benchmark/benchmark.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace {

using namespace jepa;
using namespace jepa::eval::diffusion;

constexpr int64_t kBatch = 32;
constexpr int64_t kSamples = 8;
constexpr int64_t kLatentWidth = 96;  // the demo's encoder

/// Clips of 8 frames of 32 x 32: 4 x 128 with 4 heads, 64 patches of 2 x 8 x 8.
DiffusionTransformerOptions pixel_shape() {
  return {.dim = 128, .depth = 4, .heads = 4, .tubelet = 2, .patch = 8};
}

DiffusionTransformer make(const DiffusionTransformerOptions& options) {
  DiffusionTransformer model(options);
  model->initialise(seeded_generator(1));
  return model;
}

void count(benchmark::State& state, int64_t clips) {
  state.SetItemsProcessed(state.iterations() * clips);
  state.SetLabel("items are clips");
}

void train_step(benchmark::State& state) {
  auto options = pixel_shape();
  options.words = 21;
  auto model = make(options), average = make(options);
  torch::manual_seed(0);
  const auto x = torch::randn({kBatch, 1, 8, 32, 32});
  const auto prompt = torch::zeros({kBatch, 3}, torch::kInt64);
  DiffusionTask task(model, average, {}, {.schedule = "constant", .total_steps = 1000, .lr = 1e-4},
                     0,
                     [&](const ClipBatch&, int64_t) {
                       return DiffusionTask::Example{x, {prompt, {}}};
                     },
                     {});
  std::map<std::string, std::string> texts;
  task.step({}, false, texts);
  for (auto _ : state) task.step({}, false, texts);
  count(state, kBatch);
}

/// Tubelets of 2 x 4 x 4, 256 tokens: where the form of attention begins to matter.
void attention(benchmark::State& state, const char* form) {
  const torch::NoGradGuard no_grad;
  auto options = pixel_shape();
  options.patch = 4;
  options.attention = form;
  auto model = make(options);
  torch::manual_seed(0);
  const auto z = torch::randn({kSamples, 1, 8, 32, 32});
  const auto t = torch::rand({kSamples, 4});
  model->forward(z, t, {});
  for (auto _ : state) benchmark::DoNotOptimize(model->forward(z, t, {}));
  count(state, kSamples);
}

/// 20 Heun steps, 39 passes.
void draw(benchmark::State& state, const DiffusionTransformerOptions& options) {
  auto model = make(options);
  torch::manual_seed(0);
  const auto noise = torch::randn({kSamples, 1, 8, 32, 32});
  Condition condition;
  if (options.condition_width > 0) {
    condition.latents = torch::randn({kSamples, 64, options.condition_width});
  }
  const Denoiser denoise = [&](const torch::Tensor& z, const torch::Tensor& t) {
    return model->forward(z, t, condition);
  };
  const Interpolant path;
  const auto generator = seeded_generator(1);
  for (auto _ : state) {
    benchmark::DoNotOptimize(sample(denoise, Quantity::kClean, path, noise,
                                    {.method = "heun", .steps = 20}, {}, generator));
  }
  count(state, kSamples);
}

const int registered = [] {
  const auto add = [](const char* name, auto function, auto... arguments) {
    benchmark::RegisterBenchmark(name, function, arguments...)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  };
  auto decoder = pixel_shape();
  decoder.condition_width = kLatentWidth;
  add("diffusion/train_step_b32", train_step);
  add("diffusion/attention_full_256", attention, "full");
  add("diffusion/attention_factorised_256", attention, "factorised");
  add("diffusion/sample_heun20_b8", draw, pixel_shape());
  add("diffusion/decode_heun20_b8", draw, decoder);
  return 0;
}();

}  // namespace

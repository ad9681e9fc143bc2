#include <eval/planning/receding_horizon.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <chrono>

namespace jepa::eval::planning {

void RecedingHorizonOptions::describe(OptionVisitor& visit) {
  visit("horizon", horizon, {.help = "blocks of a plan", .min = 1});
  visit("block", block, {.help = "environment steps of a block", .min = 1});
  visit("hold", hold, {.help = "one action held through a block"});
  visit("execute", execute, {.help = "blocks done before the next plan", .min = 1});
  visit("warm_start", warm_start, {.help = "begin from what is left of the last plan"});
  visit("seconds", seconds,
        {.help = "of one episode's decision; 0: no limit", .unit = "s", .min = 0});
}

RecedingHorizon::RecedingHorizon(std::shared_ptr<const Planner> planner,
                                 RecedingHorizonOptions options, int64_t action_width, Draws draws)
    : planner_(std::move(planner)),
      options_(options),
      width_(action_width),
      draws_(std::move(draws)) {
  const auto& o = options_;
  if (o.horizon < 1 || o.block < 1 || o.execute < 1 || o.execute > o.horizon || width_ < 1) {
    throw ConfigError(c10::str("receding horizon: ", o.execute, " of ", o.horizon, " blocks of ",
                               o.block, " steps with actions of ", width_, " numbers"));
  }
}

void RecedingHorizon::begin(int64_t episodes) {
  episodes_ = episodes;
  queue_.clear();
  next_ = 0;
  rest_ = torch::Tensor();
}

torch::Tensor RecedingHorizon::expand(const torch::Tensor& blocks) const {
  if (!options_.hold) return blocks;
  std::vector<int64_t> times(blocks.dim(), 1);
  times.back() = options_.block;
  return blocks.repeat(times);
}

void RecedingHorizon::plan(const CostFunction& costs, int64_t steps_left) {
  const auto& o = options_;
  const int64_t blocks = std::min(o.horizon, (steps_left + o.block - 1) / o.block);
  PlanRequest request{.episodes = episodes_,
                      .horizon = blocks,
                      .action_width = searched_width(),
                      .seconds = o.seconds * static_cast<double>(episodes_)};
  if (o.warm_start && rest_.defined()) {
    auto start = rest_;
    const int64_t missing = blocks - start.size(1);
    if (missing > 0) {  // beyond the last plan: nothing is known
      start = torch::cat({start, start.new_zeros({episodes_, missing, searched_width()})}, 1);
    }
    request.warm_start = start.narrow(1, 0, blocks);
  }
  const auto begin = std::chrono::steady_clock::now();
  last_ = planner_->plan([&](const torch::Tensor& c) { return costs(expand(c)); }, request, draws_);
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  ++plans_;
  const auto& actions = last_.actions;
  const int64_t done = std::min(o.execute, blocks);
  queue_.clear();
  next_ = 0;
  const auto steps = expand(actions.narrow(1, 0, done)).unflatten(2, {o.block, width_});
  for (int64_t b = 0; b < done; ++b) {
    for (int64_t s = 0; s < o.block; ++s) queue_.push_back(steps.select(1, b).select(1, s));
  }
  rest_ = done < blocks ? actions.narrow(1, done, blocks - done) : torch::Tensor();
}

torch::Tensor RecedingHorizon::act(const CostFunction& costs, int64_t steps_left) {
  TORCH_CHECK(episodes_ >= 1, "RecedingHorizon: act before begin");
  TORCH_CHECK(steps_left >= 1, "RecedingHorizon: no step is left");
  if (needs_plan()) plan(costs, steps_left);
  return queue_[next_++];
}

}  // namespace jepa::eval::planning

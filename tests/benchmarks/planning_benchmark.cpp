// Decision time: a block-causal model with and without kept keys and values, LeWorldModel's plan.
#include <eval/planning/action_conditioned.hpp>
#include <eval/planning/le_world_model.hpp>
#include <eval/planning/planner.hpp>
#include <jepa/device.hpp>
#include <jepa/generator.hpp>

#include <benchmark/benchmark.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

namespace {

using namespace jepa;
namespace planning = eval::planning;

/// 64 candidates of five actions after eight frames of 64 tokens.
struct BlockCausal {
  predictors::ActionConditionedPredictor model{
      predictors::ActionConditionedOptions{.dim = 192, .depth = 6, .heads = 3}, 192};
  planning::PatchHistory history;
  torch::Tensor goal, candidates;

  BlockCausal() {
    torch::manual_seed(0);
    model->initialise(seeded_generator(1));
    history = {.frames = at::layer_norm(torch::randn({1, 8 * 64, 192}), {192}),
               .states = torch::randn({1, 8, 7}),
               .actions = torch::randn({1, 7, 7}),
               .extrinsics = {},
               .frame = {1, 8, 8}};
    goal = at::layer_norm(torch::randn({1, 64, 192}), {192});
    candidates = 0.05 * torch::randn({1, 64, 5, 7});
  }
  torch::Tensor energies(bool cached) {
    return planning::action_conditioned_costs(model, history, goal, planning::moved_pose,
                                              cached)(candidates);
  }
};

/// Energies of all candidates, the history's share counted. Both arms take turns, so that a drift
/// of the machine's speed hits both; `ratio` is the median of the pairs.
void energies(benchmark::State& state) {
  using clock = std::chrono::steady_clock;
  BlockCausal task;
  task.energies(true);
  std::vector<double> ratios, cached, again;
  double difference = 0;
  for (auto _ : state) {
    const auto a = clock::now();
    const auto fast = task.energies(true);
    const auto b = clock::now();
    const auto slow = task.energies(false);
    const auto c = clock::now();
    cached.push_back(std::chrono::duration<double>(b - a).count());
    again.push_back(std::chrono::duration<double>(c - b).count());
    ratios.push_back(again.back() / cached.back());
    difference = ((fast - slow) / slow).abs().max().item<double>();
    state.SetIterationTime(cached.back());
  }
  const auto median = [](std::vector<double> x) {
    std::nth_element(x.begin(), x.begin() + static_cast<int64_t>(x.size() / 2), x.end());
    return x[x.size() / 2];
  };
  state.counters["median_s"] = median(cached);
  state.counters["again_s"] = median(again);
  state.counters["ratio"] = median(ratios);
  state.counters["difference"] = difference;
}

/// The published search, 300 candidates, 30 iterations, 5 blocks of 5 actions, one episode; present
/// and goal are encoded, too.
void le_world_model_plan(benchmark::State& state, torch::ScalarType precision) {
  const torch::NoGradGuard no_grad;
  planning::LeWorldModel model{planning::LeWorldModelOptions{}};
  for (const auto& [name, module] : model.modules()) {
    for (auto& p : module->parameters()) p.normal_(0, 0.02, seeded_generator(1));
    for (auto& b : module->buffers()) {
      if (b.is_floating_point()) b.fill_(1);
    }
  }
  model.train(false);
  const planning::Cem cem(planning::cem_variant("lewm"));
  const auto draws = planning::Draws::from(seeded_generator(1));
  torch::manual_seed(0);
  const auto frames = torch::randn({2, 3, 224, 224});
  std::vector<double> taken;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    const AutocastScope autocast(torch::kCPU, precision);
    const auto latents = model.encode(frames).to(torch::kFloat32);
    const auto costs =
        planning::goal_costs(model, latents.narrow(0, 0, 1).unsqueeze(1), {},
                             latents.narrow(0, 1, 1), planning::le_world_model_cost());
    const auto plan = cem.plan(costs, {.episodes = 1, .horizon = 5, .action_width = 10}, draws);
    benchmark::DoNotOptimize(plan.actions);
    taken.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(taken.begin(), taken.begin() + static_cast<int64_t>(taken.size() / 2),
                   taken.end());
  state.counters["median_s"] = taken[taken.size() / 2];
}

BENCHMARK(energies)
    ->Name("planning/block_causal_cached")
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();
BENCHMARK_CAPTURE(le_world_model_plan, float32, torch::kFloat32)
    ->Name("planning/lewm_plan")
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK_CAPTURE(le_world_model_plan, bfloat16, torch::kBFloat16)
    ->Name("planning/lewm_plan_bfloat16")
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace

// Probes on features that are already there: what a probe costs beside reading the clips.
#include <eval/probes/attentive.hpp>
#include <eval/probes/knn.hpp>
#include <eval/probes/linear.hpp>
#include <jepa/generator.hpp>

#include <benchmark/benchmark.h>
#include <torch/nn/functional/loss.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace {

using namespace jepa;
namespace probes = eval::probes;

constexpr int64_t kClips = 3000;
constexpr int64_t kWidth = 192;  // mean and max of the demo's 96
constexpr int64_t kClasses = 10;

/// Features in which the class can be seen, as in those of an encoder that has learnt.
probes::LabelledFeatures draw_features() {
  torch::manual_seed(0);
  const torch::Tensor labels = torch::randint(kClasses, {kClips}, torch::kInt64);
  const torch::Tensor centres = torch::randn({kClasses, kWidth});
  return {torch::randn({kClips, kWidth}) * 4 + centres.index_select(0, labels), labels, kClasses};
}

void count_clips(benchmark::State& state, int64_t clips) {
  state.SetItemsProcessed(state.iterations() * clips);
  state.SetLabel("items are clips");
}

void ridge(benchmark::State& state) {
  const auto train = draw_features();
  for (auto _ : state) {
    benchmark::DoNotOptimize(probes::fit_ridge(train, probes::ridge_grid()));
  }
  count_clips(state, kClips);
}

void logistic(benchmark::State& state) {
  const auto train = draw_features();
  for (auto _ : state) {
    benchmark::DoNotOptimize(probes::fit_logistic(train, probes::logistic_grid()));
  }
  count_clips(state, kClips);
}

/// A neighbour probe does its work when it is asked: every clip looks for the 20 nearest.
void knn(benchmark::State& state) {
  const auto train = draw_features();
  for (auto _ : state) {
    benchmark::DoNotOptimize(probes::fit_knn(train, {20}).front().predict(train.features));
  }
  count_clips(state, kClips);
}

/// Forward and backward of the depth-1 probe on the demo's tokens.
void attentive(benchmark::State& state) {
  constexpr int64_t kBatch = 64;
  probes::AttentiveProbe probe(nn::AttentivePoolerOptions{.dim = 96, .heads = 16}, kClasses);
  probe->initialise(seeded_generator(1));
  torch::manual_seed(0);
  const torch::Tensor tokens = torch::randn({kBatch, 64, 96});
  const torch::Tensor labels = torch::randint(kClasses, {kBatch}, torch::kInt64);
  for (auto _ : state) {
    probe->zero_grad();
    torch::nn::functional::cross_entropy(probe->forward(tokens), labels).backward();
  }
  count_clips(state, kBatch);
}

BENCHMARK(ridge)->Name("probe/ridge_3000x192")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(logistic)->Name("probe/logistic_3000x192")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(knn)->Name("probe/knn_3000x192")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(attentive)
    ->Name("probe/attentive_step_b64")
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace

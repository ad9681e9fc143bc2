// The training step: target encoder, context encoder and predictor for both masks, backward, AdamW
// and EMA. Beside it: tests/benchmarks/twin.py.
#include "shapes.hpp"

#include <jepa/generator.hpp>
#include <jepa/training/precision.hpp>
#include <jepa/training/pretraining.hpp>
#include <jepa/training/trainer.hpp>

#include <benchmark/benchmark.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <chrono>
#include <vector>

namespace {

using namespace jepa;

Trainer make_trainer(const benchmarks::Shape& shape, torch::ScalarType precision) {
  Encoder encoder = encoders::make_encoder(shape.encoder);
  Encoder target = encoders::make_encoder(shape.encoder);
  Predictor predictor =
      predictors::make_predictor(shape.predictor, {.encoder_width = shape.encoder.vit.dim,
                                                   .encoder_heads = shape.encoder.vit.heads,
                                                   .masks = 2,
                                                   .grid = shape.encoder.vit.grid()});
  encoder->initialise(seeded_generator(1));
  predictor->initialise(seeded_generator(2));
  TrainerOptions options;
  options.optimisation.lr = 1e-4;
  options.optimisation.schedule = "constant";
  options.optimisation.total_steps = 1000;
  options.precision = precision;
  return Trainer(encoder, target, predictor, options);
}

void train_step(benchmark::State& state, const benchmarks::Shape& shape,
                torch::ScalarType precision) {
  if (precision != torch::kFloat32 &&
      resolve_precision("auto", torch::kCPU, encoders::block_options(shape.encoder.vit)) !=
          precision) {
    state.SkipWithError(
        "`auto` chooses float32 here: a block in bfloat16 takes more than 0.7 of its time");
    return;
  }
  Trainer trainer = make_trainer(shape, precision);
  const auto& vit = shape.encoder.vit;
  torch::manual_seed(0);
  const torch::Tensor clips = torch::randint(
      0, 256, {shape.batch, vit.channels, vit.frames, vit.height, vit.width}, torch::kUInt8);
  const auto samplers = benchmarks::mask_samplers();
  int64_t step = 0;  // the twin draws the same block sizes, step by step
  const auto masks = [&] { return draw_masks(samplers, shape.batch, vit.grid(), 0, step++); };
  trainer.step(clips, masks());
  std::vector<double> seconds;
  for (auto _ : state) {
    state.PauseTiming();
    const auto drawn = masks();
    state.ResumeTiming();
    const auto start = std::chrono::steady_clock::now();
    trainer.step(clips, drawn);
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  // The twin reports its median too: what else a machine does makes single steps slow.
  const auto middle = seconds.begin() + static_cast<int64_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  state.counters["median_s"] = *middle;
  state.SetItemsProcessed(state.iterations() * shape.batch);
  state.SetLabel("items are clips");
}

void draw(benchmark::State& state, const benchmarks::Shape& shape) {
  const auto samplers = benchmarks::mask_samplers();
  int64_t step = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        draw_masks(samplers, shape.batch, shape.encoder.vit.grid(), 0, step++));
  }
  state.SetItemsProcessed(state.iterations() * shape.batch);
  state.SetLabel("items are clips");
}

const int registered = [] {
  for (const auto& shape :
       {benchmarks::reference_shape(), benchmarks::sincos_shape(), benchmarks::demo_shape()}) {
    const std::string name = shape.name;
    for (const auto precision : {torch::kFloat32, torch::kBFloat16}) {
      const char* end = precision == torch::kFloat32 ? "" : "_bfloat16";
      benchmark::RegisterBenchmark(("train_step/" + name + end).c_str(), train_step, shape,
                                   precision)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
    }
    benchmark::RegisterBenchmark(("mask_sampling/" + name).c_str(), draw, shape)
        ->Unit(benchmark::kMicrosecond);
  }
  return 0;
}();

}  // namespace

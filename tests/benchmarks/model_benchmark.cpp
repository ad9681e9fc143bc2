// The frozen encoder, as probes and `embed` use it.
#include "shapes.hpp"

#include <jepa/generator.hpp>

#include <benchmark/benchmark.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace {

using namespace jepa;

void encoder_forward(benchmark::State& state, const benchmarks::Shape& shape) {
  torch::NoGradGuard no_grad;
  Encoder encoder = encoders::make_encoder(shape.encoder);
  encoder->initialise(seeded_generator(1));
  encoder->eval();
  const auto& vit = shape.encoder.vit;
  const torch::Tensor clips =
      torch::randn({shape.batch, vit.channels, vit.frames, vit.height, vit.width});
  encoder->forward(clips);
  for (auto _ : state) benchmark::DoNotOptimize(encoder->forward(clips));
  state.SetItemsProcessed(state.iterations() * shape.batch);
  state.SetLabel("items are clips");
}

const int registered = [] {
  for (const auto& shape :
       {benchmarks::reference_shape(), benchmarks::single_shape(), benchmarks::demo_shape()}) {
    benchmark::RegisterBenchmark((std::string("encoder_forward/") + shape.name).c_str(),
                                 encoder_forward, shape)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  }
  return 0;
}();

}  // namespace

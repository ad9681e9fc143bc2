// The JEPA's accounting of compute, against LibTorch's own profiler.
#include <encoders/vision_transformer.hpp>
#include <jepa/generator.hpp>
#include <jepa/training/cost.hpp>
#include <predictors/masked.hpp>

#include <gtest/gtest.h>
#include <torch/csrc/autograd/profiler.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

namespace jepa {
namespace {

namespace profiler = torch::autograd::profiler;

/// Floating-point operations of matrix products and convolutions that LibTorch's profiler sees.
///
/// Float64 keeps our fused kernels, which call BLAS directly, out of the way; LibTorch's own fused
/// attention is turned off, since the profiler has no formula for it.
double profiled_flops(const std::function<void()>& work) {
  auto& context = at::globalContext();
  const bool flash = context.userEnabledFlashSDP();
  context.setSDPUseFlash(false);
  const torch::profiler::impl::ProfilerConfig config(
      torch::profiler::impl::ProfilerState::KINETO, /*report_input_shapes=*/true,
      /*profile_memory=*/false, /*with_stack=*/false, /*with_flops=*/true, /*with_modules=*/false);
  const std::set<torch::profiler::impl::ActivityType> activities = {
      torch::profiler::impl::ActivityType::CPU};
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
  work();
  const auto result = profiler::disableProfiler();
  context.setSDPUseFlash(flash);
  const std::set<std::string> counted = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm",
                                         "aten::conv2d"};
  double flops = 0;
  for (const auto& event : result->events()) {
    if (counted.contains(event.name())) flops += static_cast<double>(event.flops());
    if (event.name() == "aten::addmm_") {  // seen, but without a formula
      const auto shapes = event.shapes();
      flops += 2.0 * static_cast<double>(shapes[1][0] * shapes[1][1] * shapes[2][1]);
    }
  }
  return flops;
}

encoders::VisionTransformerOptions encoder_options(const std::string& positions) {
  return {.dim = 48,
          .depth = 3,
          .heads = 3,
          .mlp_ratio = 4,
          .channels = 1,
          .frames = 8,
          .height = 32,
          .width = 32,
          .patch = 4,
          .tubelet = 2,
          .positions = positions};
}

struct Models {
  explicit Models(const std::string& positions)
      : options(encoder_options(positions)),
        encoder(options),
        predictor(
            predictors::MaskedPredictorOptions{
                .dim = 24, .depth = 2, .heads = 2, .positions = positions},
            predictors::ModelShape{
                .encoder_width = 48, .encoder_heads = 3, .grid = options.grid()}) {
    encoder->initialise(seeded_generator(1));
    predictor->initialise(seeded_generator(2));
    encoder->to(torch::kFloat64);
    predictor->to(torch::kFloat64);
  }
  encoders::VisionTransformerOptions options;
  encoders::VisionTransformer encoder;
  predictors::MaskedPredictor predictor;
};

TEST(Cost, ModelsAgreeWithTheProfiler) {
  for (const std::string positions : {"rope", "sincos"}) {
    Models models(positions);
    const auto clip = torch::randn({2, 1, 8, 32, 32}, torch::kFloat64);
    const auto grid = models.options.grid();
    torch::NoGradGuard no_grad;
    const double encoded = profiled_flops([&] { models.encoder->forward(clip); });
    const double encoder_ratio = encoded / (2 * models.encoder->flops(grid.size()));
    RecordProperty("encoder_" + positions, std::to_string(encoder_ratio));
    EXPECT_NEAR(encoder_ratio, 1, 0.02) << positions;

    const auto order = torch::randperm(grid.size(), torch::kInt64);
    const auto ids = [&](int64_t from, int64_t count) {
      return std::get<0>(order.slice(0, from, from + count).sort()).expand({2, count}).contiguous();
    };
    const Mask mask{ids(0, 100), ids(100, 120)};
    const auto context = torch::randn({2, 100, 48}, torch::kFloat64);
    const double predicted =
        profiled_flops([&] { models.predictor->forward(context, mask, grid, 0); });
    const double predictor_ratio = predicted / (2 * models.predictor->flops(100, 120));
    RecordProperty("predictor_" + positions, std::to_string(predictor_ratio));
    EXPECT_NEAR(predictor_ratio, 1, 0.02) << positions;
  }
}

// What a step holds is a micro-batch and what is prepared ahead, however large the batch is.
TEST(Cost, MemoryIsThatOfAMicroBatch) {
  const auto options = encoder_options("sincos");
  Encoder encoder(std::static_pointer_cast<EncoderImpl>(
      std::make_shared<encoders::VisionTransformerImpl>(options)));
  Predictor predictor(
      std::static_pointer_cast<PredictorImpl>(std::make_shared<predictors::MaskedPredictorImpl>(
          predictors::MaskedPredictorOptions{.dim = 24, .depth = 2, .heads = 2},
          predictors::ModelShape{
              .encoder_width = 48, .encoder_heads = 3, .grid = options.grid()})));
  std::vector<std::unique_ptr<MaskSampler>> samplers;
  samplers.push_back(make_mask_sampler({}));
  const auto memory = [&](int64_t batch, int64_t accumulate, bool whole) {
    return estimate_cost(encoder, predictor, samplers, options.grid(),
                         {.batch = batch,
                          .accumulate = accumulate,
                          .prefetch = 3,
                          .clip_bytes = 1 << 20,
                          .whole = whole})
        .peak_memory_mb;
  };
  EXPECT_EQ(memory(128, 16, false), memory(8, 1, false));
  EXPECT_NEAR(memory(128, 16, true) - memory(8, 1, false), 4 * 120 * 1.048576, 1e-6);
}

TEST(Cost, TrainingStepAgreesWithTheProfiler) {
  for (const bool frozen : {false, true}) {
    SCOPED_TRACE(frozen ? "frozen encoder" : "all learn");
    Models models("rope");
    for (auto& p : models.encoder->parameters()) p.set_requires_grad(!frozen);
    const auto clip = torch::randn({2, 1, 8, 32, 32}, torch::kFloat64);
    const auto grid = models.options.grid();
    const auto all = torch::arange(grid.size()).expand({2, -1});
    const Mask mask{all.slice(1, 0, 128).contiguous(), all.slice(1, 128).contiguous()};
    const double counted = profiled_flops([&] {
      torch::Tensor targets;
      {
        torch::NoGradGuard no_grad;
        targets = models.encoder->forward(clip);
      }
      const auto tokens = gather_tokens(models.encoder->embed(clip), mask.context);
      const auto context = models.encoder->encode(tokens, grid, mask.context);
      const auto prediction = models.predictor->forward(context, mask, grid, 0);
      (prediction.target - gather_tokens(targets, mask.target)).square().mean().backward();
    });
    const double formula =
        2 * training_flops(*models.encoder, *models.predictor, grid.size(), {mask});
    RecordProperty(frozen ? "frozen" : "step", std::to_string(counted / formula));
    EXPECT_NEAR(counted / formula, 1, 0.02);
  }
}

}  // namespace
}  // namespace jepa

// Every combination of precision, checkpointing and positions trains, and checkpointing changes no
// gradient.
#include <encoders/vision_transformer.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/training/precision.hpp>
#include <jepa/training/trainer.hpp>
#include <predictors/registry.hpp>

#include <ATen/Context.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <string>
#include <tuple>

namespace jepa {
namespace {

constexpr int64_t kBatch = 3;

struct Recipe {
  std::string positions;
  bool levels = false;  ///< V-JEPA 2.1: four levels, context loss
  bool checkpointing = false;
  torch::ScalarType precision = torch::kFloat32;
};

encoders::VisionTransformerOptions encoder_options(const Recipe& recipe) {
  encoders::VisionTransformerOptions options{.dim = 24,
                                             .depth = 4,
                                             .heads = 2,
                                             .mlp_ratio = 2,
                                             .channels = 1,
                                             .frames = 4,
                                             .height = 16,
                                             .width = 16,
                                             .patch = 4,
                                             .tubelet = 2,
                                             .positions = recipe.positions};
  options.checkpointing = recipe.checkpointing;
  if (recipe.levels) options.output_levels = {0, 1, 2, 3};
  return options;
}

Encoder make_encoder(const Recipe& recipe) {
  return Encoder(std::static_pointer_cast<EncoderImpl>(
      std::make_shared<encoders::VisionTransformerImpl>(encoder_options(recipe))));
}

Trainer make_trainer(const Recipe& recipe) {
  Encoder encoder = make_encoder(recipe), target = make_encoder(recipe);
  predictors::PredictorOptions options;
  options.masked.dim = 24;
  options.masked.depth = 2;
  options.masked.heads = 2;
  options.masked.positions = recipe.positions == "sincos" ? "sincos" : "rope";
  options.masked.checkpointing = recipe.checkpointing;
  options.masked.context_head = recipe.levels;
  Predictor predictor =
      predictors::make_predictor(options, {.encoder_width = encoder->output_width(),
                                           .encoder_heads = 2,
                                           .masks = 2,
                                           .grid = encoder_options(recipe).grid()});
  encoder->initialise(seeded_generator(1));
  predictor->initialise(seeded_generator(2));
  // A small rate: the second step starts from nearly the same weights in either precision.
  TrainerOptions trainer{.optimisation = {.lr = 1e-5}, .precision = recipe.precision, .seed = 3};
  trainer.objective.context_weight = recipe.levels ? 0.5 : 0.0;
  trainer.objective.context_from_step = 0;
  trainer.objective.context_full_step = 1;
  return Trainer(encoder, target, predictor, trainer);
}

/// All gradients of encoder and predictor after two steps, end to end.
torch::Tensor gradients(const Recipe& recipe) {
  Trainer trainer = make_trainer(recipe);
  MaskSamplers samplers;
  MaskOptions mask;
  mask.blocks = 2;
  samplers.push_back(make_mask_sampler(mask));
  samplers.push_back(make_mask_sampler(mask));
  const auto clips =
      torch::randint(0, 256, {kBatch, 1, 4, 16, 16}, seeded_generator(9), torch::kUInt8);
  const TokenGrid grid = encoder_options(recipe).grid();
  for (int64_t step = 0; step < 2; ++step) {
    const auto metrics = trainer.step(clips, draw_masks(samplers, kBatch, grid, 1, step));
    EXPECT_TRUE(std::isfinite(metrics.at("loss")));
    EXPECT_GT(metrics.at("grad_norm_encoder"), 0);
  }
  EXPECT_EQ(trainer.steps_done(), 2);
  std::vector<torch::Tensor> all;
  for (const auto& [name, module] : trainer.trained_modules()) {
    for (const auto& p : module->parameters()) all.push_back(p.grad().flatten());
  }
  return torch::cat(all);
}

double difference(const torch::Tensor& a, const torch::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

using Case = std::tuple<std::string, bool>;

class Precision : public testing::TestWithParam<Case> {};

TEST_P(Precision, TwoStepsWithAndWithoutCheckpointing) {
  const auto& [positions, levels] = GetParam();
  Recipe recipe{.positions = positions, .levels = levels};
  const auto plain = gradients(recipe);
  recipe.checkpointing = true;
  EXPECT_LT(difference(gradients(recipe), plain), 1e-6);
  recipe.precision = torch::kBFloat16;
  const auto bfloat16_again = gradients(recipe);
  recipe.checkpointing = false;
  const auto bfloat16 = gradients(recipe);
  EXPECT_LT(difference(bfloat16_again, bfloat16), 1e-6);
  EXPECT_LT(difference(bfloat16, plain), 0.1);
  EXPECT_GT(difference(bfloat16, plain), 1e-5);  // it was computed in bfloat16
}

INSTANTIATE_TEST_SUITE_P(
    All, Precision, testing::Combine(testing::Values("rope", "sincos", "both"), testing::Bool()),
    [](const auto& info) {
      return std::get<0>(info.param) + (std::get<1>(info.param) ? "_levels" : "_masked");
    });

TEST(ResolvePrecision, TakesNamesAndLeavesTheCallersStateAlone) {
  const nn::BlockOptions block{.dim = 24, .heads = 2, .mlp_hidden = 48};
  const torch::NoGradGuard no_grad;  // as programs that only read are
  EXPECT_EQ(resolve_precision("float32", torch::kCPU, block), torch::kFloat32);
  EXPECT_EQ(resolve_precision("bfloat16", torch::kCPU, block), torch::kBFloat16);
  EXPECT_THROW(resolve_precision("float16", torch::kCPU, block), ConfigError);
  const auto before = at::globalContext().defaultGenerator(torch::kCPU).get_state();
  const auto measured = resolve_precision("auto", torch::kCPU, block);
  EXPECT_TRUE(measured == torch::kFloat32 || measured == torch::kBFloat16);
  EXPECT_TRUE(before.equal(at::globalContext().defaultGenerator(torch::kCPU).get_state()));
  EXPECT_FALSE(torch::GradMode::is_enabled());
}

}  // namespace
}  // namespace jepa

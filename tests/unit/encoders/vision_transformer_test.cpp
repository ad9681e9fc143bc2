#include <encoders/registry.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <gtest/gtest.h>
#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::encoders {
namespace {

VisionTransformerOptions small(const std::string& positions) {
  return {.dim = 24,
          .depth = 3,
          .heads = 2,
          .frames = 4,
          .height = 16,
          .width = 16,
          .patch = 4,
          .positions = positions};
}

VisionTransformer make(const VisionTransformerOptions& options) {
  VisionTransformer encoder(options);
  encoder->initialise(seeded_generator(1));
  return encoder;
}

int64_t parameter_count(torch::nn::Module& module) {
  int64_t count = 0;
  for (const auto& p : module.parameters()) count += p.numel();
  return count;
}

TEST(VisionTransformer, PublishedSizes) {
  for (const auto& [preset, millions] :
       {std::pair("vit_tiny", 5.63), std::pair("vit_small", 21.9), std::pair("vit_base", 86.2)}) {
    auto encoder = make_encoder({.preset = preset});
    EXPECT_NEAR(static_cast<double>(parameter_count(*encoder)) / 1e6, millions, 0.06) << preset;
  }
  EXPECT_EQ(vision_transformer_presets().size(), 9u);
}

TEST(VisionTransformer, UnusableSizesAreErrors) {
  EXPECT_THROW(make_encoder({.preset = "vit_enormous"}), ConfigError);
  EXPECT_THROW(make_encoder({.preset = "custom"}), ConfigError);
  EXPECT_THROW(make_encoder({.preset = "vit_tiny", .vit = {.heads = 5}}), ConfigError);
  EXPECT_THROW(make_encoder({.preset = "vit_tiny", .vit = {.height = 100}}), ConfigError);
  EXPECT_THROW(make_encoder({.preset = "vit_tiny", .vit = {.frames = 7}}), ConfigError);
  EXPECT_THROW(make_encoder({.type = "oracle"}), ConfigError);
  EXPECT_THROW(make_encoder({.preset = "vit_tiny", .vit = {.output_levels = {5, 2}}}), ConfigError);
}

TEST(VisionTransformer, ClipsThatDoNotDivideAreErrors) {
  auto encoder = make(small("rope"));
  EXPECT_EQ(encoder->grid({1, 3, 4, 16, 32}), (TokenGrid{2, 4, 8}));
  EXPECT_THROW(encoder->grid({1, 3, 3, 16, 16}), DataError);
  EXPECT_THROW(encoder->grid({1, 3, 4, 18, 16}), DataError);
  EXPECT_THROW(encoder->grid({1, 1, 4, 16, 16}), DataError);
  EXPECT_THROW(encoder->grid({1, 3, 1, 16, 16}), DataError);
}

TEST(VisionTransformer, TakesLongerAndWiderClips) {
  for (const char* positions : {"rope", "sincos", "both"}) {
    auto encoder = make(small(positions));
    const torch::NoGradGuard no_grad;
    for (const auto& sizes : {std::vector<int64_t>{2, 3, 4, 16, 16},
                              {1, 3, 2, 16, 16},
                              {1, 3, 8, 16, 16},
                              {1, 3, 4, 12, 28}}) {
      const auto clip = torch::randn(sizes);
      const auto tokens = encoder->forward(clip);
      EXPECT_EQ(tokens.size(1), encoder->grid(clip.sizes()).size());
      EXPECT_TRUE(tokens.isfinite().all().item<bool>());
    }
  }
}

TEST(VisionTransformer, AllIdsGiveTheWholeClip) {
  for (const char* positions : {"rope", "sincos", "both"}) {
    auto encoder = make(small(positions));
    const torch::NoGradGuard no_grad;
    const auto clip = torch::randn({2, 3, 4, 16, 16});
    const auto grid = encoder->grid(clip.sizes());
    // In any order: attention sees positions, not places in the sequence.
    const auto order = torch::randperm(grid.size(), torch::kInt64);
    const auto ids = order.unsqueeze(0).repeat({2, 1});
    const auto shuffled = encoder->encode(gather_tokens(encoder->embed(clip), ids), grid, ids);
    const auto whole = encoder->forward(clip);
    EXPECT_TRUE(torch::allclose(whole.index_select(1, order), shuffled, 1e-4, 1e-5)) << positions;
  }
}

TEST(VisionTransformer, LayersEndInTheNormedOutput) {
  auto encoder = make(small("rope"));
  const torch::NoGradGuard no_grad;
  const auto clip = torch::randn({1, 3, 4, 16, 16});
  const auto layers = encoder->layers(clip, {0, 2});
  ASSERT_EQ(layers.size(), 2u);
  EXPECT_TRUE(torch::allclose(layers[1], encoder->forward(clip)));
  EXPECT_FALSE(torch::allclose(layers[0], layers[1]));
  EXPECT_ANY_THROW(encoder->layers(clip, {3}));
}

TEST(VisionTransformer, LevelsStandSideBySide) {
  auto options = small("rope");
  options.output_levels = {0, 2};
  options.image_embedding = true;
  auto encoder = make(options);
  const torch::NoGradGuard no_grad;
  const auto clip = torch::randn({1, 3, 4, 16, 16});
  const auto all = encoder->forward(clip);
  EXPECT_EQ(encoder->output_width(), 48);
  EXPECT_EQ(encoder->output_levels(), 2);
  ASSERT_EQ(all.size(2), 48);
  encoder->set_all_levels(false);
  EXPECT_EQ(encoder->output_width(), 24);
  EXPECT_TRUE(torch::allclose(encoder->forward(clip), all.narrow(2, 24, 24)));
  // One frame takes the image path.
  EXPECT_EQ(encoder->forward(torch::randn({1, 3, 1, 16, 16})).size(1), 16);
}

TEST(VisionTransformer, DropPathActsInTrainingOnly) {
  auto options = small("rope");
  options.drop_path = 0.9;
  auto encoder = make(options);
  const auto clip = torch::randn({4, 3, 4, 16, 16});
  const torch::NoGradGuard no_grad;
  encoder->eval();
  EXPECT_TRUE(torch::equal(encoder->forward(clip), encoder->forward(clip)));
  encoder->train();
  torch::manual_seed(1);
  const auto first = encoder->forward(clip);
  EXPECT_FALSE(torch::allclose(first, encoder->forward(clip)));
  torch::manual_seed(1);
  EXPECT_TRUE(torch::equal(first, encoder->forward(clip)));
}

TEST(VisionTransformer, CheckpointingChangesNoGradient) {
  std::vector<std::vector<torch::Tensor>> gradients;
  const auto clip = torch::randn({2, 3, 4, 16, 16});
  for (const bool checkpointing : {false, true}) {
    auto options = small("rope");
    options.checkpointing = checkpointing;
    options.drop_path = 0.5;
    auto encoder = make(options);
    torch::manual_seed(8);
    encoder->forward(clip).pow(2).mul(torch::arange(24)).sum().backward();
    gradients.emplace_back();
    for (const auto& p : encoder->parameters()) gradients.back().push_back(p.grad().clone());
  }
  for (size_t i = 0; i < gradients[0].size(); ++i) {
    EXPECT_TRUE(torch::allclose(gradients[0][i], gradients[1][i], 1e-5, 1e-5)) << i;
  }
}

TEST(VisionTransformer, DepthRescaleIsASwitch) {
  auto options = small("rope");
  auto scaled = make(options);
  options.depth_rescale = false;
  auto plain = make(options);
  const auto name = "blocks.2.mlp.fc2.weight";
  EXPECT_TRUE(torch::allclose(scaled->named_parameters()[name] * std::sqrt(6.0),
                              plain->named_parameters()[name]));
}

TEST(VisionTransformer, FlopsCountProductsTwice) {
  auto options = small("sincos");
  options.depth = 1;
  auto encoder = make(options);
  const double n = 10, d = 24;
  const double block = n * (3 * d * d + d * d + 8 * d * d) + 2 * n * n * d;
  EXPECT_DOUBLE_EQ(encoder->flops(10), 2 * (n * 96 * d + block));
}

}  // namespace
}  // namespace jepa::encoders

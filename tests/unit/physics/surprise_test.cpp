// Surprise of models whose error is known.
#include "patch_encoder.hpp"
#include "temporary_folder.hpp"

#include <eval/physics/heat_map.hpp>
#include <eval/physics/surprise_grid.hpp>
#include <eval/physics/surprise_models.hpp>
#include <jepa/errors.hpp>
#include <jepa/nn/patch_embedding.hpp>
#include <jepa/objectives/latent_regression.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::physics {
namespace {

constexpr int64_t kPatch = 8, kTubelet = 2, kWindow = 8;
constexpr int64_t kWidth = 3 * kTubelet * kPatch * kPatch;

/// Foretells that every place stays as it was last, which is right where nothing moves.
class StillPredictor : public PredictorImpl {
 public:
  explicit StillPredictor(bool latents) : latents_(latents) {}
  Prediction forward(const torch::Tensor& context, const Mask& mask, const TokenGrid& grid,
                     int64_t) override {
    const auto last = context.slice(1, context.size(1) - grid.frame_size());
    const auto said = last.repeat({1, mask.target.size(1) / grid.frame_size(), 1});
    return {latents_ ? normalise_targets(said) : said, {}};
  }
  void initialise(at::Generator) override {}
  double flops(int64_t, int64_t) const override { return 0; }

 private:
  bool latents_;
};

Encoder patch_encoder() {
  return Encoder(std::shared_ptr<EncoderImpl>(std::make_shared<PatchEncoder>(kTubelet, kPatch)));
}

SurpriseModel still_model(bool latents) {
  MaskedModel model;
  model.encoder = patch_encoder();
  if (latents) model.target_encoder = patch_encoder();
  model.predictor =
      Predictor(std::shared_ptr<PredictorImpl>(std::make_shared<StillPredictor>(latents)));
  model.tubelet = kTubelet;
  model.patch = kPatch;
  return masked_surprise(model, kWindow, torch::kCPU);
}

/// A film in which nothing moves, or of which one patch flips at frame 8.
torch::Tensor film(bool flips) {
  torch::manual_seed(1);
  auto frames = torch::randint(256, {1, 3, 1, 16, 24}, torch::kUInt8).repeat({1, 1, 12, 1, 1});
  if (flips) {
    auto patch = frames.slice(2, 8).slice(3, 0, 8).slice(4, 8, 16);
    patch.copy_(255 - patch);
  }
  return frames;
}

TEST(Surprise, APerfectPredictorHasNone) {
  for (const bool latents : {true, false}) {
    const auto model = still_model(latents);
    const auto none = surprise_of(model, film(false), {.past = 4, .stride = 2});
    EXPECT_EQ(none.windows.sizes(), (std::vector<int64_t>{1, 3}));
    EXPECT_EQ(none.tokens.sizes(), (std::vector<int64_t>{1, 3, 2, 2, 3}));
    EXPECT_EQ(none.windows.abs().max().item<float>(), 0);
    const auto some = surprise_of(model, film(true), {.past = 4, .stride = 2, .batch = 2});
    EXPECT_EQ(some.windows[0][0].item<float>(), 0);  // frames 0 to 7
    EXPECT_GT(some.windows[0][1].item<float>(), 0);
    // The surprise is where and when the patch flipped.
    const auto map = some.frame_map(0, 12);
    EXPECT_TRUE(map.slice(0, 0, 4).isnan().all().item<bool>());
    EXPECT_EQ(map.slice(0, 4, 8).max().item<float>(), 0);
    EXPECT_GT(map[8][0][1].item<float>(), 0);
    EXPECT_EQ(map[8].sum().item<float>(), map[8][0][1].item<float>());
  }
}

TEST(Surprise, ControlsSeeChangeAlone) {
  for (const auto& model : {copy_last_surprise(kWindow, kTubelet, kPatch),
                            pixel_difference_surprise(kWindow, kTubelet, kPatch)}) {
    EXPECT_EQ(surprise_of(model, film(false), {}).windows.max().item<float>(), 0);
    EXPECT_GT(surprise_of(model, film(true), {}).windows.max().item<float>(), 0);
  }
  // Of a patch that goes from black to white between two frames of a tubelet, half.
  auto frames = torch::zeros({1, 3, 8, 8, 8}, torch::kUInt8);
  frames.slice(2, 5).fill_(255);
  const auto copied = copy_last_surprise(8, 2, 8).tokens(frames, 4).flatten();
  EXPECT_FLOAT_EQ(copied[0].item<float>(), 0.5f);
  EXPECT_FLOAT_EQ(copied[1].item<float>(), 1.0f);
  const auto stepped = pixel_difference_surprise(8, 2, 8).tokens(frames, 4).flatten();
  EXPECT_FLOAT_EQ(stepped[0].item<float>(), 0.5f);
  EXPECT_FLOAT_EQ(stepped[1].item<float>(), 0.0f);
}

TEST(Surprise, DenoisingErrorOfANetworkThatSaysNothing) {
  // Fresh, it says x = 0; white is x = 1.
  diffusion::GenerativeOptions options;
  options.transformer.dim = 32;
  options.transformer.depth = 1;
  options.transformer.heads = 2;
  options.diffusion.loss = "x";
  const auto model = std::make_shared<diffusion::GenerativeModel>(options, 3);
  model->initialise(0);
  const auto surprise = diffusion_surprise(model, kWindow, torch::kCPU);
  auto frames = torch::full({2, 3, 8, 16, 16}, 255, torch::kUInt8);
  const auto tokens = surprise.tokens(frames, 4);
  EXPECT_EQ(tokens.sizes(), (std::vector<int64_t>{2, 2, 2, 2}));
  EXPECT_TRUE(torch::allclose(tokens, torch::ones_like(tokens), 1e-5, 1e-5));
  EXPECT_TRUE(surprise.tokens(frames, 4).equal(tokens));  // common random numbers
  // In the velocity's units an error counts by 1 / (1 - t)^2.
  options.diffusion.loss = "v";
  const auto scaled = std::make_shared<diffusion::GenerativeModel>(options, 3);
  scaled->initialise(0);
  double mean = 0;
  for (int i = 0; i < 10; ++i) mean += 0.1 / std::pow(1 - (i + 0.5) / 10, 2);
  EXPECT_NEAR(
      diffusion_surprise(scaled, kWindow, torch::kCPU).tokens(frames, 4).mean().item<double>(),
      mean, 1e-2 * mean);
}

TEST(Surprise, LessUntrainedIsLessTheArmsOwn) {
  SurpriseOptions options;
  options.arms = "jepa,masked_pixels";
  options.resamples = 50;
  torch::manual_seed(2);
  std::vector<SurpriseCell> cells;
  const auto add = [&](const std::string& arm, int64_t kinds, double shift) {
    SurpriseCell cell{.arm = arm, .past = 4};
    for (size_t rule = 0; rule < rule_names().size(); ++rule) {
      auto test = torch::rand({8, 2, kinds, 2}, torch::kFloat64);
      test.select(2, kBroken).add_(shift);
      cell.test.push_back(test);
    }
    cells.push_back(cell);
  };
  // Masked pixels tell all and are not trained to: their untrained networks tell it too.
  add("jepa", 3, 2);
  add("masked_pixels", 3, 2);
  add("untrained_jepa", 2, -2);
  add("untrained_masked_pixels", 2, 2);
  add("copy_last", 3, 0);
  const auto rows = summarise_surprise(options, cells);
  ASSERT_EQ(rows.size(), 5U);
  EXPECT_EQ(rows[0].less_untrained.at("relative").back().value, 1);
  EXPECT_EQ(rows[1].less_untrained.at("relative").back().value, 0);
  EXPECT_EQ(rows[1].less_untrained.at("relative").back().high, 0);
  EXPECT_TRUE(rows[2].less_untrained.empty());
  EXPECT_TRUE(rows[4].less_untrained.empty());
  EXPECT_NE(surprise_table(rows).find("masked_pixels: clear of one half and of untrained networks "
                                      "by pairs on 0 of 12"),
            std::string::npos);
}

TEST(Surprise, ArmsAndPastsAreCheckedBeforeAnyTraining) {
  SurpriseOptions options;
  auto& vit = options.training.arm.jepa.encoder.vit;
  options.training.arm.jepa.encoder.preset = "custom";
  vit.dim = 24, vit.depth = 1, vit.heads = 2, vit.patch = 12, vit.tubelet = 2;
  const auto said = [&] { return message_of<ConfigError>([&] { require_askable(options); }); };
  options.arms = "masked_pixels,pixels,latents";
  EXPECT_EQ(said(), "");
  options.arms = "masked_pixels,foo";
  EXPECT_NE(said().find("arm foo is not one of jepa"), std::string::npos) << said();
  options.arms = "masked_pixels,masked_pixels";
  EXPECT_EQ(said(), "option arms: masked_pixels is there twice");
  options.arms = "masked_pixels";
  options.seeds = {0, 1, 0};
  EXPECT_EQ(said(), "option seeds: 0 is there twice");
  options.seeds = {0, 1};
  options.scale = {2, options.tera};
  EXPECT_EQ(said(), "option scale: 20 is there twice, or is the run's own tera");
  options.scale = {};
  for (const int64_t past : {5, 10, 12}) {
    options.contexts = {4, past};
    EXPECT_NE(said().find("option contexts: arm masked_pixels"), std::string::npos) << said();
  }
  options.contexts = {};
  EXPECT_NE(said().find("option contexts"), std::string::npos);
}

TEST(Surprise, WrongWindowsAreNamed) {
  const auto model = still_model(true);
  EXPECT_THROW(surprise_of(model, film(false).slice(2, 0, 6), {}), DataError);
  EXPECT_THROW(surprise_of(model, film(false), {.past = 3}), ConfigError);
  EXPECT_THROW(surprise_of(model, film(false), {.past = 8}), ConfigError);
  auto unsound = model;
  unsound.tokens = [](const torch::Tensor& windows, int64_t) {
    return torch::full({windows.size(0), 2, 2, 3}, std::nanf(""));
  };
  EXPECT_THROW(surprise_of(unsound, film(false), {}), DataError);
}

TEST(Surprise, HeatIsDrawnWhereItIs) {
  const auto frames = torch::full({2, 8, 8, 3}, 100, torch::kUInt8);
  auto surprise = torch::zeros({2, 2, 2});
  surprise[0].fill_(std::nanf(""));
  surprise[1][1][0] = 2;
  const auto drawn = draw_heat(frames, surprise, 2);
  EXPECT_TRUE(drawn[0].equal(frames[0]));
  EXPECT_TRUE(drawn[1].slice(0, 0, 4).equal(frames[1].slice(0, 0, 4)));
  EXPECT_GT(drawn[1][7][0][0].item<int64_t>(), 200);
  EXPECT_LT(drawn[1][7][0][2].item<int64_t>(), 50);
}

}  // namespace
}  // namespace jepa::eval::physics

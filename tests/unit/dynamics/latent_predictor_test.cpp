#include "temporary_folder.hpp"

#include <eval/dynamics/latent_predictor.hpp>
#include <eval/dynamics/training.hpp>
#include <eval/planning/history.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/weights.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::dynamics {
namespace {

constexpr int64_t kDim = 16, kAction = 4;

// Away from gates of zero.
std::shared_ptr<LatentPredictor> some_predictor(const PredictorShape& shape) {
  auto made = make_latent_predictor(shape, kDim, kAction);
  made->initialise(3);
  for (const auto& [name, module] : made->modules()) {
    for (auto& p : module->parameters()) {
      const torch::NoGradGuard no_grad;
      p.add_(torch::randn(p.sizes(), seeded_generator(5)), 0.1);
    }
  }
  return made;
}

std::vector<PredictorShape> all_kinds() {
  PredictorShape narrow{.kind = "adaln"}, wide{.kind = "adaln"};
  narrow.adaln.head_dim = 8;  // not of the kernel for short windows
  narrow.adaln.heads = 2;
  wide.adaln.frames = 4;
  return {{.kind = "residual", .hidden = 16, .layers = 1}, {.kind = "gru"}, narrow, wide};
}

// The last of a window, with nothing kept from one step to the next.
torch::Tensor one_by_one(LatentPredictor& predictor, const torch::Tensor& past,
                         const torch::Tensor& actions) {
  const int64_t known = past.size(1);
  auto all = past;
  for (int64_t end = known; end <= actions.size(1); ++end) {
    const int64_t seen = std::min(end, predictor.history());
    const auto next =
        predictor.predict(all.narrow(1, end - seen, seen), actions.narrow(1, end - seen, seen));
    all = torch::cat({all, next.narrow(1, seen - 1, 1)}, 1);
  }
  return all.narrow(1, known, all.size(1) - known);
}

TEST(LatentPredictor, RolloutsAreOneStepPredictionsFedBackIn) {
  for (const auto& shape : all_kinds()) {
    const auto predictor = some_predictor(shape);
    EXPECT_EQ(predictor->history(), shape.history());
    for (const bool gradient : {false, true}) {
      const at::AutoGradMode mode(gradient);
      for (const int64_t known : {1, 2, 3, 6}) {
        SCOPED_TRACE(shape.kind + " " + std::to_string(known));
        const auto past = torch::randn({5, known, kDim}, seeded_generator(1));
        const auto actions = torch::randn({5, known + 6, kAction}, seeded_generator(2));
        const auto got = predictor->rollout(past, actions);
        EXPECT_EQ(got.sizes(), at::IntArrayRef({5, 7, kDim}));
        EXPECT_TRUE(torch::allclose(got, one_by_one(*predictor, past, actions), 1e-5, 1e-5));
      }
    }
  }
}

TEST(LatentPredictor, RolloutsDropInTrainingAsPredictionsDo) {
  PredictorShape shape{.kind = "adaln"};
  shape.adaln.dropout = 0.5;
  const auto predictor = some_predictor(shape);
  const auto past = torch::randn({4, 1, kDim}, seeded_generator(1));
  const auto actions = torch::randn({4, 1, kAction}, seeded_generator(2));
  const auto still = predictor->predict(past, actions);
  EXPECT_TRUE(torch::equal(still, predictor->predict(past, actions)));
  predictor->train(true);
  const auto at = [](uint64_t seed) { return DefaultGeneratorScope(torch::kCPU, seed); };
  torch::Tensor rolled, predicted;
  {
    const auto drawn = at(7);
    rolled = predictor->rollout(past, actions);
  }
  {
    const auto drawn = at(7);
    predicted = predictor->predict(past, actions);
  }
  EXPECT_TRUE(torch::allclose(rolled, predicted, 1e-5, 1e-5));
  EXPECT_FALSE(torch::allclose(rolled, still, 1e-3, 1e-3));
}

TEST(LatentPredictor, HistoryIsSeenAndThePresentAloneIsNot) {
  const torch::NoGradGuard no_grad;
  for (const auto& shape : all_kinds()) {
    SCOPED_TRACE(shape.kind);
    const auto predictor = some_predictor(shape);
    const auto past = torch::randn({3, 2, kDim}, seeded_generator(1));
    const auto actions = torch::randn({3, 2, kAction}, seeded_generator(2));
    auto other = past.clone();
    other.select(1, 0).neg_();
    const auto apart = predictor->rollout(past, actions) - predictor->rollout(other, actions);
    EXPECT_EQ(apart.abs().max().item<double>() > 1e-3, shape.history() > 1);
  }
}

TEST(LatentPredictor, WhatThereIsNotIsRefused) {
  EXPECT_EQ(message_of<ConfigError>([] { make_latent_predictor({.kind = "lstm"}, 4, 2); }),
            "no predictor 'lstm': residual, gru or adaln");
  const auto past = torch::zeros({1, 3, 4}), actions = torch::zeros({1, 2, 2});
  EXPECT_THROW(planning::rollout_actions(past, {}, actions), c10::Error);
  EXPECT_THROW(planning::rollout_actions(past, actions.narrow(1, 0, 1), actions), c10::Error);
  EXPECT_EQ(planning::rollout_actions(past, actions, actions).size(1), 4);
}

// Latents that move by the action.
class Moves : public LatentPredictor {
 public:
  explicit Moves(int64_t history) : history_(history) {}
  int64_t history() const override { return history_; }
  torch::Tensor predict(const torch::Tensor& latents, const torch::Tensor& actions) override {
    widest = std::max(widest, latents.size(1));
    return latents + actions.narrow(2, 0, latents.size(2));
  }
  torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor& actions) override {
    const int64_t before = past.size(1) - 1;
    const auto moved =
        actions.narrow(1, before, actions.size(1) - before).narrow(2, 0, past.size(2)).cumsum(1);
    return past.narrow(1, before, 1) + moved;
  }
  std::map<std::string, std::shared_ptr<torch::nn::Module>> modules() const override { return {}; }
  void initialise(uint64_t, const std::string&) override {}

  int64_t widest = 0;

 private:
  int64_t history_;
};

ModelOptions tiny_shape() {
  ModelOptions options;
  options.encoder = {.channels = 1,
                     .height = 8,
                     .width = 8,
                     .widths = {4},
                     .kernels = {3},
                     .strides = {2},
                     .dim = 4};
  options.action_width = 2;
  options.block = 2;
  options.inverse_hidden = 4;
  return options;
}

TEST(LatentPredictor, APerfectOneHasNoLoss) {
  DynamicsModel model(tiny_shape(), {});
  const auto actions = torch::randn({6, 5, 4}, seeded_generator(1));
  const auto first = torch::randn({6, 1, 4}, seeded_generator(2));
  const auto z = torch::cat({first, first + actions.cumsum(1)}, 1);
  for (const int64_t history : {1, 3}) {
    const auto moves = std::make_shared<Moves>(history);
    model.predictor = moves;
    const auto loss = prediction_loss(model, z, actions, {});
    EXPECT_LT(loss.one_step.item<double>(), 1e-10);
    EXPECT_LT(loss.rollout.item<double>(), 1e-10);
    EXPECT_EQ(moves->widest, history == 1 ? 5 : 3);
    const auto off = prediction_loss(model, z, actions + 1, {});
    EXPECT_NEAR(off.one_step.item<double>(), 1, 1e-5);
  }
}

// Dots that move over 8 x 8 px by two steps of one of two numbers each.
ClipBatch dots(uint64_t seed) {
  constexpr int64_t kClips = 16, kFrames = 5;
  ClipBatch batch;
  batch.clips = torch::zeros({kClips, 1, kFrames, 8, 8}, torch::kUInt8);
  const auto steps = torch::randint(-1, 2, {kClips, kFrames, 2, 2}, seeded_generator(seed));
  batch.indices = torch::arange(kClips, torch::kInt64);
  const auto start = torch::randint(8, {kClips, 2}, seeded_generator(seed, "start"));
  for (int64_t i = 0; i < kClips; ++i) {
    int64_t x = start[i][0].item<int64_t>(), y = start[i][1].item<int64_t>();
    for (int64_t t = 0; t < kFrames; ++t) {
      batch.clips[i][0][t][y][x] = 255;
      for (int64_t s = 0; s < 2; ++s) {
        x = (x + 8 + steps[i][t][s][0].item<int64_t>()) % 8;
        y = (y + 8 + steps[i][t][s][1].item<int64_t>()) % 8;
      }
    }
  }
  batch.signals["action"] = steps.flatten(2).to(torch::kFloat32);
  return batch;
}

std::vector<PredictorShape> trained_kinds() {
  PredictorShape adaln{.kind = "adaln"};
  adaln.adaln.dropout = 0.1;
  return {{.kind = "residual", .hidden = 16, .layers = 1}, {.kind = "gru"}, adaln};
}

TEST(LatentPredictor, EveryKindTrainsInBothPhases) {
  for (const auto& shape : trained_kinds()) {
    SCOPED_TRACE(shape.kind);
    DynamicsTrainingOptions options;
    options.weights.inverse = 0;
    options.optimisation.lr = options.second_optimisation.lr = 3e-3;
    options.second = {.from_step = 40, .predictor = shape, .updates = 2, .batch = 16, .buffer = 64};
    DynamicsModel model(tiny_shape(), shape);
    model.initialise(1);
    DynamicsTask task(model, options, held_out(dots(9)));
    std::map<std::string, std::string> texts;
    std::vector<double> losses;
    for (uint64_t i = 0; i < 80; ++i) {
      losses.push_back(task.step(dots(i % 4), false, texts).at("loss"));
    }
    EXPECT_LT(losses[39], 0.8 * losses[0]);
    EXPECT_LT(losses[79], losses[40]);
    const auto found = task.evaluate();
    EXPECT_TRUE(found.contains("skill_1") && found.contains("skill_k"));
    EXPECT_GT(found.at("skill_1"), 0);
  }
}

TEST(LatentPredictor, HalfPrecisionTrainsAndLatentsStayWhole) {
  for (const auto& shape : trained_kinds()) {
    SCOPED_TRACE(shape.kind);
    DynamicsModel model(tiny_shape(), shape);
    model.initialise(1);
    model.precision = torch::kBFloat16;
    DynamicsTrainingOptions options;
    options.weights.inverse = 0;
    DynamicsTask task(model, options, {});
    std::map<std::string, std::string> texts;
    EXPECT_TRUE(std::isfinite(task.step(dots(1), false, texts).at("loss")));
    const torch::NoGradGuard no_grad;
    const auto z = model.encode_clips(dots(2).clips);
    const auto actions = actions_between(dots(2));
    const auto half =
        model.rollout(z.narrow(1, 0, 2), actions.narrow(1, 0, 1), actions.narrow(1, 1, 3));
    EXPECT_EQ(half.scalar_type(), torch::kFloat32);
    model.precision = torch::kFloat32;
    const auto full =
        model.rollout(z.narrow(1, 0, 2), actions.narrow(1, 0, 1), actions.narrow(1, 1, 3));
    EXPECT_LT((half - full).abs().max().item<double>(), 0.2);
  }
}

TEST(LatentPredictor, ARestoredTaskGoesOnBitForBit) {
  auto kinds = trained_kinds();
  for (size_t k = 0; k < kinds.size(); ++k) {
    SCOPED_TRACE(kinds[k].kind);
    const TemporaryFolder folder;
    DynamicsTrainingOptions options;
    options.second = {.from_step = 2,
                      .predictor = kinds[(k + 1) % kinds.size()],  // phases may differ
                      .updates = 2,
                      .batch = 8,
                      .buffer = 20};
    const auto keep = [&](const DynamicsTask& task) {
      for (const auto& [file, tensors] : task.tensors()) {
        write_safetensors(folder.file(file + ".safetensors"), tensors);
      }
    };
    std::map<std::string, std::string> texts;
    for (const int64_t cut : {1, 3}) {
      DynamicsModel whole(tiny_shape(), kinds[k]), part(tiny_shape(), kinds[k]);
      whole.initialise(1);
      part.initialise(2);
      DynamicsTask task(whole, options, {}), again(part, options, {});
      for (int64_t i = 0; i < 4; ++i) {
        if (i == cut) {
          keep(task);
          again.restore(cut, folder.path().string());
        }
        task.step(dots(static_cast<uint64_t>(i)), false, texts);
        if (i >= cut) again.step(dots(static_cast<uint64_t>(i)), false, texts);
      }
      const auto expected = task.tensors(), got = again.tensors();
      ASSERT_EQ(expected.size(), got.size());
      for (const auto& [file, tensors] : expected) {
        for (const auto& [name, value] : tensors) {
          EXPECT_TRUE(torch::equal(value, got.at(file).at(name))) << file << " " << name;
        }
      }
      keep(task);
      auto read =
          load_dynamics(folder.path().string(), tiny_shape(), kinds[k], options.second.predictor);
      EXPECT_EQ(read.history(), whole.history());
      const torch::NoGradGuard no_grad;
      const auto z = whole.encode_clips(dots(8).clips);
      const auto actions = actions_between(dots(8));
      EXPECT_TRUE(torch::equal(read.rollout(z.narrow(1, 0, 1), {}, actions),
                               whole.rollout(z.narrow(1, 0, 1), {}, actions)));
      for (const auto& file : std::filesystem::directory_iterator(folder.path())) {
        std::filesystem::remove(file);
      }
    }
  }
}

TEST(DynamicsModel, SkillCountsWhatIsSeenBefore) {
  auto shape = trained_kinds().back();
  DynamicsModel model(tiny_shape(), shape);
  model.initialise(1);
  for (const auto& [name, module] : model.predictor->modules()) {
    const torch::NoGradGuard no_grad;
    for (auto& p : module->parameters()) p.add_(torch::randn(p.sizes(), seeded_generator(5)), 0.1);
  }
  const torch::NoGradGuard no_grad;
  const auto held = held_out(dots(1));
  const auto z = model.encode_clips(held.clips);
  double error = 0, copied = 0;
  for (int64_t t = 0; t < 4; ++t) {
    const int64_t seen = std::min<int64_t>(t + 1, 3);
    const auto past = z.narrow(1, t + 1 - seen, seen);
    const auto next = model.predictor->predict(past, held.actions.narrow(1, t + 1 - seen, seen));
    error += (next.select(1, seen - 1) - z.select(1, t + 1)).square().mean().item<double>();
    copied += (z.select(1, t) - z.select(1, t + 1)).square().mean().item<double>();
  }
  EXPECT_NEAR(measure(model, held, {}).at("skill_1"), 1 - error / copied, 1e-4);
  // Planners may know more than is looked back over, and what is known shows.
  const auto actions = held.actions;
  const auto ahead = [&](int64_t from) {
    return model.rollout(z.narrow(1, from, 4 - from),
                         from == 3 ? torch::Tensor() : actions.narrow(1, from, 3 - from),
                         actions.narrow(1, 3, 1));
  };
  EXPECT_TRUE(torch::allclose(ahead(0), ahead(1), 1e-5, 1e-5));
  EXPECT_FALSE(torch::allclose(ahead(1), ahead(2), 1e-4, 1e-4));
  EXPECT_FALSE(torch::allclose(ahead(2), ahead(3), 1e-4, 1e-4));
}

TEST(Diagnostics, NoChangeTellsNoSkill) {
  StepMetrics found;
  add_skill(found, "none", 1, 0);
  add_skill(found, "nothing", 0, 0);
  add_skill(found, "half", 1, 2);
  EXPECT_EQ(found, (StepMetrics{{"half", 0.5}}));
}

TEST(ModelOptions, ActionStatisticsAreThoseOfTheStore) {
  const TemporaryFolder folder;
  // Two steps of three numbers a row; a row with a NaN ends each episode.
  const auto steps =
      torch::randn({3, 5, 2, 3}, seeded_generator(1)) * torch::tensor({2.0, 0.5, 1.0}) +
      torch::tensor({1.0, -3.0, 0.0});
  {
    ClipStoreWriter writer(folder.file("store.h5"), {});
    for (int64_t e = 0; e < 3; ++e) {
      RawClip clip{.frames = 6, .height = 2, .width = 2, .channels = 1, .pixels = {}};
      clip.pixels.resize(24);
      const auto rows = steps[e].contiguous();
      Signal action{.width = 6,
                    .values = {rows.const_data_ptr<float>(), rows.const_data_ptr<float>() + 30}};
      action.values.resize(36, 7.0F);
      action.values.back() = std::nanf("");
      clip.signals = {{"action", action}};
      writer.append(clip);
    }
    writer.finish({});
  }
  const auto rows = ClipStore(folder.file("store.h5"), {}).statistics("action");
  ModelOptions options;
  EXPECT_FALSE(options.measures_actions());
  options.action_mean = options.action_std = {};
  EXPECT_TRUE(options.measures_actions());
  options.take_action_statistics(rows, 2);
  const auto all = steps.to(torch::kFloat64).flatten(0, 2);
  const auto mean = all.mean(0), std = all.std(0, /*unbiased=*/false);
  ASSERT_EQ(options.action_mean.size(), 3U);
  for (int64_t k = 0; k < 3; ++k) {
    EXPECT_NEAR(options.action_mean[static_cast<size_t>(k)], mean[k].item<double>(), 1e-6);
    EXPECT_NEAR(options.action_std[static_cast<size_t>(k)], std[k].item<double>(), 1e-6);
  }
  // What was given stays.
  options.action_std = {2};
  options.action_mean = {};
  options.take_action_statistics(rows, 2);
  EXPECT_EQ(options.action_std, std::vector<double>{2});
  EXPECT_EQ(options.action_mean.size(), 3U);
  EXPECT_THROW(options.take_action_statistics(rows, 4), DataError);
  options.action_std = {};
  const auto still = torch::ones({2}, torch::kFloat64);
  EXPECT_NE(message_of<DataError>([&] {
              options.take_action_statistics({still, torch::tensor({1.0, 0.0}), still, 9}, 1);
            }).find("number 2 of the actions never varies"),
            std::string::npos);
}

}  // namespace
}  // namespace jepa::eval::dynamics

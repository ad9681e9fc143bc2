// The training step: what is withheld and given, the average, resume, and a distribution learnt.
#include "temporary_folder.hpp"

#include <eval/diffusion/training.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/random.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <limits>

namespace jepa::eval::diffusion {
namespace {

std::map<std::string, std::string> texts;

DiffusionTransformer fresh(const DiffusionTransformerOptions& options) {
  DiffusionTransformer model(options);
  model->initialise(seeded_generator(1));
  return model;
}

OptimisationOptions steady(double lr) {
  return {.schedule = "constant",
          .total_steps = 100,
          .lr = lr,
          .weight_decay = 0,
          .final_weight_decay = 0,
          .clip_gradient = 1};
}

DiffusionTransformerOptions tiny() {
  return {.dim = 16, .depth = 2, .heads = 2, .tubelet = 2, .patch = 8, .words = 6};
}

ClipBatch batch_of(int64_t step) {
  Random random(static_cast<uint64_t>(step) + 100);
  return {torch::randint(0, 256, {4, 1, 4, 16, 16}, seeded_generator(random.bits()), torch::kUInt8),
          torch::arange(4)};
}

DiffusionTask::Example prepare(const ClipBatch& batch, int64_t step) {
  return {batch.clips.to(torch::kFloat32) / 127.5 - 1,
          {torch::tensor({{1, 0, 5}, {2, 4, 6}, {0, 3, 0}, {1, 4, 5}}), {}}};
}

DiffusionTask make_task(DiffusionTransformer model, DiffusionTransformer average) {
  return DiffusionTask(model, average, {.average = 0.9}, steady(1e-3), 5, prepare,
                       prepare(batch_of(99), 0));
}

TEST(GivenFrames, AreAShareOfTheClipsAndNeverAll) {
  const auto given = draw_given_frames(4000, 5, 0.5, seeded_generator(1));
  const auto counts = given.sum(1);
  EXPECT_LT(counts.max().item<int64_t>(), 5);
  EXPECT_NEAR(counts.gt(0).to(torch::kFloat64).mean().item<double>(), 0.5, 0.03);
  EXPECT_EQ(draw_given_frames(10, 5, 0, seeded_generator(1)).sum().item<int64_t>(), 0);
  EXPECT_EQ(draw_given_frames(10, 1, 1, seeded_generator(1)).sum().item<int64_t>(), 0);
  EXPECT_EQ(draw_given_frames(50, 2, 1, seeded_generator(1)).sum(1).eq(1).sum().item<int64_t>(),
            50);
}

TEST(GivenFrames, AreOfAllFourKinds) {
  const auto given = draw_given_frames(400, 6, 1, seeded_generator(2));
  std::map<std::string, int> seen;
  for (int64_t i = 0; i < given.size(0); ++i) {
    std::string row;
    for (int64_t j = 0; j < 6; ++j) row += given[i][j].item<bool>() ? '1' : '0';
    ++seen[row];
  }
  EXPECT_TRUE(seen.contains("110000"));  // the first two
  EXPECT_TRUE(seen.contains("000011"));  // the last two
  EXPECT_TRUE(seen.contains("110001"));  // both ends
  EXPECT_TRUE(seen.contains("010100") || seen.contains("001010") || seen.contains("010010"));
  EXPECT_FALSE(seen.contains("111111"));
  EXPECT_FALSE(seen.contains("000000"));
}

TEST(DiffusionTask, ResumesBitForBit) {
  const TemporaryFolder folder;
  auto model = fresh(tiny()), average = fresh(tiny());
  auto task = make_task(model, average);
  for (int64_t i = 0; i < 3; ++i) task.step(batch_of(i), false, texts);
  for (const auto& [name, tensors] : task.tensors()) {
    write_safetensors(folder.file(name + ".safetensors"), tensors);
  }
  for (int64_t i = 3; i < 6; ++i) task.step(batch_of(i), false, texts);

  DiffusionTransformer again(tiny()), again_average(tiny());
  auto resumed = make_task(again, again_average);
  resumed.restore(3, folder.file(""));
  for (int64_t i = 3; i < 6; ++i) resumed.step(batch_of(i), false, texts);
  EXPECT_EQ(resumed.steps_done(), 6);
  const auto theirs = resumed.tensors();
  for (const auto& [name, tensors] : task.tensors()) {
    for (const auto& [key, tensor] : tensors) {
      EXPECT_TRUE(tensor.equal(theirs.at(name).at(key))) << name << " " << key;
    }
  }
}

TEST(DiffusionTask, BfloatProductsKeepFloatWeights) {
  const auto trained = [](torch::ScalarType precision) {
    auto model = fresh(tiny()), average = fresh(tiny());
    DiffusionTask task(model, average, {.average = 0.9, .precision = precision}, steady(1e-2), 5,
                       prepare, prepare(batch_of(99), 0));
    for (int64_t i = 0; i < 4; ++i) task.step(batch_of(i), false, texts);
    for (const auto& p : model->parameters()) EXPECT_EQ(p.scalar_type(), torch::kFloat32);
    return task.evaluate().at("validation_loss");
  };
  const double full = trained(torch::kFloat32), half = trained(torch::kBFloat16);
  EXPECT_NEAR(half, full, 0.02 * full);
  EXPECT_NE(half, full);
}

TEST(DiffusionTask, MicroBatchesAreTheBatch) {
  const auto trained = [](int64_t accumulate) {
    auto model = fresh(tiny()), average = fresh(tiny());
    auto optimisation = steady(1e-3);
    optimisation.accumulate = accumulate;
    DiffusionTask task(model, average, {.average = 0.9}, optimisation, 5, prepare, {});
    double loss = 0;
    for (int64_t i = 0; i < 3; ++i) loss = task.step(batch_of(i), false, texts).at("loss");
    return std::pair(loss, task.tensors().at("model"));
  };
  const auto [loss, weights] = trained(1);
  const auto [micro_loss, micro_weights] = trained(3);  // of 4 clips: 1, 1 and 2
  EXPECT_NEAR(micro_loss, loss, 1e-5);
  for (const auto& [name, tensor] : weights) {
    EXPECT_TRUE(torch::allclose(tensor, micro_weights.at(name), 1e-3, 1e-5)) << name;
  }
}

TEST(DiffusionTask, ValidationIsTheSameTwiceAndMovesNothing) {
  auto model = fresh(tiny()), average = fresh(tiny());
  auto task = make_task(model, average);
  for (int64_t i = 0; i < 2; ++i) task.step(batch_of(i), false, texts);
  const auto first = task.evaluate();
  EXPECT_EQ(first, task.evaluate());
  EXPECT_EQ(first.size(), 13u);
  EXPECT_TRUE(first.contains("loss_at_0.05") && first.contains("loss_at_0.95") &&
              first.contains("loss_given_at_0.05"));
  EXPECT_EQ(first.at("score"), -first.at("validation_loss"));
}

TEST(Diffusion, OlderNamesOfItsOptionsAreRead) {
  DiffusionOptions options;
  const std::vector<OptionSection> sections{
      {"diffusion", "", [&](OptionVisitor& visit) { options.describe(visit); }}};
  apply_options(sections, {{"diffusion.says", "v"}, {"diffusion.compared", "x"}});
  EXPECT_EQ(options.prediction, "v");
  EXPECT_EQ(options.loss, "x");
  EXPECT_THROW(apply_options(sections, {{"diffusion.says", "v"}, {"diffusion.prediction", "x"}}),
               ConfigError);
}

/// A fresh model predicts 0, so the loss on velocities is that of the data and the noise.
TEST(DiffusionTask, StartsAtTheVariance) {
  auto model = fresh(tiny()), average = fresh(tiny());
  DiffusionTask task(model, average, {.prediction = "v", .loss = "v"}, steady(1e-3), 5, prepare,
                     prepare(batch_of(99), 0));
  const double expected = 1 + prepare(batch_of(99), 0).x.square().mean().item<double>();
  EXPECT_NEAR(task.evaluate().at("validation_loss"), expected, 0.1);
}

TEST(DiffusionTask, AverageFollowsTheWeights) {
  auto model = fresh(tiny()), average = fresh(tiny());
  auto task = make_task(model, average);
  std::vector<torch::Tensor> expected;
  for (const auto& p : average->parameters()) expected.push_back(p.clone());
  for (int64_t i = 0; i < 4; ++i) {
    task.step(batch_of(i), false, texts);
    const double momentum = std::min(0.9, (1.0 + i) / (10.0 + i));
    const torch::NoGradGuard no_grad;
    for (size_t j = 0; j < expected.size(); ++j) {
      expected[j].lerp_(model->parameters()[j], 1 - momentum);
    }
  }
  for (size_t j = 0; j < expected.size(); ++j) {
    EXPECT_TRUE(torch::allclose(average->parameters()[j], expected[j], 1e-5, 1e-7));
    EXPECT_FALSE(average->parameters()[j].requires_grad());
  }
}

/// What is withheld teaches nothing: its rows of the table get no gradient.
TEST(DiffusionTask, DropoutWithholdsConditions) {
  const auto words_taught = [](const DiffusionOptions& options) {
    auto model = fresh(tiny()), average = fresh(tiny());
    // The last layers are zero at first; a second step reaches the words.
    DiffusionTask task(model, average, options, steady(1e-2), 5, prepare, {});
    const auto before = model->named_parameters()["word_table"].clone();
    for (int64_t i = 0; i < 4; ++i) task.step(batch_of(i), false, texts);
    EXPECT_TRUE(task.evaluate().empty());
    const auto changed = (model->named_parameters()["word_table"] - before).abs().sum(1).gt(0);
    return changed.slice(0, 1).sum().item<int64_t>();
  };
  EXPECT_EQ(words_taught({.dropout = 1}), 0);
  EXPECT_EQ(words_taught({.dropout = 0}), 6);
  EXPECT_EQ(words_taught({.dropout = 0, .given_share = 1, .given_dropout = 1}), 0);
  EXPECT_EQ(words_taught({.dropout = 0, .given_share = 1, .given_dropout = 0}), 6);
  EXPECT_EQ(words_taught({.dropout = 0, .given_share = 0, .given_dropout = 1}), 6);
}

TEST(DiffusionTask, StopsBeforeWeightsAreSpoilt) {
  auto model = fresh(tiny()), average = fresh(tiny());
  const auto spoilt = [](const ClipBatch& batch, int64_t step) {
    auto example = prepare(batch, step);
    example.x[0][0][0][0][0] = std::numeric_limits<float>::quiet_NaN();
    return example;
  };
  DiffusionTask task(model, average, {}, steady(1e-3), 5, spoilt, {});
  EXPECT_NE(message_of<Error>([&] { task.step(batch_of(0), false, texts); }).find("step 1"),
            std::string::npos);
  for (const auto& p : model->parameters()) EXPECT_TRUE(torch::isfinite(p).all().item<bool>());
}

TEST(DiffusionTask, DeterministicHeadLearnsTheMean) {
  auto shape = tiny();
  shape.words = 0;
  auto model = fresh(shape), average = fresh(shape);
  const auto constant = [](const ClipBatch&, int64_t) {
    return DiffusionTask::Example{torch::full({4, 1, 2, 8, 8}, 0.5), {}};
  };
  DiffusionTask task(model, average, {.average = 0.5, .deterministic = true}, steady(5e-3), 5,
                     constant, constant({}, 0));
  for (int64_t i = 0; i < 60; ++i) task.step(batch_of(0), false, texts);
  EXPECT_LT(task.evaluate().at("validation_loss"), 0.1);
}

/// Points on a ring, as images of two channels and one pixel.
torch::Tensor ring(int64_t count, at::Generator draws) {
  const auto angle = 2 * M_PI * torch::rand({count}, draws);
  return (torch::stack({angle.cos(), angle.sin()}, 1) + 0.05 * torch::randn({count, 2}, draws))
      .view({count, 2, 1, 1, 1});
}

TEST(DiffusionTask, LearnsARing) {
  const DiffusionTransformerOptions shape{
      .dim = 64, .depth = 3, .heads = 1, .channels = 2, .tubelet = 1, .patch = 1};
  auto model = fresh(shape), average = fresh(shape);
  const auto draw = [](const ClipBatch&, int64_t step) {
    return DiffusionTask::Example{ring(256, seeded_generator(stream_seed(9, "ring", step))), {}};
  };
  DiffusionTask task(model, average, {.times = {.mean = 0}, .average = 0.99}, steady(3e-3), 5, draw,
                     {});
  for (int64_t i = 0; i < 700; ++i) task.step({}, false, texts);
  const Denoiser denoise = [&](const torch::Tensor& z, const torch::Tensor& t) {
    return average->forward(z, t, {});
  };
  const auto points = sample(denoise, Quantity::kClean, Interpolant(),
                             torch::randn({2000, 2, 1, 1, 1}, seeded_generator(3)), {.steps = 25},
                             {}, seeded_generator(4))
                          .flatten(1);
  const auto radius = points.norm(2, 1);
  EXPECT_NEAR(radius.mean().item<double>(), 1, 0.07);
  EXPECT_GT(radius.sub(1).abs().lt(0.25).to(torch::kFloat64).mean().item<double>(), 0.85);
  // All around: every eighth of the ring has its share, within a factor of two.
  const auto eighth = ((torch::atan2(points.select(1, 1), points.select(1, 0)) / M_PI + 1) * 4)
                          .clamp(0, 7.99)
                          .to(torch::kInt64);
  const auto shares = torch::bincount(eighth, {}, 8).to(torch::kFloat64) / 2000;
  EXPECT_GT(shares.min().item<double>(), 0.06);
  EXPECT_LT(shares.max().item<double>(), 0.25);
}

}  // namespace
}  // namespace jepa::eval::diffusion

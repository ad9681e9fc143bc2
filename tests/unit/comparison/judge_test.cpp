// The judge: reads clips of any length, learns in a tiny budget, comes back from its file.
#include "temporary_folder.hpp"

#include <eval/comparison/cell.hpp>
#include <jepa/data/generated.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/safetensors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace jepa::eval::comparison {
namespace {

std::shared_ptr<const ClipSource> digits(const std::string& split, int64_t clips,
                                         int64_t frames = 8) {
  return std::make_shared<GeneratedSource>(
      GeneratedOptions{.split = split, .clips = clips, .frames = frames}, 1);
}

JudgeOptions tiny() {
  return {.width = 8, .clips = 1000, .held_out_clips = 100, .steps = 200, .batch = 32};
}

TEST(Judge, WhatPromptsAskOfIt) {
  using diffusion::PromptVocabulary;
  EXPECT_EQ(prompted_classes(PromptVocabulary("creatures"), "legs"), (std::vector<int64_t>{6, 8}));
  EXPECT_EQ(prompted_classes(PromptVocabulary("creatures"), "class"), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(prompted_classes(PromptVocabulary("digits"), "digit").size(), 10U);
  EXPECT_EQ(prompted_classes(PromptVocabulary("shapes"), "shape").size(), 5U);
  const auto said =
      message_of<ConfigError>([] { prompted_classes(PromptVocabulary("creatures"), "digit"); });
  EXPECT_NE(said.find("creatures do not say the digit"), std::string::npos) << said;
}

TEST(Judge, DirectionAndVelocityOfTrueCentres) {
  const GeneratedSource source({.clips = 64, .frames = 6}, 3);
  const auto velocity = source.column("velocity");
  const auto centres = true_centres(source, torch::arange(64), 6);
  const auto object = source.objects(5).front();
  EXPECT_NEAR(centres[5][4][0].item<double>(), object.x + 4 * object.velocity_x, 1e-4);
  EXPECT_TRUE(torch::allclose(line_velocity(centres), velocity, 1e-4, 1e-5));
  EXPECT_TRUE(torch::equal(nearest_direction(velocity), source.column("direction")));
}

TEST(Judge, TrueCentresFollowGravity) {
  const GeneratedSource source({.clips = 8, .frames = 12, .gravity = 0.2}, 3);
  const auto centres = true_centres(source, torch::tensor({5}), 12);
  const auto object = source.objects(5).front();
  for (const int64_t t : {0, 7, 11}) {
    const auto time = static_cast<double>(t);
    EXPECT_NEAR(centres[0][t][1].item<double>(),
                object.y + time * object.velocity_y + 0.1 * time * time, 1e-3);
  }
  EXPECT_TRUE(torch::allclose(line_velocity(centres)[0], source.column("velocity")[5], 1e-4, 1e-5));
}

TEST(Judge, LearnsReadsOtherLengthsAndComesBackFromItsFile) {
  std::vector<double> losses;
  const auto trained = train_judge(digits("train", 1000), digits("validation", 100), tiny(), 5,
                                   [&](int64_t, int64_t, double loss) { losses.push_back(loss); });
  ASSERT_EQ(losses.size(), 200U);
  EXPECT_EQ(trained.held_out.clips, 100);
  EXPECT_GT(trained.held_out.classes, 0.4);
  EXPECT_GT(trained.held_out.direction, 0.6);
  EXPECT_LT(trained.held_out.position_error, 1.5);

  Judge judge = trained.judge;
  const auto longer = score_judge(judge, digits("test", 100, 16), 0);
  EXPECT_GT(longer.direction, 0.8);
  EXPECT_LT(longer.position_error, 1.5);

  const TemporaryFolder folder;
  const auto path = folder.file("judge.safetensors");
  save_judge(path, trained);
  auto loaded = load_judge(path);
  EXPECT_EQ(loaded.judge->options().width, 8);
  EXPECT_NEAR(loaded.held_out.position_error, trained.held_out.position_error, 1e-5);
  const auto clips = torch::randint(0, 256, {3, 1, 5, 32, 32}, torch::kUInt8);
  const auto one = read_clips(judge, clips), other = read_clips(loaded.judge, clips);
  EXPECT_TRUE(torch::equal(one.logits, other.logits));
  EXPECT_TRUE(torch::equal(one.centres, other.centres));
  EXPECT_EQ(one.centres.sizes(), (std::vector<int64_t>{3, 5, 2}));

  write_safetensors(path, {{"x", torch::zeros({2})}});
  EXPECT_THROW(load_judge(path), CheckpointError);
}

TEST(Judge, IsAFunctionOfItsSeed) {
  auto options = tiny();
  options.steps = 3;
  options.noise = 0.5;
  const auto train = digits("train", 60), validation = digits("validation", 10);
  const auto first = train_judge(train, validation, options, 5);
  const auto again = train_judge(train, validation, options, 5);
  const auto other = train_judge(train, validation, options, 6);
  const auto weights = [](const TrainedJudge& t) { return t.judge->parameters().front(); };
  EXPECT_TRUE(torch::equal(weights(first), weights(again)));
  EXPECT_FALSE(torch::equal(weights(first), weights(other)));
}

TEST(Judge, SaysWhichColumnIsMissing) {
  auto options = tiny();
  options.label = "shape";
  EXPECT_THROW(train_judge(digits("train", 10), digits("validation", 10), options, 0), DataError);
}

}  // namespace
}  // namespace jepa::eval::comparison

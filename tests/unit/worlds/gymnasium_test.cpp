// The Gymnasium bridge: what is seen is what was sent, and what goes wrong is one line.
#include "gymnasium_stub.hpp"
#include "temporary_folder.hpp"

#include <eval/worlds/collection.hpp>
#include <eval/worlds/gymnasium.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace jepa::eval::worlds {
namespace {

constexpr int64_t kRed = 10, kGreen = 100;  // of the stub's frame after no step and action 0

class GymnasiumTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!use_gymnasium_stub()) GTEST_SKIP() << "no Python with numpy";
  }
  static GymnasiumOptions counter(const std::string& make = "") {
    return {.id = "Stub/Counter-v0", .make = make, .timeout = 30};
  }
  static torch::Tensor act(int64_t batch, double value) {
    return torch::full({batch, 1}, value, torch::kFloat64);
  }
  // The message of making and running the environment.
  static std::string failure(const GymnasiumOptions& options, int64_t steps = 10) {
    return message_of<DataError>([&] {
      Gymnasium world(options, 2);
      world.reset(1);
      for (int64_t s = 0; s < steps; ++s) world.step(act(2, 1));
    });
  }
  static void expect_says(const GymnasiumOptions& options, const std::string& thing) {
    const std::string text = failure(options);
    EXPECT_TRUE(text.starts_with("gym:" + options.id + ": ")) << text;
    EXPECT_NE(text.find(thing), std::string::npos) << text;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 0) << text;
  }
};

// Sends 0, 1, 2, 3, 0, ... whatever it sees.
class Counting : public EpisodePolicy {
 protected:
  void choose(const World& world, int64_t, const double*, Random&, double* action) override {
    action[0] = static_cast<double>(world.steps() % 4);
  }
};

std::vector<CollectedEpisode> collected(World& world, const CollectionOptions& options) {
  std::vector<CollectedEpisode> all;
  Counting policy;
  collect_episodes(world, policy, options, [&](CollectedEpisode& e) { all.push_back(e); });
  return all;
}

uint8_t colour(const CollectedEpisode& episode, int64_t frame, int64_t channel) {
  return episode.clip.pixels[static_cast<size_t>(frame * episode.clip.frame_bytes() + channel)];
}

TEST_F(GymnasiumTest, ShowsWhatTheEnvironmentIs) {
  Gymnasium world(counter(), 3);
  EXPECT_EQ(world.info().frame, (std::vector<int64_t>{3, 8, 12}));
  EXPECT_EQ(world.info().action_choices, 4);
  EXPECT_EQ(world.info().state, (std::vector<std::string>{"t", "sent"}));
  EXPECT_EQ(world.fps(), 35);
  world.reset(4);
  const auto first = world.pixels();
  EXPECT_TRUE(first.select(1, 0).eq(kRed).all().item<bool>());
  for (int64_t s = 0; s < 6; ++s) {
    const auto got = world.step(act(3, 2));
    EXPECT_EQ(got.reward[1].item<double>(), static_cast<double>(s + 1));
    EXPECT_EQ(got.done.all().item<bool>(), s == 5);
    // Discrete(4, start=1): choice 2 is sent as 3.
    EXPECT_EQ(world.pixels()[2][1][0][0].item<int64_t>(), kGreen + 3);
  }
  // Ended episodes are stepped no more.
  EXPECT_EQ(world.step(act(3, 0)).reward.sum().item<double>(), 0);
  EXPECT_EQ(world.state()[0][0].item<double>(), 6);
  world.reset(4);
  EXPECT_TRUE(world.pixels().equal(first));
}

TEST_F(GymnasiumTest, EpisodesDoNotDependOnBatchOrProcesses) {
  auto options = counter();
  options.workers = 2;
  Gymnasium many(options, 3), one(counter(), 1);
  many.reset(9);
  one.reset(9, {}, 2);
  EXPECT_TRUE(many.pixels()[2].equal(one.pixels()[0]));
  EXPECT_FALSE(many.pixels()[1].equal(one.pixels()[0]));
}

TEST_F(GymnasiumTest, FramesActionsAndEndsAreAligned) {
  Gymnasium world(counter(), 2);
  const auto episodes = collected(world, {.episodes = 3, .seed = 2});
  ASSERT_EQ(episodes.size(), 3U);
  for (const auto& episode : episodes) {
    const auto& signals = episode.clip.signals;
    ASSERT_EQ(episode.clip.frames, 7);  // the reset frame and six steps
    for (int64_t t = 0; t < 7; ++t) {
      EXPECT_EQ(colour(episode, t, 0), kRed + t);
      EXPECT_EQ(signals.at("state").values[2 * t], static_cast<float>(t));
      EXPECT_EQ(signals.at("reward").values[t], static_cast<float>(t));
      EXPECT_EQ(signals.at("terminated").values[t], t == 6 ? 1 : 0);
      EXPECT_EQ(signals.at("truncated").values[t], 0);
      if (t == 6) continue;
      // The action of row t is seen in frame t + 1.
      const float action = signals.at("action").values[t];
      EXPECT_EQ(action, static_cast<float>(t % 4));
      EXPECT_EQ(colour(episode, t + 1, 1), kGreen + static_cast<int>(action) + 1);
    }
    EXPECT_TRUE(std::isnan(signals.at("action").values[6]));
  }
  EXPECT_EQ(episodes[2].number, 2);
  EXPECT_NE(colour(episodes[0], 0, 2), colour(episodes[1], 0, 2));  // seeds
}

TEST_F(GymnasiumTest, APoolShowsWhatSeparateEnvironmentsShow) {
  auto pooled = counter();
  pooled.server = "envpool";
  pooled.state = "info.lives";
  auto separate = counter("image=plain");
  separate.state = "info.lives";
  // The second episode ends before the first: what a pool begins anew is passed over.
  for (const int64_t skip : {1, 4}) {
    pooled.frame_skip = separate.frame_skip = skip;
    Gymnasium pool(pooled, 2), one(separate, 2);
    EXPECT_EQ(pool.info().frame, (std::vector<int64_t>{3, 8, 12}));
    EXPECT_EQ(pool.info().action_choices, 4);
    EXPECT_EQ(pool.info().step_limit, (50 + skip - 1) / skip);
    pool.reset(5);
    one.reset(5);
    for (int64_t s = 0; s < 9; ++s) {
      EXPECT_TRUE(pool.pixels().equal(one.pixels())) << "skip " << skip << ", step " << s;
      EXPECT_TRUE(pool.state().equal(one.state()));
      const auto got = pool.step(act(2, 2)), expected = one.step(act(2, 2));
      EXPECT_TRUE(got.reward.equal(expected.reward));
      EXPECT_TRUE(got.done.equal(expected.done));
    }
    // Seeds are each episode's own, and taken again.
    pool.reset(5);
    one.reset(5);
    EXPECT_TRUE(pool.pixels().equal(one.pixels()));
  }
  pooled.pixels = "render";
  expect_says(pooled, "EnvPool shows observations");
  pooled.pixels = "auto";
  pooled.state = "auto";
  EXPECT_EQ(Gymnasium(pooled, 1).info().state.size(), 4U);  // RAM
}

TEST_F(GymnasiumTest, ABlockHoldsWhatWasSent) {
  Gymnasium world(counter(), 1);
  const auto episode = collected(world, {.episodes = 1, .block = 4}).at(0);
  // Frames after 0, 4 and 6 steps; the second block is cut short by the end.
  ASSERT_EQ(episode.clip.frames, 3);
  EXPECT_EQ(colour(episode, 1, 0), kRed + 4);
  EXPECT_EQ(colour(episode, 2, 0), kRed + 6);
  const auto& actions = episode.clip.signals.at("action");
  ASSERT_EQ(actions.width, 4);
  const std::vector<float> sent(actions.values.begin(), actions.values.begin() + 6);
  EXPECT_EQ(sent, (std::vector<float>{0, 1, 2, 3, 0, 1}));
  for (size_t k = 6; k < 12; ++k) EXPECT_TRUE(std::isnan(actions.values[k]));
  EXPECT_EQ(episode.clip.signals.at("reward").values, (std::vector<float>{0, 10, 11}));
  EXPECT_EQ(episode.steps, 6);
}

TEST_F(GymnasiumTest, FrameSkipRepeatsAnAction) {
  auto options = counter();
  options.frame_skip = 4;
  options.max_steps = 5;
  Gymnasium world(options, 1);
  const auto episode = collected(world, {.episodes = 1}).at(0);
  ASSERT_EQ(episode.clip.frames, 3);
  EXPECT_EQ(colour(episode, 1, 0), kRed + 4);
  EXPECT_EQ(colour(episode, 2, 0), kRed + 5);
  EXPECT_EQ(episode.clip.signals.at("reward").values, (std::vector<float>{0, 10, 5}));
  EXPECT_EQ(episode.clip.signals.at("truncated").values, (std::vector<float>{0, 0, 1}));
  EXPECT_EQ(episode.clip.signals.at("terminated").values[2], 0);
}

TEST_F(GymnasiumTest, TheLastFrameIsTheLastRealOne) {
  Gymnasium world(counter("fault=zeros"), 1);
  const auto episode = collected(world, {.episodes = 1}).at(0);
  ASSERT_EQ(episode.clip.frames, 7);
  EXPECT_EQ(colour(episode, 6, 0), kRed + 5);  // as after the step before
  EXPECT_EQ(episode.clip.signals.at("terminated").values[6], 1);
  EXPECT_EQ(world.blank_ends(), 1);
}

TEST_F(GymnasiumTest, OtherActionsPixelsAndStates) {
  auto options = counter("actions=box,image=render");
  options.height = 4;
  options.width = 6;
  Gymnasium boxed(options, 1);
  EXPECT_EQ(boxed.info().frame, (std::vector<int64_t>{3, 4, 6}));
  EXPECT_EQ(boxed.info().action_width, 4);
  EXPECT_EQ(boxed.info().action_high, (std::vector<double>{2, 2, 2, 2}));
  boxed.reset(0);
  boxed.step(torch::tensor({{1.0, 2.0, 0.5, 0.5}}, torch::kFloat64));
  EXPECT_EQ(boxed.pixels()[0][1][3][5].item<int64_t>(), kGreen + 4);
  EXPECT_EQ(boxed.state()[0][1].item<double>(), 4);
  options = counter();
  options.state = "info.lives";
  Gymnasium lives(options, 1);
  lives.reset(0);
  EXPECT_EQ(lives.state()[0][0].item<double>(), 3);
}

TEST_F(GymnasiumTest, WhatGoesWrongIsOneLine) {
  expect_says(counter("fault=die"), "ended with exit code 7; its last output: ");
  expect_says(counter("fault=die"), "out of memory in the engine");
  expect_says(counter("fault=signal"), "ended by signal 11");
  expect_says(counter("fault=raise"), "ValueError: a wrong move at the end");
  expect_says(counter("fault=constructor"), "RuntimeError: no licence for this game");
  expect_says(counter("fault=size"), "frames changed from (8, 12, 3) to (12, 16, 3) after 3 steps");
  expect_says(counter("fault=nan"), "observation 't' is NaN after 3 steps");
  expect_says(counter("fault=reward"), "reward is nan after 3 steps");
  expect_says(counter("speed=3"), "TypeError: unexpected arguments");
  expect_says(counter("speed"), "expected name=value, found 'speed'");
  expect_says(counter("actions=tuple"), "its actions are Tuple(...), which are not handled");
  expect_says({.id = "Stub/Other-v1"}, "Environment `Stub/Other-v1` doesn't exist.");
  expect_says({.id = "Stub/Counter-v0", .state = "ram"}, "it has no RAM");
  expect_says({.id = "Stub/Counter-v0", .state = "info.score"}, "info has no 'score' but lives");
  expect_says({.id = "Stub/Counter-v0", .python = "/no/such/python"},
              "'/no/such/python' cannot be");
}

TEST_F(GymnasiumTest, AHangIsAnErrorInTime) {
  auto options = counter("fault=hang");
  Gymnasium world(options, 1);  // starting may take long on a busy machine
  options.timeout = 3;
  const auto start = std::chrono::steady_clock::now();
  const std::string text = failure(options);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  EXPECT_TRUE(text.starts_with("gym:Stub/Counter-v0: no answer within 3 s; its last output: "))
      << text;
  EXPECT_TRUE(text.ends_with("waiting for a player")) << text;
  EXPECT_LT(taken.count(), 30);
}

// Of a batch and of several processes the wait for a step is one, not one for each.
TEST_F(GymnasiumTest, AHangIsWaitedForOnceHoweverManyThereAre) {
  auto options = counter("fault=hang,at=1");
  options.timeout = 3;
  options.workers = 2;
  Gymnasium world(options, 8);
  world.reset(1);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW(world.step(act(8, 1)), DataError);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  EXPECT_LT(taken.count(), 8);
}

TEST_F(GymnasiumTest, MakingManyMayTakeLong) {
  auto options = counter("fault=slow");  // 0.7 s each
  options.timeout = 3;
  Gymnasium world(options, 5);
  world.reset(1);
  EXPECT_EQ(world.step(act(5, 1)).reward[4].item<double>(), 1);
}

TEST_F(GymnasiumTest, AStopRequestEndsTheWait) {
  auto options = counter("fault=hang");
  std::chrono::steady_clock::time_point start;
  bool asked = false;
  options.stop = [&] {
    return asked && std::chrono::steady_clock::now() - start > std::chrono::milliseconds(300);
  };
  Gymnasium world(options, 2);
  std::vector<CollectedEpisode> all;
  Counting policy;
  asked = true;
  start = std::chrono::steady_clock::now();
  collect_episodes(world, policy, {.episodes = 4}, [&](CollectedEpisode& e) { all.push_back(e); });
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  EXPECT_LT(taken.count(), 3);
  ASSERT_EQ(all.size(), 2U);  // what was seen until then
  EXPECT_EQ(all[0].clip.frames, 3);
  EXPECT_EQ(all[0].clip.signals.at("truncated").values.back(), 1);
  EXPECT_THROW(Gymnasium(options, 1), Stopped);
}

TEST_F(GymnasiumTest, AnInterpreterThatLacksItIsNamed) {
  const std::string text = failure({.id = "Stub/Other-v1"});
  EXPECT_NE(text.find("(asked of Python interpreter /"), std::string::npos) << text;
  EXPECT_NE(text.find("--gym.python or JEPA_PYTHON names another, ./dev setup-envs"),
            std::string::npos)
      << text;
  // Whatever the environment: gymnasium itself is not there.
  const std::string stub = std::getenv("PYTHONPATH");
  TemporaryFolder folder;
  std::filesystem::create_directories(folder.file("gymnasium"));
  std::ofstream(folder.file("gymnasium/__init__.py"))
      << "raise ModuleNotFoundError(\"No module named 'gymnasium'\")\n";
  setenv("PYTHONPATH", folder.path().c_str(), 1);
  const std::string without = failure(counter());
  setenv("PYTHONPATH", stub.c_str(), 1);
  EXPECT_TRUE(
      without.starts_with("gym:Stub/Counter-v0: ModuleNotFoundError: No module named "
                          "'gymnasium' (asked of Python interpreter /"))
      << without;
}

TEST_F(GymnasiumTest, SlotsThatBeginAlike) {
  Gymnasium world(counter(), 5);
  world.reset(4, {}, 7, 2);
  const auto seen = world.pixels();
  EXPECT_FALSE(seen[0].equal(seen[1]));
  for (const int64_t i : {2, 3, 4}) EXPECT_TRUE(seen[i].equal(seen[i % 2])) << i;
  world.reset(4, {}, 7);
  EXPECT_TRUE(world.pixels()[1].equal(seen[1]));
}

TEST_F(GymnasiumTest, WhatWasSeenBeforeAFailureIsHandedOver) {
  Gymnasium world(counter("fault=die,at=5"), 2);
  std::vector<CollectedEpisode> all;
  Counting policy;
  EXPECT_THROW(collect_episodes(world, policy, {.episodes = 4},
                                [&](CollectedEpisode& e) { all.push_back(e); }),
               DataError);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[1].clip.frames, 5);
  EXPECT_EQ(all[1].steps, 4);
  EXPECT_EQ(all[1].clip.signals.at("truncated").values.back(), 1);
  EXPECT_EQ(all[1].clip.signals.at("action").values.size(), 5U);
}

TEST(ResizeArea, AveragesWhatAPixelCovers) {
  // One row of 4 grey pixels to 2 and to 3.
  const std::vector<uint8_t> row = {0, 100, 200, 60};
  std::vector<uint8_t> out(3);
  resize_area(row.data(), 1, 4, 1, 1, 2, out.data());
  EXPECT_EQ(out[0], 50);
  EXPECT_EQ(out[1], 130);
  resize_area(row.data(), 1, 4, 1, 1, 3, out.data());
  EXPECT_EQ(out, (std::vector<uint8_t>{25, 150, 95}));  // (0 + 100 / 3) / (4 / 3), ...
  // Colours become planes.
  const std::vector<uint8_t> colours = {1, 2, 3, 5, 6, 7};
  out.resize(3);
  resize_area(colours.data(), 2, 1, 3, 1, 1, out.data());
  EXPECT_EQ(out, (std::vector<uint8_t>{3, 4, 5}));
}

}  // namespace
}  // namespace jepa::eval::worlds

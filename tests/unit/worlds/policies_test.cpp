// Policies and what they collect from the native worlds.
#include "temporary_folder.hpp"

#include <eval/worlds/collection.hpp>
#include <eval/worlds/coverage.hpp>
#include <eval/worlds/registry.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

namespace jepa::eval::worlds {
namespace {

std::vector<CollectedEpisode> episodes_of(const std::string& name, const std::string& policy,
                                          const PolicyOptions& knobs, CollectionOptions options,
                                          int64_t batch) {
  const auto world = make_world(name, batch);
  const auto acting = make_policy(policy, knobs, *world);
  std::vector<CollectedEpisode> all;
  collect_episodes(*world, *acting, options, [&](CollectedEpisode& e) { all.push_back(e); });
  return all;
}

double share_of_success(const std::vector<CollectedEpisode>& episodes, bool ever) {
  double count = 0;
  for (const auto& episode : episodes) count += ever ? episode.ever : episode.success;
  return count / static_cast<double>(episodes.size());
}

double mean_steps(const std::vector<CollectedEpisode>& episodes) {
  double count = 0;
  for (const auto& episode : episodes) count += static_cast<double>(episode.steps);
  return count / static_cast<double>(episodes.size());
}

double coverage_of(const std::vector<CollectedEpisode>& episodes, const std::string& name) {
  Coverage coverage("two_rooms");
  for (const auto& episode : episodes) coverage.add(episode.state, episode.actions);
  return coverage.shares().at(name);
}

TEST(Policies, DataIsAFunctionOfTheSeedAlone) {
  for (const auto& name : world_names()) {
    for (const std::string policy : {"random", "held", "sticky", "walk"}) {
      if (policy == "walk" && name == "dodge") continue;  // one number
      const CollectionOptions options{.episodes = 3, .max_steps = 6, .seed = 5};
      const auto one = episodes_of(name, policy, {}, options, 1);
      const auto three = episodes_of(name, policy, {}, options, 3);
      ASSERT_EQ(one.size(), 3U);
      for (size_t e = 0; e < 3; ++e) {
        EXPECT_EQ(one[e].clip.pixels, three[e].clip.pixels) << name << " " << policy << " " << e;
        EXPECT_TRUE(one[e].state.equal(three[e].state));
        EXPECT_TRUE(one[e].actions.nan_to_num().equal(three[e].actions.nan_to_num()));
      }
      EXPECT_FALSE(one[0].actions.nan_to_num().equal(one[1].actions.nan_to_num()));
    }
  }
}

TEST(Policies, WhatHasEndedDoesNotDependOnTheBatch) {
  for (const std::string name : {"swm_two_rooms", "dodge"}) {
    const CollectionOptions options{.episodes = 3, .max_steps = 300, .block = 4, .seed = 5};
    const std::string policy = name == "dodge" ? "random" : "scripted";
    const auto one = episodes_of(name, policy, {}, options, 1);
    const auto three = episodes_of(name, policy, {}, options, 3);
    bool ended_early = false;
    for (size_t e = 0; e < 3; ++e) {
      EXPECT_EQ(one[e].clip.pixels, three[e].clip.pixels) << name << " " << e;
      EXPECT_TRUE(one[e].state.equal(three[e].state)) << name << " " << e;
      EXPECT_TRUE(one[e].actions.nan_to_num().equal(three[e].actions.nan_to_num()));
      ended_early = ended_early || one[e].steps < 300;
      EXPECT_TRUE(name == "dodge" || one[e].success == one[e].ever);
    }
    EXPECT_TRUE(ended_early) << name;
  }
}

TEST(Policies, HoldForAsLongAsAsked) {
  const auto episode = episodes_of("dodge", "held", {.held_min = 3, .held_max = 3},
                                   {.episodes = 1, .max_steps = 30, .seed = 1}, 1)
                           .at(0);
  const auto actions = episode.actions.narrow(0, 0, episode.actions.size(0) - 1).view({-1});
  for (int64_t t = 0; t < actions.numel(); ++t) {
    const double action = actions[t].item<double>();
    EXPECT_EQ(action, actions[t - t % 3].item<double>());
    EXPECT_TRUE(action == -1 || action == 0 || action == 1);
  }
  const auto sticky =
      episodes_of("push", "sticky", {.sticky = 1}, {.episodes = 1, .max_steps = 9, .seed = 1}, 1)
          .at(0)
          .actions.narrow(0, 0, 9);
  EXPECT_TRUE(sticky.eq(sticky[0]).all().item<bool>());
}

TEST(Policies, WalksCrossAndTouchAsAsked) {
  const CollectionOptions options{.episodes = 30, .max_steps = 90, .seed = 3};
  const auto none = episodes_of("two_rooms", "walk", {.crossing_share = 0}, options, 10);
  const auto cross = episodes_of("two_rooms", "walk", {.crossing_share = 1}, options, 10);
  const auto wall =
      episodes_of("two_rooms", "walk", {.wall_share = 1, .crossing_share = 0}, options, 10);
  EXPECT_LT(coverage_of(none, "crossing"), 0.3);
  EXPECT_GT(coverage_of(cross, "crossing"), 0.7);
  EXPECT_GT(coverage_of(wall, "contact"), coverage_of(none, "contact") + 0.05);
  for (const auto& episode : wall) {
    const double gap = episode.state[0][0].item<double>() - episode.state[0][2].item<double>();
    EXPECT_LE(std::abs(gap), 8.0);
  }
}

TEST(Policies, ScriptsDoWhatTheirWorldAsks) {
  const PolicyOptions sure{.noise = 0};
  EXPECT_GT(
      share_of_success(episodes_of("two_rooms", "scripted", sure, {.episodes = 16}, 16), false),
      0.9);
  EXPECT_GT(share_of_success(episodes_of("swm_two_rooms", "scripted", sure,
                                         {.episodes = 4, .max_steps = 100}, 4),
                             true),
            0.7);
  const auto dodging = episodes_of("dodge", "scripted", sure, {.episodes = 12}, 12);
  const auto random = episodes_of("dodge", "random", {}, {.episodes = 12}, 12);
  EXPECT_GT(mean_steps(dodging), 1.5 * mean_steps(random));
  const auto pushing = episodes_of("push", "scripted", sure, {.episodes = 12}, 12);
  const auto drifting = episodes_of("push", "random", {}, {.episodes = 12}, 12);
  EXPECT_GT(share_of_success(pushing, true), share_of_success(drifting, true) + 0.2);
}

TEST(Policies, WhatDoesNotFitIsRefused) {
  const auto dodge = make_world("dodge", 1), balls = make_world("balls", 1);
  const auto refusal = [](const std::string& name, const PolicyOptions& options, World& world) {
    return message_of<ConfigError>([&] { make_policy(name, options, world); });
  };
  EXPECT_NE(refusal("clever", {}, *dodge).find("found 'clever'"), std::string::npos);
  EXPECT_NE(refusal("walk", {}, *dodge).find("two numbers"), std::string::npos);
  EXPECT_NE(refusal("scripted", {}, *balls).find("no script"), std::string::npos);
  EXPECT_NE(refusal("held", {.held_min = 4, .held_max = 2}, *dodge).find("held_min 4"),
            std::string::npos);
  EXPECT_THROW(episodes_of("balls", "random", {}, {.episodes = 1}, 1), ConfigError);
  EXPECT_THROW(episodes_of("balls", "random", {}, {}, 1), ConfigError);
}

TEST(Collection, ALimitTruncatesAndDeathTerminates) {
  const auto cut = episodes_of("dodge", "constant", {}, {.frames = 10, .max_steps = 3}, 2);
  ASSERT_EQ(cut.size(), 3U);  // of 4 frames each
  EXPECT_EQ(cut[0].clip.signals.at("truncated").values, (std::vector<float>{0, 0, 0, 1}));
  const auto dead = episodes_of("dodge", "constant", {}, {.episodes = 1, .seed = 1}, 1).at(0);
  EXPECT_EQ(dead.clip.signals.at("terminated").values.back(), 1);
  EXPECT_EQ(dead.clip.signals.at("truncated").values.back(), 0);
  EXPECT_EQ(dead.clip.signals.at("reward").values.back(), 0);
  EXPECT_EQ(dead.total, static_cast<double>(dead.steps - 1));
}

TEST(Collection, AStopCutsWhatRuns) {
  const auto world = make_world("push", 2);
  const auto policy = make_policy("held", {}, *world);
  std::vector<CollectedEpisode> all;
  int64_t asked = 0;
  collect_episodes(
      *world, *policy, {.episodes = 5, .max_steps = 50},
      [&](CollectedEpisode& e) { all.push_back(e); }, [&] { return ++asked > 8; });
  ASSERT_EQ(all.size(), 2U);
  for (const auto& episode : all) {
    EXPECT_EQ(episode.clip.frames, 8);  // asked once before the first reset
    EXPECT_EQ(episode.steps, 7);
    EXPECT_EQ(episode.clip.signals.at("truncated").values.back(), 1);
    EXPECT_TRUE(std::isnan(episode.clip.signals.at("action").values.back()));
  }
}

}  // namespace
}  // namespace jepa::eval::worlds

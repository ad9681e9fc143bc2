// Pairs of films: what they share, what differs, and that lawful ones are lawful.
#include "temporary_folder.hpp"

#include <eval/physics/motion.hpp>
#include <eval/physics/violations.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace jepa::eval::physics {
namespace {

constexpr int64_t kScenes = 4;

std::vector<std::string> frames_of(const Film& film) {
  const size_t bytes = static_cast<size_t>(3 * film.side * film.side);
  std::vector<std::string> frames;
  for (size_t t = 0; t * bytes < film.pixels.size(); ++t) {
    const auto start = film.pixels.begin() + static_cast<int64_t>(t * bytes);
    frames.emplace_back(start, start + static_cast<int64_t>(bytes));
  }
  return frames;
}

template <class Check>
void for_all_scenes(const Check& check) {
  for (const auto& rule : rule_names()) {
    for (int64_t i = 0; i < kScenes; ++i) {
      SCOPED_TRACE(rule + " " + std::to_string(i));
      check(make_scene(rule, {}, 5, "test", i));
    }
  }
}

TEST(Violations, PairsAreOneUpToTheFirstDifference) {
  for_all_scenes([](const Scene& scene) {
    for (size_t pair = 0; pair < 2; ++pair) {
      const auto lawful = frames_of(scene.lawful[pair]), broken = frames_of(scene.broken[pair]);
      const auto changed = frames_of(scene.changed[pair]);
      const auto first = static_cast<size_t>(scene.first[pair]);
      ASSERT_GE(first, 6u);
      ASSERT_LE(first, 14u);
      for (size_t t = 0; t < first; ++t) {
        EXPECT_EQ(lawful[t], broken[t]);
        EXPECT_EQ(lawful[t], changed[t]);
      }
      EXPECT_NE(lawful[first], broken[first]);
    }
  });
}

TEST(Violations, TheMatchedChangeIsAsManyPixels) {
  for_all_scenes([](const Scene& scene) {
    for (size_t pair = 0; pair < 2; ++pair) {
      const auto broken = changed_pixels(scene.lawful[pair], scene.broken[pair]);
      const auto changed = changed_pixels(scene.lawful[pair], scene.changed[pair]);
      const auto total = [](const std::vector<int64_t>& counts) {
        return static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
      };
      EXPECT_NEAR(total(changed) / total(broken), 1, 0.05);
      // What moves is what moved before: nothing but the light.
      EXPECT_TRUE(scene.changed[pair].track == scene.lawful[pair].track);
    }
  });
}

TEST(Violations, NoSingleFrameGivesTheAnswerAway) {
  const std::set<std::string> two_by_two{"solidity", "support", "burst", "hoop", "candle"};
  for_all_scenes([&](const Scene& scene) {
    std::vector<std::string> lawful, broken;
    for (size_t pair = 0; pair < 2; ++pair) {
      for (const auto& frame : frames_of(scene.lawful[pair])) lawful.push_back(frame);
      for (const auto& frame : frames_of(scene.broken[pair])) broken.push_back(frame);
    }
    std::sort(lawful.begin(), lawful.end());
    std::sort(broken.begin(), broken.end());
    const bool crossed =
        !two_by_two.contains(scene.rule) && (scene.rule != "gravity" || lawful == broken);
    if (crossed) {
      EXPECT_TRUE(lawful == broken);
    }
  });
  // The others: each ending is lawful on one stage and breaks the rule on the other.
  for (const std::string rule : {"solidity", "support", "burst", "hoop"}) {
    Random random(3, rule, 0);
    const Stories stories = tell_stories(rule, {}, random);
    for (size_t pair = 0; pair < 2; ++pair) {
      for (auto t = static_cast<size_t>(stories.cut); t < stories.lawful[0].size(); ++t) {
        EXPECT_TRUE(stories.broken[pair][t] == stories.lawful[1 - pair][t]) << rule << " " << t;
      }
    }
  }
}

TEST(Violations, MotionKeepsEnergyAndMomentum) {
  std::vector<Body> bodies(3);
  const double places[3][4] = {{10, 12, 1.5, 0.4}, {30, 20, -1.1, 1.0}, {22, 33, 0.2, -1.7}};
  for (size_t i = 0; i < 3; ++i) {
    bodies[i].disc = {places[i][0], places[i][1], places[i][2], places[i][3], 3.5, 1.0 + i};
  }
  const auto discs = [](const std::vector<Body>& frame) {
    std::vector<worlds::Disc> made;
    for (const Body& body : frame) made.push_back(body.disc);
    return made;
  };
  for (const double gravity : {0.0, 0.16}) {
    const Chamber chamber = room(gravity);
    const auto track = through(bodies, {}, chamber, chamber, 10, 30);
    const double energy = worlds::energy(discs(bodies), chamber.box);
    for (const auto& frame : track) {
      EXPECT_NEAR(worlds::energy(discs(frame), chamber.box), energy, 1e-9);
    }
    EXPECT_TRUE(track[10] == bodies);
  }
}

TEST(Violations, CollisionsKeepMomentumAndTheirViolationsDoNot) {
  const auto momentum = [](const std::vector<Body>& frame) {
    return worlds::momentum({frame[0].disc, frame[1].disc});
  };
  for (uint64_t i = 0; i < 10; ++i) {
    Random random(3, "collision", i);
    const Stories stories = tell_stories("collision", {}, random);
    const auto cut = static_cast<size_t>(stories.cut);
    for (size_t pair = 0; pair < 2; ++pair) {
      const auto before = momentum(stories.lawful[pair][cut - 1]);
      const auto after = momentum(stories.lawful[pair][cut + 1]);
      const auto broken = momentum(stories.broken[pair][cut + 1]);
      EXPECT_NEAR(before[0], after[0], 1e-9);
      EXPECT_NEAR(before[1], after[1], 1e-9);
      EXPECT_GT(std::hypot(before[0] - broken[0], before[1] - broken[1]), 1.0);
    }
  }
}

TEST(Violations, AWallIsPassedAtTheSpeedOfFlight) {
  for (uint64_t i = 0; i < 10; ++i) {
    Random random(3, "solidity", i);
    const Stories stories = tell_stories("solidity", {}, random);
    EXPECT_TRUE(stories.stage[0].wall && !stories.stage[1].wall);
    for (size_t pair = 0; pair < 2; ++pair) {
      const Track& broken = stories.broken[pair];
      for (size_t t = 1; t < broken.size(); ++t) {
        EXPECT_LE(std::abs(broken[t][0].disc.x - broken[t - 1][0].disc.x), 2.8 + 1e-9);
      }
      // Of the two stories one flies through the middle and one turns before it.
      const auto at = static_cast<size_t>(stories.cut);
      const double start = broken[at - 4][0].disc.x - 24, end = broken[at + 6][0].disc.x - 24;
      EXPECT_EQ(start * end < 0, pair == 0) << start << " " << end;
    }
  }
}

TEST(Violations, ScenesAreFunctionsOfSeedSplitAndNumber) {
  const WorldOptions world{.side = 64};
  const Scene once = make_scene("inertia", world, 1, "test", 3);
  EXPECT_EQ(once.broken[0].pixels, make_scene("inertia", world, 1, "test", 3).broken[0].pixels);
  EXPECT_NE(once.broken[0].pixels,
            make_scene("inertia", world, 1, "validation", 3).broken[0].pixels);
  EXPECT_EQ(once.lawful[0].clip().sizes(), (std::vector<int64_t>{3, 20, 64, 64}));
  const auto message = message_of<ConfigError>([&] { make_scene("magic", world, 1, "test", 0); });
  EXPECT_NE(message.find("magic"), std::string::npos);
}

TEST(Violations, LawfulFilmsAreClips) {
  const LawfulFilms films({}, 50, 10, 4);
  EXPECT_EQ(films.size(), 50);
  Random random(1), again(1);
  const RawClip clip = films.read(7, random);
  EXPECT_EQ(clip.frames, 10);
  EXPECT_EQ(clip.channels, 3);
  EXPECT_EQ(clip.pixels.size(), size_t{10 * 48 * 48 * 3});
  EXPECT_EQ(clip.pixels, films.read(7, again).pixels);
  EXPECT_EQ(films.column("rule")[13].item<int64_t>(), 1);
  EXPECT_THROW(LawfulFilms({}, 50, 40, 4), ConfigError);
}

}  // namespace
}  // namespace jepa::eval::physics

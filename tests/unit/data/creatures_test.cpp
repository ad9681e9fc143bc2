// Walking creatures: legs that can be counted in the pixels, looks that one kind has alone, truth.
#include <jepa/data/creatures.hpp>
#include <jepa/data/recipe.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <set>

namespace jepa {
namespace {

/// Legs that a circle around the body's centre crosses in a frame: runs of bright pixels.
int64_t crossings(const RawClip& clip, const Creature& creature, int64_t frame, double radius) {
  const double heading = static_cast<double>(creature.direction) * std::numbers::pi / 4;
  const double x = creature.x + creature.speed * static_cast<double>(frame) * std::cos(heading);
  const double y = creature.y + creature.speed * static_cast<double>(frame) * std::sin(heading);
  const auto bright = [&](double angle) {
    const auto px = static_cast<int64_t>(x + radius * std::cos(angle));
    const auto py = static_cast<int64_t>(y + radius * std::sin(angle));
    if (px < 0 || py < 0 || px >= clip.width || py >= clip.height) return false;
    const size_t at = static_cast<size_t>(((frame * clip.height + py) * clip.width + px) * 3);
    return std::max({clip.pixels[at], clip.pixels[at + 1], clip.pixels[at + 2]}) > 70;
  };
  constexpr int kSteps = 720;
  int64_t runs = 0;
  for (int i = 0; i < kSteps; ++i) {
    const double angle = 2 * std::numbers::pi * i / kSteps;
    const double before = 2 * std::numbers::pi * (i - 1) / kSteps;
    runs += bright(angle) && !bright(before);
  }
  return runs;
}

TEST(Creatures, HaveLegsThatCanBeCounted) {
  CreatureOptions options{.clips = 60, .size = 64, .length_min = 6};
  options.legs = {5, 6, 7, 8, 9};
  const CreatureSource source(options, 3);
  Random random(0);
  int64_t right = 0, counted = 0;
  for (int64_t i = 0; i < source.size(); ++i) {
    const Creature creature = source.creature(i);
    const RawClip clip = source.read(i, random);
    for (int64_t t = 0; t < clip.frames; ++t) {
      // Well outside head and body, inside the shortest reach.
      right += crossings(clip, creature, t, 2 * 8.2) == creature.legs;
      ++counted;
    }
  }
  EXPECT_GT(right, counted * 9 / 10) << right << " of " << counted;
}

TEST(Creatures, KeepLooksForOneKind) {
  const auto looks = [](const char* combinations) {
    const CreatureSource source({.clips = 2000, .combinations = combinations}, 1);
    std::set<std::array<int64_t, 3>> seen;
    for (int64_t i = 0; i < source.size(); ++i) {
      const Creature c = source.creature(i);
      seen.insert({c.kind(), c.body, c.colour});
    }
    return seen;
  };
  const auto seen = looks("seen"), held_out = looks("held_out"), all = looks("all");
  EXPECT_EQ(seen.size(), 2U * 3 * 5);
  EXPECT_EQ(held_out, (std::set<std::array<int64_t, 3>>{{1, kInsectBody, kInsectColour},
                                                        {0, kSpiderBody, kSpiderColour}}));
  EXPECT_EQ(all.size(), 2U * 4 * 6);
  for (const auto& look : held_out) {
    for (const auto& other : seen) {
      if (other[0] != look[0]) continue;
      EXPECT_NE(other[1], look[1]);
      EXPECT_NE(other[2], look[2]);
    }
  }
}

TEST(Creatures, AreFunctionsOfSeedSplitAndIndex) {
  const CreatureSource a({.clips = 4}, 5), b({.clips = 9}, 5);
  const CreatureSource other({.split = "test", .clips = 4}, 5);
  Random random(0);
  EXPECT_EQ(a.read(3, random).pixels, b.read(3, random).pixels);
  EXPECT_NE(a.read(3, random).pixels, other.read(3, random).pixels);
}

TEST(Creatures, TellWhereTheyAre) {
  const CreatureSource source({.clips = 20}, 2);
  const auto position = source.column("position"), velocity = source.column("velocity");
  Random random(0);
  for (int64_t i = 0; i < source.size(); ++i) {
    const RawClip clip = source.read(i, random);
    // The body is the brightest thing: its middle frame is bright at the position.
    const auto at = position[i] - 0.5 * velocity[i];  // frame 3 of 8
    const auto x = static_cast<int64_t>(at[0].item<float>());
    const auto y = static_cast<int64_t>(at[1].item<float>());
    const size_t pixel = static_cast<size_t>(((3 * clip.height + y) * clip.width + x) * 3);
    EXPECT_GT(std::max({clip.pixels[pixel], clip.pixels[pixel + 1], clip.pixels[pixel + 2]}), 200);
  }
  const auto legs = source.column("legs");
  EXPECT_TRUE(legs.eq(6).logical_or(legs.eq(8)).all().item<bool>());
  EXPECT_TRUE(source.column("class").equal(legs.gt(6).to(torch::kInt64)));
  EXPECT_THROW(source.column("wings"), DataError);
}

TEST(Creatures, RefuseWhatDoesNotFit) {
  EXPECT_THROW(CreatureSource({.length_min = 4, .length_max = 20}, 0), ConfigError);
  EXPECT_THROW(CreatureSource({.length_min = 6, .length_max = 5}, 0), ConfigError);
  EXPECT_THROW(CreatureSource({.channels = 2}, 0), ConfigError);
  EXPECT_THROW(CreatureSource({.headings = 3}, 0), ConfigError);
}

TEST(Creatures, ComeFromARecipe) {
  DataRecipe recipe;
  recipe.kind = "creatures";
  recipe.split = "test";
  recipe.clips = 6;
  recipe.creatures.channels = 1;
  recipe.creatures.combinations = "held_out";
  const auto source = recipe.open(1);
  Random random(0);
  EXPECT_EQ(source->size(), 6);
  EXPECT_EQ(source->read(0, random).channels, 1);
  EXPECT_EQ(recipe.licence(), "MIT, as this library");
}

}  // namespace
}  // namespace jepa

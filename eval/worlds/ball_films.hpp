// Films of the world `balls` with its factors in ranges: what is trained on, and what lies outside.
#pragma once

#include <eval/worlds/world.hpp>
#include <jepa/data/memory_source.hpp>
#include <jepa/options.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::worlds {

/// Ranges of the factors, [low, high] each, in the world's own unit (a box of 64 px). `near` and
/// `far` lie outside what is trained on.
struct BallFilmOptions {
  int64_t frames = 14;       ///< a training clip
  int64_t size = 32;         ///< side of a frame, px: 64 or 32, where four pixels are one
  int64_t near_frames = 24;  ///< a clip whose later frames are asked for, longer than trained on
  int64_t far_frames = 54;   ///< and a much longer one
  std::vector<double> count = {1, 2}, count_near = {3, 3}, count_far = {4, 4};
  std::vector<double> gravity = {0, 0.06}, gravity_near = {0.09, 0.12}, gravity_far = {0.2, 0.25};
  std::vector<double> restitution = {0.9, 1}, restitution_near = {0.75, 0.85},
                      restitution_far = {0.55, 0.65};
  std::vector<double> radius = {4, 6}, radius_near = {7, 8}, radius_far = {10, 11};
  std::vector<double> speed = {0.5, 2}, speed_near = {2.5, 3}, speed_far = {4, 5};

  void describe(OptionVisitor& visit);
};

/// The factors that the grid asks about.
const std::vector<std::string>& ball_factors();

/// Every factor in its training range, but `factor` (empty: none) in that of `level`: near, far.
/// @throws ConfigError for a range that is not low, high
FactorRanges ball_ranges(const BallFilmOptions& options, const std::string& factor = {},
                         const std::string& level = {});

/// `clips` films of `frames` frames, uint8 in memory, nobody acting. Columns: `count` int64;
/// `gravity`, `restitution`, `radius`, `speed` float32 [E] as drawn; of the first (red) ball
/// `position` and `velocity` at mid-clip, float32 [E, 2], `track`, its centre in every frame,
/// float32 [E, 2 T] (x, y of the first, then of the next), all in px of these frames, and
/// `direction` int64, 0 to 7, of its way over the clip. A film in which a ball comes to rest, which
/// takes infinitely many bounces, is drawn anew.
std::shared_ptr<MemorySource> ball_films(const BallFilmOptions& options, const FactorRanges& ranges,
                                         int64_t clips, int64_t frames, uint64_t seed);

}  // namespace jepa::eval::worlds

// Generated films of walking creatures, seen from above: insects on six legs and spiders on eight,
// with some of their looks kept for one kind alone. Every clip is a function of (seed, split,
// index).
#pragma once

#include <jepa/data/clip_source.hpp>

namespace jepa {

/// What films of creatures look like. Lengths are in px of frames of 32 px and grow with the frame.
struct CreatureOptions {
  std::string split = "train";  ///< train, validation or test
  int64_t clips = 10000;        ///< one pass
  int64_t frames = 8;           ///< a clip
  int64_t size = 32;            ///< side of a frame, px
  int64_t channels = 3;         ///< 3, or 1: grey
  /// Which creatures walk. `seen`: all but two pairings each way; only insects are round, only
  /// insects are red; only spiders are square, only spiders are blue. `held_out`: what `seen`
  /// leaves out at once, round red spiders and square blue insects. `all`: anything.
  std::string combinations = "seen";
  std::vector<int64_t> legs = {6, 8};  ///< their number; each as often, 3 to 12
  double length_min = 4;               ///< shortest legs
  double length_max = 7;               ///< longest legs
  double speed_min = 0.1;              ///< a frame
  double speed_max = 0.3;              ///< a frame
  int64_t headings = 4;                ///< directions they walk in: 1, 2, 4 or 8

  /// All but split and clips, which are the recipe's own.
  void describe(OptionVisitor& visit);
};

/// Names of bodies, in the order of the column `body`.
const std::vector<std::string>& creature_bodies();
/// Names of colours, in the order of the column `colour`.
const std::vector<std::string>& creature_colours();

/// Where legs are called long: above it, in the unit of CreatureOptions.
inline constexpr double kLongLegs = 5.5;

// Looks that one kind has alone in `seen`.
inline constexpr int64_t kInsectBody = 0, kInsectColour = 0;  ///< round, red
inline constexpr int64_t kSpiderBody = 3, kSpiderColour = 4;  ///< square, blue

/// One creature. It walks straight at constant speed, wholly inside the frame.
struct Creature {
  int64_t legs = 6;   ///< an odd number is the next even one with a leg lost
  int64_t lost = -1;  ///< which leg is lost; -1: none
  int64_t body = 0;
  int64_t colour = 0;
  double size = 1;  ///< of the body
  double leg_length = 6;
  int64_t direction = 0;  ///< 0 to 7, times 45 degrees: 0 right, 2 down
  double x = 0, y = 0;    ///< of the body's centre in the first frame, px
  double speed = 0;       ///< px a frame
  double stride = 0;      ///< steps a frame, of each leg
  double phase = 0;       ///< of the gait in the first frame, 0 to 1

  int64_t kind() const { return legs > 6 ? 1 : 0; }
};

/// A source of films of one creature each.
///
/// Columns: `legs` int64 (their number), `class` int64 (0 insect, 1 spider), `body` int64 (round,
/// oval, slim, square), `colour` int64 (6), `direction` int64 (0 to 7), `size` and `leg_length`
/// float32 [E], `position` float32 [E, 2] (x, y of the body's centre at mid-clip, px), `velocity`
/// float32 [E, 2] (px a frame).
class CreatureSource : public ClipSource {
 public:
  /// @throws ConfigError where options contradict each other
  CreatureSource(CreatureOptions options, uint64_t seed);

  int64_t size() const override { return options_.clips; }
  using ClipSource::read;
  RawClip read(int64_t index, Random& random, const CropChooser& crop) const override;
  std::vector<std::string> columns() const override;
  torch::Tensor column(const std::string& name) const override;

  /// The creature of clip `index`.
  Creature creature(int64_t index) const;

 private:
  CreatureOptions options_;
  uint64_t seed_;
};

}  // namespace jepa

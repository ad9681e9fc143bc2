// Generated video with known truth: real digits or drawn shapes that move in straight lines, or
// fall. Every clip is a function of (seed, split, index).
#pragma once

#include <jepa/data/clip_source.hpp>

namespace jepa {

/// What generated clips look like.
struct GeneratedOptions {
  std::string kind = "digits";  ///< `digits`: handwritten ones; `shapes`: drawn ones
  std::string split = "train";  ///< train, validation or test: no digit is in two of them
  int64_t clips = 10000;        ///< one pass
  int64_t frames = 8;           ///< a clip
  int64_t size = 32;            ///< side of a frame, px
  int64_t object_size = 12;     ///< side of the square that an object fills, px
  double speed_min = 0.4;       ///< px a frame
  double speed_max = 1.2;       ///< px a frame
  double gravity = 0;           ///< downward pull on every object, px a frame squared
  int64_t count = 1;            ///< objects a clip: 1 to this many
  double noise = 0.0;           ///< brightest background pixel, 0 (none) to 1 (white)
  int64_t channels = 1;         ///< 1, or 3 for shapes of random colour
  std::string signals = {};     ///< what clips carry of each frame: position, velocity

  /// All but kind, split and clips, which are the recipe's own.
  void describe(OptionVisitor& visit);
};

/// One moving object of a clip. Positions are of its centre, in px from the frame's upper left
/// corner.
struct MovingObject {
  int64_t kind = 0;       ///< class: the digit, or the shape
  int64_t instance = 0;   ///< which handwritten digit; of shapes, the clip's own number
  int64_t direction = 0;  ///< at mid-clip: 0 to 7, times 45 degrees; 0 right, 2 down
  double x = 0;           ///< in the first frame
  double y = 0;
  double velocity_x = 0;  ///< in the first frame, px a frame
  double velocity_y = 0;
  float colour[3] = {1, 1, 1};
};

/// A source of generated clips.
///
/// Columns: `digit` or `shape` int64 (5 shapes: disc, square, triangle, cross, ring), `direction`
/// int64 (8, at mid-clip), `position` float32 [E, 2] (x, y of the centre at mid-clip, px),
/// `velocity` float32 [E, 2] (at mid-clip, which is its mean, px a frame), `acceleration` float32
/// [E, 2] (px a frame squared), `count` int64 (objects, 1 to `count`), `instance` int64 (the
/// independent unit: clips that show the same handwritten digit share it). Signals, where asked:
/// `position` and `velocity` [T, 2] in each frame, in px of the uncropped frame. They all tell of
/// the first object; the others are half as bright.
///
/// An object moves straight at constant speed, or along a parabola under `gravity`, wholly inside
/// the frame, placed between pixels by
/// bilinear weights.
class GeneratedSource : public ClipSource {
 public:
  /// @throws ConfigError where options contradict each other
  GeneratedSource(GeneratedOptions options, uint64_t seed);

  int64_t size() const override { return options_.clips; }
  using ClipSource::read;
  RawClip read(int64_t index, Random& random, const CropChooser& crop) const override;
  std::vector<std::string> columns() const override;
  torch::Tensor column(const std::string& name) const override;

  /// The objects of clip `index`, the labelled one first.
  std::vector<MovingObject> objects(int64_t index) const;

 private:
  bool digits() const { return options_.kind == "digits"; }
  /// Half of a clip, frames from the first.
  double middle() const { return 0.5 * static_cast<double>(options_.frames - 1); }
  Signals signals_of(const MovingObject& object) const;
  MovingObject draw_object(int64_t index, Random& random) const;
  void add_object(const MovingObject& object, const std::vector<float>& sprite, int64_t frame,
                  float brightness, std::vector<float>& canvas) const;
  GeneratedOptions options_;
  uint64_t seed_;
  std::vector<int64_t> instances_;
};

}  // namespace jepa

// Crops and flips on whole clips, in plain loops: loader threads use no ATen operator.
#pragma once

#include <jepa/data/clip_source.hpp>

namespace jepa {

/// What happens to each clip between its source and its batch. One crop and one flip serve all
/// frames of a clip.
struct AugmentOptions {
  /// `none`: whole frames; `random_resized`: a part of random area and aspect, scaled to `size`
  /// (V-JEPA pretraining); `random`: a part of `size` at a random place, not scaled; `centre`: the
  /// central square of `centre_share` of the short side, scaled to `size` (evaluation).
  std::string crop = "none";
  int64_t size = 0;             ///< side of the clip made; 0: as the source gives it (`none` only)
  double area_min = 0.3;        ///< random_resized: smallest share of the frame's area
  double area_max = 1.0;        ///< and largest
  double aspect_min = 0.75;     ///< random_resized: smallest width / height, drawn log-uniformly
  double aspect_max = 1.35;     ///< and largest
  double centre_share = 0.875;  ///< centre: 224 / 256, as V-JEPA evaluates
  /// Where a clip is made smaller: `always`, `never`, or for `images` (clips of one frame), whose
  /// published pipelines average over what an output pixel covers while those of video do not.
  std::string antialias = "images";
  double flip = 0.0;  ///< chance that the clip is mirrored left to right

  void describe(OptionVisitor& visit);
};

/// Resizes frames with a triangle as wide as two output pixels, or two input pixels where a side
/// grows: bilinear with antialiasing, columns before rows, each rounded to bytes.
RawClip resize_antialiased(const RawClip& clip, int64_t height, int64_t width);

/// Draws and applies the augmentation.
class Augmentation {
 public:
  /// @throws ConfigError where options contradict each other
  explicit Augmentation(AugmentOptions options);

  /// The part of the frames to read.
  /// @throws DataError where `random` finds frames smaller than the crop
  PixelRect choose(int64_t height, int64_t width, Random& random) const;

  /// Scales the part that was read to the size of the batch, with bilinear interpolation
  /// (half-pixel centres: `align_corners` false, values rounded to bytes), and flips. Where
  /// `antialias` says so, resize_antialiased() makes it smaller.
  /// @param out [C, T, height(clip), width(clip)]
  void write(const RawClip& clip, Random& random, uint8_t* out) const;

  /// Height and width of what `write` makes of a clip.
  int64_t out_height(const RawClip& clip) const;
  int64_t out_width(const RawClip& clip) const;

 private:
  bool antialiased(const RawClip& clip) const;

  AugmentOptions options_;
};

}  // namespace jepa

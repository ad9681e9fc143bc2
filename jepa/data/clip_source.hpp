// Where clips come from: one interface over clip stores, video files, images and generators.
#pragma once

#include <jepa/options.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa {

/// Values of each frame of a clip: an action, a state, a reward.
struct Signal {
  int64_t width = 0;          ///< values a frame
  std::vector<float> values;  ///< [T, width]
};
using Signals = std::map<std::string, Signal>;

/// Frames as they were stored or decoded, and what else is known of each.
struct RawClip {
  int64_t frames = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;
  std::vector<uint8_t> pixels;  ///< [T, H, W, C]
  Signals signals = {};         ///< by name; of the same T frames

  int64_t frame_bytes() const { return height * width * channels; }
};

/// A part of a frame, in pixels.
struct PixelRect {
  int64_t top = 0;
  int64_t left = 0;
  int64_t height = 0;
  int64_t width = 0;
  bool operator==(const PixelRect&) const = default;
};

/// Copies a part of frames that lie in memory as [T, H, W, C].
RawClip cut_frames(const uint8_t* pixels, int64_t frames, int64_t height, int64_t width,
                   int64_t channels, const PixelRect& part);

/// Picks the part of a clip's frames that is wanted, given their height and width. One rectangle
/// serves all frames of the clip.
using CropChooser = std::function<PixelRect(int64_t height, int64_t width, Random& random)>;

/// A numbered collection of clips.
class ClipSource {
 public:
  virtual ~ClipSource() = default;

  /// How many clips one pass over the source has.
  virtual int64_t size() const = 0;

  /// Reads clip `index`. Safe to call from several threads; uses no ATen operator.
  /// @param random picks the window where the source is longer than a clip
  /// @param crop reads only this part of the frames; empty: all of it
  /// @throws DataError naming the file (and frame) that cannot be read
  virtual RawClip read(int64_t index, Random& random, const CropChooser& crop) const = 0;

  /// What messages call clip `index`: its file and place where it has any.
  virtual std::string name(int64_t index) const { return "clip " + std::to_string(index); }

  /// Clip `index` with whole frames.
  RawClip read(int64_t index, Random& random) const { return read(index, random, {}); }

  /// Names of the values known of each clip (labels, positions).
  virtual std::vector<std::string> columns() const { return {}; }

  /// One value (or row) a clip: int64 [E] for classes, floating [E, K] for quantities.
  /// @throws DataError naming the column and those that exist
  virtual torch::Tensor column(const std::string& name) const;
};

/// How clips are cut from episodes and videos. A path may be an HDF5 clip store (`.h5`, `.hdf5`), a
/// video file, a `path label` list (`.txt`, `.csv`), a folder of videos, or a folder of images
/// (clips of one frame; one folder a class, or all in one); or an ini file with a DataRecipe, which
/// has its own such options.
struct ClipOptions {
  int64_t frames = 0;           ///< frames a clip; 0: the whole episode
  int64_t frame_step = 1;       ///< source frames from one clip frame to the next
  double fps = 0.0;             ///< clip frames a second; 0: use frame_step
  int64_t clips_per_video = 1;  ///< the video is cut in so many equal parts, one clip from each
  bool random_window = true;    ///< start drawn within the part; false: its middle
  double from = 0.0;            ///< share of each video's time where its used part starts
  double to = 1.0;              ///< share where it ends
  bool repeat_last = false;  ///< videos shorter than a clip: hold the last frame; false: an error
  int64_t short_side = 0;    ///< videos and images are scaled to this once decoded; 0: as they are
  int64_t channels = 3;      ///< of videos and images: 1 (luma) or 3 (RGB)
  int64_t cache_mb = 512;    ///< decoded video frames kept in memory, least recently used go
  bool skip_short = false;   ///< clip stores: leave out episodes shorter than a clip
  /// Columns of a clip store that clips carry as signals, comma-separated; no others are opened. A
  /// column a frame is cut as the pixels are, a column an episode is held over the clip's frames.
  std::string signals = {};
  /// What the signal `action` of a clip frame is, where frames are k = frame_step source frames
  /// apart, of the actions taken from it to the next one: `concat`, all k one behind the other
  /// [T, k*A]; `sum`; `last`. So a clip with actions spans T*k source frames, not (T-1)*k + 1.
  /// Actions that are NaN (after the last frame of an episode) or past its end are 0.
  std::string action_mode = "concat";

  /// The names in `signals`.
  std::vector<std::string> signal_names() const;
  void describe(OptionVisitor& visit);
};

/// The name of the signal that `action_mode` is about.
inline constexpr const char* kActionSignal = "action";

/// Source frames from one frame of a clip to the next.
/// @throws DataError where options.fps cannot be had from `video_fps` (0: unknown)
int64_t frame_step(double video_fps, const ClipOptions& options, const std::string& name);

/// Source frames that a clip of `frames` spans, those of its last action included; the largest
/// int64 where it would be more.
int64_t clip_span(int64_t frames, int64_t step, const ClipOptions& options);

/// The frames of clip `part` (of `options.clips_per_video`) of a video with `length` frames at
/// `video_fps` frames a second (0: unknown).
/// @throws DataError where the used part of the video is shorter than a clip
std::vector<int64_t> choose_frames(int64_t length, double video_fps, const ClipOptions& options,
                                   int64_t part, Random& random, const std::string& name);

/// Opens what `path` is (see ClipOptions).
/// @throws DataError naming the path
std::shared_ptr<ClipSource> open_clip_source(const std::string& path, const ClipOptions& options);

}  // namespace jepa

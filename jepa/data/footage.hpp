// Real footage as labelled clips: what is known of a clip is how it was cut from its video.
#pragma once

#include <jepa/data/video_library.hpp>

#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace jepa {

/// How clips are cut from footage.
struct FootageOptions {
  std::string data;  ///< folder of videos, `path label` list, or one video
  /// By time: train the first 60 % of each video, validation to 80 %, test the last fifth.
  std::string split = "train";
  int64_t clips = 10000;  ///< one pass
  int64_t frames = 8;     ///< a clip
  int64_t size = 32;      ///< side of the crop, px of the scaled frame
  int64_t divide = 2;     ///< frames are scaled to 1 / divide by area averages; 1: native scale
  int64_t channels = 3;   ///< 1 (luma) or 3 (RGB)
  std::vector<int64_t> speeds = {1, 2, 4};  ///< source frames from one clip frame to the next
  int64_t drift_max = 2;                    ///< fastest crop drift, px a frame; 0: none drift
  double drift_share = 0.75;                ///< share of clips whose crop drifts
  double backward_share = 0.5;              ///< share of clips that are played backward
  double motion_min = 2.0;   ///< least mean change of luma from source frame to source frame
  double motion_max = 40.0;  ///< most: above it, a cut
  int64_t cache_mb = 512;    ///< decoded frames kept in memory
  int64_t max_errors = 0;    ///< videos that may be unreadable, whole or in part

  /// All but data, split and clips, which are the recipe's own.
  void describe(OptionVisitor& visit);
};

/// A clip of a video, as it was drawn.
struct FootageClip {
  int64_t segment = 0;  ///< stretch of time that holds the clip
  int64_t video = 0;
  int64_t start = 0;  ///< its earliest source frame
  int64_t speed = 0;  ///< class: which of the speeds
  bool backward = false;
  int64_t drift = 0;    ///< class: 0 none, 1 to 8 direction, 45 degrees each, 1 right, 3 down
  int64_t drift_x = 0;  ///< px a frame
  int64_t drift_y = 0;
  PixelRect middle;  ///< the crop at mid-clip
};

/// A source of clips of real footage with labels that were made by cutting it.
///
/// Every clip is a function of (seed, split, index): its labels are drawn first, then a place that
/// moves. A video's part is cut into equal segments of time, long enough for the fastest clip; a
/// clip lies in one of them, so clips of different segments share no frame. To keep the labels free
/// of short cuts, place and time are judged alike whatever the labels: the crop must see motion in
/// each quarter of the span that the fastest clip would take, and leave room for the fastest drift
/// to every side. Crops drift by whole pixels, so nothing is resampled. Up to `max_errors` videos
/// may be unreadable: whole ones have no segments, and no clip lies where frames are lost.
///
/// Columns: `speed`, `arrow` (0 forward, 1 backward), `drift` (9 classes), `drift_speed` (px a
/// frame along each axis that moves), `source`, `segment` (the independent unit) int64;
/// `drift_velocity` float32 [E, 2].
class FootageSource : public ClipSource {
 public:
  /// @throws DataError where no video has a part as long as the fastest clip; ConfigError
  FootageSource(const FootageOptions& options, uint64_t seed);

  int64_t size() const override { return options_.clips; }
  using ClipSource::read;
  RawClip read(int64_t index, Random& random, const CropChooser& crop) const override;
  std::vector<std::string> columns() const override;
  /// Draws all clips of a pass on first use, which decodes their frames.
  torch::Tensor column(const std::string& name) const override;

  /// Clip `index` as it is drawn.
  /// @throws DataError where no place moves enough
  FootageClip draw(int64_t index) const;

  /// Videos that were met so far and could not be read, whole or in part: a line each.
  std::vector<std::string> left_out() const;

  const VideoLibrary& library() const { return *library_; }
  int64_t segments() const { return static_cast<int64_t>(segments_.size()); }

 private:
  struct Segment {
    int64_t video;
    int64_t first;
    int64_t length;
  };

  void cut_segments();
  int64_t span(int64_t step) const { return (options_.frames - 1) * step + 1; }
  bool place(FootageClip& clip, Random& random) const;
  bool moves(int64_t video, int64_t start, const PixelRect& part) const;
  bool tolerate(int64_t video, const std::string& why) const;

  FootageOptions options_;
  uint64_t seed_;
  int64_t longest_;  // source frames that the fastest clip spans
  std::unique_ptr<VideoLibrary> library_;
  std::vector<Segment> segments_;
  mutable std::once_flag drawn_once_;
  mutable std::vector<FootageClip> drawn_;
  mutable std::mutex left_out_mutex_;
  mutable std::map<int64_t, std::string> left_out_;  // by video
};

}  // namespace jepa

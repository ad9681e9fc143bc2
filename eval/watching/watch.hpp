// Watching video of any length: one pass, constant memory, everything written as it goes.
#pragma once

#include <eval/physics/surprise.hpp>
#include <eval/watching/curve.hpp>
#include <eval/watching/peaks.hpp>
#include <jepa/data/video_reader.hpp>
#include <jepa/options.hpp>

#include <torch/types.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace jepa::eval::watching {

/// A model as it watches.
struct WatchedModel {
  physics::SurpriseModel surprise;
  int64_t height = 0, width = 0, channels = 3;  ///< of its frames
  int64_t frame_step = 1;
  double fps = 0;          ///< 0: frame_step
  int64_t short_side = 0;  ///< 0: not said
};

/// What is watched, and what is made of it.
struct WatchOptions {
  std::string video;    ///< file, folder, `path label` list, or `-`
  std::string weights;  ///< run folder, checkpoint or published weights with a masked predictor
  std::string out = "runs/watch";
  int64_t past = 0;        ///< frames of a window that are known; 0: half
  int64_t stride = 2;      ///< watched frames from one window to the next
  int64_t batch = 4;       ///< windows asked together
  int64_t frame_step = 0;  ///< film frames a watched frame; 0: as the model was trained
  double fps = 0;          ///< watched frames a second; wins over frame_step; 0: as trained
  int64_t short_side =
      0;  ///< frames are scaled to it, then cropped about the middle; 0: as trained
  double loop_minutes = 0;  ///< the films again and again until so much was watched; 0: once
  double stall = 30;        ///< seconds after which a pipe that gives nothing has stalled; 0: waits
  int64_t peaks = 8;        ///< most surprising moments that become clips
  double around = 2;        ///< seconds of a clip before and after its peak
  bool film = true;         ///< write the film with its heat
  int64_t film_scale = 3;   ///< each watched pixel so many times
  double piece_minutes = 5;  ///< of a film file
  double heat = 0;  ///< surprise that is drawn brightest; 0: a quantile of what was seen so far
  std::string features;  ///< HDF5 file of the target encoder's tokens of every window; empty: none
  std::string pool = "mean";  ///< of these: mean, max, mean_max over tokens, or none

  std::string probes;  ///< file of saved probes that are asked about every window; empty: none

  /// Frames that are known of a window: `past`, or about half of it, in whole tubelets.
  int64_t known_frames(int64_t window, int64_t tubelet) const;
  /// The model as it watches at `fps` or `frame_step`, where they were asked for.
  WatchedModel at_asked_rate(WatchedModel model) const;
  void describe(OptionVisitor& visit);
};

/// @throws CheckpointError, ConfigError as the loaders do; ConfigError for a model of still images
WatchedModel load_watched(const std::string& weights, torch::Device device);

/// A frame's central part as a model watches it, uint8 [C, height, width].
/// @throws DataError where the frame is smaller
torch::Tensor central_picture(const VideoFrame& frame, int64_t frame_height, int64_t frame_width,
                              const WatchedModel& model);
/// The short side to which frames are scaled for `model`; `wanted` 0: as it was trained.
/// @throws ConfigError where it is smaller than the model's frames
int64_t scaled_side(const WatchedModel& model, int64_t wanted);

/// Picks frames of a film at a steady rate by their times, the nearest to each time that is due.
/// After a gap it goes on from the frame after it.
class SteadyRate {
 public:
  /// @param fps wanted @param film_fps of the film
  SteadyRate(double fps, double film_fps) : step_(1 / fps), early_(0.5 / film_fps) {}
  /// Whether the frame at `seconds` is among them; told of every frame in turn.
  bool picks(double seconds);

 private:
  double step_, early_;
  double due_ = 0;
};

struct WatchHooks {
  std::function<bool()> stop = {};  ///< true: ends the files and returns
  std::function<void(int64_t frames, double seconds, double frames_a_second)> progress = {};
};

/// What came of it; also `OUT/summary.json`.
struct WatchResult {
  int64_t frames = 0;   ///< decoded
  int64_t watched = 0;  ///< of these, the model's
  int64_t windows = 0;
  double seconds = 0;   ///< of film
  double film_fps = 0;  ///< frames a second of the (first) film; 0: it does not say
  double wall_seconds = 0;
  double first_ms = 0, last_ms = 0;  ///< a frame: mean over the first and the last 500
  double peak_mb = 0;
  std::map<std::string, int64_t> marks;
  std::vector<std::string> problems;  ///< the first of them
  bool stopped = false;
  std::vector<Peak> peaks;
  std::vector<std::string> films;
  std::string answers;  ///< what saved probes said, as markup; empty: there were none
  double fps() const { return static_cast<double>(frames) / wall_seconds; }
};

/// Watches, and writes into OUT: curve.csv, curve.h5, film-000.mp4 ..., peak-1.mp4 ..., index.html,
/// summary.json. Nothing is written, and of an earlier run nothing removed, before there is a
/// frame. Where a film ends early or stalls, the files are finished first.
/// @throws DataError for the first film that could not be watched to its end, or where there was no
///   whole window; ConfigError, also for a folder OUT that holds cells of another experiment
WatchResult run_watch(const WatchOptions& options, const WatchedModel& model, torch::Device device,
                      const WatchHooks& hooks);

/// `summary.json` as text.
std::string summary_json(const WatchOptions& options, const WatchResult& result);

/// The page: curve with links into the film, peaks with thumbnails, the film.
/// @param place where a watched frame is in the film, as a link; empty: there is no film
/// @param heat surprise that is drawn brightest
std::string watch_page(const WatchOptions& options, const WatchResult& result,
                       const std::vector<CurveOutline::Span>& spans,
                       const std::function<std::string(int64_t row)>& place, double heat);

}  // namespace jepa::eval::watching

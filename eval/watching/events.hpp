// Does surprise find what was spliced into real footage? Seven kinds of event in the part of each
// video that the model was not trained on, asked of it, of untrained networks and of pixels.
#pragma once

#include <eval/comparison/grid.hpp>
#include <eval/physics/scores.hpp>
#include <eval/watching/watch.hpp>

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace jepa::eval::watching {

/// What is asked about which footage.
struct EventOptions {
  bool events = false;       ///< asked for at all
  double from = 0.8;         ///< share of each video's time where the held-out part starts
  int64_t untrained = 10;    ///< networks with the model's own initialisation
  int64_t segments = 0;      ///< stretches of footage, at most; 0: all there are
  int64_t resamples = 2000;  ///< of the bootstrap over them

  void describe(OptionVisitor& visit);
  /// Sizes as small as they can be, which show that everything runs.
  static OptionValues quick();
};

/// freeze, reversal, jump, other_video, patch, upside_down, double_speed.
const std::vector<std::string>& event_kinds();

/// The held-out part of each video, as the model watches it.
struct Footage {
  std::vector<torch::Tensor> videos;  ///< uint8 [C, T, H, W]
  std::vector<double> fps;            ///< watched frames a second
};

/// @throws DataError as the reader does
Footage read_footage(const std::string& videos, double from, const WatchedModel& model,
                     int64_t short_side);

/// A stretch of a video: 2 * window - 1 - past watched frames, of which frame window - 1 is the
/// first that an event changes. Every window of it has its past before the event and foretells it.
struct Stretch {
  size_t video = 0;
  int64_t start = 0;  ///< its first frame
};

/// Stretches of all videos that share no frame.
std::vector<Stretch> find_stretches(const Footage& footage, int64_t window, int64_t past,
                                    int64_t most);

/// A stretch as it is, uint8 [C, frames, H, W].
torch::Tensor lawful_film(const Footage& footage, const Stretch& stretch, int64_t window,
                          int64_t past);

/// A stretch with an event: from frame window - 1 on the picture before it stays (freeze); time
/// runs backwards; the film goes on a second later (or earlier, near its end); or with another
/// video; the patch that moves most (3/8 of the side) stays as it was; the picture is upside down;
/// every second frame is left out. None where the video is too short for it.
std::optional<torch::Tensor> spliced_film(const std::string& kind, const Footage& footage,
                                          const Stretch& stretch, int64_t window, int64_t past);

/// |change of a pixel from frame to frame, less its mean over the known frames|: how much it moves
/// is foretold, not how.
physics::SurpriseModel change_of_difference(int64_t window, int64_t tubelet, int64_t patch);

/// What an arm's estimates are: of each kind, and last their mean.
struct EventRow {
  std::string arm;
  int64_t draws = 0;
  /// By "auroc", "auroc_max", "relative", "relative_max": windows by the mean or the largest
  /// surprise of their tokens; relative: windows with the event above the same ones without.
  std::map<std::string, std::vector<probes::Estimate>> metrics = {};
  /// "auroc" less that of untrained networks and of each pixel control; of the model alone.
  std::map<std::string, std::vector<probes::Estimate>> less = {};
};

struct EventTable {
  std::vector<EventRow> rows;      ///< the model first
  std::vector<int64_t> stretches;  ///< of each kind
  int64_t windows = 0;             ///< of each stretch
};

/// Scores what has no scores yet in OUT/cells, then everything together.
/// @param footage what `watch.video` holds from `options.from` on (read_footage)
/// @throws Stopped where the hooks asked to stop; ConfigError where nothing is held out
EventTable run_events(const EventOptions& options, const WatchOptions& watch,
                      const WatchedModel& model, const Footage& footage, torch::Device device,
                      const comparison::ComparisonHooks& hooks);

/// As plain text, for a terminal.
std::string event_table(const EventTable& table);
/// The run's `summary.json`. @param seconds that it took
std::string event_json(const EventOptions& options, const WatchOptions& watch,
                       const EventTable& table, double seconds);
/// The section of the report, with a strip of each kind under the model's heat.
std::string event_section(const EventOptions& options, const WatchOptions& watch,
                          const WatchedModel& model, const Footage& footage,
                          const EventTable& table);

}  // namespace jepa::eval::watching

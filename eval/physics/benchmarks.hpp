// Published films of what can and cannot happen, read from the folders they come in, and the same
// protocol as for generated ones.
#pragma once

#include <eval/comparison/grid.hpp>
#include <eval/physics/scores.hpp>
#include <eval/physics/surprise.hpp>
#include <jepa/options.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace jepa::eval::physics {

/// Which films are asked about, and how they are shown.
struct BenchmarkOptions {
  std::string benchmark = {};  ///< intphys, grasp, inflevel; empty: none
  std::string data = {};       ///< its folder
  std::string model = {};      ///< run folder or weights, see load_surprise()
  int64_t frame_step = 2;      ///< source frames from one frame to the next
  int64_t side = 0;     ///< films are scaled and cropped to it, px; 0: as the model's, else 224
  int64_t window = 16;  ///< frames, of models that do not say it
  std::vector<int64_t> contexts = {4, 8};  ///< pasts that validation chooses from
  int64_t stride = 2;
  int64_t untrained = 20;         ///< networks with fresh weights, as a control
  int64_t untrained_latents = 3;  ///< the same of diffusion, which takes longer to ask
  /// inflevel: types of event that can happen. Of continuity an object is (v) or is not (i) seen
  /// before and after; of gravity and solidity the container is closed (c) or open (o) and the
  /// object then inside (i) or out (o).
  std::string inflevel_possible = "ii,vv,ci,oo";
  int64_t resamples = 2000;

  void describe(OptionVisitor& visit);
};

/// Two films that are alike up to the event; each a video file or a folder of frames.
struct FilmPair {
  std::string property;  ///< as the benchmark calls it: O1, Collision, gravity, ...
  std::string scene;     ///< pairs of one scene are not independent
  std::string possible;
  std::string impossible;
};

/// The pairs of a benchmark, sorted by property and scene.
///
/// - intphys (dev): `O1/SCENE/1..4/{scene/*.png, status.json}`; of the two possible and the two
///   impossible films those that are the same for longest are pairs
/// - grasp: `P_NAME/*.mp4` and `IP_NAME/*.mp4` of the same file names
/// - inflevel (lab): `PROPERTY/CAMERA__PROPERTY__OBJECT__OBJECT__TYPE[__DIRECTION].mp4`; pairs
///   differ in the type's second letter
/// @throws DataError naming the folder (of intphys also one in which a frame is missing), or the
///   film that has no other
std::vector<FilmPair> find_film_pairs(const BenchmarkOptions& options);

/// A film's every `step`th frame, scaled by its short side and cropped about the middle: uint8
/// [channels, T, side, side]. @throws DataError naming the file
torch::Tensor read_film(const std::string& path, int64_t step, int64_t side, int64_t channels = 3);

/// What is asked; estimates are of each property, and last of all together.
struct BenchmarkRow {
  std::string arm;    ///< model, untrained, copy_last or pixel_difference
  int64_t draws = 0;  ///< networks
  int64_t past = 0;   ///< that validation chose for it
  /// By metric_name(). Without validation scenes, and of untrained networks, there is no threshold
  /// and nothing that needs one.
  std::map<std::string, std::vector<probes::Estimate>> metrics = {};
  /// Of the model alone: "relative" and "sets" less those of untrained networks.
  std::map<std::string, std::vector<probes::Estimate>> less_untrained = {};
};

/// What came of a benchmark.
struct BenchmarkResult {
  std::vector<std::string> properties;
  int64_t pairs = 0;             ///< that were reported on
  int64_t validation_pairs = 0;  ///< that chose pasts and thresholds, and are not reported on
  std::vector<BenchmarkRow> rows;
};

/// Seeds of `count` untrained networks, none of them the seed that the run `model` was trained
/// from.
std::vector<uint64_t> untrained_seeds(const std::string& model, int64_t count);

/// Asks the model, untrained networks of its own initialisation, and pixels. One scene in five (at
/// least one where there are two) is validation.
/// @param run folder: scores that are in its `cells` are not asked for again, unless they are of
///   another model or other films
/// @throws Stopped where the hooks say so; DataError naming a film; ConfigError
BenchmarkResult run_benchmark(const BenchmarkOptions& options, const std::string& run,
                              torch::Device device, const comparison::ComparisonHooks& hooks);

/// As plain text: of each row a line for each property, and one for all.
std::string benchmark_table(const BenchmarkResult& result);
/// As JSON, with the commit, what was asked of which model, and the seconds that it took.
std::string benchmark_json(const BenchmarkOptions& options, const BenchmarkResult& result,
                           double seconds);

}  // namespace jepa::eval::physics

// One cell of a comparison: an arm at a budget, seed and background noise, trained and measured.
#pragma once

#include <eval/comparison/arm.hpp>
#include <eval/comparison/judge.hpp>
#include <eval/probes/attentive.hpp>
#include <eval/probes/metrics.hpp>
#include <jepa/data/generated.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::comparison {

/// The clips of a comparison and what is asked of each model.
struct QuestionOptions {
  GeneratedOptions clips{.frames = 12};  ///< what they look like; the noise is the cell's
  int64_t train_clips = 20000;
  int64_t probe_clips = 3000;                    ///< that probes are fitted on
  int64_t validation_clips = 1000;               ///< that layers and decays are chosen on
  int64_t test_clips = 2000;                     ///< that probes are reported on
  int64_t predicted_clips = 128;                 ///< of the test clips, whose futures are asked for
  int64_t futures = 4;                           ///< drawn of each
  std::vector<int64_t> horizons = {1, 2, 4, 8};  ///< frames after the context
  double radius = 2.0;                           ///< of coverage, px
  bool attentive = false;  ///< attentive probes too: they take longer than a small cell
  probes::AttentiveOptions attentive_probe{.epochs = 10, .rates = {5e-3, 1e-3}};

  /// All but the clips and the attentive probe, which are sections of their own.
  void describe(OptionVisitor& visit);
};

/// The splits at one level of background noise. Digits are disjoint between them.
struct QuestionClips {
  std::shared_ptr<const ClipSource> train;
  std::shared_ptr<const ClipSource> probe;
  std::shared_ptr<const ClipSource> validation;
  std::shared_ptr<const ClipSource> test;
};

/// Generates the clips and holds them in memory.
QuestionClips make_clips(const QuestionOptions& options, double noise, uint64_t seed);

/// Named results. Names: `probe/digit`, `position_error/h2`, `digit/h8`, `cost/train_tflop`, ...;
/// a value without an interval has low = high = value.
using Results = std::map<std::string, probes::Estimate>;

/// Results as a JSON object, each {value, low, high}.
std::string results_json(const Results& results);

/// What can be read from frozen features: `probe/LABEL` for digit, direction and, where it varies,
/// count (accuracy), position, velocity (R2), fitted on the pooled tokens of each feature, the
/// feature and decay chosen on validation, reported on test with an interval over digit instances;
/// `attentive/LABEL` on all tokens of the same feature, standardised. `layers` is told which feature
/// was chosen.
Results measure_features(const Arm& arm, const QuestionClips& clips, const QuestionOptions& options,
                         std::map<std::string, std::string>& layers);

/// What the judge reads from predicted frames at each horizon, beside pixels: `position_error/hN`
/// (mean over futures), `best_position_error/hN`, `mean_position_error/hN` (of the mean of
/// futures), `coverage/hN`, `energy/hN`, `psnr/hN`, `ssim/hN`, and over all predicted frames
/// `digit` and `direction` (accuracy; the way that the truth goes over these frames).
/// @param futures uint8 [K, B, C, T', H, W] of the clips
/// @param clips uint8 [B, C, T, H, W], the first ones of `source`, which has their truth
Results measure_futures(const torch::Tensor& futures, const torch::Tensor& clips,
                        const ClipSource& source, Judge& judge, const QuestionOptions& options);

/// The predictors that every arm has to beat, on the same clips: `copy_last` and `linear`; and
/// `truth`, which tells how well the judge reads.
std::map<std::string, Results> measure_trivial(const torch::Tensor& clips, const ClipSource& source,
                                               Judge& judge, const QuestionOptions& options,
                                               int64_t context_frames);

/// A space in which sets of clips are compared: uint8 [B, C, T, H, W] -> float [B, D].
struct FeatureSpace {
  std::string name;
  std::function<torch::Tensor(const torch::Tensor& clips)> features;
};

/// What the judge reads of a clip: class logits, velocity, centre.
FeatureSpace judge_space(Judge judge);
/// Pooled tokens of a random encoder of the recipe's shape, always the same one.
FeatureSpace random_space(const training::Recipe& recipe, at::IntArrayRef clip_sizes);

/// Distances of frames [n, ...] from real ones [k n, ...], n at a time (see distance.hpp: not FVD):
/// `SPACE_frechet`, `SPACE_mmd`, their means between smallest and largest.
/// @param frames, real uint8 [n, C, T, H, W], of other clips
Results measure_distances(const torch::Tensor& frames, const torch::Tensor& real,
                          const std::vector<FeatureSpace>& spaces);

/// Their floor: random halves of `real` [2n, ...] against each other, eight times.
Results distance_floor(const torch::Tensor& real, const std::vector<FeatureSpace>& spaces);

/// The first `count` clips of a source, or as many as it has, uint8 [n, C, T, H, W].
torch::Tensor first_clips(const std::shared_ptr<const ClipSource>& source, int64_t count);

}  // namespace jepa::eval::comparison

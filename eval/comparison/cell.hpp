// One cell of a comparison: an arm at a budget, seed and background noise, trained and measured.
#pragma once

#include <eval/comparison/arm.hpp>
#include <eval/comparison/judge.hpp>
#include <eval/probes/attentive.hpp>
#include <eval/probes/metrics.hpp>
#include <eval/worlds/ball_films.hpp>
#include <jepa/data/clip_source.hpp>
#include <jepa/data/creatures.hpp>
#include <jepa/data/generated.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::comparison {

/// The clips of a comparison and what is asked of each model. Without `data` clips are generated.
struct QuestionOptions {
  std::string world = "digits";          ///< what is generated: digits, creatures, balls
  GeneratedOptions clips{.frames = 12};  ///< what generated ones look like; the noise is the cell's
  CreatureOptions creatures;             ///< what is trained on, of the world of creatures
  double longer_min = 8.5, longer_max = 9.5;  ///< legs longer than any that is trained on
  worlds::BallFilmOptions balls;
  // One's own clips, anything that open_clip_source() takes; `data` alone decides which it is.
  std::string data;        ///< to train on
  std::string probe;       ///< labelled, that probes are fitted on
  std::string validation;  ///< labelled, that layers, decays and settings are chosen on
  std::string test;        ///< labelled, reported on
  ClipOptions clip;        ///< how they are cut
  /// Columns that probes are asked for, comma-separated; "auto": digit, shape, direction, position,
  /// velocity, count, legs, class, body, colour and leg_length, where they are there and vary.
  std::string labels = "auto";
  /// Clips that probes and futures are reported on: "test", once; "validation" while anything is
  /// tuned.
  std::string report_on = "test";
  int64_t train_clips = 20000;                   ///< of one's own data: at most
  int64_t probe_clips = 3000;                    ///< that probes are fitted on
  int64_t validation_clips = 1000;               ///< that layers and decays are chosen on
  int64_t test_clips = 2000;                     ///< that probes are reported on
  int64_t shift_clips = 400;                     ///< of each range outside that of training
  int64_t prompted_clips = 96;                   ///< drawn from words, of each range
  int64_t predicted_clips = 128;                 ///< of the test clips, whose futures are asked for
  int64_t futures = 4;                           ///< drawn of each
  std::vector<int64_t> horizons = {1, 2, 4, 8};  ///< frames after the context
  double radius = 2.0;                           ///< of coverage, px
  bool attentive = false;  ///< attentive probes too: they take longer than a small cell
  probes::AttentiveOptions attentive_probe{.epochs = 10, .rates = {5e-3, 1e-3}};

  /// All but data and labels, the clips and the attentive probe, which are described elsewhere.
  void describe(OptionVisitor& visit);
  /// world, data, probe, validation, test and labels.
  void describe_data(OptionVisitor& visit);
  void describe_creatures(OptionVisitor& visit);
};

/// Test clips outside the range of training, and what they are called in results.
struct Shift {
  std::string name;
  std::shared_ptr<const ClipSource> source;
  bool probed = true;  ///< false: of another length, futures alone are asked for
};

/// The splits at one level of background noise. Generated digits are disjoint between them.
struct QuestionClips {
  std::shared_ptr<const ClipSource> train;
  std::shared_ptr<const ClipSource> probe;
  std::shared_ptr<const ClipSource> validation;
  std::shared_ptr<const ClipSource> test;
  /// Of creatures `combination` (looks that only the other kind had) and `longer` (legs); of balls
  /// `FACTOR_near`, `FACTOR_far`, `horizon_near`, `horizon_far`. None where one tunes.
  std::vector<Shift> shifts = {};
};

/// Of the clips that every cell and film is asked about: all cells of a noise see the same.
inline constexpr uint64_t kQuestionSeed = 1;

/// Generates the clips, or reads one's own, and holds them in memory.
/// @throws ConfigError where a split is not named; DataError where splits differ in shape
QuestionClips make_clips(const QuestionOptions& options, double noise, uint64_t seed);

/// What a judge learns from and is scored on: of worlds with shifts it sees every range, and
/// creatures of five to nine legs, so that it counts; else the clips of training and validation.
struct JudgeClips {
  std::shared_ptr<const ClipSource> train;
  std::shared_ptr<const ClipSource> validation;
};
/// Generates them where the world has shifts, else gives those of `clips`.
JudgeClips make_judge_clips(const QuestionOptions& options, const JudgeOptions& judge,
                            const QuestionClips& clips, uint64_t seed);

/// A label that probes are asked for.
struct Question {
  std::string label;
  int64_t classes = 0;  ///< 0: it is a quantity
};

/// What `options.labels` asks of these clips. @throws DataError, ConfigError naming the column
std::vector<Question> make_questions(const QuestionClips& clips, const QuestionOptions& options);

/// Whether a source has what a judge is trained and scored on: the class `label`, `direction`,
/// `position` and `velocity`; what is missing is told in `missing`.
bool judge_can_read(const ClipSource& source, const std::string& label, std::string& missing);

/// Named results. Names: `probe/digit`, `position_error/h2`, `digit/h8`, `cost/train_tflop`, ...;
/// a value without an interval has low = high = value.
using Results = std::map<std::string, probes::Estimate>;

/// What results of clips rest on, unit by unit: what paired differences of arms need. Names as the
/// results'; those that are of whole sets (distances) or of none (costs) are not among them.
using Scores = std::map<std::string, probes::UnitScores>;

/// Whether a result is a share of clips or futures, between 0 and 1: accuracies, coverage. R2,
/// pixels and distances are none.
/// @param scores of its cell, which tell accuracy from R2
bool is_share(const std::string& result, const Scores& scores);

/// Results as a JSON object, each {value, low, high}.
std::string results_json(const Results& results);

/// What can be read from frozen features: `probe/LABEL` for every question (accuracy of classes, R2
/// of quantities), fitted on the pooled tokens of each feature, the feature and decay chosen on
/// validation, reported on test with an interval over units; `attentive/LABEL` on all tokens of the
/// same feature, standardised. `layers` is told which feature was chosen. The same probes are asked
/// about every shift: `shift/NAME/probe/LABEL`.
/// @param scores takes what the results rest on; null: not wanted
Results measure_features(const Arm& arm, const QuestionClips& clips, const QuestionOptions& options,
                         std::map<std::string, std::string>& layers, Scores* scores = nullptr);

/// Predicted frames beside the true ones at each horizon: `psnr/hN`, `mean_psnr/hN` (of the mean of
/// futures), `ssim/hN`. With a judge, what it reads: `position_error/hN` (mean over futures),
/// `best_position_error/hN`, `mean_position_error/hN` (of the mean of futures), `coverage/hN`,
/// `energy/hN`, and over all predicted frames the judge's label, such as `digit`, and `direction`
/// (accuracy; the way that the truth goes over these frames). Where the truth has at most four
/// classes also `read/AasB`, the share of clips of class A that are read as B, and `read/Aasother`.
/// @param futures uint8 [K, B, C, T', H, W] of the clips
/// @param clips uint8 [B, C, T, H, W], the first ones of `source`, which has their truth
/// @param judge an empty one where the source has no truth to judge by
Results measure_futures(const torch::Tensor& futures, const torch::Tensor& clips,
                        const ClipSource& source, Judge& judge, const QuestionOptions& options,
                        Scores* scores = nullptr);

/// The predictors that every arm has to beat, on the same clips: `copy_last` and, with a judge,
/// `linear`; and `truth`, which tells how well the judge reads.
std::map<std::string, Results> measure_trivial(const torch::Tensor& clips, const ClipSource& source,
                                               Judge& judge, const QuestionOptions& options,
                                               int64_t context_frames,
                                               std::map<std::string, Scores>* scores = nullptr);

/// Futures of clips [B, C, T, H, W] of any length from an arm that was trained on clips of
/// `trained_frames`: window after window, each from the last frames of the one before, as they were
/// drawn. @returns as Arm::predict
torch::Tensor roll_out(const Arm& arm, const torch::Tensor& clips, int64_t context_frames,
                       int64_t trained_frames, int64_t futures, uint64_t seed);

/// What a judge of `label` is to read of clips drawn from each of a vocabulary's first words, in
/// their order: of creatures their number of legs, else the class itself.
/// @throws ConfigError where those words do not say it
std::vector<int64_t> prompted_classes(const diffusion::PromptVocabulary& vocabulary,
                                      const std::string& label);

/// What an arm draws of creatures from words alone, as the judge counts its legs:
/// `prompted/in/legs` and `prompted/combination/legs`, shares with the number asked for, and
/// `.../read/AasB` as above. In range are a kind and a colour that it had; `combination` are red
/// spiders and blue insects.
Results measure_prompted(const Arm& arm, at::IntArrayRef clip_sizes, Judge& judge,
                         const QuestionOptions& options, uint64_t seed, Scores* scores = nullptr);

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

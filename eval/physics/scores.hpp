// What surprise says about pairs of films: accuracies, AUROC and their intervals over scenes.
#pragma once

#include <eval/probes/metrics.hpp>

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace jepa::eval::physics {

/// The films of a pair, as the third dimension of surprises has them.
enum FilmKind : int64_t { kLawful = 0, kBroken = 1, kChanged = 2 };
/// How windows become a number for a film, as the fourth dimension has them.
enum Aggregate : int64_t { kMean = 0, kMax = 1 };

// Surprises of one rule: double [scenes, pairs, kinds, 2 aggregates]. Kind kChanged may be left out
// (validation). A scene of fewer pairs than others is filled up with NaN.

/// Share of pairs of which the film that breaks the rule is the more surprising one; where both are
/// alike it counts half. -> double [scenes], the mean over each scene's pairs.
torch::Tensor relative_accuracy(const torch::Tensor& surprises, FilmKind more, FilmKind less,
                                Aggregate aggregate);

/// 1 for scenes whose pairs together surprise more as films of kind `more`, of equals a half:
/// double [scenes]. What the endings are surprising by themselves cancels, since each is in both
/// sums (IntPhys's relative score; Riochet et al. 2018, arXiv 1803.07616).
torch::Tensor set_accuracy(const torch::Tensor& surprises, FilmKind more, FilmKind less,
                           Aggregate aggregate);

/// Area under the ROC curve: the probability that a positive scores above a negative, of equals a
/// half. @param positive, negative [n], [m]
double auroc(const torch::Tensor& positive, const torch::Tensor& negative);

/// AUROC of a rule's broken films against the lawful ones of its other scenes, on resamples of the
/// scenes. A scene's films are not set against its own: that is a paired comparison (relative
/// accuracy), and a resample that holds a scene twice would count it four times. Where there is one
/// scene alone, it is set against itself.
/// @param counts double [R, scenes], how often each was drawn -> double [R]
torch::Tensor resampled_auroc(const torch::Tensor& surprises, Aggregate aggregate,
                              const torch::Tensor& counts);

/// Untrained networks that choose their past together, where there are more.
inline constexpr int64_t kChoosingDraws = 3;
/// What validation chooses a past by: the share of pairs told right by their mean surprise, over
/// rules. @param rules surprises of each rule
double validation_score(const std::vector<torch::Tensor>& rules);
/// The past of the highest score; of equals the last one. @param scores one for each past
int64_t best_past(const std::vector<int64_t>& pasts, const std::vector<double>& scores);

/// The threshold at which most of the films of validation are told right: lawful below, broken at
/// it or above. @param rules surprises of each rule
double best_threshold(const std::vector<torch::Tensor>& rules, Aggregate aggregate);

/// Share of films of a kind at `threshold` or above, double [scenes].
torch::Tensor fired(const torch::Tensor& surprises, FilmKind kind, Aggregate aggregate,
                    double threshold);

/// What is asked of surprises.
enum class Metric {
  kRelative,     ///< relative accuracy, mean over windows
  kRelativeMax,  ///< the same, max over windows
  kSets,         ///< set accuracy, mean over windows
  kSetsMax,
  kAuroc,  ///< mean over windows
  kAurocMax,
  kAbsolute,     ///< share of films told right by the threshold of validation, max over windows
  kFiredLawful,  ///< share above that threshold
  kFiredBroken,
  kFiredChanged,
  kChangedOverLawful,  ///< share of pairs in which the matched change is the more surprising one
  kBrokenOverChanged,  ///< share in which the broken film surprises more than the matched change
};
/// Every metric, in the order above.
const std::vector<Metric>& all_metrics();
/// "relative", "relative_max", "sets", "auroc", ...
std::string metric_name(Metric metric);

/// A metric of one model: of each rule, and last the mean over rules.
struct RuleValues {
  std::vector<double> values;            ///< [rules + 1]
  std::vector<torch::Tensor> resamples;  ///< double [R] each
};

/// @param rules surprises of each rule with all three kinds
/// @param seed of the bootstrap over scenes, each rule's own; the same seed gives paired resamples
RuleValues measure(const std::vector<torch::Tensor>& rules, Metric metric, double threshold,
                   int64_t resamples, uint64_t seed);
/// The same on given resamples, where rules share their scenes. @param counts of each rule, how
/// often each scene was drawn: double [R, scenes]
RuleValues measure(const std::vector<torch::Tensor>& rules, Metric metric, double threshold,
                   const std::vector<torch::Tensor>& counts);

/// The mean over draws (seeds, initialisations) of one arm; every resample draws scenes and draws,
/// see comparison::mean_over_seeds(). Every metric is a share: what is stretched past 0 or 1 is
/// cut.
std::vector<probes::Estimate> pooled(const std::vector<RuleValues>& draws, uint64_t seed);
/// An arm's less a control's, on the same resamples of the scenes; cut at -1 and 1.
std::vector<probes::Estimate> pooled_difference(const std::vector<RuleValues>& draws,
                                                const std::vector<RuleValues>& control,
                                                uint64_t seed);

}  // namespace jepa::eval::physics

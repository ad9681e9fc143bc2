// What saved probes say of every window that is watched.
#pragma once

#include <encoders/published.hpp>
#include <eval/probes/features.hpp>
#include <eval/probes/saved_probe.hpp>
#include <eval/watching/curve.hpp>
#include <eval/watching/watch.hpp>

#include <torch/types.h>

#include <deque>
#include <string>
#include <vector>

namespace jepa::eval::watching {

/// Asks saved probes about windows as they come. What is kept does not grow with the film.
class ProbeAnswers {
 public:
  /// @param options `probes` and `weights`
  /// @throws CheckpointError for a damaged file or one of another encoder; ConfigError where the
  ///   probes were fitted on clips of other sizes than the windows
  ProbeAnswers(const WatchOptions& options, const WatchedModel& model, torch::Device device);

  /// Names of the curve's columns: the label of classes and single quantities, label_0 .. of more;
  /// with the kind of probe behind it where a label has several.
  const std::vector<std::string>& columns() const { return columns_; }
  /// Windows uint8 [b, C, T, H, W], in order.
  void add(const torch::Tensor& windows);
  /// The answers about the next window, one a column, in order; of a row of the curve.
  std::vector<CurveAnswer> take(const CurveRow& row);
  /// Curves of the answers so far and what the probes are, as markup.
  std::string section() const;

 private:
  struct Asked {
    probes::SavedProbe about;
    probes::Candidate probe;
    std::vector<CurveOutline> outlines;  ///< of quantities, or the share of each class
    std::vector<int64_t> counts;         ///< windows of each class
  };

  std::vector<CurveAnswer> answers(Asked& asked, const torch::Tensor& prediction) const;

  probes::SavedProbes saved_;
  encoders::LoadedEncoder loaded_;
  probes::FeatureOptions how_;
  std::vector<Asked> asked_;
  std::vector<std::string> columns_;
  std::deque<std::vector<CurveAnswer>> waiting_;  ///< of windows that were not taken yet
};

}  // namespace jepa::eval::watching

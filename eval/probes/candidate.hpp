// What every kind of probe is made from, and what it gives back to be chosen among.
#pragma once

#include <jepa/io/safetensors.hpp>

#include <torch/types.h>

#include <functional>
#include <string>
#include <vector>

namespace jepa::eval::probes {

/// Frozen features with what is to be read from them.
struct LabelledFeatures {
  torch::Tensor features;  ///< float [n, D], or tokens [n, N, D] for the attentive probe
  torch::Tensor labels;    ///< int64 [n] classes, or float [n, K] quantities
  int64_t classes = 0;     ///< 0: quantities

  /// Columns that a prediction has.
  int64_t outputs() const { return classes > 0 ? classes : labels.size(1); }
};

/// One trained setting of a probe's grid.
struct Candidate {
  std::string setting;  ///< such as "decay 0.01"
  /// Features -> scores [m, classes], or quantities [m, K].
  std::function<torch::Tensor(const torch::Tensor& features)> predict;
  /// What `predict` computes with, for a file: mean, scale, weight, bias of a linear probe; the
  /// module's weights of an attentive one, with target.mean and target.deviation of quantities.
  /// Empty for k-NN, which computes with its training clips.
  TensorMap parts = {};
};

/// What is scored: the class of the largest score, or the quantities as they are.
torch::Tensor decide(const torch::Tensor& prediction, int64_t classes);

/// Accuracy, or R2 (mean over outputs), of predictions as a candidate gives them.
double prediction_score(const torch::Tensor& prediction, const torch::Tensor& labels,
                        int64_t classes);

/// Whether a candidate that scored `score` replaces the best one so far. Of equals the later one is
/// taken, everywhere: grids run from weak to strong regularisation, layers from first to last.
inline bool replaces(double score, double best) { return score >= best; }

/// The candidate whose predictions score best on `labels`; see replaces() for equals.
/// @param predict a candidate's predictions of the validation clips
const Candidate& choose_candidate(const std::vector<Candidate>& candidates,
                                  const std::function<torch::Tensor(const Candidate&)>& predict,
                                  const torch::Tensor& labels, int64_t classes);
/// The same for features that are in memory.
const Candidate& choose_candidate(const std::vector<Candidate>& candidates,
                                  const LabelledFeatures& validation);

}  // namespace jepa::eval::probes

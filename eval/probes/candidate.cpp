#include <eval/probes/candidate.hpp>
#include <eval/probes/metrics.hpp>
#include <torch/types.h>

#include <limits>

namespace jepa::eval::probes {

torch::Tensor decide(const torch::Tensor& prediction, int64_t classes) {
  return classes > 0 ? prediction.argmax(1) : prediction;
}

double validation_score(const Candidate& candidate, const LabelledFeatures& validation) {
  const int64_t rows = validation.labels.size(0);
  const auto predicted = decide(candidate.predict(validation.features), validation.classes);
  return UnitScores(predicted, validation.labels, torch::arange(rows), rows).value();
}

const Candidate& choose_candidate(const std::vector<Candidate>& candidates,
                                  const LabelledFeatures& validation) {
  TORCH_CHECK(!candidates.empty(), "a probe without candidates");
  const Candidate* best = &candidates.front();
  double best_score = -std::numeric_limits<double>::infinity();
  for (const auto& candidate : candidates) {
    const double score = validation_score(candidate, validation);
    if (replaces(score, best_score)) {
      best_score = score;
      best = &candidate;
    }
  }
  return *best;
}

}  // namespace jepa::eval::probes

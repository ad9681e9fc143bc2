#include <eval/probes/candidate.hpp>
#include <eval/probes/metrics.hpp>
#include <torch/types.h>

#include <limits>

namespace jepa::eval::probes {

torch::Tensor decide(const torch::Tensor& prediction, int64_t classes) {
  return classes > 0 ? prediction.argmax(1) : prediction;
}

const Candidate& choose_candidate(const std::vector<Candidate>& candidates,
                                  const LabelledFeatures& validation) {
  TORCH_CHECK(!candidates.empty(), "a probe without candidates");
  const int64_t rows = validation.labels.size(0);
  const auto units = torch::arange(rows);
  const Candidate* best = &candidates.front();
  double best_score = -std::numeric_limits<double>::infinity();
  for (const auto& candidate : candidates) {
    const auto predicted = decide(candidate.predict(validation.features), validation.classes);
    const double score = UnitScores(predicted, validation.labels, units, rows).value();
    if (score >= best_score) {
      best_score = score;
      best = &candidate;
    }
  }
  return *best;
}

}  // namespace jepa::eval::probes

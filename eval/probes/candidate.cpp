#include <eval/probes/candidate.hpp>
#include <eval/probes/metrics.hpp>

#include <torch/types.h>

#include <limits>

namespace jepa::eval::probes {

torch::Tensor decide(const torch::Tensor& prediction, int64_t classes) {
  return classes > 0 ? prediction.argmax(1) : prediction;
}

double prediction_score(const torch::Tensor& prediction, const torch::Tensor& labels,
                        int64_t classes) {
  const int64_t rows = labels.size(0);
  return UnitScores(decide(prediction, classes), labels, torch::arange(rows), rows).value();
}

const Candidate& choose_candidate(const std::vector<Candidate>& candidates,
                                  const std::function<torch::Tensor(const Candidate&)>& predict,
                                  const torch::Tensor& labels, int64_t classes) {
  TORCH_CHECK(!candidates.empty(), "a probe without candidates");
  const Candidate* best = &candidates.front();
  double best_score = -std::numeric_limits<double>::infinity();
  for (const auto& candidate : candidates) {
    const double score = prediction_score(predict(candidate), labels, classes);
    if (replaces(score, best_score)) {
      best_score = score;
      best = &candidate;
    }
  }
  return *best;
}

const Candidate& choose_candidate(const std::vector<Candidate>& candidates,
                                  const LabelledFeatures& validation) {
  return choose_candidate(
      candidates,
      [&](const Candidate& candidate) { return candidate.predict(validation.features); },
      validation.labels, validation.classes);
}

}  // namespace jepa::eval::probes

#include <eval/probes/metrics.hpp>
#include <jepa/random.hpp>
#include <torch/types.h>

#include <tuple>

namespace jepa::eval::probes {

Estimate with_interval(double value, const torch::Tensor& resampled) {
  const auto ends = at::quantile(resampled, torch::tensor({0.025, 0.975}, torch::kFloat64));
  return {value, ends[0].item<double>(), ends[1].item<double>()};
}

UnitScores::UnitScores(const torch::Tensor& predictions, const torch::Tensor& truth,
                       const torch::Tensor& units, int64_t unit_count)
    : classes_(truth.scalar_type() == torch::kInt64) {
  TORCH_CHECK(predictions.sizes() == truth.sizes() && truth.dim() == (classes_ ? 1 : 2) &&
                  units.dim() == 1 && units.size(0) == truth.size(0) && truth.size(0) > 0,
              "scores: predictions ", predictions.sizes(), ", truth ", truth.sizes(), ", units ",
              units.sizes());
  const auto ones = torch::ones({truth.size(0), 1}, torch::kFloat64);
  torch::Tensor rows;
  if (classes_) {
    rows = torch::cat({(predictions == truth).to(torch::kFloat64).unsqueeze(1), ones}, 1);
  } else {
    // Less the mean, so that sums of squares do not cancel.
    const auto y = truth.to(torch::kFloat64) - truth.to(torch::kFloat64).mean(0);
    const auto error = (predictions.to(torch::kFloat64) - truth.to(torch::kFloat64)).square();
    rows = torch::cat({error, y, y.square(), ones}, 1);
  }
  sums_ = torch::zeros({unit_count, rows.size(1)}, torch::kFloat64).index_add_(0, units, rows);
}

torch::Tensor UnitScores::scores(const torch::Tensor& sums) const {
  const auto count = sums.narrow(1, sums.size(1) - 1, 1);
  if (classes_) return sums.narrow(1, 0, 1) / count;
  const int64_t outputs = (sums.size(1) - 1) / 3;
  const auto error = sums.narrow(1, 0, outputs);
  const auto spread = sums.narrow(1, 2 * outputs, outputs) -
                      sums.narrow(1, outputs, outputs).square() / count;
  return 1 - error / spread;
}

double UnitScores::value() const {
  return scores(sums_.sum(0, /*keepdim=*/true)).mean().item<double>();
}

std::vector<double> UnitScores::per_output() const {
  const auto values = scores(sums_.sum(0, /*keepdim=*/true)).flatten().contiguous();
  return {values.data_ptr<double>(), values.data_ptr<double>() + values.numel()};
}

torch::Tensor UnitScores::resampled(const torch::Tensor& counts) const {
  return scores(at::mm(counts, sums_)).mean(1);
}

torch::Tensor number_units(const torch::Tensor& names, int64_t& unit_count) {
  const auto [unique, inverse, counts] = at::unique_dim(names.to(torch::kInt64), 0, true, true);
  unit_count = unique.size(0);
  return inverse;
}

torch::Tensor resample_units(int64_t units, int64_t resamples, uint64_t seed) {
  auto counts = torch::zeros({resamples, units}, torch::kFloat64);
  auto row = counts.data_ptr<double>();
  for (int64_t r = 0; r < resamples; ++r, row += units) {
    Random random(seed, "bootstrap", static_cast<uint64_t>(r));
    for (int64_t i = 0; i < units; ++i) row[random.below(units)] += 1;
  }
  return counts;
}

Estimate estimate(const UnitScores& scores, const torch::Tensor& counts) {
  return with_interval(scores.value(), scores.resampled(counts));
}

Estimate paired_difference(const UnitScores& scores, const UnitScores& control,
                           const torch::Tensor& counts) {
  return with_interval(scores.value() - control.value(),
                       scores.resampled(counts) - control.resampled(counts));
}

}  // namespace jepa::eval::probes

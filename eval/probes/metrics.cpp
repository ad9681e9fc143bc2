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

UnitScores UnitScores::from_sums(const torch::Tensor& sums) {
  const int64_t columns = sums.dim() == 2 ? sums.size(1) : 0;
  TORCH_CHECK(columns == 2 || (columns > 3 && columns % 3 == 1), "scores: sums ", sums.sizes());
  UnitScores scores;
  scores.sums_ = sums.to(torch::kFloat64).contiguous();
  scores.classes_ = columns == 2;
  return scores;
}

UnitScores UnitScores::of_values(const torch::Tensor& values, const torch::Tensor& units,
                                 int64_t unit_count) {
  TORCH_CHECK(values.dim() == 1 && values.sizes() == units.sizes(), "scores: values ",
              values.sizes(), ", units ", units.sizes());
  const auto rows =
      torch::stack({values.to(torch::kFloat64), torch::ones({values.size(0)}, torch::kFloat64)}, 1);
  return from_sums(torch::zeros({unit_count, 2}, torch::kFloat64).index_add_(0, units, rows));
}

torch::Tensor UnitScores::scores(const torch::Tensor& sums) const {
  const auto count = sums.narrow(1, sums.size(1) - 1, 1);
  if (classes_) return sums.narrow(1, 0, 1) / count;
  const int64_t outputs = (sums.size(1) - 1) / 3;
  const auto error = sums.narrow(1, 0, outputs);
  const auto spread =
      sums.narrow(1, 2 * outputs, outputs) - sums.narrow(1, outputs, outputs).square() / count;
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

torch::Tensor resample_draws(int64_t draws, int64_t resamples, uint64_t seed) {
  auto chosen = torch::empty({resamples}, torch::kInt64);
  auto* row = chosen.data_ptr<int64_t>();
  Random random(seed, "bootstrap of draws", 0);
  for (int64_t r = 0; r < resamples; ++r) row[r] = random.below(draws);
  return chosen;
}

namespace {

double mean_value(const std::vector<UnitScores>& draws) {
  double sum = 0;
  for (const auto& draw : draws) sum += draw.value();
  return sum / static_cast<double>(draws.size());
}

/// The score of each resample's draw on that resample's units, double [R].
torch::Tensor resampled_draws(const std::vector<UnitScores>& draws, const torch::Tensor& counts,
                              const torch::Tensor& chosen) {
  TORCH_CHECK(!draws.empty() && chosen.size(0) == counts.size(0), "a control without draws");
  std::vector<torch::Tensor> all;
  for (const auto& draw : draws) all.push_back(draw.resampled(counts));
  return torch::stack(all, 1).gather(1, chosen.unsqueeze(1)).squeeze(1);
}

}  // namespace

Estimate estimate(const std::vector<UnitScores>& draws, const torch::Tensor& counts,
                  const torch::Tensor& chosen) {
  return with_interval(mean_value(draws), resampled_draws(draws, counts, chosen));
}

Estimate paired_difference(const UnitScores& scores, const std::vector<UnitScores>& control,
                           const torch::Tensor& counts, const torch::Tensor& chosen) {
  double value = 0;  // of equal scores exactly 0
  for (const auto& draw : control) value += scores.value() - draw.value();
  return with_interval(value / static_cast<double>(control.size()),
                       scores.resampled(counts) - resampled_draws(control, counts, chosen));
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

#include <eval/comparison/seed_resamples.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::comparison {
namespace {

constexpr double kNormalQuantile = 1.959963984540054;
constexpr uint64_t kSkillSeed = 0;
constexpr int64_t kSkillResamples = 1000;

}  // namespace

const torch::Tensor& ClipResamples::of(int64_t units) {
  auto& known = counts_[units];
  if (!known.defined()) known = probes::resample_units(units, resamples_, seed_);
  return known;
}

SeedResamples resample_seeds(const SeedCells& cells, const std::string& result,
                             ClipResamples& clips) {
  std::vector<torch::Tensor> resampled;
  std::vector<double> values;
  for (const CellRecord* cell : cells) {
    const auto found = cell->scores.find(result);
    if (found == cell->scores.end()) return {};
    values.push_back(found->second.value());
    resampled.push_back(found->second.resampled(clips.of(found->second.sums().size(0))));
  }
  if (values.empty()) return {};
  return {torch::tensor(values, torch::kFloat64), torch::stack(resampled, 1)};
}

torch::Tensor mean_over_seeds(const torch::Tensor& values, uint64_t seed, Stretch stretch) {
  const int64_t seeds = values.size(1);
  const auto mean = values.mean(1);
  if (seeds < 2) return mean;
  const auto n = static_cast<double>(seeds);
  const double factor =
      std::sqrt(n / (n - 1)) * probes::student_t_quantile(n - 1, 0.975) / kNormalQuantile;
  Random random(seed, "bootstrap of seeds", 0);
  auto drawn = torch::empty({values.size(0), seeds}, torch::kInt64);
  for (int64_t i = 0; i < drawn.numel(); ++i) drawn.data_ptr<int64_t>()[i] = random.below(seeds);
  const auto means = values.gather(1, drawn).mean(1);
  if (stretch == Stretch::kRatios) return mean * (means / mean).pow(factor);
  return mean + factor * (means - mean);
}

void add_skill(const std::vector<CellRecord>& cells, std::vector<SummaryRow>& rows) {
  ClipResamples clips(kSkillResamples, kSkillSeed);
  const std::string error = "position_error";
  for (auto& row : rows) {
    SeedCells own, copies;
    for (const auto& cell : cells) {
      if (cell.noise != row.noise) continue;
      if (cell.arm == "copy_last") copies.push_back(&cell);
      if (cell.arm == row.arm && cell.tera == row.tera && cell.width == row.width) {
        own.push_back(&cell);
      }
    }
    if (copies.empty() || row.arm == "copy_last") continue;
    Results skills;
    for (const auto& [name, value] : row.results) {
      const size_t at = name.find("future/" + error);
      if (at == std::string::npos) continue;
      const auto mine = resample_seeds(own, name, clips);
      const auto copy = resample_seeds(copies, name, clips);
      if (!mine.values.defined() || !copy.values.defined()) continue;
      std::string skill = name;
      skill.replace(at + 7, error.size(), "skill");
      const double still = copy.values.mean().item<double>();
      const auto drawn = 1 - mean_over_seeds(mine.resampled, kSkillSeed) / copy.resampled.mean(1);
      skills[skill] = probes::with_interval(1 - mine.values.mean().item<double>() / still, drawn);
    }
    row.results.merge(skills);
  }
}

}  // namespace jepa::eval::comparison

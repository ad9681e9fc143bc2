#include <jepa/metrics.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <vector>

namespace jepa {

void MetricSums::add(const std::string& name, const torch::Tensor& value) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor part = value.detach().to(torch::kFloat64) * share_;
  auto [sum, fresh] = sums_.try_emplace(name, part);
  if (!fresh) sum->second = sum->second + part;
}

torch::Tensor MetricSums::stacked() const {
  std::vector<torch::Tensor> all;
  for (const auto& [name, sum] : sums_) all.push_back(sum);
  return torch::stack(all);
}

void MetricSums::assign(const torch::Tensor& stacked) {
  int64_t i = 0;
  for (auto& [name, sum] : sums_) sum = stacked[i++];
}

StepMetrics MetricSums::read() const {
  StepMetrics metrics;
  if (sums_.empty()) return metrics;
  const torch::Tensor values = stacked().cpu();
  const double* value = values.const_data_ptr<double>();
  for (const auto& [name, sum] : sums_) metrics[name] = *value++;
  return metrics;
}

}  // namespace jepa

#include <jepa/metrics.hpp>

#include <torch/types.h>
#include <torch/utils.h>

namespace jepa {

void MetricSums::add(const std::string& name, const torch::Tensor& value) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor part = value.detach().to(torch::kFloat64) * share_;
  auto [sum, fresh] = sums_.try_emplace(name, part);
  if (!fresh) sum->second = sum->second + part;
}

std::vector<torch::Tensor> MetricSums::tensors() const {
  std::vector<torch::Tensor> all;
  for (const auto& [name, sum] : sums_) all.push_back(sum);
  return all;
}

StepMetrics MetricSums::read() const {
  StepMetrics metrics;
  if (sums_.empty()) return metrics;
  const torch::Tensor values = torch::stack(tensors()).cpu();
  const double* value = values.const_data_ptr<double>();
  for (const auto& [name, sum] : sums_) metrics[name] = *value++;
  return metrics;
}

}  // namespace jepa

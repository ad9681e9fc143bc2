// Numbers of a training step that stay on the device until they are read, all at once.
#pragma once

#include <torch/types.h>

#include <map>
#include <string>

namespace jepa {

/// Named numbers of one step: loss, its terms, rates and gradient norms.
using StepMetrics = std::map<std::string, double>;

/// Sums of scalar tensors by name. Nothing waits for the device before `read`.
class MetricSums {
 public:
  /// Adds `value`, a scalar of any floating type, times the current share.
  void add(const std::string& name, const torch::Tensor& value);
  /// How much what follows counts (a micro-batch, a mask); 1 at first.
  void set_share(double share) { share_ = share; }
  /// All sums, by one read from the device.
  StepMetrics read() const;
  void clear() { sums_.clear(); }
  /// The sums in the order of their names, float64 [n].
  torch::Tensor stacked() const;
  /// Takes back what `stacked` gave.
  void assign(const torch::Tensor& stacked);

 private:
  std::map<std::string, torch::Tensor> sums_;
  double share_ = 1.0;
};

}  // namespace jepa

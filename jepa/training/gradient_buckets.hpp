// Gradients that processes average in parts, while the backward pass goes on.
#pragma once

#include <jepa/training/processes.hpp>

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace jepa {

/// Cuts flat gradients into buckets and averages each as soon as the backward pass has brought all
/// of its gradients (Li et al., 2020, PyTorch Distributed, section 3.2). Buckets start in the order
/// of `add`, the same in all processes, so one that waits holds up those behind it.
class GradientBuckets {
 public:
  /// @param bucket numbers that a bucket has at least, but for the last of each `add`
  explicit GradientBuckets(int64_t bucket);
  ~GradientBuckets();
  GradientBuckets(GradientBuckets&&) noexcept;

  /// @param flat gradients, of which `gradients` are views in order; cut from its end, where a
  ///   backward pass begins
  void add(const torch::Tensor& flat, const std::vector<torch::Tensor>& parameters,
           const std::vector<torch::Tensor>& gradients);

  /// The backward pass that comes now is the step's last one. What it brings to a bucket that is
  /// already being averaged is an Error, thrown by that pass.
  void start(Processes& processes);

  /// Begins what has not begun; without start(), that is all. Processes::finish_averages waits.
  /// @throws Error where nothing was added
  void begin_rest(Processes& processes);

  /// Buckets that began before begin_rest(), in the last step.
  int64_t early() const;

 private:
  struct State;
  struct Hooks;
  std::shared_ptr<State> state_;
  std::unique_ptr<Hooks> hooks_;
};

}  // namespace jepa

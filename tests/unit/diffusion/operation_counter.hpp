// Counts the floating-point operations of what LibTorch runs: products and convolutions.
#pragma once

#include <ATen/record_function.h>
#include <torch/types.h>

#include <functional>
#include <string>

namespace jepa::eval::diffusion {

/// What one thread runs, operator by operator.
class OperationCounter {
 public:
  /// Operations of matrix products, attention and convolutions that `action` runs on this thread.
  static double count(const std::function<void()>& action) {
    sum() = 0;
    const auto handle = at::addThreadLocalCallback(at::RecordFunctionCallback(started, ended)
                                                       .needsInputs(true)
                                                       .needsOutputs(true)
                                                       .scopes({at::RecordScope::FUNCTION}));
    action();
    at::removeCallback(handle);
    return sum();
  }

 private:
  static double& sum() {
    static thread_local double value = 0;
    return value;
  }
  /// A convolution's operations for each output; its inputs are gone when it has ended.
  static double& per_output() {
    static thread_local double value = 0;
    return value;
  }
  static double numel(const c10::IValue& value) {
    return static_cast<double>(value.toTensor().numel());
  }
  static double size(const c10::IValue& value, int64_t dim) {
    return static_cast<double>(value.toTensor().size(dim));
  }

  static std::unique_ptr<at::ObserverContext> started(const at::RecordFunction& function) {
    const std::string name = function.name();
    const auto in = function.inputs();
    if (name == "aten::mm" || name == "aten::bmm") {
      sum() += 2 * numel(in[0]) * size(in[1], -1);
    } else if (name == "aten::addmm" || name == "aten::addmm_") {
      sum() += 2 * numel(in[1]) * size(in[2], -1);
    } else if (name == "aten::_scaled_dot_product_flash_attention_for_cpu") {
      sum() += 4 * numel(in[0]) * size(in[1], 2);
    } else if (name == "aten::convolution") {
      per_output() = 2 * numel(in[1]) / size(in[1], 0);
    }
    return nullptr;
  }
  static void ended(const at::RecordFunction& function, at::ObserverContext*) {
    if (std::string(function.name()) != "aten::convolution") return;
    sum() += per_output() * numel(function.outputs()[0]);
  }
};

}  // namespace jepa::eval::diffusion

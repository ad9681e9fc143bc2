// Counts the floating-point operations of what LibTorch runs: products and convolutions.
#pragma once

#include <ATen/record_function.h>
#include <torch/torch.h>

#include <functional>
#include <string>

namespace jepa::eval::diffusion {

/// Operations of matrix products, attention and convolutions that `action` runs on this thread.
inline double count_operations(const std::function<void()>& action) {
  static thread_local double sum;
  sum = 0;
  const auto numel = [](const c10::IValue& value) {
    return static_cast<double>(value.toTensor().numel());
  };
  static const auto size = [](const c10::IValue& value, int64_t dim) {
    return static_cast<double>(value.toTensor().size(dim));
  };
  static const auto count = numel;
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(
          [](const at::RecordFunction& function) -> std::unique_ptr<at::ObserverContext> {
            const std::string name = function.name();
            const auto in = function.inputs();
            if (name == "aten::mm" || name == "aten::bmm") {
              sum += 2 * count(in[0]) * size(in[1], -1);
            } else if (name == "aten::addmm" || name == "aten::addmm_") {
              sum += 2 * count(in[1]) * size(in[2], -1);
            } else if (name == "aten::_scaled_dot_product_flash_attention_for_cpu") {
              sum += 4 * count(in[0]) * size(in[1], 2);
            }
            return nullptr;
          },
          [](const at::RecordFunction& function, at::ObserverContext*) {
            if (std::string(function.name()) != "aten::convolution") return;
            const auto inputs = function.inputs();
            const auto outputs = function.outputs();
            sum += 2 * count(outputs[0]) * count(inputs[1]) / size(inputs[1], 0);
          })
          .needsInputs(true)
          .needsOutputs(true)
          .scopes({at::RecordScope::FUNCTION}));
  action();
  at::removeCallback(handle);
  return sum;
}

}  // namespace jepa::eval::diffusion

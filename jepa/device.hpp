// Where to compute and how precisely, chosen by name.
#pragma once

#include <torch/types.h>

#include <string>

namespace jepa {

/// Device by name: `auto` (an accelerator if there is one), `cpu`, `cuda`, `cuda:1`.
/// @throws ConfigError for a name that is none, or a device that this machine lacks.
torch::Device resolve_device(const std::string& name);

/// Matrix-product precision by name: `float32`, `bfloat16`, or `auto`: bfloat16 where the device
/// computes it fast (elsewhere it is hundreds of times slower), else float32.
torch::ScalarType resolve_precision(const std::string& name, torch::Device device);

/// Runs the enclosed forward pass under autocast when `precision` is not float32.
class AutocastScope {
 public:
  AutocastScope(torch::Device device, torch::ScalarType precision);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  c10::DeviceType device_;
  bool active_;
};

/// Peak resident memory of this process so far [MB].
double peak_memory_mb();

/// The processor's name, for reports.
std::string processor_name();

}  // namespace jepa

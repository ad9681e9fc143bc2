// Where to compute, chosen by name, and what computing sets for a while.
#pragma once

#include <ATen/core/Generator.h>
#include <torch/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace jepa {

/// Device by name: `auto` (an accelerator if there is one), `cpu`, `cuda`, `cuda:1`.
/// @throws ConfigError for a name that is none, or a device that this machine lacks.
torch::Device resolve_device(const std::string& name);

/// `tensor` on `device`; the host does not wait for a copy to an accelerator, which is queued
/// behind the device's work. The other way it waits.
torch::Tensor to_device(const torch::Tensor& tensor, torch::Device device);

/// Autocast of one kind of device, as it is set in this thread.
struct AutocastState {
  c10::DeviceType device = c10::kCPU;
  bool enabled = false;
  torch::ScalarType precision = torch::kFloat32;

  static AutocastState current(c10::DeviceType device);
};

/// Sets autocast for the enclosed code; what was set before comes back at its end.
class AutocastScope {
 public:
  /// On where `precision` is not float32, off where it is.
  AutocastScope(torch::Device device, torch::ScalarType precision);
  explicit AutocastScope(const AutocastState& state);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  AutocastState before_;
};

/// The default generators of the CPU and of `device`, seeded for the enclosed code; their states
/// come back at its end.
class DefaultGeneratorScope {
 public:
  DefaultGeneratorScope(torch::Device device, uint64_t seed);
  ~DefaultGeneratorScope();
  DefaultGeneratorScope(const DefaultGeneratorScope&) = delete;
  DefaultGeneratorScope& operator=(const DefaultGeneratorScope&) = delete;

 private:
  std::vector<std::pair<at::Generator, torch::Tensor>> before_;
};

/// Peak resident memory of this process so far [MB].
double peak_memory_mb();

/// The processor's name, for reports.
std::string processor_name();

}  // namespace jepa

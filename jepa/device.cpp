#include <jepa/device.hpp>
#include <jepa/errors.hpp>

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <torch/cuda.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <fstream>
#include <mutex>
#include <sys/resource.h>

namespace jepa {

torch::Device resolve_device(const std::string& name) {
  if (name == "auto") return torch::cuda::is_available() ? torch::kCUDA : torch::kCPU;
  torch::Device device = torch::kCPU;
  try {
    device = torch::Device(name);
  } catch (const c10::Error&) {
    throw ConfigError("device: expected auto, cpu, cuda or cuda:N, found '" + name + "'");
  }
  if (device.is_cuda() &&
      (!torch::cuda::is_available() ||
       (device.has_index() && static_cast<int64_t>(device.index()) >=
                                  static_cast<int64_t>(torch::cuda::device_count())))) {
    throw ConfigError("device: this machine has no '" + name + "'");
  }
  return device;
}

torch::Tensor to_device(const torch::Tensor& tensor, torch::Device device) {
  return tensor.to(device, /*non_blocking=*/!device.is_cpu());
}

AutocastState AutocastState::current(c10::DeviceType device) {
  return {device, at::autocast::is_autocast_enabled(device),
          at::autocast::get_autocast_dtype(device)};
}

AutocastScope::AutocastScope(torch::Device device, torch::ScalarType precision)
    : AutocastScope(AutocastState{device.type(), precision != torch::kFloat32,
                                  precision != torch::kFloat32
                                      ? precision
                                      : at::autocast::get_autocast_dtype(device.type())}) {}

AutocastScope::AutocastScope(const AutocastState& state)
    : before_(AutocastState::current(state.device)) {
  at::autocast::set_autocast_dtype(state.device, state.precision);
  at::autocast::set_autocast_enabled(state.device, state.enabled);
  at::autocast::increment_nesting();
}

AutocastScope::~AutocastScope() {
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_dtype(before_.device, before_.precision);
  at::autocast::set_autocast_enabled(before_.device, before_.enabled);
}

DefaultGeneratorScope::DefaultGeneratorScope(torch::Device device, uint64_t seed) {
  const auto take = [&](torch::Device of) {
    at::Generator generator = at::globalContext().defaultGenerator(of);
    const std::lock_guard<std::mutex> lock(generator.mutex());
    before_.emplace_back(generator, generator.get_state());
    generator.set_current_seed(seed);
  };
  take(torch::kCPU);
  if (!device.is_cpu()) take(device);
}

DefaultGeneratorScope::~DefaultGeneratorScope() {
  for (auto& [generator, state] : before_) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(state);
  }
}

double peak_memory_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024.0;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

}  // namespace jepa

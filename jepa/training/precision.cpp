#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/nn/layers.hpp>
#include <jepa/training/precision.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <chrono>

namespace jepa {
namespace {

/// Whether it is worth measuring: without the instructions bfloat16 is hundreds of times slower.
bool has_bfloat16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

/// Seconds of forward and backward of `block` on a micro-batch of tokens: the best of a few, the
/// first aside.
double block_seconds(nn::Block& block, const torch::Tensor& tokens, torch::ScalarType precision) {
  using Clock = std::chrono::steady_clock;
  double best = 1e9, sum = 0;
  for (int i = 0; i < 6 && (i < 2 || sum < 1); ++i) {
    const auto start = Clock::now();
    {
      const torch::AutoGradMode with_gradient(true);
      const AutocastScope scope(tokens.device(), precision);
      block->forward(tokens).to(torch::kFloat32).sum().backward();
    }
    tokens.grad().sum().item<float>();  // waits for the device
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    sum += seconds;
    if (i > 0) best = std::min(best, seconds);
  }
  return best;
}

/// The processor's or card's word for it is no reason to choose bfloat16: products may be faster in
/// it and the step slower, for what else a small model's step does.
bool bfloat16_is_faster(torch::Device device, const nn::BlockOptions& options) {
  if (device.is_cpu() && !has_bfloat16()) return false;
  nn::Block block(options);
  nn::initialise_layers(*block, seeded_generator(0));
  block->to(device);
  const auto tokens =
      torch::ones({4, 196, options.dim}, torch::dtype(torch::kFloat32).device(device))
          .requires_grad_(true);
  return block_seconds(block, tokens, torch::kBFloat16) <=
         0.7 * block_seconds(block, tokens, torch::kFloat32);
}

}  // namespace

torch::ScalarType resolve_precision(const std::string& name, torch::Device device,
                                    const nn::BlockOptions& block) {
  if (name == "float32") return torch::kFloat32;
  if (name == "bfloat16") return torch::kBFloat16;
  if (name != "auto") {
    throw ConfigError("precision: expected auto, float32 or bfloat16, found '" + name + "'");
  }
  return bfloat16_is_faster(device, block) ? torch::kBFloat16 : torch::kFloat32;
}

}  // namespace jepa

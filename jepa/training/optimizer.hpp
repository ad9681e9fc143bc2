// AdamW over named parameters, fused, with the published groups; and the EMA target.
#pragma once

#include <jepa/training/schedules.hpp>
#include <torch/nn/module.h>

#include <map>
#include <string>
#include <vector>

namespace jepa {

/// AdamW with decoupled weight decay (Loshchilov and Hutter, 2019) through LibTorch's fused kernel.
/// Biases and vectors (name ends in "bias", or one dimension) are not decayed; mask tokens are.
/// A parameter that got no gradient is left alone, as in torch.optim.
class AdamW {
 public:
  /// @param modules name -> module; a parameter is called `name.parameter`
  AdamW(const std::map<std::string, std::shared_ptr<torch::nn::Module>>& modules,
        const OptimisationOptions& options);

  void zero_gradients();
  void step(const StepRates& rates);

  /// Moments and counters: `<parameter>.exp_avg`, `.exp_avg_sq`, `.step`.
  std::map<std::string, torch::Tensor> state() const;
  /// @throws CheckpointError naming a key that is missing or of another shape
  void load_state(const std::map<std::string, torch::Tensor>& state);

 private:
  struct Slot {
    std::string name;
    torch::Tensor parameter;
    torch::Tensor exp_avg;
    torch::Tensor exp_avg_sq;
    torch::Tensor step;  ///< float scalar, as the fused kernel wants it
    bool decayed;
  };
  void step_group(bool decayed, double lr, double weight_decay);

  std::vector<Slot> slots_;
  double beta1_, beta2_, eps_;
};

/// L2 norm over all gradients of a module; scales them down to `limit` where that is positive and
/// the norm is above it.
double clip_gradients(torch::nn::Module& module, double limit);

/// Copies parameters and buffers of `from` into `to`, by name.
void copy_parameters(const torch::nn::Module& from, torch::nn::Module& to);

/// Moves a module's parameters into one buffer, each at a 64-byte boundary; returns the buffer.
/// The parameters stay what they are, as views of it.
torch::Tensor flatten_parameters(torch::nn::Module& module);

/// Exponential moving average of a module: target = m target + (1 - m) online, one pass over flat
/// buffers. Parameters are paired by name.
class MovingAverage {
 public:
  /// Takes over the storage of both modules' parameters; `target` starts as it is.
  /// @throws Error naming a parameter that one side lacks
  MovingAverage(torch::nn::Module& online, torch::nn::Module& target);
  void update(double momentum);

 private:
  torch::Tensor online_;
  torch::Tensor target_;
};

}  // namespace jepa

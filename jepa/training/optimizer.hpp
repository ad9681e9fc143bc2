// AdamW over named parameters, fused, with the published groups; and the EMA target.
#pragma once

#include <jepa/training/schedules.hpp>
#include <torch/nn/module.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa {

/// AdamW with decoupled weight decay (Loshchilov and Hutter, 2019) through LibTorch's fused kernel.
/// Biases and vectors (name ends in "bias", or one dimension) are not decayed; mask tokens are.
/// A parameter that got no gradient is left alone, as in torch.optim.
///
/// Gradients and moments of a module lie in one flat buffer each, every parameter at a 64-byte
/// boundary; `parameter.grad()` is a view of it.
class AdamW {
 public:
  /// @param modules name -> module; a parameter is called `name.parameter`. Parameters that ask for
  ///   no gradient are left out.
  AdamW(const std::map<std::string, std::shared_ptr<torch::nn::Module>>& modules,
        const OptimisationOptions& options);

  void zero_gradients();
  /// L2 norm over all gradients of the module `name`, a scalar on its device; scales them down to
  /// `limit` where that is positive and the norm is above it. Nothing waits for the device.
  torch::Tensor clip_gradients(const std::string& name, double limit);
  void step(const StepRates& rates);

  /// Names of the modules that have something to train.
  std::vector<std::string> modules() const;
  /// The flat gradients of each of them.
  std::vector<torch::Tensor> gradients() const;

  /// Moments and counters: `<parameter>.exp_avg`, `.exp_avg_sq`, `.step`.
  std::map<std::string, torch::Tensor> state() const;
  /// @throws CheckpointError naming a key that is missing or of another shape
  void load_state(const std::map<std::string, torch::Tensor>& state);

 private:
  struct Slot {
    std::string name;
    torch::Tensor parameter;
    torch::Tensor gradient;
    torch::Tensor exp_avg;
    torch::Tensor exp_avg_sq;
    torch::Tensor step;  ///< float scalar, as the fused kernel wants it
    bool decayed;
    std::shared_ptr<bool> reached;  ///< whether a backward pass gave it a gradient
  };
  struct Group {
    std::string name;
    torch::Tensor gradients;  ///< flat, as are the moments
    std::vector<Slot> slots;
  };
  void add_group(const std::string& name, torch::nn::Module& module);
  void step_slots(bool decayed, double lr, double weight_decay);

  std::vector<Group> groups_;
  double beta1_, beta2_, eps_;
};

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

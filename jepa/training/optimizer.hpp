// AdamW over named parameters, fused, with the published groups; and the EMA target.
#pragma once

#include <jepa/metrics.hpp>
#include <jepa/training/gradient_buckets.hpp>
#include <jepa/training/processes.hpp>
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
///
/// With `options.shard_moments` and several processes each keeps the moments of its part of a flat
/// buffer (1 / n of it), moves the weights that lie there and gets the others' from their processes
/// (Rajbhandari et al., 2020, stage 1). The weights are the same; `step` and `state` are then calls
/// that all make together.
class AdamW {
 public:
  /// @param modules name -> module; a parameter is called `name.parameter`. Parameters that ask for
  ///   no gradient are left out.
  /// @param processes that train together, with the same gradients at `step`; null: this one alone
  AdamW(const std::map<std::string, std::shared_ptr<torch::nn::Module>>& modules,
        const OptimisationOptions& options, Processes* processes = nullptr);

  void zero_gradients();
  /// L2 norm over all gradients of the module `name`, a scalar on its device; scales them down to
  /// `limit` where that is positive and the norm is above it. Nothing waits for the device.
  torch::Tensor clip_gradients(const std::string& name, double limit);
  /// Sharded, it leaves nothing of the gradients.
  void step(const StepRates& rates);

  /// Names of the modules that have something to train.
  std::vector<std::string> modules() const;
  /// The next backward pass is the step's last: gradients that it has brought are averaged over
  /// `processes` while it goes on. `reduce` must follow. Nothing where there is one process.
  void begin_reduce(Processes& processes);
  /// Gradients and `sums` become their means over `processes`; of one they are that.
  void reduce(Processes& processes, MetricSums& sums);

  /// Moments and counters: `<parameter>.exp_avg`, `.exp_avg_sq`, `.step`. Sharded, rank 0 gets the
  /// moments of all, the others counters alone.
  std::map<std::string, torch::Tensor> state() const;
  const GradientBuckets& buckets() const { return buckets_; }
  /// Numbers that the moments of this process take.
  int64_t moment_count() const;
  /// @throws CheckpointError naming a key that is missing or of another shape
  void load_state(const std::map<std::string, torch::Tensor>& state);

 private:
  struct Slot {
    std::string name;
    torch::Tensor parameter;
    torch::Tensor gradient;
    /// Of the parameter's numbers `first` to before `first + count`: all, or flat those of this
    /// process.
    torch::Tensor exp_avg;
    torch::Tensor exp_avg_sq;
    int64_t first, count;
    torch::Tensor step;  ///< float scalar, as the fused kernel wants it
    bool decayed;
    std::shared_ptr<bool> reached;  ///< whether a backward pass gave it a gradient
  };
  struct Group {
    std::string name;
    torch::Tensor gradients;  ///< flat, `shard` numbers for each process
    torch::Tensor exp_avg;    ///< flat, of this process
    torch::Tensor exp_avg_sq;
    int64_t shard;
    std::vector<Slot> slots;
  };
  void add_group(const std::string& name, torch::nn::Module& module);
  void step_slots(bool decayed, double lr, double weight_decay);
  torch::Tensor own_part(const torch::Tensor& whole, const Slot& slot) const;
  void exchange_weights();
  torch::Tensor all_moments(const torch::Tensor& own) const;

  std::vector<Group> groups_;
  GradientBuckets buckets_;
  Processes* processes_;  ///< that share the moments; null: none does
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

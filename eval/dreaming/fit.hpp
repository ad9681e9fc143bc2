// The training loop of V and M.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::dreaming {

/// Told of every step of a training.
using TrainingProgress = std::function<void(int64_t step, int64_t steps, double loss)>;

/// How long and how fast.
struct FitOptions {
  int64_t steps = 1;
  double lr = 1e-3;  ///< falls to a tenth, cosine
  double clip_gradient = 1;
};

/// Trains `module` with AdamW.
/// @param name what errors call it, and the section of its `lr`
/// @param loss_of scalars of a step (from 1): the loss, with gradient, and what else is worth
///   knowing
/// @returns the mean of each scalar over the last tenth of the steps
/// @throws Error where the loss is not finite
std::vector<double> fit(const std::string& name, const std::shared_ptr<torch::nn::Module>& module,
                        const FitOptions& options,
                        const std::function<std::vector<torch::Tensor>(int64_t step)>& loss_of,
                        const TrainingProgress& progress);

}  // namespace jepa::eval::dreaming

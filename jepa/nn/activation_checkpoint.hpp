// Trading time for memory: activations that are recomputed in backward instead of kept.
#pragma once

#include <torch/types.h>

#include <functional>
#include <vector>

namespace jepa::nn {

/// `function(input)`, of which only `input` is kept for backward; there the function runs again.
/// It must be deterministic: anything random is drawn outside and captured.
/// @param parameters every parameter that `function` uses, so that each receives its gradient
torch::Tensor activation_checkpoint(std::function<torch::Tensor(const torch::Tensor&)> function,
                                    const torch::Tensor& input,
                                    const std::vector<torch::Tensor>& parameters);

}  // namespace jepa::nn

// Rollouts that start from a history: latents of past frames and the actions between them.
#pragma once

#include <predictors/adaln.hpp>

#include <torch/types.h>

#include <functional>

namespace jepa::eval::planning {

/// All actions of a rollout, those between the latents of `past` first.
/// @param past [N, h, D] @param past_actions [N, h - 1, A] (h = 1: may be undefined)
/// @param actions the ones to come [N, H, A] @returns [N, h - 1 + H, A]
torch::Tensor rollout_actions(const torch::Tensor& past, const torch::Tensor& past_actions,
                              const torch::Tensor& actions);

/// `imagine(past, actions)` of `rows` rows at a time: what they hold stays in the processor's
/// cache.
torch::Tensor rollout_in_parts(
    const torch::Tensor& past, const torch::Tensor& actions, int64_t rows,
    const std::function<torch::Tensor(const torch::Tensor& past, const torch::Tensor& actions)>&
        imagine);

/// Latents after `past`, each from the last `frames` before it; positions count from the window's
/// start. Of a predictor of one token a frame, in evaluation mode.
/// @param past [B, h, D] @param embedded all actions, embedded [B, h - 1 + H, D]
/// @param head what makes a latent of the predictor's output; empty: it is one
/// @returns [B, H, D]
torch::Tensor adaln_rollout(
    const predictors::AdaLnPredictor& predictor, const torch::Tensor& past,
    const torch::Tensor& embedded,
    const std::function<torch::Tensor(const torch::Tensor& predicted)>& head = {});

}  // namespace jepa::eval::planning

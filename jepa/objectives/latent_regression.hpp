// The loss between what a predictor says and what the target encoder saw.
#pragma once

#include <jepa/grid.hpp>
#include <jepa/model.hpp>

#include <torch/types.h>

#include <cstdint>
#include <string_view>

namespace jepa {

/// How far a prediction is from its target. `l1` and `l2` are mean |z - h|^p / p (V-JEPA, p = 1);
/// `smooth_l1` is Huber's with beta = 1 (I-JEPA).
enum class LatentLoss { l1, l2, smooth_l1 };

/// "l1", "l2" or "smooth_l1".
/// @throws ConfigError for any other name.
LatentLoss latent_loss_from_name(std::string_view name);

/// Mean over all elements of two tensors of one shape -> scalar.
torch::Tensor latent_regression(const torch::Tensor& prediction, const torch::Tensor& target,
                                LatentLoss kind);

/// Layer norm without parameters (eps 1e-5) over each of `levels` equal chunks of the last
/// dimension: [..., levels * D] -> the same shape. V-JEPA normalises its targets so; V-JEPA 2.1
/// does it for each output level (arXiv 2603.14482).
torch::Tensor normalise_targets(const torch::Tensor& tokens, int64_t levels = 1);

/// What tells clips apart: tokens [B, N, D], each less the batch mean of its position and over the
/// deviation that its dimension then has over all B * N tokens -> the same shape. Neither position
/// codes nor small targets make a prediction of these easy; B at least 2.
torch::Tensor content_targets(const torch::Tensor& tokens);

/// Square root of the Euclidean distance, in grid units along (t, h, w), from each context token
/// to the nearest target token of its target set -> float [M*B, Kc].
/// @param unit grid units that count as one (V-JEPA 2.1: optionally side / 16)
torch::Tensor context_sqrt_distances(const Mask& mask, const TokenGrid& grid, double unit = 1.0);

/// V-JEPA 2.1's context loss: the loss on visible tokens, each weighted by one over its entry of
/// `sqrt_distances` [M*B, Kc], mean over all elements of `prediction` [M*B, Kc, D] -> scalar.
torch::Tensor weighted_context_loss(const torch::Tensor& prediction, const torch::Tensor& target,
                                    const torch::Tensor& sqrt_distances, LatentLoss kind);

}  // namespace jepa

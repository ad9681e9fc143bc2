// One accounting of compute for all arms: floating-point operations by formula, a multiply-add
// counted as two, per clip. Matrix products and convolutions are counted; what is done element by
// element (norms, softmax, activations, optimiser) is not: it is a few per cent and the same for
// all arms. DiT's and many other papers' "Gflops" are multiply-adds, half of these.
//
// A JEPA's training step is jepa::training_flops, any model's forward and backward pass
// jepa::with_backward.
#pragma once

#include <jepa/nn/block.hpp>
#include <jepa/training/cost.hpp>

#include <cstdint>

namespace jepa::eval::comparison {

/// A matrix product: `rows` rows from width `in` to width `out`.
constexpr double linear_flops(int64_t rows, int64_t in, int64_t out) {
  return 2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out);
}

/// A convolution, transposed ones likewise: `outputs` places (of the input, where transposed), a
/// kernel of `kernel` values (k^3 in video) a pair of channels.
constexpr double convolution_flops(int64_t outputs, int64_t kernel, int64_t in, int64_t out) {
  return linear_flops(outputs, kernel * in, out);
}

/// `depth` blocks over `tokens` tokens that all see each other.
double trunk_flops(const nn::BlockOptions& block, int64_t depth, int64_t tokens);

/// `depth` blocks over `frames` x `positions` tokens, of which even ones see their own frame and
/// odd ones their own place in all frames (Latte).
double alternating_trunk_flops(const nn::BlockOptions& block, int64_t depth, int64_t frames,
                               int64_t positions);

/// Attention of `queries` tokens on `memory` others: projections and the products of both.
double cross_attention_flops(int64_t dim, int64_t queries, int64_t memory);

/// adaLN-Zero: 6 modulation vectors of each block from each of `conditions` vectors (1 a clip, 1 a
/// frame, or 1 a token), and 2 of the final layer.
double modulation_flops(int64_t dim, int64_t depth, int64_t conditions);

/// A diffusion transformer over patches, as far as its compute goes.
struct DiffusionShape {
  nn::BlockOptions block = {};
  int64_t depth = 0;
  int64_t frames = 1;           ///< of the token grid
  int64_t positions = 0;        ///< tokens a frame
  bool alternating = false;     ///< blocks alternate between space and time; false: full attention
  int64_t patch_values = 0;     ///< numbers in a patch, out
  int64_t input_values = 0;     ///< numbers in a patch, in, with conditions that are concatenated;
                                ///< 0: as patch_values
  int64_t latent_values = 0;    ///< width of a latent added to each token (decoders); 0: none
  int64_t conditions = 1;       ///< modulation vectors a clip
  int64_t time_features = 256;  ///< width of the sinusoid that the time network takes
  int64_t prompt_tokens = 0;    ///< that every block attends to besides; 0: none

  int64_t tokens() const { return frames * positions; }
};

/// One forward pass over one clip.
double diffusion_flops(const DiffusionShape& shape);

/// How samples are drawn.
struct SamplingCost {
  int64_t steps = 0;
  bool guided = false;  ///< classifier-free guidance: every evaluation with and without condition
  bool heun = false;    ///< two evaluations a step but for the last one
};

/// Evaluations of the model for one sample: steps, or 2 steps - 1 of Heun's, doubled by guidance.
constexpr int64_t model_evaluations(const SamplingCost& sampling) {
  const int64_t evaluations = sampling.heun ? 2 * sampling.steps - 1 : sampling.steps;
  return sampling.guided ? 2 * evaluations : evaluations;
}

/// One sample of a model whose forward pass costs `forward`; autoencoders are added by the caller.
constexpr double sampling_flops(double forward, const SamplingCost& sampling) {
  return static_cast<double>(model_evaluations(sampling)) * forward;
}

}  // namespace jepa::eval::comparison

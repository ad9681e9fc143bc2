// What a run will cost, said before it starts.
#pragma once

#include <jepa/masking.hpp>
#include <jepa/model.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace jepa {

/// How clips come to a step.
struct BatchShape {
  int64_t batch = 1;       ///< clips a step
  int64_t accumulate = 1;  ///< micro-batches a step
  int64_t prefetch = 0;    ///< micro-batches prepared ahead (or batches, where those are loaded)
  int64_t clip_bytes = 0;  ///< of one clip as the loader holds it
  bool whole = false;      ///< whole batches are loaded, not micro-batches
};

/// Cost of one optimiser step and of holding the model.
struct TrainingCost {
  int64_t encoder_parameters = 0;
  int64_t predictor_parameters = 0;
  int64_t tokens = 0;                  ///< of one clip
  std::vector<double> context_tokens;  ///< per mask, mean over draws
  std::vector<double> target_tokens;   ///< per mask, all target sets together
  double flops_per_step = 0;           ///< forward and backward, target encoder forward only
  /// Estimate: LibTorch, weights, moments, one mask's activations of a micro-batch, loaded clips.
  double peak_memory_mb = 0;

  std::string text() const;  ///< a few lines for people
};

/// Forward and backward pass together: backward takes two products for each one of forward, by
/// inputs and by weights.
constexpr double with_backward(double forward) { return 3 * forward; }

/// Floating-point operations of one training step for one clip: target encoder forward over all
/// `tokens`; context encoder and predictor forward and backward over every mask (an encoder whose
/// weights ask for no gradient forward only).
double training_flops(const EncoderImpl& encoder, const PredictorImpl& predictor, int64_t tokens,
                      const std::vector<Mask>& masks);

/// Estimates from a few draws of the masks, for clips of the token grid `grid`.
TrainingCost estimate_cost(Encoder& encoder, Predictor& predictor,
                           const std::vector<std::unique_ptr<MaskSampler>>& samplers,
                           const TokenGrid& grid, const BatchShape& batch);

/// Number of values in a module's parameters.
int64_t count_parameters(const torch::nn::Module& module);

}  // namespace jepa

#include <jepa/training/cost.hpp>
#include <jepa/training/pretraining.hpp>

#include <algorithm>
#include <iomanip>
#include <sstream>

namespace jepa {
namespace {

/// Floats that a block keeps a token for its backward pass, over its width: both norms' inputs and
/// outputs (4), q, k, v and attention output (4), hidden layer before and after GELU (8).
constexpr double kFloatsPerTokenAndBlock = 16.0;
/// LibTorch itself with its thread pools and buffers, measured on an idle process [MB].
constexpr double kProcessMb = 190.0;
constexpr double kBytesPerFloat = 4.0;

/// Floats kept of one token on its way through a network.
double floats_per_token(const ActivationShape& shape) {
  const auto depth = static_cast<double>(shape.depth);
  const double blocks =
      shape.checkpointing ? depth + kFloatsPerTokenAndBlock : depth * kFloatsPerTokenAndBlock;
  return static_cast<double>(shape.dim) * blocks + shape.feature_maps;
}

std::string scaled(double value) {
  static constexpr const char* kUnits[] = {"", " k", " M", " G", " T", " P"};
  int unit = 0;
  while (value >= 1000 && unit < 5) {
    value /= 1000;
    ++unit;
  }
  std::ostringstream out;
  out << std::setprecision(3) << value << kUnits[unit];
  return out.str();
}

}  // namespace

int64_t count_parameters(const torch::nn::Module& module) {
  int64_t count = 0;
  for (const auto& p : module.parameters()) count += p.numel();
  return count;
}

double training_flops(const EncoderImpl& encoder, const PredictorImpl& predictor, int64_t tokens,
                      const std::vector<Mask>& masks) {
  const auto weights = encoder.parameters();
  const bool frozen = std::none_of(weights.begin(), weights.end(),
                                   [](const torch::Tensor& w) { return w.requires_grad(); });
  double flops = encoder.flops(tokens);
  for (const Mask& mask : masks) {
    const int64_t context = mask.context.size(1);
    const double predicted = static_cast<double>(mask.targets_per_context()) *
                             predictor.flops(context, mask.target.size(1));
    const double seen = encoder.flops(context);
    flops += (frozen ? seen : with_backward(seen)) + with_backward(predicted);
  }
  return flops;
}

TrainingCost estimate_cost(Encoder& encoder, Predictor& predictor,
                           const std::vector<std::unique_ptr<MaskSampler>>& samplers,
                           const TokenGrid& grid, const BatchShape& batch) {
  constexpr int64_t kDraws = 8;
  // Masks are drawn for a micro-batch, whose shortest one cuts the others.
  const int64_t micro_batch = (batch.batch + batch.accumulate - 1) / batch.accumulate;
  TrainingCost cost;
  cost.encoder_parameters = count_parameters(*encoder);
  cost.predictor_parameters = count_parameters(*predictor);
  cost.tokens = grid.size();
  double clip_flops = 0;
  std::vector<double> context(samplers.size(), 0.0), target(samplers.size(), 0.0);
  for (int64_t draw = 0; draw < kDraws; ++draw) {
    const auto masks = draw_masks(samplers, micro_batch, grid, /*seed=*/0, draw);
    for (size_t i = 0; i < masks.size(); ++i) {
      const int64_t sets = masks[i].targets_per_context();
      context[i] += static_cast<double>(masks[i].context.size(1)) / kDraws;
      target[i] += static_cast<double>(sets * masks[i].target.size(1)) / kDraws;
    }
    clip_flops += training_flops(*encoder, *predictor, grid.size(), masks) / kDraws;
  }
  cost.flops_per_step = clip_flops * static_cast<double>(batch.batch);
  const ActivationShape encoder_shape = encoder->activations();
  const ActivationShape predictor_shape = predictor->activations();
  double kept = 0;  // floats a clip, of the largest mask
  for (size_t i = 0; i < samplers.size(); ++i) {
    kept = std::max(kept, context[i] * floats_per_token(encoder_shape) +
                              (context[i] + target[i]) * floats_per_token(predictor_shape));
  }
  // One block's worth: the target encoder keeps nothing.
  kept += static_cast<double>(grid.size() * encoder_shape.dim) * kFloatsPerTokenAndBlock;
  const double weights = static_cast<double>(5 * cost.encoder_parameters +  // with target encoder
                                             4 * cost.predictor_parameters);
  // What the step works on beside what is prepared ahead.
  const auto loaded = static_cast<double>((batch.prefetch + 1) * batch.clip_bytes *
                                          (batch.whole ? batch.batch : micro_batch));
  cost.peak_memory_mb =
      kProcessMb +
      (kBytesPerFloat * (weights + static_cast<double>(micro_batch) * kept) + loaded) / 1e6;
  cost.context_tokens = std::move(context);
  cost.target_tokens = std::move(target);
  return cost;
}

std::string TrainingCost::text() const {
  std::ostringstream out;
  out << std::setprecision(3);
  out << "tokens per clip    " << tokens;
  for (size_t i = 0; i < context_tokens.size(); ++i) {
    out << (i == 0 ? " (masks: " : "; ") << context_tokens[i] << " shown, " << target_tokens[i]
        << " to predict";
  }
  out << (context_tokens.empty() ? "\n" : ")\n");
  out << "parameters         encoder " << scaled(static_cast<double>(encoder_parameters))
      << ", predictor " << scaled(static_cast<double>(predictor_parameters)) << "\n";
  out << "compute per step   " << scaled(flops_per_step) << "FLOP\n";
  out << "memory, estimated  " << std::fixed << std::setprecision(0) << peak_memory_mb << " MB\n";
  return out.str();
}

}  // namespace jepa

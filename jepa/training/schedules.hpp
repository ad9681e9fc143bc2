// Learning rate, weight decay and momentum as functions of the step.
#pragma once

#include <jepa/options.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace jepa {

/// Optimisation settings; field names follow the published configs.
struct OptimisationOptions {
  std::string schedule = "cosine";  ///< of the rate after warm-up: cosine, wsd, linear, constant
  /// Length of all schedules [steps] (published "T"). Programs put the run's steps where it is 0; a
  /// trainer that is given 0 keeps rate, decay and momentum as they are after warm-up.
  int64_t total_steps = 0;
  int64_t warmup_steps = 0;  ///< linear rise from start_lr to lr
  int64_t decay_steps = 0;   ///< wsd only: steps of the final linear fall
  double start_lr = 0.0;
  double lr = 1e-3;
  double final_lr = 1e-6;
  double weight_decay = 0.04;
  double final_weight_decay = 0.04;
  double momentum = 0.998;         ///< EMA of the target encoder at the first step
  double final_momentum = 1.0;     ///< and at the end of the schedule (linear between)
  int64_t momentum_from_step = 0;  ///< until then the target encoder stays as it was initialised
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double clip_gradient = 0.0;  ///< largest norm, encoder and predictor apart; 0: no clipping
  int64_t clip_from_step = 0;  ///< clip only after this step (V-JEPA: after warm-up)
  int64_t accumulate = 1;      ///< micro-batches a step
  double bucket_mb = 16;       ///< gradients that processes average in one collective
  bool shard_moments = false;  ///< each of several processes keeps its part of AdamW's moments

  void describe(OptionVisitor& visit);
};

/// @throws ConfigError naming an option that nothing can be trained with
void check(const OptimisationOptions& options);

/// What a step uses.
struct StepRates {
  double lr = 0.0;
  double weight_decay = 0.0;
  double momentum = 0.0;
};

/// Rates of step `step`, counted from 1 (vjepa 1, 2: the counter moves before it is used).
/// Warm-up: start + s/W (lr - start); cosine: final + (lr - final)/2 (1 + cos(pi (s-W)/(T-W))).
/// Weight decay: cosine over T without warm-up; momentum: linear in s-1 over T.
StepRates rates_at(const OptimisationOptions& options, int64_t step);

/// Rows of a batch that go through the model together.
struct MicroBatch {
  int64_t start = 0;
  int64_t count = 0;
  double share = 1.0;  ///< of the batch's rows
};

/// A batch of `rows` in `options.accumulate` parts, or as many as there are rows, of nearly the
/// same size.
std::vector<MicroBatch> micro_batches(const OptimisationOptions& options, int64_t rows);

}  // namespace jepa

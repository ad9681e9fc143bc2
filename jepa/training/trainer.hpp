// One training step of every masked-prediction recipe, from top to bottom: `accumulate` each
// micro-batch, `reduce` over processes, `apply`.
#pragma once

#include <jepa/data/loader.hpp>
#include <jepa/masking.hpp>
#include <jepa/metrics.hpp>
#include <jepa/model.hpp>
#include <jepa/objectives/terms.hpp>
#include <jepa/training/optimizer.hpp>
#include <jepa/training/processes.hpp>
#include <jepa/training/schedules.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa {

/// All that a step depends on besides the data, the models and the terms.
struct TrainerOptions {
  OptimisationOptions optimisation = {};
  ObjectiveOptions objective = {};
  PixelStatistics pixels = {};
  torch::Device device = torch::kCPU;
  torch::ScalarType precision = torch::kFloat32;
  uint64_t seed = 0;
  Processes* processes = nullptr;  ///< that train together; null: this one alone
};

/// Samplers of the masks of a step: each adds one to every clip.
using MaskSamplers = std::vector<std::unique_ptr<MaskSampler>>;

/// The masks of part `part` of step `step` (both from 0), one for each sampler: functions of
/// (seed, step, part).
std::vector<Mask> draw_masks(const MaskSamplers& samplers, int64_t rows, const TokenGrid& grid,
                             uint64_t seed, int64_t step, int64_t part = 0);

/// Tensors of a micro-batch that tests and diagnostics look at. Lists have an entry for each mask.
struct StepTrace {
  torch::Tensor target_tokens;                     ///< [R, N, D] as the target encoder gave
  std::vector<torch::Tensor> targets;              ///< normalised and gathered
  std::vector<torch::Tensor> predictions;          ///< as the loss saw them
  std::vector<torch::Tensor> context_predictions;  ///< where the predictor gives them
};

/// Trains an encoder and a predictor against the encoder's moving average.
class Trainer {
 public:
  /// Takes over the modules (moved to the device, parameters flattened). `target_encoder` becomes a
  /// copy of `encoder`.
  /// @param objective what is minimised; empty: the terms that `options.objective` asks for
  /// @throws ConfigError where options contradict each other, two terms ask for views, two modules
  ///   have one name, or the precision is neither float32 nor bfloat16
  Trainer(Encoder encoder, Encoder target_encoder, Predictor predictor, TrainerOptions options,
          Objective objective = {});

  /// One micro-batch: its gradients are added to those there are. Each mask adds its own loss; the
  /// mean is minimised.
  /// @param batch clips [B, C, T, H, W], uint8 or float 0..255, and their signals
  /// @param masks of `views()` rows a clip, one behind the other
  /// @param share how much the micro-batch counts in the step: its share of the clips
  /// @param trace filled where given; the metrics then have `predicted_content`: how much of what
  ///   tells the targets' clips apart (targets less their position's batch mean) the predictions
  ///   explain, R squared, at most 1; position codes have 0 at any loss
  /// @throws ConfigError where a term compares clips and there is but one, DataError for clips of
  ///   other sizes; after any error the step is to be discarded
  void accumulate(const ClipBatch& batch, const std::vector<Mask>& masks, double share = 1.0,
                  StepTrace* trace = nullptr);
  /// The next `accumulate` is the step's last: gradients are averaged over processes while its
  /// backward pass goes on. Saves time, and changes no number.
  void reduce_with_next() { reducing_ = processes() > 1; }
  /// Gradients and metrics become the mean over all processes; nothing on one.
  void reduce();
  /// Clips, checks, moves the weights and the target encoder's, and ends the step.
  /// @return what was measured, by one read from the device
  /// @throws Error where the loss or a gradient is not finite; the weights are then untouched
  StepMetrics apply();
  /// Forgets what was accumulated: the way on after an error, of one process. Of several that have
  /// begun to reduce, an error ends the run.
  void discard();

  /// The masks of the next micro-batch, `clips` of this process: functions of (seed, step,
  /// micro-batch). Drawn for the clips of all processes, of which each takes its own rows.
  std::vector<Mask> draw_masks(const MaskSamplers& samplers, const ClipBatch& clips) const;

  /// A whole step of one micro-batch of clips without signals.
  StepMetrics step(const torch::Tensor& clips, const std::vector<Mask>& masks,
                   StepTrace* trace = nullptr);

  int64_t steps_done() const { return step_; }
  /// Rows that a step makes of a clip: two where views are compared.
  int64_t views() const { return views_of(objective_); }
  Encoder& encoder() { return encoder_; }
  Encoder& target_encoder() { return target_encoder_; }
  Predictor& predictor() { return predictor_; }
  const Objective& objective() const { return objective_; }
  const TrainerOptions& options() const { return options_; }
  /// All that is trained, by the names of a checkpoint's files: encoder, predictor, and the modules
  /// of terms.
  std::map<std::string, std::shared_ptr<torch::nn::Module>> trained_modules() const;

  /// Weights of the encoder, its target, the predictor and the terms' modules, and the optimiser's
  /// moments, by the names of a checkpoint's files: with the number of steps all that a resume
  /// needs. All processes ask together.
  std::map<std::string, std::map<std::string, torch::Tensor>> tensors() const;
  /// Goes on after `step` steps with what `tensors` gave, as NAME.safetensors in `folder`.
  /// @throws DataError, CheckpointError naming the file
  void restore(int64_t step, const std::string& folder);
  /// The moments alone, for a run that starts anew from weights.
  void restore_moments(const std::map<std::string, torch::Tensor>& moments);

 private:
  int64_t processes() const;
  int64_t rank() const;
  torch::Tensor make_targets(const torch::Tensor& clip, const TokenGrid& grid, StepTrace* trace);
  torch::Tensor mask_loss(const torch::Tensor& tokens, StepContext& context);
  void record(const StepContext& context, StepTrace& trace);
  void require_whole(const char* what) const;
  uint64_t part_seed(const std::string& stream) const;

  TrainerOptions options_;
  Encoder encoder_;
  Encoder target_encoder_;
  Predictor predictor_;
  Objective objective_;
  AdamW optimizer_;
  MovingAverage average_;
  MetricSums sums_;
  int64_t step_ = 0;
  int64_t part_ = 0;       ///< micro-batches since the last `apply`
  bool reducing_ = false;  ///< with the next micro-batch
  bool broken_ = false;    ///< a micro-batch ended in an error
};

}  // namespace jepa

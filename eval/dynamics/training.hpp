// Training a dynamics model in two phases: encoder and predictor together, then a fresh predictor
// alone on latents that the frozen encoder gives, with many updates for each frame encoded.
#pragma once

#include <eval/dynamics/diagnostics.hpp>
#include <eval/dynamics/model.hpp>
#include <jepa/training/loop.hpp>
#include <jepa/training/optimizer.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::dynamics {

/// The second phase.
struct SecondPhaseOptions {
  int64_t from_step = 0;  ///< steps of the first phase; 0: all of the run
  PredictorShape predictor{.hidden = 1024};
  int64_t updates = 6;    ///< of the predictor, for each batch of clips that is encoded
  int64_t batch = 128;    ///< clips an update, of all processes
  int64_t buffer = 8192;  ///< clips of all processes whose latents are kept, the oldest go

  void describe(OptionVisitor& visit);
};

/// eb_jepa's: AdamW with hardly any decay, gradients clipped at 2.
inline OptimisationOptions dynamics_optimisation() {
  return {.lr = 1e-3, .weight_decay = 1e-5, .final_weight_decay = 1e-5, .clip_gradient = 2};
}

/// All that a run's steps depend on besides the data.
struct DynamicsTrainingOptions {
  ObjectiveWeights weights;
  OptimisationOptions optimisation = dynamics_optimisation();  ///< of the first phase
  SecondPhaseOptions second;
  OptimisationOptions second_optimisation = dynamics_optimisation();  ///< in updates
  bool frozen = false;     ///< the model's encoder is trained already: the second phase alone
  int64_t wall_cases = 0;  ///< of the wall test at each evaluation; 0: none (not two rooms)
  std::vector<std::string> state_names = {};
  uint64_t seed = 0;
};

/// The steps of both phases. A step of the first is one update of encoder, predictor and inverse
/// dynamics; of the second, one batch encoded and `updates` updates of the predictor.
class DynamicsTask : public TrainingTask {
 public:
  /// @param model initialised; trained in place. Inverse dynamics that are not trained become null
  /// @param held_out measured at every evaluation; `clips` undefined: none
  /// @param processes that train together; null: this one alone. Each encodes its rows of a batch
  ///   and of every update of the second phase, whose latents all keep.
  /// @throws ConfigError where `second.batch` does not divide over them, or for micro-batches
  DynamicsTask(DynamicsModel& model, DynamicsTrainingOptions options, HeldOutClips held_out,
               Processes* processes = nullptr);

  int64_t steps_done() const override { return step_; }
  StepMetrics step(const ClipBatch& batch, bool watched,
                   std::map<std::string, std::string>& texts) override;
  bool takes_parts() const override { return true; }
  StepMetrics step_of_parts(int64_t clips, const std::function<ClipBatch()>& next, bool watched,
                            std::map<std::string, std::string>& texts) override;
  /// See `measure` and `wall_test`.
  StepMetrics evaluate() override;
  std::map<std::string, TensorMap> tensors() const override;
  void restore(int64_t step, const std::string& checkpoint_folder) override;
  /// `phase`, and what the last evaluation found.
  std::map<std::string, double> numbers() const override;
  void restore_numbers(const std::map<std::string, double>& numbers) override;

  bool second_phase() const { return second_ != nullptr; }

 private:
  struct Buffer {
    torch::Tensor latents;  ///< [capacity, T, D]
    torch::Tensor actions;  ///< [capacity, T - 1, block * A]
    int64_t written = 0;    ///< clips so far
  };
  StepMetrics joint_step(const ClipBatch& own);
  StepMetrics predictor_step(const ClipBatch& own);
  StepMetrics update(AdamW& optimizer, const OptimisationOptions& optimisation, int64_t done,
                     const DynamicsLoss& loss);
  void begin_second_phase();
  uint64_t dropout_seed(const char* stream, int64_t done) const;
  void freeze_encoder();
  void remember(const torch::Tensor& latents, const torch::Tensor& actions);

  DynamicsModel& model_;
  DynamicsTrainingOptions options_;
  HeldOutClips held_out_;
  Processes& processes_;
  std::unique_ptr<AdamW> first_;
  std::unique_ptr<AdamW> second_;  ///< null: the first phase
  Buffer buffer_;
  StepMetrics found_;  ///< by the last evaluation
  int64_t step_ = 0;
};

/// Fills encoder and inverse dynamics from a checkpoint of a run with the same shapes. Inverse
/// dynamics that it was not trained for are missing there, and become null.
/// @throws CheckpointError naming file and key
void load_encoder(const std::string& folder, DynamicsModel& model);

/// A trained model read back from a run's checkpoint.
/// @param folder of the checkpoint
/// @param options, first, second shapes as the run's config.ini has them
/// Inverse dynamics may be missing there: planning does without.
/// @throws CheckpointError naming file and key
DynamicsModel load_dynamics(const std::string& folder, const ModelOptions& options,
                            const PredictorShape& first, const PredictorShape& second);

}  // namespace jepa::eval::dynamics

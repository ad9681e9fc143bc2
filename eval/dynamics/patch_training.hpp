// Training a predictor of patch tokens over a frozen encoder.
#pragma once

#include <eval/dynamics/patch_model.hpp>
#include <eval/dynamics/training.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>

namespace jepa::eval::dynamics {

/// The file of a checkpoint that tells its frozen encoder from others.
inline constexpr const char* kFrozenEncoder = "frozen_encoder";

/// A step encodes a batch without gradient and updates the predictor once. Micro-batches
/// (`accumulate`) bound what is held at a time.
class PatchDynamicsTask : public TrainingTask {
 public:
  /// @param model initialised; its predictor is trained in place
  /// @param held_out measured at every evaluation, `states` where the model takes them; `clips`
  ///   undefined: none
  /// @param processes that train together; null: this one alone
  PatchDynamicsTask(PatchDynamicsModel& model, const OptimisationOptions& optimisation,
                    uint64_t seed, HeldOutClips held_out, Processes* processes = nullptr);

  int64_t steps_done() const override { return step_; }
  StepMetrics step(const ClipBatch& batch, bool watched,
                   std::map<std::string, std::string>& texts) override;
  bool takes_parts() const override { return true; }
  StepMetrics step_of_parts(int64_t clips, const std::function<ClipBatch()>& next, bool watched,
                            std::map<std::string, std::string>& texts) override;
  /// `validation_loss`; `skill_1`, `skill_k`: 1 - squared error over that of predicting no change,
  /// from the true frames one block ahead, and from the first frame to the last.
  StepMetrics evaluate() override;
  /// Predictor, optimiser and the encoder's fingerprint. The encoder itself stays where it is.
  std::map<std::string, TensorMap> tensors() const override;
  /// @throws CheckpointError where the encoder is another one than the run was trained on
  void restore(int64_t step, const std::string& checkpoint_folder) override;
  std::map<std::string, double> numbers() const override { return found_; }
  void restore_numbers(const std::map<std::string, double>& numbers) override;

 private:
  PatchLoss loss(const ClipBatch& own, int64_t part);

  PatchDynamicsModel& model_;
  OptimisationOptions optimisation_;
  uint64_t seed_;
  HeldOutClips held_out_;
  Processes& processes_;
  AdamW optimizer_;
  int64_t fingerprint_;
  StepMetrics found_;  ///< by the last evaluation
  int64_t step_ = 0;
};

/// Fills `model` from a checkpoint of a run of the same shape.
/// @throws CheckpointError naming file and key; where the encoder is another one
void load_patch_predictor(const std::string& folder, PatchDynamicsModel& model);

/// Whether `path`, a run or one of its checkpoints, is of a model of patches.
bool is_patch_run(const std::string& path);

}  // namespace jepa::eval::dynamics

// The one training loop: batches, steps, evaluation, log, checkpoints, resume. What a step is, the
// task says: masked prediction (pretraining.hpp) or diffusion (eval/diffusion/training.hpp).
#pragma once

#include <jepa/data/loader.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/safetensors.hpp>
#include <jepa/metrics.hpp>
#include <jepa/options.hpp>
#include <jepa/training/checkpoint.hpp>
#include <jepa/training/optimizer.hpp>
#include <jepa/training/processes.hpp>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace jepa {

/// A metric of a step is NaN or infinite.
class NonFiniteError : public Error {
 public:
  using Error::Error;
};

/// What every task asks before it moves its weights. `steps_done` is without this step.
/// @throws NonFiniteError naming a metric that is not finite, the loss before others
void check_finite(const StepMetrics& metrics, int64_t steps_done);

/// The end of a step: clips the gradients of all of the optimiser's modules and applies them.
/// @return `sums`, `lr` and `grad_norm_NAME` of each module (`grad_norm` of one called "model"), by
///   one read from the device
/// @throws NonFiniteError as `check_finite`; weights are as before then
StepMetrics apply_gradients(AdamW& optimizer, const OptimisationOptions& optimisation,
                            int64_t steps_done, MetricSums& sums);

/// What a training loop trains.
class TrainingTask {
 public:
  virtual ~TrainingTask() = default;

  /// Optimiser steps so far.
  virtual int64_t steps_done() const = 0;
  /// One optimiser step.
  /// @param watched measure what is too dear for every step (diagnostics)
  /// @param texts plain words for the log, such as a verdict
  /// @throws Error where the loss or a gradient is not finite; the weights are then untouched
  virtual StepMetrics step(const ClipBatch& batch, bool watched,
                           std::map<std::string, std::string>& texts) = 0;
  /// Whether step_of_parts() is there, so that no whole batch need be held.
  virtual bool takes_parts() const { return false; }
  /// The same step as step()'s, bit for bit, of a batch of `clips` that `next` hands out in
  /// micro-batches, divided as the task's own accumulation divides it.
  virtual StepMetrics step_of_parts(int64_t clips, const std::function<ClipBatch()>& next,
                                    bool watched, std::map<std::string, std::string>& texts);
  /// Named numbers of held-out data, every `evaluate_every` steps and after the last. "score" among
  /// them (larger is better) picks the best checkpoint and is not logged itself. Empty: nothing to
  /// evaluate.
  virtual StepMetrics evaluate() { return {}; }
  /// True: the run is to end here (collapse). Asked before each step.
  virtual bool give_up() const { return false; }

  /// All that a resume needs, as the files of a checkpoint: name without `.safetensors` -> tensors.
  /// All processes ask together; what rank 0 gets is written.
  virtual std::map<std::string, TensorMap> tensors() const = 0;
  /// Takes back what `tensors` gave. @throws CheckpointError naming file and key
  virtual void restore(int64_t step, const std::string& checkpoint_folder) = 0;
  /// Numbers that outlive an interruption, kept in state.json and in the log's closing line.
  virtual std::map<std::string, double> numbers() const { return {}; }
  /// Their way back, after `restore`. Among them may be others, and in the state.json of an older
  /// version some may be missing.
  virtual void restore_numbers(const std::map<std::string, double>& /*numbers*/) {}
  /// Plain words for the log's closing line, such as the last verdict.
  virtual std::map<std::string, std::string> texts() const { return {}; }
};

/// How long to train and how often to look.
struct LoopOptions {
  int64_t steps = 1000;
  int64_t checkpoint_every = 200;
  int64_t keep_checkpoints = 2;  ///< newest ones that stay, beside the best
  int64_t watch_every = 20;      ///< the first step and the last are watched too
  int64_t evaluate_every = 100;  ///< after the last step too

  void describe(OptionVisitor& visit);
};

/// What a run was, for its folder and for whoever started it.
struct RunDescription {
  std::string folder;
  std::string config_ini = {};                    ///< resolved options
  std::map<std::string, double> numbers = {};     ///< parameters, FLOP a step, clips in the data
  std::map<std::string, std::string> texts = {};  ///< commit, versions, machine, data
};

/// What a program plugs into the loop. Any may be empty.
struct LoopHooks {
  /// After each step: its number and all that was measured.
  std::function<void(int64_t step, const StepMetrics& metrics)> on_step;
  /// Asked before each step; true ends the run with a checkpoint.
  std::function<bool()> stop;
  /// Those that train together: rank 0 writes the run's folder, and all end together.
  Processes* processes = nullptr;
};

/// Why a run ended.
enum class RunEnd { finished, stopped, gave_up };

/// What a run took. All of it outlives interruptions: a run that is over says it again when asked.
struct LoopResult {
  RunEnd end = RunEnd::finished;
  int64_t steps = 0;
  double train_seconds = 0;      ///< in steps and waiting for data, over all sessions of the run
  double loader_wait_share = 0;  ///< of that time
  double clips = 0;              ///< trained on
  double peak_rss_mb = 0;        ///< largest of all sessions
  /// Clips that this session left out since they could not be read, one line each: which and why.
  std::vector<std::string> left_out = {};
};

/// One step of `task` on the loader's next batch, in micro-batches where both can.
/// @param clips how many it was of; 0: the data ended, and no step was taken
StepMetrics take_step(TrainingTask& task, ClipLoader& loader, bool watched,
                      std::map<std::string, std::string>& texts, int64_t& clips);

/// Trains `task` until `options.steps`, from the run's latest checkpoint if it has one. A run that
/// is already finished is left as it is, its log too.
///
/// A task that takes micro-batches is given the loader's, so that no more than one is held beside
/// those prepared ahead. (Without shuffle, whole batches: the last is of a size that is not known
/// before it is read.)
///
/// The batch of a step is a function of (seed, step); if the task's step is too, a run that was
/// interrupted at any moment ends with the same weights as one that was not.
/// @throws Error where the loss or a gradient is not finite (the last checkpoint stays);
///   DataError, CheckpointError as loader and checkpoints do.
LoopResult run_training(TrainingTask& task, ClipLoader& loader, const LoopOptions& options,
                        const RunDescription& run, const LoopHooks& hooks);

}  // namespace jepa

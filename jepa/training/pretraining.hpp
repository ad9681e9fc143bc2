// The training loop: batches, masks, steps, diagnostics, online probe, checkpoints, resume.
#pragma once

#include <jepa/data/loader.hpp>
#include <jepa/masking.hpp>
#include <jepa/objectives/collapse.hpp>
#include <jepa/training/trainer.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa {

/// How long to train and what to watch.
struct TrainingOptions {
  int64_t steps = 1000;
  int64_t checkpoint_every = 200;
  int64_t keep_checkpoints = 2;
  int64_t diagnose_every = 20;
  int64_t probe_every = 100;
  bool stop_on_collapse = false;
  CollapseOptions collapse;

  void describe(OptionVisitor& visit);
};

/// What a program plugs into the loop. Any may be empty.
struct PretrainingHooks {
  /// After each step: its number and all that was measured.
  std::function<void(int64_t step, const StepMetrics& metrics)> on_step;
  /// Plain-word verdict whenever the diagnostics change their mind.
  std::function<void(int64_t step, const Verdict& verdict)> on_verdict;
  /// Online probe of the target encoder: named numbers; "probe_score" picks the best checkpoint.
  std::function<StepMetrics(Encoder& encoder)> probe;
  /// Asked before each step; true ends the run with a checkpoint.
  std::function<bool()> stop;
};

/// What a run was, for its folder and for whoever started it.
struct RunDescription {
  std::string folder;
  std::string config_ini = {};                    ///< resolved options
  std::map<std::string, double> numbers = {};     ///< parameters, FLOP a step, clips in the data set
  std::map<std::string, std::string> texts = {};  ///< commit, versions, machine, data
};

/// Why a run ended.
enum class RunEnd { finished, stopped, collapsed };

struct PretrainingResult {
  RunEnd end = RunEnd::finished;
  int64_t steps = 0;
  double train_seconds = 0;      ///< in steps and waiting for data, over all sessions of the run
  double loader_wait_share = 0;  ///< of the last session
  double clips = 0;              ///< trained on
  CollapseReport initial;        ///< of the untrained encoder
  CollapseReport last;
  Verdict verdict;
};

/// Trains until `options.steps`, from the run's latest checkpoint if it has one.
///
/// Batch, masks and every other random choice of a step are functions of (seed, step), so a run
/// that was interrupted at any moment ends with the same weights as one that was not.
/// @throws Error where the loss or a gradient is not finite (the last checkpoint stays);
///   DataError, CheckpointError as loader and checkpoints do.
PretrainingResult pretrain(Trainer& trainer, ClipLoader& loader,
                           const std::vector<std::unique_ptr<MaskSampler>>& samplers,
                           const TrainingOptions& options, const RunDescription& run,
                           const PretrainingHooks& hooks);

/// The masks of step `step` (from 0): one for each sampler.
std::vector<Mask> draw_masks(const std::vector<std::unique_ptr<MaskSampler>>& samplers,
                             int64_t batch, const TokenGrid& grid, uint64_t seed, int64_t step);

}  // namespace jepa

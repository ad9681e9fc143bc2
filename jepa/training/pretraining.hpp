// Masked prediction as a task of the training loop: masks, steps, collapse diagnostics, probe.
#pragma once

#include <jepa/masking.hpp>
#include <jepa/objectives/collapse.hpp>
#include <jepa/training/loop.hpp>
#include <jepa/training/trainer.hpp>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace jepa {

/// How long to pretrain and what to watch.
struct TrainingOptions {
  int64_t steps = 1000;
  int64_t checkpoint_every = 200;
  int64_t keep_checkpoints = 2;
  int64_t diagnose_every = 20;
  int64_t probe_every = 100;
  /// What the online probe and the diagnostics read; "encoder" where the target stands still.
  std::string probe_module = "target_encoder";
  bool stop_on_collapse = false;
  CollapseOptions collapse = {};

  void describe(OptionVisitor& visit);
  /// The same for the loop, which watches where diagnostics are due and evaluates with the probe.
  LoopOptions loop() const;
};

/// What a program plugs into masked prediction. Either may be empty.
struct PretrainingHooks {
  /// Plain-word verdict whenever the diagnostics change their mind.
  std::function<void(int64_t step, const Verdict& verdict)> on_verdict = {};
  /// Online probe of the target encoder: named numbers; "probe_score" picks the best checkpoint.
  std::function<StepMetrics(Encoder& encoder)> probe = {};
};

/// Trains an encoder by masked latent prediction.
///
/// Masks and every other random choice of a step are functions of (seed, step, micro-batch).
/// Among several processes each is given the whole batch and takes its rows of every micro-batch.
/// Diagnostics look at the first micro-batch; of one with fewer than two clips there are none.
class MaskedPrediction : public TrainingTask {
 public:
  /// Keeps references to `trainer` and `samplers`.
  MaskedPrediction(Trainer& trainer, const MaskSamplers& samplers, const TrainingOptions& options,
                   PretrainingHooks hooks = {});

  int64_t steps_done() const override { return trainer_.steps_done(); }
  StepMetrics step(const ClipBatch& batch, bool watched,
                   std::map<std::string, std::string>& texts) override;
  bool takes_parts() const override { return true; }
  StepMetrics step_of_parts(int64_t clips, const std::function<ClipBatch()>& next, bool watched,
                            std::map<std::string, std::string>& texts) override;
  StepMetrics evaluate() override;
  bool give_up() const override { return options_.stop_on_collapse && verdict_.collapsed; }

  /// Files encoder, target_encoder, predictor and optimizer.
  std::map<std::string, TensorMap> tensors() const override;
  void restore(int64_t step, const std::string& checkpoint_folder) override;
  std::map<std::string, double> numbers() const override;
  void restore_numbers(const std::map<std::string, double>& numbers) override;
  std::map<std::string, std::string> texts() const override;

  /// Diagnostics of the untrained encoder (empty until measured), the last ones, and their verdict.
  const std::optional<CollapseReport>& initial() const { return initial_; }
  const std::optional<CollapseReport>& last() const { return last_; }
  const Verdict& verdict() const { return verdict_; }

 private:
  void diagnose(const torch::Tensor& tokens, StepMetrics& metrics,
                std::map<std::string, std::string>& texts);

  Trainer& trainer_;
  const MaskSamplers& samplers_;
  TrainingOptions options_;
  PretrainingHooks hooks_;
  std::optional<CollapseReport> initial_;
  std::optional<CollapseReport> last_;
  Verdict verdict_;
};

}  // namespace jepa

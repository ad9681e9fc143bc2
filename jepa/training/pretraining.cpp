#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/random.hpp>
#include <jepa/training/pretraining.hpp>

#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <utility>

namespace jepa {
namespace {

const std::string kInitial = "initial_";

/// The report among `numbers` whose fields have names that start with `prefix`; empty: there is
/// none. Earlier versions stored zeros before the first diagnosis, and only "initial_".
std::optional<CollapseReport> find_report(const std::map<std::string, double>& numbers,
                                          const std::string& prefix) {
  const auto rankme = numbers.find(prefix + "rankme");
  if (rankme == numbers.end() || rankme->second <= 0) return std::nullopt;
  std::map<std::string, double> values;
  for (const auto& [name, unused] : CollapseReport().values()) {
    const auto found = numbers.find(prefix + name);
    if (found != numbers.end()) values[name] = found->second;
  }
  return CollapseReport::from_values(values);
}

}  // namespace

void TrainingOptions::describe(OptionVisitor& visit) {
  visit("steps", steps, {.help = "optimiser steps", .min = 0});
  visit("checkpoint_every", checkpoint_every, {.help = "steps between checkpoints", .min = 1});
  visit("keep_checkpoints", keep_checkpoints,
        {.help = "newest ones that stay, beside the best", .min = 1});
  visit("diagnose_every", diagnose_every, {.help = "steps between collapse diagnostics", .min = 1});
  visit("probe_every", probe_every, {.help = "steps between online probes", .min = 1});
  visit("probe_module", probe_module,
        {.help = "what the online probe and the diagnostics read",
         .choices = {"target_encoder", "encoder"}});
  visit("stop_on_collapse", stop_on_collapse, {.help = "end a run that has collapsed"});
}

LoopOptions TrainingOptions::loop() const {
  return {.steps = steps,
          .checkpoint_every = checkpoint_every,
          .keep_checkpoints = keep_checkpoints,
          .watch_every = diagnose_every,
          .evaluate_every = probe_every};
}

namespace {

/// What the trained encoder says of whole clips, [B, N, D].
torch::Tensor online_tokens(Trainer& trainer, const torch::Tensor& clips) {
  const torch::NoGradGuard no_grad;
  const auto& options = trainer.options();
  const AutocastScope autocast(options.device, options.precision);
  trainer.encoder()->eval();
  return trainer.encoder()
      ->forward(options.pixels.normalise(clips, options.device))
      .to(torch::kFloat32);
}

}  // namespace

namespace {

/// Of rows that several processes share, those of this one.
RowRange own_rows(RowRange all, const Processes* processes) {
  return processes == nullptr ? all : jepa::own_rows(all, *processes);
}

}  // namespace

MaskedPrediction::MaskedPrediction(Trainer& trainer, const MaskSamplers& samplers,
                                   const TrainingOptions& options, PretrainingHooks hooks)
    : trainer_(trainer), samplers_(samplers), options_(options), hooks_(std::move(hooks)) {}

StepMetrics MaskedPrediction::step(const ClipBatch& batch, bool watched,
                                   std::map<std::string, std::string>& texts) {
  const auto parts = micro_batches(trainer_.options().optimisation, batch.size());
  auto part = parts.begin();
  const auto next = [&] {
    const RowRange own = own_rows({part->start, part->count}, trainer_.options().processes);
    ++part;
    return batch.rows(own.start, own.count);
  };
  return step_of_parts(batch.size(), next, watched, texts);
}

StepMetrics MaskedPrediction::step_of_parts(int64_t clips_of_step,
                                            const std::function<ClipBatch()>& next, bool watched,
                                            std::map<std::string, std::string>& texts) {
  const auto& options = trainer_.options();
  StepTrace trace;
  torch::Tensor tokens;
  trainer_.discard();
  bool first = true;
  const auto parts = micro_batches(options.optimisation, clips_of_step);
  for (const MicroBatch& part : parts) {
    const ClipBatch clips = next();
    const int64_t expected = own_rows({part.start, part.count}, options.processes).count;
    TORCH_CHECK(clips.size() == expected, "a micro-batch of ", clips.size(), " clips, expected ",
                expected);
    const bool diagnosed = watched && std::exchange(first, false) && part.count > 1 &&
                           trainer_.encoder()->grid(clips.clips.sizes()).size() > 1;
    // A target encoder that stands still says nothing of what is learned.
    const bool online = options_.probe_module == "encoder";
    if (diagnosed && online) tokens = online_tokens(trainer_, clips.clips);
    if (&part == &parts.back()) trainer_.reduce_with_next();
    trainer_.accumulate(clips, trainer_.draw_masks(samplers_, clips), part.share,
                        diagnosed ? &trace : nullptr);
    if (diagnosed && !online) tokens = trace.target_tokens;
  }
  trainer_.reduce();
  StepMetrics metrics = trainer_.apply();
  if (tokens.defined() && options.processes != nullptr) tokens = options.processes->gather(tokens);
  if (tokens.defined()) diagnose(tokens, metrics, texts);
  return metrics;
}

void MaskedPrediction::diagnose(const torch::Tensor& tokens, StepMetrics& metrics,
                                std::map<std::string, std::string>& texts) {
  last_ = measure_collapse(tokens);
  // The tokens are from before the step's update: those of the very first step are the untrained
  // encoder's.
  const bool first = !initial_;
  if (first) initial_ = last_;
  metrics.merge(last_->values());
  const CollapseState before = verdict_.state;
  verdict_ = assess(*last_, *initial_, options_.collapse);
  texts["verdict"] = verdict_.text;
  if (hooks_.on_verdict && (first || before != verdict_.state)) {
    hooks_.on_verdict(trainer_.steps_done(), verdict_);
  }
}

StepMetrics MaskedPrediction::evaluate() {
  if (!hooks_.probe) return {};
  const bool online = options_.probe_module == "encoder";
  StepMetrics metrics = hooks_.probe(online ? trainer_.encoder() : trainer_.target_encoder());
  const auto score = metrics.find("probe_score");
  if (score != metrics.end()) metrics["score"] = score->second;
  return metrics;
}

std::map<std::string, TensorMap> MaskedPrediction::tensors() const { return trainer_.tensors(); }

void MaskedPrediction::restore(int64_t step, const std::string& checkpoint_folder) {
  trainer_.restore(step, checkpoint_folder);
}

std::map<std::string, double> MaskedPrediction::numbers() const {
  std::map<std::string, double> numbers;
  if (last_) numbers = last_->values();
  if (initial_) {
    for (const auto& [name, value] : initial_->values()) numbers[kInitial + name] = value;
  }
  return numbers;
}

void MaskedPrediction::restore_numbers(const std::map<std::string, double>& numbers) {
  initial_ = find_report(numbers, kInitial);
  last_ = find_report(numbers, "");
  verdict_ = initial_ && last_ ? assess(*last_, *initial_, options_.collapse) : Verdict{};
}

std::map<std::string, std::string> MaskedPrediction::texts() const {
  if (verdict_.text.empty()) return {};
  return {{"verdict", verdict_.text}};
}

}  // namespace jepa

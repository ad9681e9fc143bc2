#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/random.hpp>
#include <jepa/training/checkpoint.hpp>
#include <jepa/training/metrics_log.hpp>
#include <jepa/training/pretraining.hpp>

#include <torch/torch.h>

#include <chrono>
#include <optional>

namespace jepa {
namespace {

double now_seconds() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

/// A session of a run: what `pretrain` keeps between steps.
class Session {
 public:
  Session(Trainer& trainer, ClipLoader& loader, const TrainingOptions& options,
          const RunDescription& run, const PretrainingHooks& hooks)
      : trainer_(trainer), loader_(loader), options_(options), run_(run), hooks_(hooks) {
    const std::string latest = find_checkpoint(run.folder);
    if (!latest.empty()) resume(load_checkpoint(latest, trainer));
    log_.emplace(run.folder, latest.empty() ? -1 : trainer.steps_done());
    if (latest.empty()) {
      log_->summary("run", run.numbers, run.texts);
      save();
    }
    loader.seek(trainer.steps_done());
  }

  PretrainingResult train(const std::vector<std::unique_ptr<MaskSampler>>& samplers) {
    const double start_wait = loader_.stats().wait_seconds;
    double session_seconds = 0;
    while (trainer_.steps_done() < options_.steps) {
      if (hooks_.stop && hooks_.stop()) {
        result_.end = RunEnd::stopped;
        break;
      }
      const double start = now_seconds();
      StepTrace trace;
      StepMetrics metrics = step(samplers, trace);
      const double seconds = now_seconds() - start;
      session_seconds += seconds;
      result_.train_seconds += seconds;
      metrics["seconds"] = seconds;
      if (!after_step(metrics, trace)) break;
    }
    if (saved_step_ != trainer_.steps_done()) save();
    result_.steps = trainer_.steps_done();
    if (session_seconds > 0) {
      result_.loader_wait_share = (loader_.stats().wait_seconds - start_wait) / session_seconds;
    }
    finish();
    return result_;
  }

 private:
  StepMetrics step(const std::vector<std::unique_ptr<MaskSampler>>& samplers, StepTrace& trace) {
    const ClipBatch batch = loader_.next();
    const TokenGrid grid = trainer_.encoder()->grid(batch.clips.sizes());
    const auto masks = draw_masks(samplers, batch.clips.size(0), grid, trainer_.options().seed,
                                  trainer_.steps_done());
    result_.clips += static_cast<double>(batch.clips.size(0));
    return trainer_.step(batch.clips, masks, diagnose_next() ? &trace : nullptr);
  }

  bool diagnose_next() const {
    return trainer_.steps_done() % options_.diagnose_every == 0 ||
           trainer_.steps_done() + 1 == options_.steps;
  }

  /// Diagnostics, probe, log and checkpoint. False: the run has collapsed and is to stop.
  bool after_step(StepMetrics& metrics, const StepTrace& trace) {
    const int64_t step = trainer_.steps_done();
    std::map<std::string, std::string> texts;
    if (trace.target_tokens.defined()) diagnose(trace.target_tokens, metrics, texts);
    const bool last = step == options_.steps;
    if (hooks_.probe && (step % options_.probe_every == 0 || last)) probe(metrics);
    log_->step(step, metrics, texts);
    if (hooks_.on_step) hooks_.on_step(step, metrics);
    const bool collapsed = options_.stop_on_collapse && result_.verdict.collapsed;
    if (step % options_.checkpoint_every == 0 || last || collapsed || new_best_) save();
    if (collapsed) result_.end = RunEnd::collapsed;
    return !collapsed;
  }

  void diagnose(const torch::Tensor& tokens, StepMetrics& metrics,
                std::map<std::string, std::string>& texts) {
    result_.last = measure_collapse(tokens);
    // The trace holds the target encoder's tokens from before the update: those of the very
    // first step are the untrained encoder's.
    if (trainer_.steps_done() == 1) result_.initial = result_.last;
    for (const auto& [name, value] : result_.last.values()) metrics[name] = value;
    const CollapseState before = result_.verdict.state;
    result_.verdict = judge(result_.last, result_.initial, options_.collapse);
    texts["verdict"] = result_.verdict.text;
    if (hooks_.on_verdict && (before != result_.verdict.state || trainer_.steps_done() == 1)) {
      hooks_.on_verdict(trainer_.steps_done(), result_.verdict);
    }
  }

  void probe(StepMetrics& metrics) {
    for (const auto& [name, value] : hooks_.probe(trainer_.target_encoder())) {
      metrics[name] = value;
    }
    const auto score = metrics.find("probe_score");
    if (score != metrics.end() && score->second > best_score_) {
      best_score_ = score->second;
      new_best_ = true;
    }
  }

  void save() {
    CheckpointState state{trainer_.steps_done(), {}, run_.texts};
    for (const auto& [name, value] : result_.initial.values()) {
      state.numbers["initial_" + name] = value;
    }
    state.numbers["train_seconds"] = result_.train_seconds;
    state.numbers["clips"] = result_.clips;
    state.numbers["best_score"] = best_score_;
    save_checkpoint(run_.folder, trainer_, state, run_.config_ini, options_.keep_checkpoints);
    if (new_best_) mark_best(run_.folder, state.step);
    new_best_ = false;
    saved_step_ = state.step;
    log_->write_csv();
  }

  void resume(const CheckpointState& state) {
    const auto number = [&](const std::string& name) {
      const auto found = state.numbers.find(name);
      if (found == state.numbers.end()) {
        throw CheckpointError("state.json of step " + std::to_string(state.step) + ": " + name +
                              " is missing");
      }
      return found->second;
    };
    std::map<std::string, double> initial;
    for (const auto& [name, value] : result_.initial.values()) {
      initial[name] = number("initial_" + name);
    }
    result_.initial = CollapseReport::from_values(initial);
    result_.train_seconds = number("train_seconds");
    result_.clips = number("clips");
    best_score_ = number("best_score");
    saved_step_ = state.step;
  }

  void finish() {
    static constexpr const char* kEnds[] = {"finished", "stopped", "collapsed"};
    std::map<std::string, double> numbers{{"steps", static_cast<double>(result_.steps)},
                                          {"train_seconds", result_.train_seconds},
                                          {"clips", result_.clips},
                                          {"loader_wait_share", result_.loader_wait_share},
                                          {"peak_rss_mb", peak_memory_mb()}};
    for (const auto& [name, value] : result_.last.values()) numbers[name] = value;
    for (const auto& [name, value] : result_.initial.values()) numbers["initial_" + name] = value;
    log_->summary("end", numbers,
                  {{"end", kEnds[static_cast<int>(result_.end)]},
                   {"verdict", result_.verdict.text}});
  }

  Trainer& trainer_;
  ClipLoader& loader_;
  const TrainingOptions& options_;
  const RunDescription& run_;
  const PretrainingHooks& hooks_;
  std::optional<MetricsLog> log_;
  PretrainingResult result_;
  double best_score_ = -1e300;
  bool new_best_ = false;
  int64_t saved_step_ = -1;
};

}  // namespace

void TrainingOptions::describe(OptionVisitor& visit) {
  visit("steps", steps, {.help = "optimiser steps", .min = 0});
  visit("checkpoint_every", checkpoint_every, {.help = "steps between checkpoints", .min = 1});
  visit("keep_checkpoints", keep_checkpoints,
        {.help = "newest ones that stay, beside the best", .min = 1});
  visit("diagnose_every", diagnose_every, {.help = "steps between collapse diagnostics", .min = 1});
  visit("probe_every", probe_every, {.help = "steps between online probes", .min = 1});
  visit("stop_on_collapse", stop_on_collapse, {.help = "end a run that has collapsed"});
}

std::vector<Mask> draw_masks(const std::vector<std::unique_ptr<MaskSampler>>& samplers,
                             int64_t batch, const TokenGrid& grid, uint64_t seed, int64_t step) {
  std::vector<Mask> masks;
  for (size_t i = 0; i < samplers.size(); ++i) {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(
        stream_seed(seed, "mask " + std::to_string(i), static_cast<uint64_t>(step)));
    masks.push_back(samplers[i]->sample(batch, grid, step, generator));
  }
  return masks;
}

PretrainingResult pretrain(Trainer& trainer, ClipLoader& loader,
                           const std::vector<std::unique_ptr<MaskSampler>>& samplers,
                           const TrainingOptions& options, const RunDescription& run,
                           const PretrainingHooks& hooks) {
  return Session(trainer, loader, options, run, hooks).train(samplers);
}

}  // namespace jepa

#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/folder_lock.hpp>
#include <jepa/training/loop.hpp>
#include <jepa/training/metrics_log.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <sstream>
#include <vector>

namespace jepa {
namespace {

using Texts = std::map<std::string, std::string>;

double now_seconds() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

const char* word(RunEnd end) {
  static constexpr const char* kWords[] = {"finished", "stopped", "gave_up"};
  return kWords[static_cast<int>(end)];
}

/// What a run took so far, as it stands in state.json.
struct Totals {
  double train_seconds = 0;
  double loader_wait_seconds = 0;
  double clips = 0;
  double peak_rss_mb = 0;

  static constexpr std::pair<const char*, double Totals::*> kFields[] = {
      {"train_seconds", &Totals::train_seconds},
      {"loader_wait_seconds", &Totals::loader_wait_seconds},
      {"clips", &Totals::clips},
      {"peak_rss_mb", &Totals::peak_rss_mb}};

  double loader_wait_share() const {
    return train_seconds > 0 ? loader_wait_seconds / train_seconds : 0.0;
  }
};

/// From one start of the program to its end: what `run_training` keeps between steps.
class Session {
 public:
  Session(TrainingTask& task, ClipLoader& loader, const LoopOptions& options,
          const RunDescription& run, const LoopHooks& hooks)
      : task_(task), loader_(loader), options_(options), run_(run), hooks_(hooks) {
    const std::string latest = find_checkpoint(run.folder);
    if (!latest.empty()) resume(latest);
  }

  LoopResult train() {
    require_one_checkpoint();
    const std::optional<RunEnd> before = over();
    const Texts closing = MetricsLog::closing_texts(run_.folder);
    if (before && closing.contains("end") && closing.at("end") == word(*before)) {
      return result(*before);
    }
    open_log();
    loader_.seek(task_.steps_done());
    std::optional<RunEnd> end;
    while (true) {
      exchange();
      end = over();
      if (!end && asked_to_stop_) end = RunEnd::stopped;
      if (end) break;
      step();
    }
    if (saved_step_ != task_.steps_done()) save(/*best=*/false);
    close_log(*end);
    return result(*end);
  }

 private:
  /// Why there is no further step to take; empty: there is one.
  std::optional<RunEnd> over() const {
    if (task_.give_up()) return RunEnd::gave_up;
    if (task_.steps_done() >= options_.steps) return RunEnd::finished;
    return std::nullopt;
  }

  /// A batch, a step, and what follows from its number: evaluation, log, checkpoint.
  void step() {
    const double start = now_seconds();
    const double wait = loader_.stats().wait_seconds;
    const bool watched =
        task_.steps_done() % options_.watch_every == 0 || task_.steps_done() + 1 == options_.steps;
    Texts texts;
    int64_t clips = 0;
    StepMetrics metrics = guarded_step(watched, texts, clips);
    if (clips == 0) {
      throw ConfigError("the data ended before step " + std::to_string(task_.steps_done() + 1) +
                        ": without loader.shuffle there is one pass over it");
    }
    totals_.loader_wait_seconds += loader_.stats().wait_seconds - wait;
    metrics["seconds"] = now_seconds() - start;
    totals_.train_seconds += metrics["seconds"];
    totals_.clips += static_cast<double>(clips);

    if (alone()) note_left_out(news());
    if (errors_ > 0) metrics["clips_left_out"] = static_cast<double>(errors_);
    const int64_t done = task_.steps_done();
    const bool last = done == options_.steps;
    const bool best = (done % options_.evaluate_every == 0 || last) && evaluate(metrics);
    if (log_) log_->step(done, metrics, texts);
    if (hooks_.on_step) hooks_.on_step(done, metrics);
    if (done % options_.checkpoint_every == 0 || last || best) save(best);
  }

  bool alone() const { return hooks_.processes == nullptr || hooks_.processes->count() == 1; }

  /// What processes tell each other before each step: whether one of them was asked to stop, so
  /// that all end at the same step, and which clips their loaders left out.
  void exchange() {
    asked_to_stop_ = hooks_.stop && hooks_.stop();
    if (alone()) return;
    const std::string own = news();
    const torch::Tensor all = hooks_.processes->gather(
        torch::tensor({int64_t{asked_to_stop_}, int64_t{!own.empty()}}).view({1, 2}));
    asked_to_stop_ = all.select(1, 0).any().item<bool>();
    if (!all.select(1, 1).any().item<bool>()) return;
    std::string lines;
    for (const auto& text : gather_texts(own, *hooks_.processes)) lines += text;
    note_left_out(lines);
    if (errors_ > loader_.options().max_errors) {
      throw DataError(left_out_.back() + " (" + std::to_string(errors_) +
                      " clips could not be read)");
    }
  }

  /// Lines of the clips that the loader left out since the last call.
  std::string news() {
    const LoaderStats& stats = loader_.stats();
    std::string lines;
    for (; told_ < stats.messages.size(); ++told_) lines += stats.messages[told_] + '\n';
    return lines;
  }

  /// Counts the clips of `lines`; the log gets those that are not in it.
  void note_left_out(const std::string& lines) {
    std::istringstream text(lines);
    for (std::string line; std::getline(text, line);) {
      if (std::find(left_out_.begin(), left_out_.end(), line) != left_out_.end()) continue;
      left_out_.push_back(line);
      if (log_) log_->summary("left_out", {}, {{"clip", line}});
    }
    errors_ = std::max(loader_.stats().errors, std::ssize(left_out_));
  }

  /// A step; where it fails for NaN, what is on disk is named, not what is in memory.
  StepMetrics guarded_step(bool watched, Texts& texts, int64_t& clips) {
    try {
      return take_step(task_, loader_, watched, texts, clips);
    } catch (const NonFiniteError& error) {
      const std::string newest = find_checkpoint(run_.folder);
      throw NonFiniteError(
          std::string(error.what()) + "; " +
          (newest.empty() ? "no checkpoint was written" : "the newest checkpoint is " + newest));
    }
  }

  /// Adds what held-out data say. True: no earlier step had so good a score.
  bool evaluate(StepMetrics& metrics) {
    StepMetrics found = task_.evaluate();
    const auto score = found.extract("score");
    metrics.merge(found);
    if (score.empty()) return false;
    double value = score.mapped();
    if (hooks_.processes != nullptr) {  // all save, or none
      value = hooks_.processes->gather(torch::full({1}, value, torch::kFloat64))[0].item<double>();
    }
    if (!(value > best_score_)) return false;
    best_score_ = value;
    return true;
  }

  bool writes() const { return hooks_.processes == nullptr || hooks_.processes->rank() == 0; }

  void save(bool best) {
    const auto files = task_.tensors();
    if (!writes()) {
      saved_step_ = task_.steps_done();
      return;
    }
    totals_.peak_rss_mb = std::max(totals_.peak_rss_mb, peak_memory_mb());
    CheckpointState state{task_.steps_done(), task_.numbers(), run_.texts};
    for (const auto& [name, member] : Totals::kFields) state.numbers[name] = totals_.*member;
    state.numbers["best_score"] = best_score_;
    save_checkpoint(run_.folder, files, state, run_.config_ini, options_.keep_checkpoints, best);
    saved_step_ = state.step;
    log_->write_csv();
  }

  /// What cannot be read is looked at once more, for advice on how to go on.
  CheckpointState restore(const std::string& checkpoint) {
    try {
      CheckpointState state = read_checkpoint_state(checkpoint);
      task_.restore(state.step, checkpoint);
      return state;
    } catch (const CheckpointError&) {
      require_whole(checkpoint);
      throw;
    }
  }

  void resume(const std::string& checkpoint) {
    const CheckpointState state = restore(checkpoint);
    task_.restore_numbers(state.numbers);
    // Checkpoints of earlier versions have fewer.
    const auto take = [&](const std::string& name, double& member) {
      const auto found = state.numbers.find(name);
      if (found != state.numbers.end()) member = found->second;
    };
    for (const auto& [name, member] : Totals::kFields) take(name, totals_.*member);
    take("best_score", best_score_);
    saved_step_ = state.step;
  }

  /// All processes go on from one checkpoint: folders of one name may be different ones.
  void require_one_checkpoint() {
    if (alone()) return;
    const std::string own =
        saved_step_ < 0 ? "no checkpoint" : c10::str("a checkpoint of step ", saved_step_);
    // Its seconds of training tell it from one of the same step in another folder.
    const auto all = gather_texts(c10::str(own, ", ", totals_.train_seconds), *hooks_.processes);
    for (size_t rank = 1; rank < all.size(); ++rank) {
      if (all[rank] == all[0]) continue;
      throw Error(c10::str(run_.folder, ": rank ", rank, " found ", all[rank],
                           " s of training; rank 0 ", all[0], " s: all processes need one folder"));
    }
  }

  /// Opens the log and cuts it back to the checkpoint; a new run begins with one of step 0.
  void open_log() {
    const bool fresh = saved_step_ < 0;
    // Nobody writes before all have read.
    if (hooks_.processes != nullptr) hooks_.processes->barrier();
    if (writes()) {
      lock_.emplace(run_.folder);
      // Not before: another run may be writing here.
      write_file_atomic(run_.folder + "/config.ini", run_.config_ini);
      log_.emplace(run_.folder, saved_step_);
    }
    if (!fresh) return;
    if (writes()) log_->summary("run", run_.numbers, run_.texts);
    save(/*best=*/false);
  }

  void close_log(RunEnd end) {
    if (!log_) return;
    StepMetrics numbers = task_.numbers();
    numbers["steps"] = static_cast<double>(task_.steps_done());
    numbers["train_seconds"] = totals_.train_seconds;
    numbers["clips"] = totals_.clips;
    numbers["loader_wait_share"] = totals_.loader_wait_share();
    numbers["peak_rss_mb"] = totals_.peak_rss_mb;
    numbers["clips_left_out"] = static_cast<double>(errors_);
    Texts texts = task_.texts();
    texts["end"] = word(end);
    log_->summary("end", numbers, texts);
  }

  LoopResult result(RunEnd end) const {
    return {.end = end,
            .steps = task_.steps_done(),
            .train_seconds = totals_.train_seconds,
            .loader_wait_share = totals_.loader_wait_share(),
            .clips = totals_.clips,
            .peak_rss_mb = totals_.peak_rss_mb,
            .left_out = left_out_};
  }

  TrainingTask& task_;
  ClipLoader& loader_;
  const LoopOptions& options_;
  const RunDescription& run_;
  const LoopHooks& hooks_;
  std::optional<FolderLock> lock_;
  std::optional<MetricsLog> log_;
  Totals totals_;
  size_t told_ = 0;                    ///< of the loader's messages
  std::vector<std::string> left_out_;  ///< a line for each such clip, of all processes
  int64_t errors_ = 0;                 ///< their number
  bool asked_to_stop_ = false;         ///< one of the processes was
  double best_score_ = -1e300;
  int64_t saved_step_ = -1;  ///< of the newest checkpoint; -1: there is none
};

}  // namespace

StepMetrics TrainingTask::step_of_parts(int64_t /*clips*/,
                                        const std::function<ClipBatch()>& /*next*/,
                                        bool /*watched*/, Texts& /*texts*/) {
  TORCH_CHECK(false, "this task takes whole batches");
}

StepMetrics take_step(TrainingTask& task, ClipLoader& loader, bool watched, Texts& texts,
                      int64_t& clips) {
  // With shuffle every batch is full.
  const bool parts = loader.micro_batches() > 1 || loader.share().count > 1;
  if (task.takes_parts() && loader.options().shuffle && parts) {
    clips = loader.options().batch;
    return task.step_of_parts(
        clips, [&] { return loader.next_micro_batch(); }, watched, texts);
  }
  const ClipBatch batch = loader.next();
  clips = batch.size();
  return clips == 0 ? StepMetrics{} : task.step(batch, watched, texts);
}

void check_finite(const StepMetrics& metrics, int64_t steps_done) {
  const auto check = [&](const std::string& name, double value) {
    if (std::isfinite(value)) return;
    throw NonFiniteError(
        c10::str("step ", steps_done + 1, ": ", name, " is ", value, "; the step was not taken"));
  };
  check("loss", metrics.at("loss"));
  for (const auto& [name, value] : metrics) check(name, value);
}

StepMetrics apply_gradients(AdamW& optimizer, const OptimisationOptions& optimisation,
                            int64_t steps_done, MetricSums& sums) {
  const StepRates rates = rates_at(optimisation, steps_done + 1);
  const bool clip = steps_done >= optimisation.clip_from_step;
  for (const auto& name : optimizer.modules()) {
    sums.add(name == "model" ? "grad_norm" : "grad_norm_" + name,
             optimizer.clip_gradients(name, clip ? optimisation.clip_gradient : 0.0));
  }
  StepMetrics metrics = sums.read();
  check_finite(metrics, steps_done);
  metrics["lr"] = rates.lr;
  optimizer.step(rates);
  return metrics;
}

void LoopOptions::describe(OptionVisitor& visit) {
  visit("steps", steps, {.help = "optimiser steps", .min = 0});
  visit("checkpoint_every", checkpoint_every, {.help = "steps between checkpoints", .min = 1});
  visit("keep_checkpoints", keep_checkpoints,
        {.help = "newest ones that stay, beside the best", .min = 1});
  visit("evaluate_every", evaluate_every, {.help = "steps between evaluations", .min = 1});
}

LoopResult run_training(TrainingTask& task, ClipLoader& loader, const LoopOptions& options,
                        const RunDescription& run, const LoopHooks& hooks) {
  return Session(task, loader, options, run, hooks).train();
}

}  // namespace jepa

#include <jepa/errors.hpp>
#include <jepa/training/schedules.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace jepa {
namespace {

double cosine(double from, double to, double progress) {
  return to + (from - to) * 0.5 * (1.0 + std::cos(std::numbers::pi * std::min(progress, 1.0)));
}

double linear(double from, double to, double progress) {
  return from + (to - from) * std::clamp(progress, 0.0, 1.0);
}

double learning_rate(const OptimisationOptions& o, int64_t step) {
  if (step < o.warmup_steps) {
    return linear(o.start_lr, o.lr,
                  static_cast<double>(step) / static_cast<double>(o.warmup_steps));
  }
  const double after = static_cast<double>(step - o.warmup_steps);
  const double length = static_cast<double>(std::max<int64_t>(1, o.total_steps - o.warmup_steps));
  if (o.schedule == "constant" || o.total_steps == 0) return o.lr;
  if (o.schedule == "linear") return linear(o.lr, o.final_lr, after / length);
  if (o.schedule == "wsd") {
    const int64_t decay_start = o.total_steps - o.decay_steps;
    if (step < decay_start || o.decay_steps == 0) return o.lr;
    return linear(o.lr, o.final_lr,
                  static_cast<double>(step - decay_start) / static_cast<double>(o.decay_steps));
  }
  return cosine(o.lr, o.final_lr, after / length);
}

}  // namespace

void OptimisationOptions::describe(OptionVisitor& visit) {
  visit("schedule", schedule,
        {.help = "of the learning rate after warm-up",
         .choices = {"cosine", "wsd", "linear", "constant"}});
  visit("total_steps", total_steps,
        {.help = "length of the schedules; 0: training.steps", .unit = "steps", .min = 0});
  visit("warmup_steps", warmup_steps, {.help = "linear rise", .unit = "steps", .min = 0});
  visit("decay_steps", decay_steps, {.help = "wsd: the final fall", .unit = "steps", .min = 0});
  visit("start_lr", start_lr, {.help = "learning rate before warm-up", .min = 0});
  visit("lr", lr, {.help = "peak learning rate", .min = 0});
  visit("final_lr", final_lr, {.help = "learning rate at the end", .min = 0});
  visit("weight_decay", weight_decay, {.help = "of matrices, at the start", .min = 0});
  visit("final_weight_decay", final_weight_decay, {.help = "and at the end (cosine)", .min = 0});
  visit("momentum", momentum, {.help = "of the target encoder's EMA", .min = 0, .max = 1});
  visit("final_momentum", final_momentum, {.help = "at the end (linear)", .min = 0, .max = 1});
  visit("momentum_from_step", momentum_from_step,
        {.help = "the target encoder stays as initialised until then", .unit = "steps", .min = 0});
  visit("beta1", beta1, {.help = "AdamW", .min = 0, .max = 1});
  visit("beta2", beta2, {.help = "AdamW", .min = 0, .max = 1});
  visit("eps", eps, {.help = "AdamW", .min = 0});
  visit("clip_gradient", clip_gradient,
        {.help = "largest gradient norm, encoder and predictor apart; 0: none", .min = 0});
  visit("clip_from_step", clip_from_step,
        {.help = "no clipping before", .unit = "steps", .min = 0});
  visit("accumulate", accumulate, {.help = "micro-batches a step", .min = 1});
  visit("bucket_mb", bucket_mb,
        {.help = "gradients that processes average in one collective, while the backward pass goes "
                 "on",
         .unit = "MB",
         .min = 0});
  visit("shard_moments", shard_moments,
        {.help = "each of several processes keeps only its part of AdamW's moments"});
}

void check(const OptimisationOptions& o) {
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) throw ConfigError("optimisation." + what);
  };
  const auto require_number = [&](const std::string& name, double value) {
    require(value >= 0 && std::isfinite(value), name + ": must be a number of at least 0");
  };
  require_number("start_lr", o.start_lr);
  require_number("lr", o.lr);
  require_number("final_lr", o.final_lr);
  require_number("weight_decay", o.weight_decay);
  require_number("final_weight_decay", o.final_weight_decay);
  require_number("clip_gradient", o.clip_gradient);
  require_number("eps", o.eps);
  require(o.momentum >= 0 && o.momentum <= 1 && o.final_momentum >= 0 && o.final_momentum <= 1,
          "momentum: must be within 0 and 1");
  require(o.beta1 >= 0 && o.beta1 < 1 && o.beta2 >= 0 && o.beta2 < 1,
          "beta1, beta2: must be at least 0 and below 1");
  require(o.accumulate >= 1, "accumulate: must be at least 1");
  require(o.total_steps >= 0 && o.warmup_steps >= 0 && o.decay_steps >= 0,
          "total_steps, warmup_steps, decay_steps: must be at least 0");
  require(o.total_steps == 0 || o.decay_steps <= o.total_steps,
          "decay_steps: is longer than total_steps");
}

StepRates rates_at(const OptimisationOptions& options, int64_t step) {
  if (options.total_steps == 0) {
    return {.lr = learning_rate(options, step),
            .weight_decay = options.weight_decay,
            .momentum = step <= options.momentum_from_step ? 1.0 : options.momentum};
  }
  const double total = static_cast<double>(options.total_steps);
  return {
      .lr = learning_rate(options, step),
      .weight_decay = cosine(options.weight_decay, options.final_weight_decay,
                             static_cast<double>(step) / total),
      .momentum = step <= options.momentum_from_step
                      ? 1.0
                      : linear(options.momentum, options.final_momentum,
                               static_cast<double>(step - 1) / total),
  };
}

std::vector<MicroBatch> micro_batches(const OptimisationOptions& options, int64_t rows) {
  const int64_t parts = std::min(options.accumulate, rows);
  std::vector<MicroBatch> batches;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t start = rows * part / parts, end = rows * (part + 1) / parts;
    batches.push_back(
        {start, end - start, static_cast<double>(end - start) / static_cast<double>(rows)});
  }
  return batches;
}

}  // namespace jepa

#include <eval/planning/search.hpp>
#include <jepa/errors.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::planning {
namespace {

constexpr double kNormEps = 1e-6;

// Noise along dimension 2 whose spectrum falls as f^-beta, each number of variance 1 (Timmer and
// Koenig 1995, as iCEM uses it).
torch::Tensor coloured(const torch::Tensor& white, double beta) {
  const int64_t length = white.size(2);
  if (length < 2) return white;
  const auto spectrum = at::fft_rfft(white, std::nullopt, 2);
  auto frequency = at::arange(spectrum.size(2), at::kFloat) / static_cast<double>(length);
  frequency[0] = 1.0 / static_cast<double>(length);
  const auto scale = frequency.pow(-beta / 2);
  // Power of each frequency counts twice but for the first and, at even lengths, the last.
  auto share = at::full({spectrum.size(2)}, 2.0);
  share[0] = 1;
  if (length % 2 == 0) share[-1] = 1;
  const auto power = (scale.square() * share).sum() / static_cast<double>(length);
  return at::fft_irfft(spectrum * (scale / power.sqrt()).view({-1, 1}), length, 2);
}

}  // namespace

void CemOptions::describe(OptionVisitor& visit) {
  visit("samples", samples, {.help = "candidates an iteration", .min = 2});
  visit("elites", elites, {.help = "best candidates that are refitted", .min = 2});
  visit("iterations", iterations, {.help = "of sampling and refitting", .min = 1});
  visit("std", std, {.help = "of the first candidates, one value or one a number of an action"});
  visit("min_std", min_std, {.help = "least deviation after an update", .min = 0});
  visit("mean_momentum", mean_momentum, {.help = "share of the old mean", .min = 0, .max = 1});
  visit("std_momentum", std_momentum, {.help = "share of the old deviation", .min = 0, .max = 1});
  visit("low", low, {.help = "least action; empty: any"});
  visit("high", high, {.help = "largest action; empty: any"});
  visit("max_norm", max_norm, {.help = "longest action of a step; 0: any", .min = 0});
  visit("step_width", step_width,
        {.help = "numbers of a step, where a plan holds several side by side; 0: all", .min = 0});
  visit("mean_is_candidate", mean_is_candidate, {.help = "candidate 0 is the mean"});
  visit("return_best", return_best, {.help = "plan the best candidate, not the mean"});
  visit("dead_zone", dead_zone, {.help = "smaller numbers of the plan become 0; empty: none"});
  visit("correlation", correlation, {.help = "of noise from step to step", .min = 0, .max = 0.999});
  visit("noise_power", noise_power, {.help = "noise spectrum falls as f^-this", .min = 0});
  visit("fresh_share", fresh_share,
        {.help = "share of the first candidates around zero", .min = 0, .max = 1});
  visit("keep_share", keep_share,
        {.help = "share of elites that stand again in the next iteration", .min = 0, .max = 1});
  visit("shrink", shrink, {.help = "population over this after each iteration", .min = 1});
}

CemOptions cem_variant(const std::string& name) {
  if (name == "eb_jepa") {
    return {.samples = 200, .elites = 20, .iterations = 20, .std = {1.5}, .max_norm = 2.45};
  }
  if (name == "lewm" || name == "swm") {
    return {.samples = 300, .elites = 30, .iterations = 30, .std = {1}, .mean_is_candidate = true};
  }
  if (name == "vjepa2_ac") {
    const double far = 0.05, gripper = 0.75;
    return {.samples = 400,
            .elites = 10,
            .iterations = 10,
            .std = {far, far, far, 0, 0, 0, 1},
            .mean_momentum = 0.15,
            .std_momentum = 0.15,
            .low = {-far, -far, -far, 0, 0, 0, -gripper},
            .high = {far, far, far, 0, 0, 0, gripper},
            .dead_zone = {0, 0, 0, 0, 0, 0, 0.25}};
  }
  if (name == "icem") {
    return {.samples = 128,
            .elites = 10,
            .iterations = 6,
            .std_momentum = 0.1,
            .mean_is_candidate = true,
            .return_best = true,
            .noise_power = 2,
            .keep_share = 0.3,
            .shrink = 1.25};
  }
  throw ConfigError("CEM: eb_jepa, lewm, swm, vjepa2_ac or icem, not '" + name + "'");
}

// One search: what it knows of the best actions so far.
struct Cem::Search {
  torch::Tensor mean, std;  // [B, H, A]
  torch::Tensor first_std;
  torch::Tensor kept;  // [B, k, H, A], or undefined
  int64_t samples = 0;
};

Cem::Cem(CemOptions options) : options_(std::move(options)) {
  const auto& o = options_;
  check_population("CEM", o.samples, o.elites, o.iterations);
  if (o.elites < 2) throw ConfigError("CEM: one elite has no deviation; 2 or more are needed");
  if (o.correlation > 0 && o.noise_power > 0) {
    throw ConfigError("CEM: correlation and noise_power are two ways of the same; choose one");
  }
}

torch::Tensor Cem::noise(at::IntArrayRef sizes, const Draws& draws) const {
  auto white = draws.normal(sizes);
  if (options_.noise_power > 0) return coloured(white, options_.noise_power);
  if (options_.correlation == 0) return white;
  std::vector<torch::Tensor> steps = {white.select(2, 0)};
  const double fresh = std::sqrt(1 - options_.correlation * options_.correlation);
  for (int64_t t = 1; t < white.size(2); ++t) {
    steps.push_back(options_.correlation * steps.back() + fresh * white.select(2, t));
  }
  return torch::stack(steps, 2);
}

torch::Tensor Cem::propose(const Search& search, const Draws& draws, int64_t iteration) const {
  const auto& o = options_;
  const auto& mean = search.mean;
  const auto drawn = noise({mean.size(0), search.samples, mean.size(1), mean.size(2)}, draws);
  auto x = mean.unsqueeze(1) + search.std.unsqueeze(1) * drawn;
  if (iteration == 0 && o.fresh_share > 0) {
    const auto fresh = static_cast<int64_t>(o.fresh_share * static_cast<double>(search.samples));
    const int64_t rest = search.samples - fresh;
    x = torch::cat({x.narrow(1, 0, rest), search.first_std * drawn.narrow(1, rest, fresh)}, 1);
  }
  if (o.mean_is_candidate) {
    x = torch::cat({mean.unsqueeze(1), x.narrow(1, 1, search.samples - 1)}, 1);
  }
  if (o.max_norm > 0) {
    const int64_t width = o.step_width > 0 ? o.step_width : x.size(-1);
    if (x.size(-1) % width != 0) {
      throw ConfigError(
          c10::str("CEM: steps of ", width, " numbers do not divide actions of ", x.size(-1)));
    }
    const auto steps = x.unflatten(-1, {-1, width});
    const auto length = steps.norm(2, {-1}, /*keepdim=*/true);
    x = (steps * (length.clamp_max(o.max_norm) / (length + kNormEps))).flatten(-2);
  }
  x = cut(x, o.low, o.high);
  return search.kept.defined() ? torch::cat({x, search.kept}, 1) : x;
}

Plan Cem::plan(const CostFunction& costs, const PlanRequest& request, const Draws& draws,
               std::vector<Iteration>* trace) const {
  const torch::NoGradGuard no_grad;
  const auto& o = options_;
  const Clock clock(request.seconds);
  Search search;
  search.mean = start_of(request);
  search.first_std = per_action(o.std, request.action_width, "std");
  search.std = search.first_std.expand_as(search.mean);
  search.samples = o.samples;
  Best best;
  Plan plan;
  for (int64_t i = 0; i < o.iterations; ++i) {
    const auto candidates = propose(search, draws, i);
    const auto cost = checked_costs(costs, candidates);
    best.take(candidates, cost);
    const auto elites = std::get<1>(cost.topk(o.elites, 1, /*largest=*/false, /*sorted=*/true));
    const auto chosen = rows(candidates, elites);
    search.mean = (1 - o.mean_momentum) * chosen.mean(1) + o.mean_momentum * search.mean;
    search.std =
        ((1 - o.std_momentum) * chosen.std(1) + o.std_momentum * search.std).clamp_min(o.min_std);
    const auto keep = static_cast<int64_t>(o.keep_share * static_cast<double>(o.elites));
    if (keep > 0) search.kept = chosen.narrow(1, 0, keep);
    search.samples =
        std::max(static_cast<int64_t>(static_cast<double>(search.samples) / o.shrink), o.elites);
    plan.iterations = i + 1;
    plan.evaluations += candidates.size(1);
    if (trace != nullptr) {
      trace->push_back({candidates, cost, elites, search.mean, search.std, {}});
    }
    if (clock.over()) break;
  }
  plan.cost = best.cost;
  plan.actions = o.return_best ? best.actions : search.mean;
  if (!o.dead_zone.empty()) {
    const auto zone = per_action(o.dead_zone, request.action_width, "dead_zone");
    plan.actions = plan.actions.masked_fill(plan.actions.abs() < zone, 0);
  }
  return plan;
}

}  // namespace jepa::eval::planning

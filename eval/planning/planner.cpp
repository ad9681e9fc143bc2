#include <eval/planning/search.hpp>
#include <jepa/errors.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::planning {
namespace {

// Adam's (Kingma and Ba 2015).
constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8;

}  // namespace

void MppiOptions::describe(OptionVisitor& visit) {
  visit("samples", samples, {.help = "candidates an iteration", .min = 1});
  visit("elites", elites, {.help = "best candidates that are weighted", .min = 1});
  visit("iterations", iterations, {.help = "of sampling and weighting", .min = 1});
  visit("std", std, {.help = "of the first candidates, one value or one a number of an action"});
  visit("min_std", min_std, {.help = "least deviation after an update", .min = 0});
  visit("temperature", temperature,
        {.help = "weights are exp(this * (lowest cost - cost))", .min = 0});
  visit("return_elite", return_elite, {.help = "plan one elite drawn by weight, not the mean"});
  visit("refit_std", refit_std, {.help = "deviation of the weighted elites"});
}

Mppi::Mppi(MppiOptions options) : options_(std::move(options)) {
  check_population("MPPI", options_.samples, options_.elites, options_.iterations);
}

Plan Mppi::plan(const CostFunction& costs, const PlanRequest& request, const Draws& draws,
                std::vector<Iteration>* trace) const {
  const torch::NoGradGuard no_grad;
  const auto& o = options_;
  const Clock clock(request.seconds);
  auto mean = start_of(request);
  auto std = per_action(o.std, request.action_width, "std").expand_as(mean);
  Best best;
  Plan plan;
  torch::Tensor chosen, weights;
  for (int64_t i = 0; i < o.iterations; ++i) {
    const auto drawn = draws.normal({mean.size(0), o.samples, mean.size(1), mean.size(2)});
    const auto candidates = mean.unsqueeze(1) + std.unsqueeze(1) * drawn;
    const auto cost = checked_costs(costs, candidates);
    best.take(candidates, cost);
    const auto [lowest, elites] = cost.topk(o.elites, 1, /*largest=*/false, /*sorted=*/true);
    chosen = rows(candidates, elites);
    weights = (o.temperature * (lowest.narrow(1, 0, 1) - lowest)).exp();
    weights = weights / weights.sum(1, /*keepdim=*/true);
    const auto share = weights.unsqueeze(-1).unsqueeze(-1);
    mean = (share * chosen).sum(1);
    if (o.refit_std) {
      std = (share * (chosen - mean.unsqueeze(1)).square()).sum(1).sqrt().clamp_min(o.min_std);
    }
    plan.iterations = i + 1;
    plan.evaluations += o.samples;
    if (trace != nullptr) trace->push_back({candidates, cost, elites, mean, std, weights});
    if (clock.over()) break;
  }
  plan.cost = best.cost;
  plan.actions =
      o.return_elite ? rows(chosen, draws.choose(weights).unsqueeze(1)).squeeze(1) : mean;
  return plan;
}

void GradientOptions::describe(OptionVisitor& visit) {
  visit("starts", starts, {.help = "sequences improved side by side", .min = 1});
  visit("iterations", iterations, {.help = "Adam steps", .min = 1});
  visit("lr", lr, {.help = "Adam's", .min = 0});
  visit("std", std, {.help = "of the starts, one value or one a number of an action"});
  visit("noise", noise, {.help = "deviation of what is added after each step", .min = 0});
  visit("low", low, {.help = "least action; empty: any"});
  visit("high", high, {.help = "largest action; empty: any"});
}

GradientPlanner::GradientPlanner(GradientOptions options) : options_(std::move(options)) {
  check_population("gradient planner", options_.starts, 1, options_.iterations);
}

Plan GradientPlanner::plan(const CostFunction& costs, const PlanRequest& request,
                           const Draws& draws, std::vector<Iteration>* trace) const {
  const auto& o = options_;
  const Clock clock(request.seconds);
  const auto start = start_of(request);
  const auto std = per_action(o.std, request.action_width, "std");
  auto drawn = draws.normal({start.size(0), o.starts, start.size(1), start.size(2)});
  drawn =
      torch::cat({torch::zeros_like(drawn.narrow(1, 0, 1)), drawn.narrow(1, 1, o.starts - 1)}, 1);
  auto x = cut(start.unsqueeze(1) + std * drawn, o.low, o.high);
  auto first = torch::zeros_like(x), second = torch::zeros_like(x);
  Best best;
  Plan plan;
  for (int64_t i = 1; i <= o.iterations; ++i) {
    const at::AutoGradMode with_gradient(true);
    auto leaf = x.detach().clone().set_requires_grad(true);
    const auto cost = checked_costs(costs, leaf);
    if (!cost.requires_grad()) {
      throw ConfigError("gradient planner: the cost has no gradient in the actions");
    }
    const auto gradient = torch::autograd::grad({cost.sum()}, {leaf})[0];
    const torch::NoGradGuard no_grad;
    best.take(x, cost.detach());
    first = kBeta1 * first + (1 - kBeta1) * gradient;
    second = kBeta2 * second + (1 - kBeta2) * gradient.square();
    const double steps = static_cast<double>(i);
    const auto moved = (first / (1 - std::pow(kBeta1, steps))) /
                       ((second / (1 - std::pow(kBeta2, steps))).sqrt() + kEps);
    if (trace != nullptr) trace->push_back({x, cost.detach(), {}, {}, {}, {}});
    x = x - o.lr * moved;
    if (o.noise > 0) x = x + o.noise * draws.normal(x.sizes());
    x = cut(x, o.low, o.high);
    plan.iterations = i;
    plan.evaluations += o.starts;
    if (clock.over()) break;
  }
  const torch::NoGradGuard no_grad;
  best.take(x, checked_costs(costs, x));
  plan.actions = best.actions;
  plan.cost = best.cost;
  return plan;
}

void RandomShootingOptions::describe(OptionVisitor& visit) {
  visit("samples", samples, {.help = "sequences tried", .min = 1});
  visit("std", std, {.help = "of the actions, one value or one a number of an action"});
  visit("low", low, {.help = "least action; empty: any"});
  visit("high", high, {.help = "largest action; empty: any"});
}

RandomShooting::RandomShooting(RandomShootingOptions options) : options_(std::move(options)) {
  check_population("random shooting", options_.samples, 1, 1);
}

Plan RandomShooting::plan(const CostFunction& costs, const PlanRequest& request, const Draws& draws,
                          std::vector<Iteration>* trace) const {
  const torch::NoGradGuard no_grad;
  const auto start = start_of(request);
  const auto std = per_action(options_.std, request.action_width, "std");
  const auto drawn = draws.normal({start.size(0), options_.samples, start.size(1), start.size(2)});
  const auto candidates = cut(start.unsqueeze(1) + std * drawn, options_.low, options_.high);
  const auto cost = checked_costs(costs, candidates);
  Best best;
  best.take(candidates, cost);
  if (trace != nullptr) trace->push_back({candidates, cost, {}, {}, {}, {}});
  return {best.actions, best.cost, 1, options_.samples};
}

void CategoricalCemOptions::describe(OptionVisitor& visit) {
  visit("samples", samples, {.help = "candidates an iteration", .min = 1});
  visit("elites", elites, {.help = "best candidates that are counted", .min = 1});
  visit("iterations", iterations, {.help = "of sampling and counting", .min = 1});
  visit("momentum", momentum, {.help = "share of the old probabilities", .min = 0, .max = 1});
  visit("floor", floor, {.help = "least probability of an action", .min = 0, .max = 1});
}

CategoricalCem::CategoricalCem(CategoricalCemOptions options) : options_(std::move(options)) {
  check_population("categorical CEM", options_.samples, options_.elites, options_.iterations);
}

Plan CategoricalCem::plan(const CostFunction& costs, const PlanRequest& request, const Draws& draws,
                          std::vector<Iteration>* trace) const {
  const torch::NoGradGuard no_grad;
  const auto& o = options_;
  const Clock clock(request.seconds);
  const int64_t choices = request.action_width;
  // A warm start is read as probabilities: all zero, or none, is even.
  auto probability = start_of(request).clamp_min(0) + o.floor + 1e-9;
  probability = probability / probability.sum(-1, /*keepdim=*/true);
  Best best;
  Plan plan;
  for (int64_t i = 0; i < o.iterations; ++i) {
    const auto marks = draws.uniform({request.episodes, o.samples, request.horizon, 1});
    const auto ids = probability.cumsum(-1).unsqueeze(1).le(marks).sum(-1).clamp_max(choices - 1);
    const auto candidates = at::one_hot(ids, choices).to(torch::kFloat32);
    const auto cost = checked_costs(costs, candidates);
    best.take(candidates, cost);
    const auto elites = std::get<1>(cost.topk(o.elites, 1, /*largest=*/false, /*sorted=*/true));
    probability = (1 - o.momentum) * rows(candidates, elites).mean(1) + o.momentum * probability;
    probability = probability.clamp_min(o.floor);
    probability = probability / probability.sum(-1, /*keepdim=*/true);
    plan.iterations = i + 1;
    plan.evaluations += o.samples;
    if (trace != nullptr) trace->push_back({candidates, cost, elites, probability, {}, {}});
    if (clock.over()) break;
  }
  plan.cost = best.cost;
  plan.actions = probability.argmax(-1, /*keepdim=*/true);
  return plan;
}

void PlannerOptions::describe(OptionVisitor& visit) {
  visit("type", type,
        {.help = "how actions are searched",
         .choices = {"cem", "mppi", "gradient", "random"}});  // programs plan with numbers
  visit("variant", variant,
        {.help = "of cem: a published variant instead of its options",
         .choices = {"none", "eb_jepa", "lewm", "swm", "vjepa2_ac", "icem"}});
}

std::unique_ptr<Planner> make_planner(const PlannerOptions& options) {
  if (options.type == "cem") {
    return std::make_unique<Cem>(options.variant == "none" ? options.cem
                                                           : cem_variant(options.variant));
  }
  if (options.type == "mppi") return std::make_unique<Mppi>(options.mppi);
  if (options.type == "gradient") return std::make_unique<GradientPlanner>(options.gradient);
  if (options.type == "random") return std::make_unique<RandomShooting>(options.random);
  if (options.type == "categorical") return std::make_unique<CategoricalCem>(options.categorical);
  throw ConfigError("planner: cem, mppi, gradient, random or categorical, not '" + options.type +
                    "'");
}

}  // namespace jepa::eval::planning

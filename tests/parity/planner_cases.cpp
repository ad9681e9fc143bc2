#include "acting_models.hpp"

#include <eval/planning/planner.hpp>
#include <eval/worlds/two_rooms.hpp>

#include <torch/types.h>

#include <algorithm>

namespace parity {
namespace {

namespace planning = jepa::eval::planning;

constexpr double kCostTolerance = 1e-5;  // relative

torch::Tensor stack(const std::vector<planning::Iteration>& trace,
                    torch::Tensor planning::Iteration::*field) {
  std::vector<torch::Tensor> all;
  for (const auto& iteration : trace) all.push_back((iteration.*field).squeeze(0));
  return torch::stack(all);
}

// A point that moves by its actions, its start and every later place counted.
planning::CostFunction quadratic(const Case& test) {
  const auto start = test.tensor("in/quadratic.start"), target = test.tensor("in/quadratic.target");
  const planning::GoalCost cost{.over_time = "sum", .include_start = true};
  return [=](const torch::Tensor& candidates) {
    return cost(start + candidates.cumsum(2), start.expand({1, candidates.size(1), -1}),
                target.expand({1, 1, -1}));
  };
}

void compare(Case& test, const std::string& run, const planning::Plan& plan,
             const std::vector<planning::Iteration>& trace) {
  const auto costs = stack(trace, &planning::Iteration::costs);
  const auto elites = stack(trace, &planning::Iteration::elites);
  const auto elite_costs = costs.gather(1, elites);
  test.forward(run + ".actions", stack(trace, &planning::Iteration::candidates).transpose(1, 2));
  test.relative("out/" + run + ".costs", costs, kCostTolerance);
  test.equal(run + ".elites", elites.to(torch::kInt32));
  test.forward(run + ".mean", stack(trace, &planning::Iteration::mean));
  test.forward(run + ".std", stack(trace, &planning::Iteration::std));
  test.relative("out/" + run + ".best", costs.amin(1), kCostTolerance);
  test.relative("out/" + run + ".elite_mean", elite_costs.mean(1), kCostTolerance);
  test.relative("out/" + run + ".elite_std", elite_costs.std(1), 1e-4);
  test.forward(run + ".plan", plan.actions.squeeze(0));
  if (test.has("out/" + run + ".weights")) {
    test.forward(run + ".weights", stack(trace, &planning::Iteration::weights));
  }
}

void run(Case& test, const std::string& name, const planning::CostFunction& costs,
         int64_t horizon) {
  const auto& noise = test.tensor("in/" + name + ".noise");  // [I, T, S, A]
  int64_t drawn = 0;
  const planning::Draws draws{
      [&](at::IntArrayRef) { return noise[drawn++].transpose(0, 1).unsqueeze(0); },
      {},
      [&](const torch::Tensor&) {
        return test.tensor("in/" + name + ".chosen").to(torch::kInt64);
      }};
  std::unique_ptr<planning::Planner> planner;
  const auto number = [&](const char* key) { return test.config().at(key).get<double>(); };
  if (name.starts_with("mppi")) {
    planner = std::make_unique<planning::Mppi>(
        planning::MppiOptions{.samples = test.size("samples"),
                              .elites = test.size("elites"),
                              .iterations = test.size("iterations"),
                              .std = {number("max_std")},
                              .temperature = number("temperature")});
  } else {
    auto options = planning::cem_variant("eb_jepa");
    options.samples = test.size("samples");
    options.elites = test.size("elites");
    options.iterations = test.size("iterations");
    options.std = {number("var_scale")};
    options.max_norm = number("max_norm");
    planner = std::make_unique<planning::Cem>(options);
  }
  std::vector<planning::Iteration> trace;
  const auto plan = planner->plan(
      costs, {.episodes = 1, .horizon = horizon, .action_width = test.size("actions")}, draws,
      &trace);
  compare(test, name, plan, trace);
}

}  // namespace

/// eb_jepa's CEM and MPPI, on a point and on a model.
void ebjepa_planner(Case& test) {
  const torch::NoGradGuard no_grad;
  auto model = eb_jepa(test, "");
  const auto latent = [&](const char* key) {
    return model.encode(jepa::eval::worlds::normalise_two_rooms(test.tensor(key)).unsqueeze(0));
  };
  const auto goal = latent("in/goal");
  const auto past = latent("in/observation").unsqueeze(1);
  test.forward("goal_state", as_maps(goal.unsqueeze(1)));
  const auto all =
      planning::goal_costs(model, past, {}, goal, {.over_time = "sum", .include_start = true});
  const auto last = planning::goal_costs(model, past, {}, goal, {.over_time = "last"});
  const int64_t length = test.size("length"), points = test.size("quadratic_length");
  // The horizon is what is left of the episode, where that is less.
  run(test, "cem.quadratic", quadratic(test), std::min(points, test.size("quadratic_steps_left")));
  run(test, "mppi.quadratic", quadratic(test), points);
  run(test, "cem.model", all, length);
  run(test, "mppi.model", all, length);
  run(test, "cem.last", last, length);
}

}  // namespace parity

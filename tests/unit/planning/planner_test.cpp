#include <eval/planning/planner.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <limits>

namespace jepa::eval::planning {
namespace {

Draws draws(uint64_t seed = 1) { return Draws::from(seeded_generator(seed)); }

// Two episodes with their own optimum, four actions of two numbers; curvature 1 to 4.
struct Bowl {
  torch::Tensor optimum = torch::tensor({{{0.5, -1.0}, {1.5, 0.2}, {-0.7, 0.9}, {0.0, 0.3}},
                                         {{-1.2, 0.4}, {0.1, 0.1}, {0.8, -0.6}, {1.0, 1.0}}},
                                        torch::kFloat32);
  PlanRequest request{.episodes = 2, .horizon = 4, .action_width = 2};

  CostFunction cost() const {
    return [this](const torch::Tensor& candidates) {
      const auto curvature = torch::tensor({1.0, 4.0}, torch::kFloat32);
      return ((candidates - optimum.unsqueeze(1)).square() * curvature).sum({2, 3});
    };
  }
  double error(const Plan& plan) const {
    return (plan.actions - optimum).abs().max().item<double>();
  }
};

TEST(Planners, ReachTheOptimumOfAQuadratic) {
  const Bowl bowl;
  CemOptions cem{.samples = 200, .elites = 20, .iterations = 30};
  EXPECT_LT(bowl.error(Cem(cem).plan(bowl.cost(), bowl.request, draws())), 1e-3);
  // Noise that hangs together explores one direction less well: it needs a least deviation.
  cem.correlation = 0.5;
  cem.min_std = 0.02;
  cem.iterations = 80;
  EXPECT_LT(bowl.error(Cem(cem).plan(bowl.cost(), bowl.request, draws())), 3e-2);
  for (const char* variant : {"lewm", "eb_jepa", "icem"}) {
    auto options = cem_variant(variant);
    options.iterations = 40;
    if (options.max_norm > 0) options.max_norm = 100;
    if (options.noise_power > 0) {
      options.min_std = 0.05;
      options.iterations = 150;
    }
    EXPECT_LT(bowl.error(Cem(options).plan(bowl.cost(), bowl.request, draws())), 5e-2) << variant;
  }
  const Mppi mppi({.samples = 400,
                   .elites = 100,
                   .iterations = 40,
                   .std = {1},
                   .min_std = 0.1,
                   .temperature = 1,
                   .return_elite = false});
  EXPECT_LT(bowl.error(mppi.plan(bowl.cost(), bowl.request, draws())), 5e-2);
  const GradientPlanner gradient({.starts = 4, .iterations = 300, .lr = 0.05});
  EXPECT_LT(bowl.error(gradient.plan(bowl.cost(), bowl.request, draws())), 1e-3);
}

TEST(Planners, RandomShootingTakesTheBest) {
  const Bowl bowl;
  std::vector<Iteration> trace;
  const auto plan =
      RandomShooting({.samples = 500}).plan(bowl.cost(), bowl.request, draws(), &trace);
  EXPECT_TRUE(torch::equal(plan.cost, trace[0].costs.amin(1)));
  EXPECT_TRUE(torch::allclose(bowl.cost()(plan.actions.unsqueeze(1)).squeeze(1), plan.cost));
}

TEST(Planners, CategoricalFindsTheSequence) {
  const auto wanted = torch::tensor({{2, 0, 1, 1, 2}}, torch::kInt64);
  const auto cost = [&](const torch::Tensor& candidates) {
    return candidates.argmax(-1).ne(wanted.unsqueeze(1)).sum(-1).to(torch::kFloat32);
  };
  const auto plan = CategoricalCem({.samples = 100, .elites = 10, .iterations = 8})
                        .plan(cost, {.horizon = 5, .action_width = 3}, draws());
  EXPECT_TRUE(torch::equal(plan.actions.squeeze(-1), wanted));
  EXPECT_EQ(plan.cost.item<float>(), 0);
}

TEST(Planners, LimitsHold) {
  const Bowl bowl;
  CemOptions options{.low = {-0.5}, .high = {0.5, 0.25}};
  std::vector<Iteration> trace;
  Cem(options).plan(bowl.cost(), bowl.request, draws(), &trace);
  for (const auto& iteration : trace) {
    EXPECT_GE(iteration.candidates.min().item<double>(), -0.5);
    EXPECT_LE(iteration.candidates.select(-1, 1).max().item<double>(), 0.25);
  }
  trace.clear();
  const auto plan = Cem(cem_variant("vjepa2_ac"))
                        .plan(
                            [](const torch::Tensor& c) {
                              return c.square().sum({2, 3});
                            },
                            {.horizon = 2, .action_width = 7}, draws(), &trace);
  EXPECT_LE(trace[0].candidates.narrow(-1, 0, 3).abs().max().item<double>(), 0.05 + 1e-6);
  EXPECT_EQ(trace[0].candidates.narrow(-1, 3, 3).abs().max().item<double>(), 0);  // no rotation
  EXPECT_EQ(plan.actions.select(-1, 6).abs().max().item<double>(), 0);            // dead zone
}

TEST(Planners, EachOfSeveralStepsSideBySideHasItsLength) {
  const Cem cem({.samples = 200, .elites = 20, .iterations = 20, .max_norm = 1, .step_width = 2});
  const auto far = [](const torch::Tensor& c) { return (c - 9).square().sum({2, 3}); };
  const auto plan = cem.plan(far, {.horizon = 1, .action_width = 6}, draws());
  const auto lengths = plan.actions.unflatten(-1, {3, 2}).norm(2, {-1});
  EXPECT_LE(lengths.max().item<double>(), 1 + 1e-6);
  EXPECT_GT(lengths.min().item<double>(), 0.9);  // not one length for all three
  EXPECT_THROW(cem.plan(far, {.horizon = 1, .action_width = 5}, draws()), ConfigError);
}

TEST(Planners, WarmStartAndFreshCandidates) {
  Bowl bowl;
  bowl.request.warm_start = bowl.optimum.clone();
  CemOptions options{.samples = 40, .elites = 5, .iterations = 1, .std = {0.01}};
  std::vector<Iteration> trace;
  Cem(options).plan(bowl.cost(), bowl.request, draws(), &trace);
  EXPECT_LT((trace[0].candidates - bowl.optimum.unsqueeze(1)).abs().max().item<double>(), 0.1);
  options.fresh_share = 0.5;
  Cem(options).plan(bowl.cost(), bowl.request, draws(), &trace);
  EXPECT_LT(trace[1].candidates.narrow(1, 20, 20).abs().max().item<double>(), 0.1);
  bowl.request.warm_start = torch::zeros({2, 3, 2});
  EXPECT_THROW(Cem(options).plan(bowl.cost(), bowl.request, draws()), DataError);
}

TEST(Planners, NoiseOfColourHasVarianceOne) {
  auto options = cem_variant("icem");
  options.samples = 4000;
  options.iterations = 1;
  options.mean_is_candidate = false;
  std::vector<Iteration> trace;
  Cem(options).plan(
      [](const torch::Tensor& c) {
        return c.square().sum({2, 3});
      },
      {.horizon = 9, .action_width = 1}, draws(), &trace);
  const auto x = trace[0].candidates.squeeze(0).squeeze(-1);  // [S, H]
  EXPECT_NEAR(x.square().mean().item<double>(), 1, 0.05);
  // Neighbours move together.
  const auto product = x.narrow(1, 0, 8) * x.narrow(1, 1, 8);
  EXPECT_GT(product.mean().item<double>(), 0.6);
}

TEST(Planners, BadCostsAndOptionsAreErrors) {
  const PlanRequest request{.horizon = 2, .action_width = 1};
  const Cem cem(CemOptions{});
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  const auto all_nan = [&](const torch::Tensor& c) {
    return torch::full({c.size(0), c.size(1)}, nan);
  };
  const auto flat = [](const torch::Tensor& c) { return torch::zeros({c.size(1)}); };
  const auto some_nan = [&](const torch::Tensor& c) {
    auto cost = c.square().sum({2, 3});
    return cost.masked_fill(c.select(3, 0).select(2, 0) < 0, nan);
  };
  EXPECT_THROW(cem.plan(all_nan, request, draws()), DataError);
  EXPECT_THROW(cem.plan(flat, request, draws()), DataError);
  EXPECT_GE(cem.plan(some_nan, request, draws()).actions[0][0][0].item<double>(), 0);
  EXPECT_THROW(Cem({.samples = 4, .elites = 5}), ConfigError);
  EXPECT_THROW(Cem({.elites = 1}), ConfigError);
  EXPECT_THROW(cem_variant("magic"), ConfigError);
  EXPECT_THROW(make_planner({.type = "oracle"}), ConfigError);
  const auto constant = [](const torch::Tensor& c) { return torch::zeros({c.size(0), c.size(1)}); };
  EXPECT_THROW(GradientPlanner(GradientOptions{}).plan(constant, request, draws()), ConfigError);
}

TEST(Planners, TimeIsKept) {
  auto options = cem_variant("lewm");
  options.iterations = 100000;
  const auto plan = Cem(options).plan(
      [](const torch::Tensor& c) {
        return c.square().sum({2, 3});
      },
      {.horizon = 2, .action_width = 1, .seconds = 0.05}, draws());
  EXPECT_LT(plan.iterations, 100000);
  EXPECT_EQ(plan.evaluations, plan.iterations * options.samples);
}

TEST(GoalCost, SumLastAndMin) {
  const auto latents = torch::tensor({{{3.0, 1.0}, {0.0, 0.0}, {1.0, 1.0}}});  // [1, 3, 2]
  const auto start = torch::tensor({{2.0, 0.0}}), goal = torch::zeros({1, 2});
  const auto cost = [&](const GoalCost& c) { return c(latents, start, goal).item<double>(); };
  EXPECT_DOUBLE_EQ(cost({.over_time = "sum"}), 6);
  EXPECT_DOUBLE_EQ(cost({.over_time = "sum", .include_start = true}), 8);
  EXPECT_DOUBLE_EQ(cost({.over_time = "last"}), 1);
  EXPECT_DOUBLE_EQ(cost({.over_time = "last", .sum_width = true}), 2);
  EXPECT_DOUBLE_EQ(cost({.over_time = "min"}), 0);
  EXPECT_THROW(cost({.over_time = "median"}), ConfigError);
}

}  // namespace
}  // namespace jepa::eval::planning

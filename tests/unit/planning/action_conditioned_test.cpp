#include <eval/planning/action_conditioned.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::eval::planning {
namespace {

predictors::ActionConditionedPredictor small_predictor(bool extrinsics) {
  predictors::ActionConditionedPredictor model(
      predictors::ActionConditionedOptions{
          .dim = 48, .depth = 3, .heads = 2, .use_extrinsics = extrinsics},
      20);
  model->initialise(seeded_generator(3));
  for (auto& p : model->parameters()) {
    if (p.dim() == 2) p.data().mul_(4);  // so that a frame depends on what was done
  }
  return model;
}

PatchHistory history(int64_t frames) {
  torch::manual_seed(1);
  return {.frames = at::layer_norm(torch::randn({2, frames * 64, 20}), {20}),
          .states = 0.3 * torch::randn({2, frames, 7}),
          .actions = frames == 1 ? torch::Tensor() : 0.3 * torch::randn({2, frames - 1, 7}),
          .extrinsics = torch::randn({2, 6}),
          .frame = {1, 8, 8}};
}

TEST(ActionConditionedCosts, OneHistoryForAllCandidatesGivesTheSameEnergies) {
  for (const bool extrinsics : {false, true}) {
    for (const int64_t frames : {1, 8}) {
      const auto past = history(frames);
      const auto goal = at::layer_norm(torch::randn({2, 64, 20}), {20});
      const auto candidates = 0.3 * torch::randn({2, 6, 5, 7});
      const auto model = small_predictor(extrinsics);
      const auto cached = action_conditioned_costs(model, past, goal);
      const auto again = action_conditioned_costs(model, past, goal, moved_pose, false);
      const auto a = cached(candidates), b = again(candidates);
      EXPECT_EQ(a.sizes(), at::IntArrayRef({2, 6}));
      EXPECT_LT(((a - b) / b).abs().max().item<double>(), 1e-4);
      // Energies tell candidates apart.
      EXPECT_GT(b.std(1).min().item<double>(), 20 * (a - b).abs().max().item<double>());
      EXPECT_TRUE(torch::equal(cached(candidates), a));  // the history is left as it was
    }
  }
}

TEST(ActionConditionedCosts, OtherShapesAreRefused) {
  const auto model = small_predictor(false);
  auto past = history(2);
  const auto goal = torch::randn({2, 64, 20});
  EXPECT_THROW(action_conditioned_costs(model, past, torch::randn({2, 63, 20})), DataError);
  const auto costs = action_conditioned_costs(model, past, goal);
  EXPECT_THROW(costs(torch::randn({2, 3, 5, 6})), DataError);
  past.states = past.states.narrow(2, 0, 6);
  EXPECT_THROW(action_conditioned_costs(model, past, goal), DataError);
  past = history(2);
  past.actions = torch::Tensor();
  EXPECT_THROW(action_conditioned_costs(model, past, goal), DataError);
}

TEST(MovedPose, TurnsAfterOneAnother) {
  // A quarter turn about z, then one about x: x axis -> y -> z.
  const double quarter = 1.5707963267948966;
  const auto state = torch::tensor({{1.0, 2.0, 3.0, 0.0, 0.0, quarter, 0.9}}, torch::kFloat64);
  const auto action = torch::tensor({{0.5, 0.0, -1.0, quarter, 0.0, 0.0, 0.4}}, torch::kFloat64);
  const auto moved = moved_pose(state, action);
  EXPECT_TRUE(
      torch::allclose(moved.narrow(1, 0, 3), torch::tensor({{1.5, 2.0, 2.0}}, torch::kFloat64)));
  EXPECT_DOUBLE_EQ(moved[0][6].item<double>(), 1);
  // Undone by the inverse turn.
  auto back = action.clone();
  back[0][3] = -quarter;
  EXPECT_LT((moved_pose(moved, back) - state).narrow(1, 3, 3).abs().max().item<double>(), 1e-7);
}

}  // namespace
}  // namespace jepa::eval::planning

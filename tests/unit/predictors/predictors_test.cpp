#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <predictors/action_conditioned.hpp>
#include <predictors/registry.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::predictors {
namespace {

const TokenGrid kGrid{2, 3, 4};

ModelShape shape() { return {.encoder_width = 16, .encoder_heads = 2, .masks = 2, .grid = kGrid}; }

MaskedPredictor make_predictor(const MaskedPredictorOptions& options) {
  MaskedPredictor predictor(options, shape());
  predictor->initialise(seeded_generator(1));
  {
    // Mask tokens that differ and weights that are not small, so that every effect shows.
    const torch::NoGradGuard no_grad;
    auto draws = seeded_generator(9);
    for (auto& p : predictor->parameters()) {
      if (p.dim() > 1) p.normal_(0, 0.3, draws);
    }
  }
  return predictor;
}

Mask random_mask(int64_t batch, int64_t sets) {
  const auto order = torch::stack(
      {torch::randperm(kGrid.size(), torch::kInt64), torch::randperm(kGrid.size(), torch::kInt64)});
  Mask mask{order.narrow(1, 0, 6).narrow(0, 0, batch).contiguous(), {}};
  std::vector<torch::Tensor> targets;
  for (int64_t m = 0; m < sets; ++m) {
    targets.push_back(order.narrow(1, 6 + 3 * m, 3).narrow(0, 0, batch));
  }
  mask.target = torch::cat(targets);
  return mask;
}

TEST(MaskedPredictor, TargetSetsAreIndependent) {
  for (const char* positions : {"rope", "sincos"}) {
    auto predictor = make_predictor({.dim = 12, .depth = 2, .positions = positions});
    const torch::NoGradGuard no_grad;
    const auto mask = random_mask(2, 4);
    const auto context = torch::randn({2, 6, 16});
    const auto together = predictor->forward(context, mask, kGrid, 0).target;
    ASSERT_EQ(together.sizes(), (std::vector<int64_t>{8, 3, 16}));
    for (int64_t m = 0; m < 4; ++m) {
      const Mask one{mask.context, mask.target.narrow(0, 2 * m, 2)};
      EXPECT_TRUE(torch::allclose(together.narrow(0, 2 * m, 2),
                                  predictor->forward(context, one, kGrid, 0).target, 1e-4, 1e-6));
    }
  }
}

TEST(MaskedPredictor, SeesOnlyTheMeanOfTheContextWhereMasksArePooled) {
  auto predictor =
      make_predictor({.dim = 12, .depth = 2, .positions = "sincos", .pooled_masks = {1}});
  const torch::NoGradGuard no_grad;
  const auto mask = random_mask(1, 1);
  const auto context = torch::randn({1, 6, 16});
  const auto mean = context.mean(1, true).expand({1, 6, 16});
  const auto say = [&](const torch::Tensor& seen, int64_t index) {
    return predictor->forward(seen, mask, kGrid, index).target;
  };
  EXPECT_TRUE(torch::allclose(say(context, 1), say(mean, 1), 1e-4, 1e-5));
  EXPECT_FALSE(torch::allclose(say(context, 0), say(mean, 0), 1e-3, 1e-4));
  EXPECT_THROW(make_predictor({.dim = 12, .positions = "rope", .pooled_masks = {1}}), ConfigError);
}

TEST(MaskedPredictor, PositionsMatter) {
  for (const char* positions : {"rope", "sincos"}) {
    auto predictor = make_predictor({.dim = 12, .depth = 2, .positions = positions});
    const torch::NoGradGuard no_grad;
    auto mask = random_mask(1, 1);
    const auto context = torch::randn({1, 6, 16});
    const auto here = predictor->forward(context, mask, kGrid, 0).target;
    // The tokens of one target set differ although all start from one mask token.
    EXPECT_FALSE(torch::allclose(here[0][0], here[0][1], 1e-3, 1e-5)) << positions;
  }
}

TEST(MaskedPredictor, ChoosesTheMaskToken) {
  const auto mask = random_mask(1, 1);
  const auto context = torch::randn({1, 6, 16});
  const torch::NoGradGuard no_grad;
  auto by_mask = make_predictor({.dim = 12, .depth = 1});
  EXPECT_FALSE(torch::allclose(by_mask->forward(context, mask, kGrid, 0).target,
                               by_mask->forward(context, mask, kGrid, 1).target));
  EXPECT_ANY_THROW(by_mask->forward(context, mask, kGrid, 2));
  auto fixed = make_predictor({.dim = 12, .depth = 1, .mask_tokens = 3, .mask_token_index = 2});
  EXPECT_TRUE(torch::equal(fixed->forward(context, mask, kGrid, 0).target,
                           fixed->forward(context, mask, kGrid, 1).target));
  EXPECT_THROW(make_predictor({.dim = 12, .depth = 1, .mask_tokens = 3, .mask_token_index = 3}),
               ConfigError);
  EXPECT_THROW(make_predictor({.dim = 13, .depth = 1}), ConfigError);
}

TEST(MaskedPredictor, ContextHeadPredictsTheContext) {
  auto predictor = make_predictor({.dim = 12,
                                   .depth = 1,
                                   .embed_hidden = 16,
                                   .context_head = true,
                                   .modality_embedding = true});
  const torch::NoGradGuard no_grad;
  const auto prediction = predictor->forward(torch::randn({2, 6, 16}), random_mask(2, 1), kGrid, 0);
  EXPECT_EQ(prediction.context.sizes(), (std::vector<int64_t>{2, 6, 16}));
}

TEST(Registry, BuildsByName) {
  EXPECT_NO_THROW(make_predictor({.masked = {.dim = 12, .depth = 1}}, shape()));
  EXPECT_THROW(make_predictor({.type = "oracle"}, shape()), ConfigError);
}

Conditions random_conditions(int64_t steps) {
  return {torch::randn({2, steps, 7}), torch::randn({2, steps, 7}), torch::randn({2, steps, 6})};
}

TEST(ActionConditioned, LooksAtThePastOnly) {
  ActionConditionedPredictor predictor(
      ActionConditionedOptions{.dim = 24, .depth = 2, .heads = 2, .use_extrinsics = true}, 16);
  predictor->initialise(seeded_generator(1));
  const torch::NoGradGuard no_grad;
  const TokenGrid grid{3, 2, 3};
  auto frames = torch::randn({2, grid.size(), 16});
  const auto conditions = random_conditions(3);
  const auto before = predictor->forward(frames, conditions, grid);
  frames.narrow(1, 12, 6).normal_();
  conditions.actions.select(1, 2).normal_();
  const auto after = predictor->forward(frames, conditions, grid);
  EXPECT_TRUE(torch::allclose(before.narrow(1, 0, 12), after.narrow(1, 0, 12), 1e-4, 1e-6));
  EXPECT_FALSE(torch::allclose(before.narrow(1, 12, 6), after.narrow(1, 12, 6)));
  // An earlier action reaches later frames.
  conditions.actions.select(1, 0).normal_();
  const auto moved = predictor->forward(frames, conditions, grid);
  EXPECT_FALSE(torch::allclose(after.narrow(1, 12, 6), moved.narrow(1, 12, 6)));
}

TEST(ActionConditioned, InferenceOnAnotherGridLeavesTrainingAlone) {
  ActionConditionedPredictor predictor(ActionConditionedOptions{.dim = 24, .depth = 1, .heads = 2},
                                       16);
  predictor->initialise(seeded_generator(1));
  const auto run = [&](const TokenGrid& grid) {
    const auto& o = predictor->options();
    return predictor->forward(
        torch::ones({1, grid.size(), 16}),
        {torch::ones({1, grid.t, o.action_width}), torch::ones({1, grid.t, o.state_width}), {}},
        grid);
  };
  {
    const torch::InferenceMode inference;
    run({2, 3, 5});
    run({3, 2, 2});
  }
  EXPECT_NO_THROW(run({2, 3, 5}).sum().backward());
  EXPECT_NO_THROW(run({3, 2, 2}).sum().backward());
}

TEST(ActionConditioned, FirstStepOfARolloutIsTeacherForced) {
  ActionConditionedPredictor predictor(ActionConditionedOptions{.dim = 24, .depth = 2, .heads = 2},
                                       16);
  predictor->initialise(seeded_generator(1));
  const torch::NoGradGuard no_grad;
  const TokenGrid grid{4, 2, 2};
  const auto frames = torch::randn({2, grid.size(), 16});
  const auto conditions = random_conditions(4);
  const auto forced = teacher_forced(predictor, frames, conditions, grid);
  ASSERT_EQ(forced.size(1), 12);
  const auto rolled = rollout(predictor, frames.narrow(1, 0, 4), conditions, grid, 3);
  ASSERT_EQ(rolled.size(1), 12);
  EXPECT_TRUE(torch::allclose(forced.narrow(1, 0, 4), rolled.narrow(1, 0, 4), 1e-3, 1e-5));
  EXPECT_FALSE(torch::allclose(forced.narrow(1, 8, 4), rolled.narrow(1, 8, 4), 1e-3, 1e-5));
}

}  // namespace
}  // namespace jepa::predictors

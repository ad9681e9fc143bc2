#include <encoders/class_token.hpp>
#include <encoders/convolutional.hpp>
#include <encoders/registry.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <predictors/action_conditioned.hpp>
#include <predictors/adaln.hpp>
#include <predictors/recurrent.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa {
namespace {

TEST(ActionConditioned, CachedRolloutIsTheRollout) {
  for (const bool extrinsics : {false, true}) {
    predictors::ActionConditionedPredictor predictor(
        predictors::ActionConditionedOptions{
            .dim = 48, .depth = 3, .heads = 4, .use_extrinsics = extrinsics, .rope_side = 5},
        20);
    predictor->initialise(seeded_generator(1));
    {
      const torch::NoGradGuard no_grad;
      for (auto& p : predictor->parameters()) {
        if (p.dim() > 1) p.normal_(0, 0.2, seeded_generator(p.numel()));
      }
    }
    const torch::NoGradGuard no_grad;
    const TokenGrid grid{7, 2, 3};
    const auto known = torch::randn({2, 3 * 6, 20});
    const predictors::Conditions conditions{torch::randn({2, 7, 7}), torch::randn({2, 7, 7}),
                                            torch::randn({2, 7, 6})};
    const auto plain = predictors::rollout(predictor, known, conditions, grid, 4);
    const auto cached = predictors::cached_rollout(predictor, known, conditions, grid, 4);
    EXPECT_LT((plain - cached).abs().max().item<double>(), 1e-5);

    // One history, three candidates: as if each had its own.
    auto cache = predictor->start_cache(2, 5, 2, 3);
    predictor->extend(cache, known, conditions.first(3));
    auto many = predictor->branch(cache, 3, 2);
    const auto next = torch::randn({6, 6, 20});
    const predictors::Conditions after{torch::randn({6, 1, 7}), torch::randn({6, 1, 7}),
                                       torch::randn({6, 1, 6})};
    const auto got = predictor->extend(many, next, after);
    const auto each = [](const torch::Tensor& x) { return x.repeat_interleave(3, 0); };
    const auto first = conditions.first(3);
    const auto expected =
        predictor->forward(torch::cat({each(known), next}, 1),
                           {torch::cat({each(first.actions), after.actions}, 1),
                            torch::cat({each(first.states), after.states}, 1),
                            torch::cat({each(first.extrinsics), after.extrinsics}, 1)},
                           {4, 2, 3});
    EXPECT_LT((expected.narrow(1, 18, 6) - got).abs().max().item<double>(), 1e-5);
    EXPECT_EQ(cache.steps, 3);
    EXPECT_EQ(many.steps, 4);
    EXPECT_TRUE(many.common_keys.front().is_alias_of(cache.keys.front()));
    // Two at once, and where there is no history in common.
    auto pair = predictor->branch(cache, 3, 2);
    const auto two = torch::cat({next, next}, 1);
    const predictors::Conditions twice{after.actions.repeat({1, 2, 1}),
                                       after.states.repeat({1, 2, 1}),
                                       after.extrinsics.repeat({1, 2, 1})};
    const auto both = predictor->extend(pair, two, twice);
    EXPECT_LT((both.narrow(1, 0, 6) - got).abs().max().item<double>(), 1e-5);
    EXPECT_THROW(predictor->extend(cache, torch::zeros({2, 18, 20}), conditions.first(3)),
                 std::exception);  // no room
  }
}

TEST(AdaLn, BeginsAsTheIdentityAndLooksBackOnly) {
  for (const int64_t tokens : {1, 4}) {
    predictors::AdaLnPredictor predictor(predictors::AdaLnOptions{.dim = 16,
                                                                  .depth = 2,
                                                                  .heads = 2,
                                                                  .head_dim = 5,
                                                                  .mlp_hidden = 24,
                                                                  .frames = 4,
                                                                  .tokens = tokens});
    predictor->initialise(seeded_generator(1));
    const torch::NoGradGuard no_grad;
    const auto x = torch::randn({2, 4 * tokens, 16}), actions = torch::randn({2, 4, 16});
    EXPECT_TRUE(torch::allclose(predictor->forward(x, actions),
                                predictor->forward(x, torch::randn({2, 4, 16}))));
    for (auto& p : predictor->parameters()) {
      if (p.dim() == 2) p.normal_(0, 0.3, seeded_generator(p.numel()));
    }
    const auto whole = predictor->forward(x, actions);
    auto other = x.clone();
    other.narrow(1, 3 * tokens, tokens).normal_();
    const auto changed = predictor->forward(other, actions);
    EXPECT_TRUE(torch::allclose(whole.narrow(1, 0, 3 * tokens), changed.narrow(1, 0, 3 * tokens),
                                1e-5, 1e-6));
    EXPECT_FALSE(torch::allclose(whole, changed));
    // All of a frame is seen by all of it.
    other = x.clone();
    other.narrow(1, 3 * tokens - 1, 1).normal_();
    EXPECT_FALSE(torch::allclose(whole.select(1, 2 * tokens),
                                 predictor->forward(other, actions).select(1, 2 * tokens)));
  }
}

TEST(Recurrent, RolloutIsStepByStep) {
  predictors::GruPredictor gru(predictors::GruPredictorOptions{.dim = 12, .action_width = 3});
  predictors::ResidualMlp mlp(
      predictors::ResidualMlpOptions{.dim = 12, .action_width = 3, .hidden = 20});
  for (predictors::LatentDynamicsImpl* model :
       {static_cast<predictors::LatentDynamicsImpl*>(gru.get()),
        static_cast<predictors::LatentDynamicsImpl*>(mlp.get())}) {
    model->initialise(seeded_generator(1));
    const torch::NoGradGuard no_grad;
    const auto state = torch::randn({4, 12}), actions = torch::randn({4, 3, 3});
    auto step = state;
    const auto path = model->rollout(state, actions);
    for (int64_t t = 0; t < 3; ++t) {
      step = model->forward(step, actions.select(1, t));
      EXPECT_TRUE(torch::allclose(path.select(1, t), step));
    }
  }
  EXPECT_THROW(predictors::GruPredictor(predictors::GruPredictorOptions{.dim = 0}), ConfigError);
}

TEST(Convolutional, AnyNumberOfFramesEachByItself) {
  for (const char* tokens : {"frame", "grid"}) {
    encoders::Convolutional encoder(encoders::ConvolutionalOptions{.channels = 2,
                                                                   .height = 17,
                                                                   .width = 20,
                                                                   .stages = {8, 16},
                                                                   .groups = 4,
                                                                   .dim = 24,
                                                                   .tokens = tokens});
    encoder->initialise(seeded_generator(1));
    const torch::NoGradGuard no_grad;
    const auto clip = torch::randn({2, 2, 5, 17, 20});
    const auto grid = encoder->grid(clip.sizes());
    const auto all = encoder->forward(clip);
    EXPECT_EQ(all.sizes(), (std::vector<int64_t>{2, grid.size(), 24}));
    EXPECT_EQ(grid.t, 5);
    EXPECT_EQ(grid.frame_size(), std::string(tokens) == "frame" ? 1 : 25);
    const auto one = encoder->forward(clip.narrow(2, 3, 1).contiguous());
    EXPECT_TRUE(
        torch::allclose(all.narrow(1, 3 * grid.frame_size(), grid.frame_size()), one, 1e-4, 1e-5));
    const auto ids = torch::tensor({{1, 4}, {0, 2}}, torch::kInt64);
    EXPECT_TRUE(torch::allclose(encoder->encode(encoder->embed(clip), grid, ids),
                                gather_tokens(all, ids), 1e-4, 1e-5));
    EXPECT_GT(encoder->flops(grid.size()), 0);
    EXPECT_NEAR(all.mean().item<double>(), 0, 1e-4);
    EXPECT_THROW(encoder->forward(torch::randn({2, 2, 5, 16, 20})), DataError);
  }
  EXPECT_THROW(encoders::Convolutional(encoders::ConvolutionalOptions{.stages = {9}}), ConfigError);
  EXPECT_THROW(encoders::Convolutional(encoders::ConvolutionalOptions{.tokens = "none"}),
               ConfigError);
}

TEST(Convolutional, ByName) {
  encoders::EncoderOptions options{.type = "convolutional"};
  options.vit.channels = 1;
  options.vit.height = options.vit.width = 32;
  options.convolutional.dim = 40;
  auto encoder = encoders::make_encoder(options);
  encoder->initialise(seeded_generator(1));
  const torch::NoGradGuard no_grad;
  EXPECT_EQ(encoder->forward(torch::randn({1, 1, 3, 32, 32})).sizes(),
            (std::vector<int64_t>{1, 3, 40}));
}

TEST(ClassToken, RefusesFramesOfAnotherSize) {
  encoders::ClassTokenVit encoder(
      encoders::ClassTokenOptions{.size = 28, .dim = 12, .depth = 1, .heads = 2, .mlp_hidden = 24});
  encoder->initialise(seeded_generator(1));
  const torch::NoGradGuard no_grad;
  EXPECT_EQ(encoder->forward(torch::randn({2, 3, 4, 28, 28})).sizes(),
            (std::vector<int64_t>{2, 4, 12}));
  EXPECT_THROW(encoder->forward(torch::randn({2, 3, 4, 42, 42})), DataError);
  EXPECT_THROW(encoders::ClassTokenVit(encoders::ClassTokenOptions{.size = 30}), ConfigError);
}

}  // namespace
}  // namespace jepa

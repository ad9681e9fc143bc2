#include <eval/dreaming/actor_critic.hpp>
#include <eval/dreaming/cma_es.hpp>
#include <eval/dreaming/dream.hpp>
#include <eval/dreaming/model_training.hpp>
#include <eval/dreaming/returns.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <limits>

namespace jepa::eval::dreaming {
namespace {

torch::Tensor sphere(const torch::Tensor& x) { return x.square().sum(1); }

torch::Tensor rosenbrock(const torch::Tensor& x) {
  const int64_t n = x.size(1);
  const auto a = x.narrow(1, 0, n - 1), b = x.narrow(1, 1, n - 1);
  return (100 * (b - a.square()).square() + (1 - a).square()).sum(1);
}

TEST(CmaEs, SolvesTheSphere) {
  const auto search =
      minimise(sphere, std::vector<double>(10, 1.0), {.step = 0.5, .seed = 3}, 1e-10, 20000);
  EXPECT_LE(search.best_cost(), 1e-10);
  EXPECT_LE(sphere(search.best().unsqueeze(0)).item<double>(), 1e-10);
}

TEST(CmaEs, SolvesRosenbrock) {
  const auto search = minimise(rosenbrock, std::vector<double>(10, 0.0),
                               {.population = 20, .step = 0.3, .seed = 1}, 1e-10, 200000);
  EXPECT_LE(search.best_cost(), 1e-10);
  EXPECT_LT((search.best() - 1).abs().max().item<double>(), 1e-4);
}

TEST(CmaEs, DiagonalSolvesAnEllipsoid) {
  const auto scales = torch::logspace(0, 4, 40, 10, torch::kFloat64);
  const auto cost = [&](const torch::Tensor& x) { return (x.square() * scales).sum(1); };
  const auto search = minimise(cost, std::vector<double>(40, 1.0),
                               {.step = 0.5, .seed = 2, .diagonal = true}, 1e-10, 100000);
  EXPECT_LE(search.best_cost(), 1e-10);
}

TEST(CmaEs, BadCosts) {
  CmaEs search(std::vector<double>(3, 0.0), {.population = 6});
  EXPECT_EQ(search.ask().sizes(), (std::vector<int64_t>{6, 3}));
  EXPECT_THROW(search.tell(torch::zeros({5})), DataError);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(search.tell(torch::full({6}, nan)), DataError);
  auto some = torch::arange(6, torch::kFloat64);
  some[0] = nan;
  search.tell(some);  // the worst, not the best
  EXPECT_EQ(search.best_cost(), 1);
  EXPECT_THROW(CmaEs(std::vector<double>(3, 0.0), {.population = 2}), ConfigError);
  EXPECT_THROW(CmaEs(std::vector<double>(3, 0.0), {.step = 0}), ConfigError);
}

TEST(Returns, LambdaReturnsByHand) {
  const auto rewards = torch::tensor({{1.0, 2.0, 3.0}});
  const auto values = torch::tensor({{9.0, 4.0, 5.0, 6.0}});
  const auto continues = torch::tensor({{1.0, 1.0, 1.0}});
  const double g = 0.9, l = 0.8;
  const double r2 = 3 + g * 6;
  const double r1 = 2 + g * ((1 - l) * 5 + l * r2);
  const double r0 = 1 + g * ((1 - l) * 4 + l * r1);
  const auto returns = lambda_returns(rewards, continues, values, g, l);
  EXPECT_TRUE(torch::allclose(returns, torch::tensor({{r0, r1, r2}})));
  // After an end nothing counts.
  const auto ended = lambda_returns(rewards, torch::tensor({{1.0, 0.0, 1.0}}), values, g, l);
  EXPECT_NEAR(ended[0][1].item<double>(), 2, 1e-6);
  const auto weights = rollout_weights(torch::tensor({{1.0, 0.0, 1.0}}), g);
  EXPECT_TRUE(torch::allclose(weights, torch::tensor({{1.0, g, 0.0}})));
}

// Two states; action 1 changes the state, action 0 stays; a step into state 1 earns 1.
TEST(ActorCritic, SolvesATwoStateChain) {
  auto generator = seeded_generator(5);
  ActorCritic agent({.latent = 2, .actions = 2, .hidden = 32, .gamma = 0.9, .lr = 3e-3}, generator);
  const ImaginedStep chain = [](const torch::Tensor& latent, const torch::Tensor& actions) {
    const auto next = latent.argmax(1).bitwise_xor(actions);
    return Imagined{at::one_hot(next, 2).to(torch::kFloat32), next.to(torch::kFloat32),
                    torch::ones({next.size(0)})};
  };
  const auto starts = torch::eye(2).repeat({16, 1});
  for (int i = 0; i < 400; ++i) agent.improve(chain, starts, generator);
  const auto both = torch::eye(2);
  EXPECT_TRUE(torch::equal(agent.act(both), torch::tensor({1, 0}, torch::kInt64)));
  const auto values = agent.value(both);  // 1 / (1 - gamma)
  EXPECT_NEAR(values[0].item<double>(), 10, 1.5);
  EXPECT_NEAR(values[1].item<double>(), 10, 1.5);
}

TEST(Dream, LivesAreCountedToTheEnd) {
  predictors::MixtureDensityRnn model(predictors::MixtureDensityOptions{
      .latent = 3, .action_width = 1, .hidden = 8, .mixtures = 2});
  model->initialise(seeded_generator(1));
  const LinearController controller{.latent = 3, .hidden = 8, .outputs = 1};
  const auto weights = torch::randn({4, controller.parameters()});
  const auto starts = torch::randn({5, 3});
  const DreamOptions options{.episodes = 6, .limit = 20};
  const auto set_done = [&](double bias) {
    const torch::NoGradGuard no_grad;
    for (auto& item : model->named_parameters()) {
      if (item.key() == "output.weight") item.value()[0].zero_();
      if (item.key() == "output.bias") item.value()[0] = bias;
    }
  };
  set_done(-1);  // never
  EXPECT_TRUE(torch::equal(dream_scores(model, controller, weights, starts, options),
                           torch::full({4}, 20.0F)));
  set_done(1);  // at once
  EXPECT_TRUE(torch::equal(dream_scores(model, controller, weights, starts, options),
                           torch::full({4}, 1.0F)));
  auto by_chance = options;
  by_chance.death_weight = std::exp(1.0);  // odds e over e: each step ends one life in two
  const auto expected = dream_scores(model, controller, weights, starts, by_chance);
  EXPECT_TRUE(torch::allclose(expected, torch::full({4}, 2.0F), 1e-2));
  const auto one = dream_scores(model, controller, weights, starts, options);
  EXPECT_TRUE(torch::equal(one, dream_scores(model, controller, weights, starts, options)));
  EXPECT_THROW(dream_scores(model, {.latent = 4, .hidden = 8}, weights, starts, options),
               ConfigError);
}

TEST(Dream, GoesOnFromWhatIsRemembered) {
  predictors::MixtureDensityRnn model(predictors::MixtureDensityOptions{
      .latent = 3, .action_width = 1, .hidden = 8, .mixtures = 2});
  model->initialise(seeded_generator(1));
  const LinearController controller{.latent = 3, .hidden = 8, .outputs = 1};
  const auto weights = torch::zeros({2, controller.parameters()});
  const DreamOptions options{.episodes = 5, .limit = 3};
  const auto latents = torch::randn({5, 3});
  const auto scores = [&](double cell) {
    const auto starts = torch::cat({latents, torch::zeros({5, 8}), torch::full({5, 8}, cell)}, 1);
    return dream_scores(model, controller, weights, starts, options);
  };
  EXPECT_TRUE(torch::equal(scores(0), dream_scores(model, controller, weights, latents, options)));
  const torch::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {  // the end where the hidden vector is positive
    if (item.key() == "output.weight") item.value()[0] = 1;
    if (item.key() == "output.bias") item.value()[0] = 0;
  }
  EXPECT_TRUE(torch::equal(scores(100), torch::full({2}, 1.0F)));
  EXPECT_TRUE(torch::equal(scores(-100), torch::full({2}, 3.0F)));
  EXPECT_THROW(dream_scores(model, controller, weights, torch::zeros({5, 11}), options),
               ConfigError);
}

TEST(DreamModel, FedItsOwnDraws) {
  // Latents that stay what they are: what is drawn is soon near the truth, and both ways learn it.
  const LatentEpisodes episodes{.latents = torch::zeros({24, 2}),
                                .actions = torch::zeros({24, 1}),
                                .offsets = {0, 12, 24},
                                .dead = {0, 0}};
  ModelOptions options{
      .hidden = 8, .mixtures = 1, .steps = 100, .batch = 4, .sequence = 6, .lr = 1e-2};
  const auto trained = [&] {
    auto model = make_model(options, 2, 1);
    model->initialise(seeded_generator(1));
    return train_model(model, options, episodes, /*seed=*/3).density;
  };
  const double taught = trained();
  options.imagined = 3;
  const double fed = trained();
  EXPECT_NE(taught, fed);
  EXPECT_LT(fed, 0.92);  // of zeros under the standard normal that it starts near
  options.imagined = 6;
  EXPECT_THROW(trained(), ConfigError);
}

}  // namespace
}  // namespace jepa::eval::dreaming

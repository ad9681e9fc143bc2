// The diffusion transformer: zero at first, any size, frames with times of their own.
#include "operation_counter.hpp"

#include <eval/diffusion/diffusion_transformer.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::eval::diffusion {
namespace {

DiffusionTransformerOptions tiny_attending(const std::string& attention = "full") {
  return {.dim = 32, .depth = 3, .heads = 2, .tubelet = 2, .patch = 8, .attention = attention};
}

/// A model whose zero layers are filled too, so that everything is at work.
DiffusionTransformer awake(const DiffusionTransformerOptions& options) {
  DiffusionTransformer model(options);
  model->initialise(seeded_generator(1));
  const torch::NoGradGuard no_grad;
  auto draws = seeded_generator(2);
  for (auto& p : model->parameters()) {
    if (p.abs().sum().item<double>() == 0) p.normal_(0, 0.1, draws);
  }
  return model;
}

bool same(const torch::Tensor& a, const torch::Tensor& b) {
  return torch::allclose(a, b, 1e-4, 1e-5);
}

TEST(DiffusionTransformer, FreshOneSaysZero) {
  for (const char* attention : {"full", "factorised"}) {
    for (const bool told : {false, true}) {
      auto options = tiny_attending(attention);
      if (told) {
        options.words = 10;
        options.condition_width = 12;
      }
      DiffusionTransformer model(options);
      model->initialise(seeded_generator(1));
      Condition condition;
      if (told) {
        condition.prompt = torch::tensor({{1, 0, 7}, {0, 0, 0}});
        condition.latents = torch::randn({2, 2 * 16, 12});
      }
      const auto z = torch::randn({2, 1, 4, 32, 32});
      EXPECT_TRUE(model->forward(z, torch::rand({2}), condition).eq(0).all().item<bool>());
      EXPECT_TRUE(model->forward(z, torch::rand({2, 2}), condition).eq(0).all().item<bool>());
    }
  }
}

TEST(DiffusionTransformer, DampsNoiseAndNotWhatIsGiven) {
  const torch::NoGradGuard no_grad;
  auto options = tiny_attending();
  auto plain = awake(options);
  options.data_deviation = 0.5;
  auto damping = awake(options);
  const auto clean = torch::randn({1, 1, 4, 32, 32}), other = torch::randn({1, 1, 4, 32, 32});
  const auto given = torch::ones({1});
  EXPECT_TRUE(same(damping->forward(clean, given, {}), plain->forward(clean, given, {})));
  // What two draws of noise alone make of the answer is nothing at its start, where all is noise.
  const auto start = torch::zeros({1});
  EXPECT_TRUE(same(damping->forward(clean, start, {}), damping->forward(other, start, {})));
  EXPECT_FALSE(same(plain->forward(clean, start, {}), plain->forward(other, start, {})));
  // The best linear guess: t s^2 / (t^2 s^2 + (1 - t)^2) times the noisy sample.
  const double gain = 0.2 * 0.25 / (0.04 * 0.25 + 0.64);
  const auto t = torch::full({1}, 0.2);
  EXPECT_TRUE(same(damping->forward(clean, t, {}), plain->forward(gain * clean, t, {})));
}

TEST(DiffusionTransformer, TakesAnyLengthAndSize) {
  const torch::NoGradGuard no_grad;
  for (const char* attention : {"full", "factorised"}) {
    auto model = awake(tiny_attending(attention));
    for (const int64_t frames : {4, 8, 12}) {
      for (const auto& [height, width] : {std::pair<int64_t, int64_t>{32, 32}, {16, 48}}) {
        const auto z = torch::randn({2, 1, frames, height, width});
        const auto said = model->forward(z, torch::rand({2, frames / 2}), {});
        EXPECT_EQ(said.sizes(), z.sizes());
        EXPECT_TRUE(torch::isfinite(said).all().item<bool>());
      }
    }
  }
  auto images = tiny_attending();
  images.tubelet = 1;
  const auto image = torch::randn({1, 1, 1, 16, 16});
  EXPECT_EQ(awake(images)->forward(image, torch::rand({1}), {}).sizes(), image.sizes());
}

TEST(DiffusionTransformer, SizesThatDoNotDivideAreErrors) {
  auto model = awake(tiny_attending());
  EXPECT_THROW(model->grid({1, 1, 3, 32, 32}), DataError);
  EXPECT_THROW(model->grid({1, 1, 4, 32, 30}), DataError);
  EXPECT_THROW(model->grid({1, 3, 4, 32, 32}), DataError);
  auto odd = tiny_attending();
  odd.heads = 5;
  EXPECT_THROW(DiffusionTransformer{odd}, ConfigError);
  odd.preset = "dit_h";
  EXPECT_THROW(odd.resolved(), ConfigError);
}

/// Equal times for all groups are one time for all.
TEST(DiffusionTransformer, OneTimeIsTheSameForEveryGroup) {
  const torch::NoGradGuard no_grad;
  for (const char* attention : {"full", "factorised"}) {
    for (const int64_t words : {0, 10}) {
      auto options = tiny_attending(attention);
      options.words = words;
      auto model = awake(options);
      Condition condition;
      if (words > 0) condition.prompt = torch::tensor({{1, 0, 7}, {3, 4, 0}});
      const auto z = torch::randn({2, 1, 8, 16, 16});
      const auto t = torch::tensor({0.2, 0.7});
      EXPECT_TRUE(same(model->forward(z, t, condition),
                       model->forward(z, t.unsqueeze(1).repeat({1, 4}), condition)))
          << attention << words;
    }
  }
}

/// A sample alone and the same sample in a batch are told the same.
TEST(DiffusionTransformer, SamplesDoNotMix) {
  const torch::NoGradGuard no_grad;
  auto options = tiny_attending();
  options.words = 10;
  options.condition_width = 12;
  auto model = awake(options);
  const auto z = torch::randn({3, 1, 4, 16, 16});
  const auto t = torch::rand({3, 2});
  const Condition condition{torch::tensor({{1, 0, 7}, {3, 4, 0}, {0, 0, 0}}),
                            torch::randn({3, 2 * 4, 12})};
  const auto all = model->forward(z, t, condition);
  const auto one = model->forward(z.narrow(0, 1, 1), t.narrow(0, 1, 1), condition.rows(1, 1));
  EXPECT_TRUE(same(all.narrow(0, 1, 1), one));
}

TEST(DiffusionTransformer, NoisyFramesDependOnGivenOnes) {
  const torch::NoGradGuard no_grad;
  for (const char* attention : {"full", "factorised"}) {
    auto model = awake(tiny_attending(attention));
    auto z = torch::randn({1, 1, 8, 16, 16});
    const auto t = torch::tensor({{1.0, 1.0, 0.2, 0.2}});
    const auto before = model->forward(z, t, {});
    z.narrow(2, 0, 2).add_(1);
    const auto after = model->forward(z, t, {});
    EXPECT_FALSE(same(before.narrow(2, 4, 4), after.narrow(2, 4, 4))) << attention;
    // And on the time that a frame is said to have.
    const auto timed = model->forward(z, torch::tensor({{0.5, 1.0, 0.2, 0.2}}), {});
    EXPECT_FALSE(same(timed.narrow(2, 4, 4), after.narrow(2, 4, 4))) << attention;
  }
}

TEST(DiffusionTransformer, ConditionsAreHeard) {
  const torch::NoGradGuard no_grad;
  for (const char* attention : {"full", "factorised"}) {
    auto options = tiny_attending(attention);
    options.words = 10;
    options.condition_width = 12;
    auto model = awake(options);
    const auto z = torch::randn({1, 1, 4, 16, 16});
    const auto t = torch::full({1}, 0.3);
    const Condition said{torch::tensor({{1, 0, 7}}), torch::randn({1, 8, 12})};
    const auto base = model->forward(z, t, said);
    EXPECT_FALSE(same(base, model->forward(z, t, {torch::tensor({{2, 0, 7}}), said.latents})));
    EXPECT_FALSE(same(base, model->forward(z, t, {said.prompt, torch::randn({1, 8, 12})})));
    EXPECT_FALSE(same(base, model->forward(z, t, said.nothing())));
    EXPECT_ANY_THROW(model->forward(z, t, {said.prompt, {}}));
    EXPECT_ANY_THROW(model->forward(z, t, {{}, said.latents}));
  }
}

TEST(DiffusionTransformer, NormalisesLatentsByTheirStatistics) {
  auto options = tiny_attending();
  options.condition_width = 5;
  auto model = awake(options);
  const auto latents = torch::randn({400, 5}) * torch::arange(1, 6) + 3;
  model->set_latent_statistics(latents.mean(0), latents.std(0));
  const auto normal = model->normalise_latents(latents);
  EXPECT_LT(normal.mean(0).abs().max().item<double>(), 1e-5);
  EXPECT_LT((normal.std(0) - 1).abs().max().item<double>(), 1e-4);
}

TEST(DiffusionTransformer, LayersAreItsBlocks) {
  const torch::NoGradGuard no_grad;
  auto options = tiny_attending();
  options.words = 10;
  auto model = awake(options);
  const auto z = torch::randn({2, 1, 4, 16, 16});
  const auto t = torch::full({2}, 0.5);
  const Condition condition{torch::zeros({2, 3}, torch::kInt64), {}};
  const auto layers = model->layers(z, t, condition, {0, 2});
  ASSERT_EQ(layers.size(), 2u);
  EXPECT_EQ(layers[0].sizes(), (std::vector<int64_t>{2, 8, 32}));
  EXPECT_TRUE(model->layers(z, t, condition, {2})[0].equal(layers[1]));
  EXPECT_ANY_THROW(model->layers(z, t, condition, {3}));
}

/// The factorised form never looks across both space and time in one block, so one block of space
/// leaves other time steps alone.
TEST(DiffusionTransformer, FactorisedBlocksLookWhereTheySay) {
  const torch::NoGradGuard no_grad;
  auto options = tiny_attending("factorised");
  auto model = awake(options);
  auto z = torch::randn({1, 1, 4, 16, 16});
  const auto t = torch::full({1}, 0.5);
  const auto before = model->layers(z, t, {}, {0, 1});
  z.select(2, 0).narrow(2, 0, 8).narrow(3, 0, 8).add_(1);  // token 0 of 2 x 2 x 2
  const auto after = model->layers(z, t, {}, {0, 1});
  const auto moved = [&](size_t layer) {
    return (after[layer] - before[layer]).abs().amax({0, 2}).gt(1e-5);
  };
  EXPECT_TRUE(moved(0).equal(torch::tensor({1, 1, 1, 1, 0, 0, 0, 0}).to(torch::kBool)));
  EXPECT_TRUE(moved(1).all().item<bool>());
}

/// In float64 plain operators run, and are counted one by one.
TEST(DiffusionTransformer, CountsItsOperations) {
  const torch::NoGradGuard no_grad;
  for (const char* attention : {"full", "factorised"}) {
    for (const bool told : {false, true}) {
      auto options = tiny_attending(attention);
      options.mlp_ratio = 3;
      if (told) {
        options.words = 10;
        options.condition_width = 12;
      }
      auto model = awake(options);
      model->to(torch::kFloat64);
      const auto z = torch::randn({1, 1, 8, 32, 32}, torch::kFloat64);
      Condition condition;
      if (told) {
        condition = {torch::zeros({1, 3}, torch::kInt64),
                     torch::randn({1, 4 * 16, 12}, torch::kFloat64)};
      }
      const auto t = torch::rand({1, 4}, torch::kFloat64);
      const double counted = OperationCounter::count([&] { model->forward(z, t, condition); });
      const double said = model->flops(model->grid(z.sizes()));
      EXPECT_NEAR(said / counted, 1, 0.02) << attention << told << " " << counted;
    }
  }
}

/// Peebles and Xie 2023, table 4, in Gflops of one multiply-add: latents 32 x 32 x 4, patch 2.
TEST(DiffusionTransformer, HasThePublishedFigure) {
  DiffusionTransformerOptions small{.preset = "dit_s", .channels = 4, .tubelet = 1, .patch = 2};
  const DiffusionTransformer model(small.resolved());
  EXPECT_NEAR(model->flops(model->grid({1, 4, 1, 32, 32})) / 2e9 / 6.06, 1, 0.01);
}

}  // namespace
}  // namespace jepa::eval::diffusion

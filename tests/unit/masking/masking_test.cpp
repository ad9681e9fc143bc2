#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/masking.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

namespace jepa {
namespace {

/// Ids ascend within each row, lie on the grid, and context and target share none.
void expect_sound(const Mask& mask, const TokenGrid& grid) {
  for (const auto& ids : {mask.context, mask.target}) {
    ASSERT_EQ(ids.scalar_type(), torch::kInt64);
    ASSERT_TRUE(ids.is_contiguous());
    ASSERT_GE(ids.min().item<int64_t>(), 0);
    ASSERT_LT(ids.max().item<int64_t>(), grid.size());
    if (ids.size(1) > 1) {
      ASSERT_GT(ids.diff(1, 1).min().item<int64_t>(), 0);
    }
  }
  const int64_t batch = mask.context.size(0);
  for (int64_t row = 0; row < mask.target.size(0); ++row) {
    auto taken = torch::zeros({grid.size()}, torch::kInt64);
    const auto one = torch::ones({1}, torch::kInt64);
    taken.index_add_(0, mask.context[row % batch], one.expand({mask.context.size(1)}));
    taken.index_add_(0, mask.target[row], one.expand({mask.target.size(1)}));
    ASSERT_LE(taken.max().item<int64_t>(), 1) << "a token is shown and hidden";
  }
}

TEST(MaskSampler, EveryKindIsSound) {
  struct Kind {
    MaskOptions options;
    TokenGrid grid;
  };
  MaskOptions long_range{.blocks = 2, .spatial_scale = {0.7, 0.7}};
  MaskOptions images{.kind = "multiblock2d", .blocks = 4, .spatial_scale = {0.15, 0.2}};
  MaskOptions limited{.max_temporal_keep = 0.5, .max_keep = 20};
  for (const auto& [options, grid] :
       {Kind{{}, {4, 8, 8}}, Kind{long_range, {8, 7, 9}}, Kind{images, {1, 14, 14}},
        Kind{limited, {4, 8, 8}}, Kind{{.kind = "tube", .ratio = 0.7}, {3, 5, 6}},
        Kind{{.kind = "causal"}, {4, 3, 3}},
        Kind{{.kind = "causal", .shown_keep = 0.3, .hidden_keep = 0.5}, {4, 3, 3}}}) {
    for (const char* cut : {"random", "prefix"}) {
      auto changed = options;
      changed.cut = cut;
      const auto sampler = make_mask_sampler(changed);
      auto positions = seeded_generator(1);
      for (int64_t counter = 0; counter < 20; ++counter) {
        const auto mask = sampler->sample(6, grid, counter, positions);
        ASSERT_EQ(mask.context.size(0), 6);
        ASSERT_EQ(mask.targets_per_context(), options.kind == "multiblock2d" ? 4 : 1);
        expect_sound(mask, grid);
      }
    }
  }
}

TEST(MaskSampler, IsAFunctionOfCounterAndGenerator) {
  const auto sampler = make_mask_sampler({});
  const TokenGrid grid{4, 8, 8};
  auto a = seeded_generator(5);
  auto b = seeded_generator(5);
  const auto first = sampler->sample(4, grid, 7, a);
  const auto again = sampler->sample(4, grid, 7, b);
  EXPECT_TRUE(torch::equal(first.context, again.context));
  EXPECT_TRUE(torch::equal(first.target, again.target));
  const auto next = sampler->sample(4, grid, 7, a);
  EXPECT_FALSE(first.context.sizes() == next.context.sizes() &&
               torch::equal(first.context, next.context));
}

TEST(MaskSampler, DrawsAsTorchDoes) {
  // One block of fixed size: its corner must be what torch.randint gives.
  const auto sampler = make_mask_sampler(
      {.blocks = 1, .spatial_scale = {0.25, 0.25}, .aspect_ratio = {1, 1}, .cut = "prefix"});
  const TokenGrid grid{2, 8, 8};
  auto ours = seeded_generator(11);
  auto theirs = seeded_generator(11);
  for (int i = 0; i < 10; ++i) {
    const auto mask = sampler->sample(1, grid, i, ours);
    const auto draw = [&](int64_t n) {
      return torch::randint(0, n, {1}, theirs, torch::kInt64).item<int64_t>();
    };
    const int64_t top = draw(5);
    const int64_t left = draw(5);
    draw(1);
    EXPECT_EQ(mask.target[0][0].item<int64_t>(), grid.id(0, top, left));
  }
}

TEST(MaskSampler, FairCutDropsEveryTimeStepAlike) {
  const TokenGrid grid{4, 8, 8};
  std::map<std::string, torch::Tensor> share;
  for (const char* cut : {"random", "prefix"}) {
    const auto sampler = make_mask_sampler({.cut = cut});
    auto positions = seeded_generator(2);
    auto counts = torch::zeros({grid.t}, torch::kFloat64);
    for (int64_t counter = 0; counter < 200; ++counter) {
      const auto mask = sampler->sample(16, grid, counter, positions);
      const auto steps = mask.context.flatten().div(grid.frame_size(), "floor");
      counts += torch::bincount(steps, {}, grid.t).to(torch::kFloat64);
    }
    share[cut] = counts / counts.mean();
  }
  // Blocks last the whole clip, so a fair mask shows every time step equally often.
  EXPECT_LT((share["random"] - 1).abs().max().item<double>(), 0.02);
  EXPECT_LT(share["prefix"][grid.t - 1].item<double>(), 0.8);
}

TEST(MaskSampler, FairCutKeepsEveryTokenOfAMaskEquallyOften) {
  // A whole frame shown but for one row, cut to 10 of its ids: each must survive equally often.
  const auto sampler = make_mask_sampler({.blocks = 1,
                                          .spatial_scale = {0.25, 0.25},
                                          .aspect_ratio = {0.0625, 0.0625},
                                          .max_keep = 10});
  const TokenGrid grid{1, 4, 16};
  auto positions = seeded_generator(3);
  auto counts = torch::zeros({grid.size()}, torch::kFloat64);
  auto shown = torch::zeros({grid.size()}, torch::kFloat64);
  for (int64_t i = 0; i < 6000; ++i) {
    const auto mask = sampler->sample(1, grid, i, positions);
    ASSERT_EQ(mask.context.size(1), 10);
    ASSERT_EQ(mask.target.size(1), 16);
    counts += torch::bincount(mask.context[0], {}, grid.size()).to(torch::kFloat64);
    shown += 1 - torch::bincount(mask.target[0], {}, grid.size()).to(torch::kFloat64);
  }
  // Expected 10/48; four standard deviations of a share over about 4,500 masks.
  EXPECT_LT((counts / shown - 10.0 / 48).abs().max().item<double>(), 0.025);
}

TEST(MaskSampler, ComplementsFillTheGrid) {
  const TokenGrid grid{4, 8, 8};
  for (const bool of_context : {true, false}) {
    const auto sampler =
        make_mask_sampler({.full_complement = of_context, .pred_full_complement = !of_context});
    auto positions = seeded_generator(4);
    const auto mask = sampler->sample(5, grid, 0, positions);
    EXPECT_EQ(mask.context.size(1) + mask.target.size(1), grid.size());
    expect_sound(mask, grid);
  }
}

TEST(MaskSampler, InvertedBlocksSwapTheRoles) {
  const TokenGrid grid{4, 8, 8};
  auto a = seeded_generator(4);
  auto b = seeded_generator(4);
  const auto plain = make_mask_sampler({})->sample(3, grid, 1, a);
  const auto swapped = make_mask_sampler({.inv_block = true})->sample(3, grid, 1, b);
  EXPECT_TRUE(torch::equal(plain.context, swapped.target));
  EXPECT_TRUE(torch::equal(plain.target, swapped.context));
}

TEST(MaskSampler, TubesHideTheSameCellsAtAllTimes) {
  const TokenGrid grid{3, 5, 6};
  auto positions = seeded_generator(6);
  const auto mask =
      make_mask_sampler({.kind = "tube", .ratio = 0.7})->sample(4, grid, 0, positions);
  EXPECT_EQ(mask.context.size(1), grid.t * 9);  // int(30 * 0.3)
  const auto cells = mask.context.view({4, grid.t, -1});
  for (int64_t t = 0; t < grid.t; ++t) {
    EXPECT_TRUE(torch::equal(cells.select(1, t) - t * grid.frame_size(), cells.select(1, 0)));
  }
}

TEST(MaskSampler, CausalHidesTheFuture) {
  const TokenGrid grid{4, 3, 3};
  auto positions = seeded_generator(1);
  const auto mask = make_mask_sampler({.kind = "causal", .context_share = {0.25, 0.25}})
                        ->sample(2, grid, 0, positions);
  EXPECT_EQ(mask.context.max().item<int64_t>(), 8);
  EXPECT_EQ(mask.target.min().item<int64_t>(), 9);
  EXPECT_EQ(mask.target.size(1), 27);
}

TEST(MaskSampler, CausalCanAlsoHideThePast) {
  const TokenGrid grid{4, 2, 2};
  auto positions = seeded_generator(1);
  const int64_t clips = 200;
  const auto mask =
      make_mask_sampler({.kind = "causal", .context_share = {0.25, 0.25}, .backward_share = 0.3})
          ->sample(clips, grid, 0, positions);
  const auto first = torch::arange(4), last = torch::arange(12, 16);
  int64_t backward = 0;
  for (int64_t clip = 0; clip < clips; ++clip) {
    const bool shows_the_end = mask.context[clip].equal(last);
    EXPECT_TRUE(shows_the_end || mask.context[clip].equal(first));
    EXPECT_TRUE(mask.target[clip].equal(shows_the_end ? torch::arange(12) : torch::arange(4, 16)));
    backward += shows_the_end;
  }
  EXPECT_NEAR(static_cast<double>(backward) / clips, 0.3, 0.12);

  // At a half, the clips 2i and 2i + 1 show opposite ends.
  const auto halves =
      make_mask_sampler({.kind = "causal", .context_share = {0.5, 0.5}, .backward_share = 0.5})
          ->sample(clips, grid, 0, positions);
  EXPECT_TRUE(halves.context.view({-1, 2, 8})
                  .select(1, 0)
                  .equal(halves.target.view({-1, 2, 8}).select(1, 1)));
}

TEST(MaskSampler, CausalKeepsAShareOfEither) {
  const TokenGrid grid{4, 5, 5};
  auto positions = seeded_generator(1);
  const auto mask = make_mask_sampler({.kind = "causal", .shown_keep = 0.4, .hidden_keep = 0.1})
                        ->sample(300, grid, 0, positions);
  ASSERT_EQ(mask.context.size(1), 20);
  ASSERT_EQ(mask.target.size(1), 5);
  EXPECT_LT(mask.context.max().item<int64_t>(), 50);
  EXPECT_GE(mask.target.min().item<int64_t>(), 50);
  // Every token is kept as often as any other.
  const auto counts = torch::bincount(mask.context.flatten(), {}, 50);
  EXPECT_GT(counts.min().item<int64_t>(), 80);
  EXPECT_LT(counts.max().item<int64_t>(), 165);
  EXPECT_TRUE((mask.context.diff(1, 1) > 0).all().item<bool>());
}

TEST(MaskSampler, ImpossibleMasksAreErrors) {
  auto positions = seeded_generator(1);
  const TokenGrid tiny{1, 4, 4};
  // Everything hidden.
  EXPECT_THROW(make_mask_sampler({.spatial_scale = {1, 1}, .aspect_ratio = {1, 1}})
                   ->sample(1, tiny, 0, positions),
               ConfigError);
  // A context that can never have more than min_keep tokens.
  EXPECT_THROW(
      make_mask_sampler({.kind = "multiblock2d", .min_keep = 16})->sample(1, tiny, 0, positions),
      ConfigError);
  EXPECT_THROW(make_mask_sampler({.kind = "causal"})->sample(1, tiny, 0, positions), ConfigError);
  EXPECT_THROW(make_mask_sampler({.kind = "stripes"}), ConfigError);
  EXPECT_THROW(make_mask_sampler({.cut = "suffix"}), ConfigError);
  EXPECT_THROW(make_mask_sampler({.spatial_scale = {0.5}}), ConfigError);
  EXPECT_THROW(make_mask_sampler({.aspect_ratio = {1.5, 0.75}}), ConfigError);
}

}  // namespace
}  // namespace jepa

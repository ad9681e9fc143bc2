// The agreement of views: what it punishes, and what it leaves alone.
#include <jepa/generator.hpp>
#include <jepa/objectives/clip_agreement.hpp>

#include <gtest/gtest.h>
#include <torch/optim.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

namespace jepa {
namespace {

constexpr int64_t kClips = 24, kTokens = 5, kDim = 12, kWidth = 16;

ClipProjector make_projector() {
  ClipProjector projector(kDim, kWidth, 1);
  projector->initialise(seeded_generator(3));
  return projector;
}

/// Tokens [2n, K, D] of two views a clip; `difference` sets the views apart.
torch::Tensor tokens_of_views(double difference) {
  torch::manual_seed(7);
  const auto clips = torch::randn({kClips, 1, kTokens, kDim}).expand({kClips, 2, kTokens, kDim});
  return (clips + difference * torch::randn({kClips, 2, kTokens, kDim})).flatten(0, 1);
}

AgreementTerms agreement(const torch::Tensor& tokens, const AgreementOptions& options = {}) {
  auto projector = make_projector();
  return clip_agreement(tokens, torch::zeros({tokens.size(0), 2}), projector, options);
}

TEST(ClipAgreement, AsksForEqualViewsOfDifferentClips) {
  const auto same = agreement(tokens_of_views(0));
  const auto apart = agreement(tokens_of_views(1));
  const auto collapsed = agreement(torch::ones({2 * kClips, kTokens, kDim}));
  EXPECT_NEAR(same.invariance.item<double>(), 0, 1e-10);
  EXPECT_GT(apart.invariance.item<double>(), 0.05);
  // 0.99: the hinge at no variance at all (1 less the square root of eps).
  EXPECT_NEAR(collapsed.variance.item<double>(), 0.99, 1e-5);
  EXPECT_LT(same.variance.item<double>(), 0.7);
  EXPECT_NEAR(collapsed.covariance.item<double>(), 0, 1e-10);
  EXPECT_GT(same.covariance.item<double>(), 1e-3);
}

TEST(ClipAgreement, IsTheWeightedSumOfItsParts) {
  const auto terms = agreement(
      tokens_of_views(1),
      {.invariance_weight = 3, .variance_weight = 5, .covariance_weight = 7, .shift_weight = 11});
  EXPECT_GT(terms.shift.item<double>(), 0.01);
  EXPECT_NEAR(terms.loss.item<double>(),
              3 * terms.invariance.item<double>() + 5 * terms.variance.item<double>() +
                  7 * terms.covariance.item<double>() + 11 * terms.shift.item<double>(),
              1e-4);
}

TEST(ClipAgreement, OfManyViewsIsTheirDistanceToTheirMeanUnderSigreg) {
  const AgreementOptions options{.kind = "sigreg",
                                 .views = 4,
                                 .invariance_weight = 3,
                                 .sigreg_weight = 5,
                                 .slices = 8,
                                 .shift_weight = 7};
  auto projector = make_projector();
  const auto generator = [] { return seeded_generator(2); };
  torch::manual_seed(5);
  const auto tokens = torch::randn({4 * kClips, kTokens, kDim});
  const auto shifts = torch::rand({4 * kClips, 2});
  const auto terms = clip_agreement(tokens, shifts, projector, options, generator());
  const auto views = projector->forward(tokens.amax(1)).view({kClips, 4, kWidth});
  EXPECT_NEAR(terms.invariance.item<double>(),
              views.var(1, /*unbiased=*/false).mean().item<double>(), 1e-5);
  EXPECT_NEAR(terms.loss.item<double>(),
              3 * terms.invariance.item<double>() + 5 * terms.sigreg.item<double>() +
                  7 * terms.shift.item<double>(),
              1e-4);
  // Neighbours: 0 and 1, 2 and 3.
  const auto means = tokens.mean(1).view({-1, 2, kDim}), moved = shifts.view({-1, 2, 2});
  EXPECT_NEAR(terms.shift.item<double>(),
              (projector->shift(means.select(1, 1) - means.select(1, 0)) -
               (moved.select(1, 1) - moved.select(1, 0)))
                  .square()
                  .mean()
                  .item<double>(),
              1e-5);
  EXPECT_THROW(clip_agreement(tokens.narrow(0, 0, 6), shifts.narrow(0, 0, 6), projector, options,
                              generator()),
               c10::Error);
}

TEST(ClipAgreement, EachViewIsMovedByItself) {
  const auto clips = torch::arange(2 * 36, torch::kUInt8).view({2, 1, 1, 6, 6});
  const AgreementOptions options{.kind = "sigreg", .views = 4, .shift = 2};
  const auto generator = [] { return seeded_generator(2); };
  const auto views = shifted_views(clips, options, generator());
  ASSERT_EQ(views.clips.size(0), 8);
  // What a process makes of its clips is what one makes of all.
  const auto second = shifted_views(clips.narrow(0, 1, 1), options, generator(), 1, 2);
  EXPECT_TRUE(second.clips.equal(views.clips.narrow(0, 4, 4)));
  EXPECT_TRUE(second.shifts.equal(views.shifts.narrow(0, 4, 4)));
}

TEST(ClipAgreement, ShiftIsReadFromTheDifferenceOfTheViews) {
  torch::manual_seed(1);
  const auto shifts = torch::rand({2 * kClips, 2}) * 2 - 1;
  // Tokens that say where they were moved to, beside what all tokens of the clip say.
  auto tokens = tokens_of_views(0);
  tokens.narrow(2, 0, 2).add_(shifts.unsqueeze(1));
  const AgreementOptions only_shift{
      .invariance_weight = 0, .variance_weight = 0, .covariance_weight = 0, .shift_weight = 1};
  auto projector = make_projector();
  torch::optim::Adam optimiser(projector->parameters(), 0.05);
  double first = 0, last = 0;
  for (int i = 0; i < 300; ++i) {
    optimiser.zero_grad();
    const auto terms = clip_agreement(tokens, shifts, projector, only_shift);
    terms.loss.backward();
    optimiser.step();
    last = terms.shift.item<double>();
    if (i == 0) first = last;
  }
  EXPECT_GT(first, 0.2);
  EXPECT_LT(last, 1e-3);
}

TEST(ClipAgreement, ReachesAllTokensWhateverTheirOrder) {
  const auto tokens = tokens_of_views(1).requires_grad_(true);
  const auto loss = agreement(tokens).loss;
  EXPECT_NEAR(agreement(tokens.flip(1)).loss.item<double>(), loss.item<double>(), 1e-4);
  loss.backward();
  EXPECT_TRUE((tokens.grad() != 0).all().item<bool>());
}

TEST(ClipAgreement, RefusesRowsThatAreNoPairs) {
  EXPECT_THROW(agreement(torch::randn({5, kTokens, kDim})), c10::Error);
  EXPECT_THROW(agreement(torch::randn({2, kTokens, kDim})), c10::Error);
}

TEST(ShiftedViews, MoveTheWholeClipAndRepeatItsEdge) {
  constexpr int64_t kShift = 2, kHeight = 5, kWide = 7;
  const auto clips = torch::randint(256, {300, 2, 3, kHeight, kWide}, torch::kUInt8);
  const auto views = shifted_views(clips, {.shift = kShift}, seeded_generator(4));
  ASSERT_EQ(views.clips.sizes(), at::IntArrayRef({600, 2, 3, kHeight, kWide}));
  ASSERT_EQ(views.clips.scalar_type(), torch::kUInt8);
  std::set<std::pair<int64_t, int64_t>> seen;
  for (int64_t row = 0; row < 600; ++row) {
    const auto moved = (views.shifts[row] * static_cast<double>(kShift)).round().to(torch::kInt64);
    const int64_t dx = moved[0].item<int64_t>(), dy = moved[1].item<int64_t>();
    seen.insert({dx, dy});
    const auto clip = clips[row / 2];
    for (int64_t y = 0; y < kHeight; ++y) {
      for (int64_t x = 0; x < kWide; ++x) {
        const auto from = clip.select(2, std::clamp<int64_t>(y - dy, 0, kHeight - 1))
                              .select(2, std::clamp<int64_t>(x - dx, 0, kWide - 1));
        ASSERT_TRUE(views.clips[row].select(2, y).select(2, x).equal(from)) << row;
      }
    }
  }
  EXPECT_EQ(seen.size(), 25);
}

TEST(ShiftedViews, TurnAndZoomAboutTheCentre) {
  // A blob 10 px right of the centre, which is between pixels.
  constexpr int64_t kSide = 64, kClips = 100;
  constexpr double kAway = 10, kTurn = 30, kZoom = 1.5;
  const auto places = torch::arange(kSide) - (kSide - 1) / 2.0;
  const auto blob =
      at::exp(-((places - kAway).square().unsqueeze(0) + places.square().unsqueeze(1)) / 8);
  const auto clips = blob.expand({kClips, 1, 2, kSide, kSide});
  const AgreementOptions options{.shift = 3, .rotation = kTurn, .zoom = kZoom};
  const auto views = shifted_views(clips, options, seeded_generator(4));
  double least_turn = 0, most_turn = 0, least_zoom = 1, most_zoom = 1;
  for (int64_t row = 0; row < 2 * kClips; ++row) {
    const auto clip = views.clips[row][0];
    ASSERT_TRUE(clip[0].equal(clip[1]));
    const double mass = clip[0].sum().item<double>();
    const double x = (clip[0].sum(0) * places).sum().item<double>() / mass -
                     views.shifts[row][0].item<double>() * 3;
    const double y = (clip[0].sum(1) * places).sum().item<double>() / mass -
                     views.shifts[row][1].item<double>() * 3;
    const double factor = std::hypot(x, y) / kAway;
    const double turn = std::atan2(y, x) * 180 / std::numbers::pi;
    EXPECT_NEAR(mass / blob.sum().item<double>(), factor * factor, 0.02);
    least_turn = std::min(least_turn, turn);
    most_turn = std::max(most_turn, turn);
    least_zoom = std::min(least_zoom, factor);
    most_zoom = std::max(most_zoom, factor);
  }
  EXPECT_NEAR(least_turn, -kTurn, 3);
  EXPECT_NEAR(most_turn, kTurn, 3);
  EXPECT_NEAR(least_zoom, 1 / kZoom, 0.05);
  EXPECT_NEAR(most_zoom, kZoom, 0.05);
}

TEST(ClipAgreement, ProjectorHasTheHiddenLayersAskedFor) {
  for (const int64_t hidden : {0, 1, 2}) {
    ClipProjector projector(kDim, kWidth, hidden);
    projector->initialise(seeded_generator(3));
    const auto views = projector->forward(torch::randn({8, kDim}));
    EXPECT_EQ(views.sizes(), (std::vector<int64_t>{8, kWidth}));
    // Weight and bias of every linear layer and norm; the shift's head stands beside them.
    EXPECT_EQ(projector->parameters().size(), static_cast<size_t>(4 * hidden + 4));
  }
}

}  // namespace
}  // namespace jepa

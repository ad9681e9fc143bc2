// Watching: windows that slide are those of a film as a whole; what is kept does not grow.
#include "patch_encoder.hpp"

#include <eval/physics/surprise_models.hpp>
#include <eval/watching/curve.hpp>
#include <eval/watching/events.hpp>
#include <eval/watching/film.hpp>
#include <eval/watching/inspect.hpp>
#include <eval/watching/peaks.hpp>
#include <eval/watching/sliding.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/nn/attention.hpp>
#include <jepa/nn/attention_look.hpp>
#include <jepa/nn/patch_embedding.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace jepa::eval::watching {
namespace {

constexpr int64_t kWindow = 8, kPast = 4, kTubelet = 2, kPatch = 8;

/// Foretells that every picture is the last known one: perfect where nothing moves.
physics::SurpriseModel still_model() {
  return physics::copy_last_surprise(kWindow, kTubelet, kPatch);
}

/// uint8 [3, frames, 16, 24]
torch::Tensor noise(int64_t frames, uint64_t seed = 1) {
  torch::manual_seed(seed);
  return torch::randint(256, {3, frames, 16, 24}, torch::kUInt8);
}

std::vector<WatchedFrame> slide(const torch::Tensor& film, const physics::WindowOptions& asked,
                                const std::vector<int64_t>& cuts = {}, int64_t* kept = nullptr) {
  std::vector<WatchedFrame> all;
  SlidingSurprise sliding(still_model(), asked,
                          [&all](const WatchedFrame& frame) { all.push_back(frame); });
  for (int64_t t = 0; t < film.size(1); ++t) {
    if (std::find(cuts.begin(), cuts.end(), t) != cuts.end()) sliding.cut();
    sliding.add(film.select(1, t).contiguous());
    if (kept != nullptr) *kept = std::max(*kept, sliding.kept());
  }
  sliding.finish();
  return all;
}

TEST(Sliding, GivesTheMapsOfAFilmAsAWhole) {
  const auto film = noise(31);
  for (const int64_t stride : {1, 2, 3, 5, 11}) {
    for (const int64_t batch : {1, 3, 100}) {
      const physics::WindowOptions asked{.past = kPast, .stride = stride, .batch = batch};
      const auto whole = physics::surprise_of(still_model(), film.unsqueeze(0), asked);
      const auto maps = whole.frame_map(0, film.size(1));
      const auto frames = slide(film, asked);
      ASSERT_EQ(frames.size(), 31u);
      int64_t windows = 0;
      for (int64_t t = 0; t < 31; ++t) {
        const auto& frame = frames[static_cast<size_t>(t)];
        EXPECT_EQ(frame.index, t);
        EXPECT_TRUE(frame.picture.equal(film.select(1, t)));
        if (frame.map.defined()) {
          EXPECT_TRUE(frame.map.equal(maps[t])) << "stride " << stride << ", frame " << t;
        } else {
          EXPECT_TRUE(maps[t].isnan().all().item<bool>());
        }
        if (frame.window >= 0) {
          EXPECT_EQ(frame.window, windows++);
          EXPECT_EQ(t, frame.window * stride + kWindow - 1);
        }
      }
      EXPECT_EQ(windows, whole.windows.size(1));
    }
  }
}

TEST(Sliding, APerfectPredictorHasNoSurpriseAndMemoryDoesNotGrow) {
  const auto film = noise(1).expand({3, 300, 16, 24});
  int64_t kept = 0;
  for (const auto& frame : slide(film, {.past = kPast, .stride = 2, .batch = 4}, {}, &kept)) {
    if (frame.map.defined()) {
      EXPECT_EQ(frame.map.abs().max().item<float>(), 0);
    }
  }
  EXPECT_LE(kept, kWindow + 2 * 4);
}

TEST(Sliding, NoWindowReachesOverACut) {
  const auto one = noise(1, 1).expand({3, 20, 16, 24}), two = noise(1, 2).expand({3, 20, 16, 24});
  const auto film = torch::cat({one, two}, 1);
  const physics::WindowOptions asked{.past = kPast, .stride = 2, .batch = 4};
  double with = 0, without = 0;
  for (const auto& frame : slide(film, asked, {20})) {
    if (frame.map.defined()) with += frame.map.sum().item<double>();
    if (frame.index >= 20 && frame.index < 20 + kPast) {
      EXPECT_FALSE(frame.map.defined());
    }
  }
  for (const auto& frame : slide(film, asked)) {
    if (frame.map.defined()) without += frame.map.sum().item<double>();
  }
  EXPECT_EQ(with, 0);
  EXPECT_GT(without, 0);
  EXPECT_THROW(slide(film, {.past = 3}), ConfigError);
}

TEST(Curve, AnOutlineOfAnyLengthKeepsItsExtremes) {
  CurveOutline outline;
  for (int64_t i = 0; i < 100000; ++i) {
    CurveRow row;
    row.seconds = 0.04 * static_cast<double>(i);
    row.surprise = i == 77777 ? 5 : i == 4 ? -5 : 1 + 0.1 * std::sin(static_cast<double>(i));
    if (i < 4) row.surprise = NAN;
    outline.add(row);
  }
  const auto& spans = outline.spans();
  ASSERT_LE(static_cast<int64_t>(spans.size()), CurveOutline::kPoints);
  ASSERT_GE(static_cast<int64_t>(spans.size()), CurveOutline::kPoints / 2);
  int64_t count = 0, high = 0, low = 0;
  for (const auto& span : spans) {
    count += span.count;
    high += span.high == 5 && span.row <= 77777;
    low += span.low == -5;
    EXPECT_NEAR(span.seconds, 0.04 * static_cast<double>(span.row), 1e-9);
  }
  EXPECT_EQ(count, 100000 - 4);
  EXPECT_EQ(high, 1);
  EXPECT_EQ(low, 1);
}

TEST(Curve, TheRunningQuantileIsNearTheTrueOne) {
  RunningQuantile quantile;
  EXPECT_EQ(quantile.value(0.5), 0);
  torch::manual_seed(3);
  const auto values = torch::rand({20000}).pow(3);
  quantile.add(values);
  quantile.add(torch::full({3}, std::nanf("")));
  for (const double share : {0.1, 0.5, 0.99}) {
    const double truth = at::quantile(values, share).item<double>();
    EXPECT_NEAR(quantile.value(share) / truth, 1, 0.03) << share;
  }
}

TEST(Peaks, AreTheHighestThatAreApart) {
  Peaks peaks(2, 10);
  const auto value = [](int64_t i) {
    const auto bump = [i](int64_t at, double height) {
      return height * std::exp(-std::abs(static_cast<double>(i - at)) / 3);
    };
    return bump(50, 3) + bump(57, 2.9) + bump(120, 2) + bump(200, 4) + bump(297, 1);
  };
  for (int64_t i = 0; i < 300; ++i) {
    SeenFrame frame;
    frame.index = i;
    frame.row.surprise = value(i);
    peaks.add(frame);
  }
  peaks.finish();
  ASSERT_EQ(peaks.peaks().size(), 2u);
  EXPECT_EQ(peaks.peaks()[0].at.index, 200);
  EXPECT_NEAR(static_cast<double>(peaks.peaks()[1].at.index), 54, 4);  // one of the twins
  EXPECT_EQ(peaks.peaks()[0].clip.size(), 21u);
  EXPECT_EQ(peaks.peaks()[0].clip.front().index, 190);
}

TEST(Film, LinksPointIntoTheMiddleOfAFrame) {
  const FilmWriter film("nowhere", 30, 100, 1);
  EXPECT_EQ(film.place(0), "film-000.mp4#t=0.017");
  EXPECT_EQ(film.place(102), "film-001.mp4#t=0.083");
}

TEST(SteadyRate, KeepsItsRateAfterAGap) {
  SteadyRate rate(5, 25);
  std::vector<int64_t> picked;
  for (int64_t i = 0; i < 30; ++i) {
    if (i >= 7 && i < 20) continue;  // lost
    if (rate.picks(static_cast<double>(i) / 25)) picked.push_back(i);
  }
  EXPECT_EQ(picked, (std::vector<int64_t>{0, 5, 20, 25}));
  SteadyRate late(5, 25);  // a film whose first frame is not at 0
  picked.clear();
  for (int64_t i = 50; i < 62; ++i) {
    if (late.picks(static_cast<double>(i) / 25)) picked.push_back(i);
  }
  EXPECT_EQ(picked, (std::vector<int64_t>{50, 55, 60}));
}

TEST(Events, SpliceWhatTheySay) {
  Footage footage;
  footage.videos = {noise(60, 1), noise(40, 2)};
  footage.fps = {10, 10};
  const auto stretches = find_stretches(footage, kWindow, kPast, 0);
  ASSERT_EQ(stretches.size(), 5u + 3u);  // of 11 frames
  const Stretch& stretch = stretches[1];
  const auto& video = footage.videos[0];
  const auto lawful = lawful_film(footage, stretch, kWindow, kPast);
  const auto frame = [](const torch::Tensor& film, int64_t t) { return film.select(1, t); };
  for (const auto& kind : event_kinds()) {
    const auto film = spliced_film(kind, footage, stretch, kWindow, kPast);
    ASSERT_TRUE(film.has_value()) << kind;
    EXPECT_TRUE(film->slice(1, 0, 7).equal(lawful.slice(1, 0, 7))) << kind;
    EXPECT_FALSE(frame(*film, 7).equal(frame(lawful, 7))) << kind;
    const int64_t first = stretch.start + 7;  // the event's first frame
    if (kind == "freeze") {
      EXPECT_TRUE(frame(*film, 10).equal(frame(lawful, 6)));
    }
    if (kind == "reversal") {
      EXPECT_TRUE(frame(*film, 7).equal(frame(video, first - 2)));
    }
    if (kind == "jump") {
      EXPECT_TRUE(frame(*film, 8).equal(frame(video, first + 11)));
    }
    if (kind == "double_speed") {
      EXPECT_TRUE(frame(*film, 8).equal(frame(video, first + 3)));
    }
    if (kind == "upside_down") {
      EXPECT_TRUE(frame(*film, 9).equal(frame(lawful, 9).flip(1)));
    }
    if (kind == "patch") {
      const auto changed = frame(*film, 9).ne(frame(lawful, 9)).any(0).sum().item<int64_t>();
      EXPECT_LE(changed, 36);  // 6 x 6 pixels
      EXPECT_GT(changed, 30);
    }
  }
  footage.videos.pop_back();
  footage.fps.pop_back();
  EXPECT_FALSE(spliced_film("other_video", footage, stretch, kWindow, kPast).has_value());
}

TEST(Events, ChangeOfDifferenceIsNoneWhereMotionGoesOn) {
  // A ramp that slides: every difference is the same.
  const auto ramp = torch::arange(24, torch::kInt64).view({1, 1, 1, 1, 24});
  const auto time = torch::arange(kWindow, torch::kInt64).view({1, 1, kWindow, 1, 1});
  auto film = (ramp + 3 * time).expand({1, 3, kWindow, 16, 24}).to(torch::kUInt8).contiguous();
  const auto model = change_of_difference(kWindow, kTubelet, kPatch);
  EXPECT_NEAR(model.tokens(film, kPast).abs().max().item<double>(), 0, 1e-6);
  film.slice(2, 6).copy_(film.slice(2, 5, 6).expand({1, 3, 2, 16, 24}).clone());  // it stops
  EXPECT_GT(model.tokens(film, kPast).max().item<double>(), 0.005);
}

/// Foretells of each place what it last was, 0 where it is not told.
class PlacePredictor : public PredictorImpl {
 public:
  Prediction forward(const torch::Tensor& context, const Mask& mask, const TokenGrid& grid,
                     int64_t) override {
    auto said = torch::zeros({context.size(0), mask.target.size(1), context.size(2)});
    for (int64_t i = 0; i < mask.target.size(1); ++i) {
      for (int64_t k = 0; k < mask.context.size(1); ++k) {
        const int64_t place = mask.target[0][i].item<int64_t>() % grid.frame_size();
        if (mask.context[0][k].item<int64_t>() % grid.frame_size() == place) {
          said.select(1, i).copy_(context.select(1, k));
        }
      }
    }
    return {said, {}};
  }
  void initialise(at::Generator) override {}
  double flops(int64_t, int64_t) const override { return 0; }
};

TEST(Inspect, AnIgnoredQuadrantIsWhereTheSurpriseIs) {
  physics::MaskedModel model;
  model.encoder =
      Encoder(std::shared_ptr<EncoderImpl>(std::make_shared<PatchEncoder>(kTubelet, kPatch)));
  model.predictor = Predictor(std::shared_ptr<PredictorImpl>(std::make_shared<PlacePredictor>()));
  model.tubelet = kTubelet;
  model.patch = kPatch;
  const auto still = noise(1).expand({3, kWindow, 16, 24}).unsqueeze(0).contiguous();  // 2 x 3
  EXPECT_EQ(physics::masked_surprise(model, kWindow, torch::kCPU)
                .tokens(still, kPast)
                .abs()
                .max()
                .item<float>(),
            0);
  for (size_t quadrant = 0; quadrant < 4; ++quadrant) {
    auto blind = model;
    blind.predictor = ignore_quadrant(model.predictor, quadrant_names()[quadrant]);
    const auto map =
        physics::masked_surprise(blind, kWindow, torch::kCPU).tokens(still, kPast)[0][0];
    for (int64_t row = 0; row < 2; ++row) {
      for (int64_t column = 0; column < 3; ++column) {
        const bool ignored = quadrant_of(row, column, {4, 2, 3}) == static_cast<int64_t>(quadrant);
        EXPECT_EQ(map[row][column].item<float>() > 0, ignored) << quadrant << row << column;
      }
    }
  }
  EXPECT_THROW(ignore_quadrant(model.predictor, "middle"), ConfigError);
}

TEST(Inspect, LookingAtAttentionGivesItsWeightsAndChangesNothingElse) {
  nn::Attention attention(8, 2);
  auto generator = seeded_generator(5);
  for (auto& parameter : attention->parameters()) {
    torch::NoGradGuard no_grad;
    parameter.normal_(0, 0.5, generator);
  }
  const torch::NoGradGuard no_grad;
  const auto x = at::randn({2, 5, 8}, generator);
  const auto before = attention->forward(x);
  {
    nn::AttentionLook look;
    EXPECT_TRUE(at::allclose(attention->forward(x), before, 1e-5, 1e-6));
    ASSERT_EQ(look.layers.size(), 1u);
    EXPECT_EQ(look.layers[0].sizes(), (std::vector<int64_t>{2, 5, 5}));
    EXPECT_TRUE(at::allclose(look.layers[0].sum(2), torch::ones({2, 5})));
  }
  EXPECT_EQ(nn::AttentionLook::current(), nullptr);
  EXPECT_TRUE(attention->forward(x).equal(before));
}

}  // namespace
}  // namespace jepa::eval::watching

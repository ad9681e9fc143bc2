// The algebra between data, noise, velocity and score, against closed forms.
#include <eval/diffusion/interpolant.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::diffusion {
namespace {

constexpr double kTiny = 1e-9;  // a floor that never is reached
const char* const kPaths[] = {"linear", "cosine", "vp"};
constexpr Quantity kQuantities[] = {Quantity::kClean, Quantity::kNoise, Quantity::kVelocity};

torch::Tensor times(std::vector<double> values) { return torch::tensor(values, torch::kFloat64); }

/// Data, noise, times well inside, and what is true at them.
struct Scene {
  torch::Tensor x, e, t, z, v, sigma;

  explicit Scene(const Interpolant& path) {
    torch::manual_seed(1);
    t = times({0.03, 0.2, 0.5, 0.77, 0.96});
    x = torch::randn({5, 2, 3}, torch::kFloat64);
    e = torch::randn({5, 2, 3}, torch::kFloat64);
    const auto c = path.at(spread_times(t, x));
    z = c.alpha * x + c.sigma * e;
    v = c.alpha_rate * x + c.sigma_rate * e;
    sigma = c.sigma;
  }
  const torch::Tensor& truth(Quantity which) const {
    return which == Quantity::kClean ? x : which == Quantity::kNoise ? e : v;
  }
};

void expect_close(const torch::Tensor& found, const torch::Tensor& expected, double tolerance) {
  EXPECT_LE((found - expected).abs().max().item<double>(), tolerance);
}

TEST(Interpolant, EveryQuantityGivesAllOthers) {
  for (const char* name : kPaths) {
    const Interpolant path(name, kTiny);
    const Scene scene(path);
    expect_close(path.mix(scene.x, scene.e, scene.t), scene.z, 1e-12);
    for (const Quantity said : kQuantities) {
      const Estimate all = path.estimate(said, scene.truth(said), scene.z, scene.t);
      for (const Quantity which : kQuantities) {
        SCOPED_TRACE(c10::str(name, " ", static_cast<int>(said), " to ", static_cast<int>(which)));
        expect_close(all[which], scene.truth(which), 1e-9);
      }
      expect_close(all.score, -scene.e / scene.sigma, 1e-8);
    }
  }
}

TEST(Interpolant, RoundTripsOfWrongAnswersToo) {
  for (const char* name : kPaths) {
    const Interpolant path(name, kTiny);
    const Scene scene(path);
    const auto wrong = torch::randn_like(scene.x);
    for (const Quantity said : kQuantities) {
      const Estimate there = path.estimate(said, wrong, scene.z, scene.t);
      for (const Quantity via : kQuantities) {
        const Estimate back = path.estimate(via, there[via], scene.z, scene.t);
        SCOPED_TRACE(c10::str(name, " ", static_cast<int>(said), " via ", static_cast<int>(via)));
        expect_close(back[said], wrong, 1e-7);
      }
    }
  }
}

TEST(Interpolant, LinearPathIsTheTextbook) {
  const Interpolant path("linear", kTiny);
  const Scene s(path);
  const auto t = s.t.view({5, 1, 1});
  const Estimate all = path.estimate(Quantity::kVelocity, s.v, s.z, s.t);
  expect_close(s.v, s.x - s.e, 1e-12);
  expect_close(all.clean, s.z + (1 - t) * s.v, 1e-12);
  expect_close(all.noise, s.z - t * s.v, 1e-12);
}

TEST(Interpolant, EndsOfTheSchedules) {
  for (const char* name : kPaths) {
    const auto c = Interpolant(name).at(times({0, 1}));
    EXPECT_EQ(c.alpha[1].item<double>(), 1) << name;
    EXPECT_EQ(c.sigma[1].item<double>(), 0) << name;
    EXPECT_NEAR(c.alpha[0].item<double>(), 0, 0.01) << name;  // vp keeps 0.7 %
    EXPECT_NEAR(c.sigma[0].item<double>(), 1, 1e-4) << name;
  }
  const auto x = torch::randn({2, 3});
  for (const char* name : kPaths) {
    EXPECT_TRUE(Interpolant(name).mix(x, torch::randn({2, 3}), torch::ones({2})).equal(x)) << name;
  }
}

TEST(Interpolant, VariancePreservingPathsKeepTheVariance) {
  const auto t = torch::linspace(0, 1, 101, torch::kFloat64);
  for (const char* name : {"cosine", "vp"}) {
    const auto c = Interpolant(name).at(t);
    expect_close(c.alpha.square() + c.sigma.square(), torch::ones_like(t), 1e-12);
  }
}

TEST(Interpolant, RatesAreDerivatives) {
  const auto t = torch::linspace(0.01, 0.99, 50, torch::kFloat64);
  const double h = 1e-6;
  for (const char* name : kPaths) {
    const Interpolant path(name);
    const auto c = path.at(t), before = path.at(t - h), after = path.at(t + h);
    SCOPED_TRACE(name);
    expect_close((after.alpha - before.alpha) / (2 * h), c.alpha_rate, 1e-6);
    expect_close((after.sigma - before.sigma) / (2 * h), c.sigma_rate, 1e-5);
    EXPECT_GT((c.alpha_rate * c.sigma - c.alpha * c.sigma_rate).min().item<double>(), 0) << name;
  }
}

TEST(DiffusionLoss, RelationsOfTheLinearPath) {
  const Interpolant path("linear", kTiny);
  const double t = 0.7;
  torch::manual_seed(3);
  const auto x = torch::randn({4, 6}, torch::kFloat64), e = torch::randn_like(x);
  const auto said = x + 0.1 * torch::randn_like(x);
  const auto at = torch::full({4}, t, torch::kFloat64);
  const auto loss = [&](Quantity compared) {
    return path.loss(Quantity::kClean, compared, said, x, e, at).item<double>();
  };
  const double base = loss(Quantity::kClean);
  EXPECT_NEAR(loss(Quantity::kVelocity), base / std::pow(1 - t, 2), 1e-9);
  EXPECT_NEAR(loss(Quantity::kNoise), base * std::pow(t / (1 - t), 2), 1e-9);
}

TEST(DiffusionLoss, NineCombinationsAreFiniteAndZeroForTheTruth) {
  torch::manual_seed(4);
  const auto t = torch::tensor({0.0, 1e-4, 0.3, 0.9, 0.9999});
  const auto x = torch::randn({5, 8}), e = torch::randn({5, 8});
  for (const char* name : kPaths) {
    const Interpolant path(name);
    const auto c = path.at(spread_times(t, x));
    for (const Quantity said : kQuantities) {
      const auto truth = said == Quantity::kClean   ? x
                         : said == Quantity::kNoise ? e
                                                    : c.alpha_rate * x + c.sigma_rate * e;
      for (const Quantity compared : kQuantities) {
        SCOPED_TRACE(c10::str(name, " ", static_cast<int>(said), static_cast<int>(compared)));
        const auto wrong = path.loss(said, compared, torch::zeros_like(x), x, e, t);
        EXPECT_TRUE(torch::isfinite(wrong).item<bool>());
        EXPECT_GT(wrong.item<double>(), 0);
        EXPECT_LT(path.loss(said, compared, truth, x, e, t).item<double>(), 1e-9);
      }
    }
  }
}

/// A loss is the difference of what two estimates say of the quantity compared, floors included.
TEST(DiffusionLoss, ComparesEstimates) {
  torch::manual_seed(5);
  const auto t = times({0.0, 0.02, 0.4, 0.97, 0.999});
  const auto x = torch::randn({5, 8}, torch::kFloat64), e = torch::randn_like(x);
  const auto value = torch::randn_like(x);
  for (const char* name : kPaths) {
    const Interpolant path(name);
    const auto c = path.at(spread_times(t, x));
    const auto z = path.mix(x, e, t);
    for (const Quantity said : kQuantities) {
      const auto truth = said == Quantity::kClean   ? x
                         : said == Quantity::kNoise ? e
                                                    : c.alpha_rate * x + c.sigma_rate * e;
      for (const Quantity compared : kQuantities) {
        const auto difference =
            path.estimate(said, value, z, t)[compared] - path.estimate(said, truth, z, t)[compared];
        const double expected = difference.square().mean().item<double>();
        EXPECT_NEAR(path.loss(said, compared, value, x, e, t).item<double>(), expected,
                    1e-9 * expected)
            << name << " " << static_cast<int>(said) << static_cast<int>(compared);
      }
    }
  }
}

TEST(DiffusionLoss, GivenFramesDoNotCount) {
  torch::manual_seed(6);
  const Interpolant path;
  const auto x = torch::randn({2, 1, 4, 3, 3}), e = torch::randn_like(x);
  const auto t = torch::tensor({{1.0, 0.4}, {1.0, 0.4}});  // frames 0 and 1 are given
  auto said = torch::randn_like(x);
  const auto base = path.loss(Quantity::kClean, Quantity::kVelocity, said, x, e, t);
  auto other = said.clone();
  other.narrow(2, 0, 2).add_(100);
  EXPECT_TRUE(path.loss(Quantity::kClean, Quantity::kVelocity, other, x, e, t).equal(base));
  const auto free = [](const torch::Tensor& clip) { return clip.narrow(2, 2, 2); };
  const auto alone = path.loss(Quantity::kClean, Quantity::kVelocity, free(said), free(x), free(e),
                               torch::full({2}, 0.4));
  EXPECT_NEAR(base.item<double>(), alone.item<double>(), 1e-5);
}

TEST(Interpolant, TimesOfFramesSpreadOverTheirGroups) {
  const auto t = torch::tensor({{0.1, 0.2}});
  const auto spread = spread_times(t, torch::zeros({1, 3, 4, 2, 2}));
  EXPECT_EQ(spread.sizes(), (std::vector<int64_t>{1, 1, 4, 1, 1}));
  EXPECT_TRUE(spread.flatten().equal(torch::tensor({0.1, 0.1, 0.2, 0.2})));
}

TEST(Interpolant, NamesAreChecked) {
  EXPECT_THROW(Interpolant("straight"), ConfigError);
  EXPECT_THROW(quantity("z"), ConfigError);
  EXPECT_EQ(quantity("v"), Quantity::kVelocity);
}

}  // namespace
}  // namespace jepa::eval::diffusion

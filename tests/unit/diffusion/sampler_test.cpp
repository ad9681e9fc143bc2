// Samplers against a Gaussian whose posterior mean is known, and on frames that are given.
#include <eval/diffusion/sampler.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::diffusion {
namespace {

/// Data N(mu, Sigma) of three dimensions, and what the perfect network says of it.
struct Gaussian {
  torch::Tensor mean = torch::tensor({1.0, -0.5, 0.3}, torch::kFloat64);
  torch::Tensor root =
      torch::tensor({{0.8, 0.0, 0.0}, {0.3, 0.5, 0.0}, {-0.2, 0.1, 0.3}}, torch::kFloat64);
  torch::Tensor covariance = at::mm(root, root.t());

  /// E[x | z] = mu + alpha Sigma (alpha^2 Sigma + sigma^2 I)^-1 (z - alpha mu).
  Denoiser denoiser(const Interpolant& path, Quantity said = Quantity::kClean) const {
    return [this, &path, said](const torch::Tensor& z, const torch::Tensor& t) {
      const auto c = path.at(t.slice(0, 0, 1));
      const auto total =
          c.alpha.square() * covariance + c.sigma.square() * torch::eye(3, torch::kFloat64);
      const auto gain = c.alpha * at::mm(covariance, at::linalg_inv(total));
      const auto clean = mean + at::mm(z - c.alpha * mean, gain.t());
      return path.estimate(Quantity::kClean, clean, z, t)[said];
    };
  }
  torch::Tensor draw(int64_t count) const {
    return mean + at::mm(torch::randn({count, 3}, torch::kFloat64), root.t());
  }
};

torch::Tensor run(const Gaussian& data, const std::string& path_name, const SamplerOptions& options,
                  const torch::Tensor& noise, Quantity said = Quantity::kClean) {
  const Interpolant path(path_name, 1e-6);
  return sample(data.denoiser(path, said), said, path, noise, options, {}, seeded_generator(7));
}

void expect_distribution(const Gaussian& data, const torch::Tensor& x, double tolerance) {
  const auto centred = x - x.mean(0);
  const auto covariance = at::mm(centred.t(), centred) / static_cast<double>(x.size(0));
  EXPECT_LT((x.mean(0) - data.mean).abs().max().item<double>(), tolerance);
  EXPECT_LT((covariance - data.covariance).abs().max().item<double>(), tolerance) << covariance;
}

/// Noise with mean 0 and covariance 1 exactly: what a method without noise of its own makes of it
/// has no sampling error, since all that is said of a Gaussian is affine.
torch::Tensor whitened_noise(int64_t count, uint64_t seed) {
  const auto raw = torch::randn({count, 3}, seeded_generator(seed), torch::kFloat64);
  const auto centred = raw - raw.mean(0);
  const auto covariance = at::mm(centred.t(), centred) / static_cast<double>(count);
  return at::mm(centred, at::linalg_inv(at::linalg_cholesky(covariance)).t());
}

TEST(Sampler, AllMethodsDrawTheGaussian) {
  const Gaussian data;
  const auto few = whitened_noise(200, 1);
  const auto many = whitened_noise(6000, 1);
  for (const char* path : {"linear", "cosine", "vp"}) {
    SCOPED_TRACE(path);
    expect_distribution(data, run(data, path, {.method = "euler", .steps = 200}, few), 0.025);
    expect_distribution(data, run(data, path, {.method = "heun", .steps = 60}, few), 0.025);
    expect_distribution(data, run(data, path, {.method = "ddim", .steps = 200}, few), 0.025);
    // Fresh noise at each step: a sampling error of about 0.01, and the steps' own.
    expect_distribution(data, run(data, path, {.method = "ddpm", .steps = 200}, many), 0.05);
  }
}

TEST(Sampler, WhatTheNetworkSaysDoesNotMatter) {
  const Gaussian data;
  torch::manual_seed(2);
  const auto noise = torch::randn({50, 3}, torch::kFloat64);
  for (const char* method : {"euler", "heun", "ddim", "ddpm"}) {
    // The noise of a sample at t = 0 says nothing of the data, so e starts out poorer.
    const auto by_x = run(data, "linear", {.method = method, .steps = 30}, noise);
    const auto by_v =
        run(data, "linear", {.method = method, .steps = 30}, noise, Quantity::kVelocity);
    EXPECT_LT((by_x - by_v).abs().max().item<double>(), 1e-6) << method;
  }
}

TEST(Sampler, HalfWayNoiseStillDrawsTheGaussian) {
  const Gaussian data;
  const auto noise = whitened_noise(6000, 3);
  expect_distribution(
      data, run(data, "linear", {.method = "ddim", .steps = 200, .eta = 0.5}, noise), 0.05);
  expect_distribution(
      data, run(data, "linear", {.method = "heun", .steps = 60, .shift = 3.0}, noise), 0.025);
}

/// Heun's error falls with the square of the step, Euler's with the step.
TEST(Sampler, OrdersOfTheError) {
  const Gaussian data;
  torch::manual_seed(4);
  const auto noise = torch::randn({20, 3}, torch::kFloat64);
  const auto exact = run(data, "linear", {.method = "heun", .steps = 4000}, noise);
  const auto error = [&](const char* method, int64_t steps) {
    return (run(data, "linear", {.method = method, .steps = steps}, noise) - exact)
        .abs()
        .max()
        .item<double>();
  };
  const double euler = std::log2(error("euler", 100) / error("euler", 200));
  const double heun = std::log2(error("heun", 100) / error("heun", 200));
  EXPECT_NEAR(euler, 1, 0.15);
  EXPECT_NEAR(heun, 2, 0.25);
  EXPECT_LT(error("heun", 40), error("euler", 80));
}

TEST(Sampler, InversionComesBack) {
  const Gaussian data;
  torch::manual_seed(5);
  const auto x = data.draw(100);
  for (const char* name : {"linear", "cosine", "vp"}) {
    const Interpolant path(name, 1e-6);
    const SamplerOptions options{.method = "ddim", .steps = 400};
    const auto denoise = data.denoiser(path);
    const auto noise = invert(denoise, Quantity::kClean, path, x, options);
    const auto back =
        sample(denoise, Quantity::kClean, path, noise, options, {}, seeded_generator(1));
    EXPECT_LT((back - x).abs().max().item<double>(), 0.05) << name;
    EXPECT_LT((noise.std(0) - 1).abs().max().item<double>(), 0.3) << name;
  }
}

TEST(Sampler, FinishesOnWhatIsClean) {
  const Interpolant path;  // with its floor: 1 - t = 0.01 in the last step
  const auto clean = torch::randn({3, 2});
  const Denoiser denoise = [&](const torch::Tensor&, const torch::Tensor&) { return clean; };
  for (const char* method : {"euler", "heun", "ddim", "ddpm"}) {
    const auto x = sample(denoise, Quantity::kClean, path, torch::randn({3, 2}),
                          {.method = method, .steps = 100}, {}, seeded_generator(2));
    EXPECT_TRUE(x.equal(clean)) << method;
  }
  EXPECT_THROW(
      sample(denoise, Quantity::kClean, path, clean, {.method = "rk4"}, {}, seeded_generator(1)),
      ConfigError);
}

/// Whatever the method, the network always sees given frames as they are, at time 1, and they come
/// back bit for bit.
TEST(Sampler, GivenFramesStayAsTheyAre) {
  torch::manual_seed(6);
  GivenFrames given;
  given.clip = torch::randn({2, 3, 4, 2, 2});
  given.known = torch::tensor({{true, false}, {false, true}});  // groups of two frames
  const auto known =
      given.known.repeat_interleave(2, 1).view({2, 1, 4, 1, 1}).expand({2, 3, 4, 2, 2});
  for (const char* path_name : {"linear", "cosine", "vp"}) {
    const Interpolant path(path_name);
    for (const char* method : {"euler", "heun", "ddim", "ddpm"}) {
      int64_t calls = 0;
      const Denoiser denoise = [&](const torch::Tensor& z, const torch::Tensor& t) {
        ++calls;
        EXPECT_TRUE(z.masked_select(known).equal(given.clip.masked_select(known))) << method;
        EXPECT_TRUE(t.masked_select(given.known).eq(1).all().item<bool>());
        EXPECT_TRUE(t.masked_select(given.known.logical_not()).lt(1).all().item<bool>());
        return torch::tanh(z) * 0.5;
      };
      const auto x = sample(denoise, Quantity::kClean, path, torch::randn({2, 3, 4, 2, 2}),
                            {.method = method, .steps = 5}, given, seeded_generator(3));
      EXPECT_TRUE(x.masked_select(known).equal(given.clip.masked_select(known))) << method;
      EXPECT_FALSE(x.equal(given.clip));
      EXPECT_TRUE(torch::isfinite(x).all().item<bool>());
      EXPECT_EQ(calls, std::string(method) == "heun" ? 9 : 5);
    }
  }
}

TEST(Guidance, WeightOneIsTheConditionalModelAndAsksNothingElse) {
  const Denoiser with = [](const torch::Tensor& z, const torch::Tensor&) { return torch::sin(z); };
  const Denoiser never = [](const torch::Tensor&, const torch::Tensor&) -> torch::Tensor {
    throw Error("asked");
  };
  const auto z = torch::randn({2, 4, 2, 3, 3});
  EXPECT_TRUE(guide({with, never, never}, {})(z, torch::zeros({2})).equal(torch::sin(z)));
  // Weights of what is not there ask nothing either.
  const SamplerOptions heavy{.guidance = 3, .given_guidance = 3};
  EXPECT_TRUE(guide({with}, heavy)(z, torch::zeros({2})).equal(torch::sin(z)));
}

TEST(Guidance, IsLinearOverAllChannelsWithinItsTimes) {
  const Denoiser with = [](const torch::Tensor& z, const torch::Tensor&) { return torch::sin(z); };
  const Denoiser without = [](const torch::Tensor& z, const torch::Tensor&) { return z.square(); };
  const auto z = torch::randn({2, 4, 2, 3, 3});
  for (const double weight : {0.0, 0.3, 1.5, 4.0}) {
    const auto guided =
        guide({with, without}, {.guidance = weight, .guidance_from = 0.2, .guidance_to = 0.8});
    const auto expected = z.square() + weight * (torch::sin(z) - z.square());
    EXPECT_TRUE(torch::allclose(guided(z, torch::full({2}, 0.5)), expected, 1e-4, 1e-5)) << weight;
    EXPECT_TRUE(guided(z, torch::full({2}, 0.1)).equal(torch::sin(z)));
    EXPECT_TRUE(guided(z, torch::full({2}, 0.9)).equal(torch::sin(z)));
    // Given frames stand at time 1; the frames that are made decide.
    EXPECT_TRUE(
        torch::allclose(guided(z, torch::tensor({{1.0, 0.5}, {1.0, 0.5}})), expected, 1e-4, 1e-5));
  }
}

TEST(Guidance, GivenFramesAndTheConditionHaveWeightsOfTheirOwn) {
  const Denoiser all = [](const torch::Tensor& z, const torch::Tensor&) { return torch::sin(z); };
  const Denoiser given = [](const torch::Tensor& z, const torch::Tensor&) { return z.square(); };
  const Denoiser alone = [](const torch::Tensor& z, const torch::Tensor&) { return 0.5 * z; };
  const auto z = torch::randn({2, 4, 2, 3, 3});
  const auto t = torch::full({2}, 0.5);
  for (const double text : {1.0, 2.0}) {
    for (const double image : {0.0, 1.0, 3.0}) {
      const auto guided =
          guide({all, given, alone}, {.guidance = text, .given_guidance = image})(z, t);
      const auto expected =
          0.5 * z + image * (z.square() - 0.5 * z) + text * (torch::sin(z) - z.square());
      EXPECT_TRUE(torch::allclose(guided, expected, 1e-4, 1e-5)) << text << " " << image;
    }
  }
  // Without a condition, `all` is what is given.
  const auto unprompted = guide({all, {}, alone}, {.guidance = 5, .given_guidance = 3})(z, t);
  const auto expected = 0.5 * z + 3 * (torch::sin(z) - 0.5 * z);
  EXPECT_TRUE(torch::allclose(unprompted, expected, 1e-4, 1e-5));
}

TEST(Guidance, PassesAreCounted) {
  const SamplerOptions plain{.method = "euler", .steps = 10};
  EXPECT_EQ(network_passes(plain, true, true), 10);
  SamplerOptions guided = plain;
  guided.guidance = 2;
  EXPECT_EQ(network_passes(guided, true, true), 20);
  EXPECT_EQ(network_passes(guided, false, true), 10);
  guided.given_guidance = 2;
  EXPECT_EQ(network_passes(guided, true, true), 30);
  EXPECT_EQ(network_passes(guided, true, false), 20);
  EXPECT_EQ(network_passes(guided, false, true), 20);
  guided.method = "heun";
  EXPECT_EQ(network_passes(guided, false, true), 38);
}

TEST(Times, DistributionsHaveTheirMeans) {
  const auto uniform = draw_times(200000, {.distribution = "uniform"}, seeded_generator(1));
  EXPECT_NEAR(uniform.mean().item<double>(), 0.5, 0.003);
  EXPECT_NEAR(uniform.var().item<double>(), 1.0 / 12, 0.002);
  const auto normal = draw_times(200000, {.mean = -0.8, .deviation = 0.8}, seeded_generator(1));
  const auto logit = torch::logit(normal.to(torch::kFloat64));
  EXPECT_NEAR(logit.mean().item<double>(), -0.8, 0.01);
  EXPECT_NEAR(logit.std().item<double>(), 0.8, 0.01);
  for (const auto& t : {uniform, normal}) {
    EXPECT_GE(t.min().item<double>(), 0);
    EXPECT_LT(t.max().item<double>(), 1);
  }
  EXPECT_THROW(draw_times(1, {.distribution = "beta"}, seeded_generator(1)), ConfigError);
}

/// With noise at 1 - t, the shift is Esser et al.'s s u / (1 + (s - 1) u).
TEST(Times, ShiftAddsNoise) {
  const auto t = torch::linspace(0, 1, 11, torch::kFloat64);
  const double s = 3;
  const auto u = 1 - t;
  EXPECT_TRUE(torch::allclose(1 - shift_times(t, s), s * u / (1 + (s - 1) * u)));
  EXPECT_TRUE(shift_times(t, 1).equal(t));
  const auto plain = draw_times(1000, {.distribution = "uniform"}, seeded_generator(4));
  const auto shifted =
      draw_times(1000, {.distribution = "uniform", .shift = s}, seeded_generator(4));
  EXPECT_TRUE(torch::allclose(shifted, shift_times(plain, s)));
}

}  // namespace
}  // namespace jepa::eval::diffusion

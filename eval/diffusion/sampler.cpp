#include <eval/diffusion/sampler.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::diffusion {
namespace {

/// Times of the steps, from noise (0) to data (1): steps + 1 of them.
std::vector<double> step_times(const SamplerOptions& options) {
  std::vector<double> times;
  for (int64_t i = 0; i <= options.steps; ++i) {
    const double t = static_cast<double>(i) / static_cast<double>(options.steps);
    times.push_back(i == options.steps ? 1 : t / (options.shift - (options.shift - 1) * t));
  }
  return times;
}

/// One sample under way.
class Walk {
 public:
  Walk(const Denoiser& denoise, Quantity predicted, const Interpolant& path,
       const torch::Tensor& start, const GivenFrames& given)
      : denoise_(denoise), predicted_(predicted), path_(path), z_(start.clone()), given_(given) {
    if (given_.clip.defined()) {
      known_ = spread_times(given_.known.to(start.scalar_type()), start).to(torch::kBool);
      keep_given();
    }
  }

  torch::Tensor& z() { return z_; }

  Estimate estimate(const torch::Tensor& z, double t) const {
    const auto times = times_at(t);
    return path_.estimate(predicted_, denoise_(z, times), z, times);
  }

  /// Given frames are put back after every step: predictions of them do not count.
  void keep_given() { keep_given(z_); }

  /// The last step of any method: at t = 1 the sample is the clean estimate.
  void finish(double t) {
    z_.copy_(estimate(z_, t).clean);
    keep_given();
  }

  void euler(double t, double s) {
    z_.add_(estimate(z_, t).velocity, s - t);
    keep_given();
  }

  void heun(double t, double s) {
    const auto first = estimate(z_, t).velocity;
    auto ahead = at::add(z_, first, s - t);
    keep_given(ahead);
    z_.add_(first + estimate(ahead, s).velocity, 0.5 * (s - t));
    keep_given();
  }

  /// DDIM from t to s, with a share `eta` of the ancestral noise; eta = 1 is DDPM's posterior.
  void jump(double t, double s, double eta, const at::Generator& generator) {
    const Estimate now = estimate(z_, t);
    const auto at_t = coefficients(t);
    const auto at_s = coefficients(s);
    const double ratio = at_t.alpha / std::max(at_s.alpha, 1e-12);
    const double carried = ratio * at_s.sigma;
    const double added = std::max(0.0, at_t.sigma * at_t.sigma - carried * carried);
    const double deviation = eta * std::sqrt(added) * at_s.sigma / std::max(at_t.sigma, 1e-12);
    const double kept = std::sqrt(std::max(0.0, at_s.sigma * at_s.sigma - deviation * deviation));
    z_.copy_(now.clean).mul_(at_s.alpha).add_(now.noise, kept);
    if (deviation > 0) {
      const auto noise = torch::randn(z_.sizes(), generator, z_.options().device(torch::kCPU));
      z_.add_(noise.to(z_.device()), deviation);
    }
    keep_given();
  }

 private:
  void keep_given(torch::Tensor& z) const {
    if (known_.defined()) z.copy_(torch::where(known_, given_.clip, z));
  }

  struct Numbers {
    double alpha, sigma;
  };
  Numbers coefficients(double t) const {
    const auto c = path_.at(torch::tensor({t}, torch::kFloat64));
    return {c.alpha.item<double>(), c.sigma.item<double>()};
  }
  torch::Tensor times_at(double t) const {
    if (!known_.defined()) return torch::full({z_.size(0)}, t, z_.options());
    return torch::where(given_.known, torch::ones({}, z_.options()),
                        torch::full({}, t, z_.options()));
  }

  const Denoiser& denoise_;
  Quantity predicted_;
  const Interpolant& path_;
  torch::Tensor z_;
  const GivenFrames& given_;
  torch::Tensor known_;  // bool, spread over frames
};

}  // namespace

void TimeOptions::describe(OptionVisitor& visit) {
  visit("distribution", distribution,
        {.help = "of training times", .choices = {"logit_normal", "uniform"}});
  visit("mean", mean, {.help = "of the logit; below 0: nearer to noise"});
  visit("deviation", deviation, {.help = "of the logit", .min = 1e-3});
  visit("shift", shift, {.help = "above 1: more noise", .min = 1e-3});
}

void SamplerOptions::describe(OptionVisitor& visit) {
  visit("method", method, {.help = "", .choices = {"euler", "heun", "ddim", "ddpm"}});
  visit("steps", steps, {.help = "from noise to data", .min = 1, .max = 10000});
  visit("guidance", guidance,
        {.help = "weight of the condition (classifier-free guidance); 1: as trained", .min = 0});
  visit("guidance_from", guidance_from, {.help = "guided from this time on", .min = 0, .max = 1});
  visit("guidance_to", guidance_to, {.help = "until this time (1: data)", .min = 0, .max = 1});
  visit("given_guidance", given_guidance,
        {.help = "weight of frames that are given; 1: as trained", .min = 0});
  visit("eta", eta, {.help = "ddim: share of fresh noise a step", .min = 0, .max = 1});
  visit("shift", shift, {.help = "above 1: more steps near noise", .min = 1e-3});
}

int64_t network_passes(const SamplerOptions& options, bool conditioned, bool given) {
  const int64_t steps = options.method == "heun" ? 2 * options.steps - 1 : options.steps;
  const bool alone = given && options.given_guidance != 1;
  const bool unconditioned = conditioned && (options.guidance != 1 || alone);
  return steps * (1 + (unconditioned ? 1 : 0) + (alone ? 1 : 0));
}

torch::Tensor shift_times(const torch::Tensor& t, double shift) {
  return shift == 1 ? t : t / (shift - (shift - 1) * t);
}

torch::Tensor draw_times(int64_t count, const TimeOptions& options, at::Generator generator) {
  torch::Tensor t;
  if (options.distribution == "uniform") {
    t = torch::rand({count}, generator);
  } else if (options.distribution == "logit_normal") {
    t = torch::sigmoid(options.mean + options.deviation * torch::randn({count}, generator));
  } else {
    throw ConfigError("time distribution " + options.distribution +
                      " is not one of logit_normal, uniform");
  }
  return shift_times(t, options.shift).clamp_max(1.0 - 1e-4);
}

Denoiser guide(Branches branches, const SamplerOptions& options) {
  const double weight = branches.given ? options.guidance : 1;
  const double given_weight = branches.alone ? options.given_guidance : 1;
  if (weight == 1 && given_weight == 1) return branches.all;
  return [=, from = options.guidance_from, to = options.guidance_to](const torch::Tensor& z,
                                                                     const torch::Tensor& t) {
    const auto all = branches.all(z, t);
    // Given frames stand at time 1; the smallest time is that of the frames that are made.
    const double now = t.min().item<double>();
    if (now < from || now > to) return all;
    const auto given = branches.given ? branches.given(z, t) : all;
    const auto guided = weight == 1 ? all : at::lerp(given, all, weight);
    if (given_weight == 1) return guided;
    return guided + (given_weight - 1) * (given - branches.alone(z, t));
  };
}

torch::Tensor sample(const Denoiser& denoise, Quantity predicted, const Interpolant& path,
                     const torch::Tensor& noise, const SamplerOptions& options,
                     const GivenFrames& given, at::Generator generator) {
  const auto& method = options.method;
  if (method != "euler" && method != "heun" && method != "ddim" && method != "ddpm") {
    throw ConfigError("sampler " + method + " is not one of euler, heun, ddim, ddpm");
  }
  const torch::NoGradGuard no_grad;
  Walk walk(denoise, predicted, path, noise, given);
  const auto times = step_times(options);
  for (size_t i = 0; i + 1 < times.size(); ++i) {
    const double t = times[i];
    const double s = times[i + 1];
    const bool last = i + 2 == times.size();
    if (last) {
      walk.finish(t);
    } else if (options.method == "euler") {
      walk.euler(t, s);
    } else if (options.method == "heun") {
      walk.heun(t, s);
    } else {
      walk.jump(t, s, options.method == "ddpm" ? 1.0 : options.eta, generator);
    }
  }
  return walk.z();
}

torch::Tensor invert(const Denoiser& denoise, Quantity predicted, const Interpolant& path,
                     const torch::Tensor& data, const SamplerOptions& options) {
  const torch::NoGradGuard no_grad;
  const GivenFrames none;
  Walk walk(denoise, predicted, path, data, none);
  const auto times = step_times(options);
  for (size_t i = times.size() - 1; i > 0; --i) {
    // At t = 1 itself nothing is noisy yet: the estimate just before it stands in.
    const double t = i + 1 == times.size() ? 0.5 * (times[i] + times[i - 1]) : times[i];
    const double s = times[i - 1];
    const Estimate here = walk.estimate(walk.z(), t);
    const auto c = path.at(torch::tensor({s}, torch::kFloat64));
    walk.z() = c.alpha.item<double>() * here.clean + c.sigma.item<double>() * here.noise;
  }
  return walk.z();
}

}  // namespace jepa::eval::diffusion

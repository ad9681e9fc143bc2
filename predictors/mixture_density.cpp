#include <jepa/errors.hpp>
#include <predictors/mixture_density.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <numbers>

namespace jepa::predictors {
namespace {

const double kHalfLogTwoPi = 0.5 * std::log(2 * std::numbers::pi);

}  // namespace

Mixture split_mixture(const torch::Tensor& output, int64_t latent, int64_t mixtures) {
  TORCH_CHECK(output.dim() == 3 && output.size(2) == 1 + latent * 3 * mixtures,
              "split_mixture: output [B, T, ", 1 + latent * 3 * mixtures, "] expected, got ",
              output.sizes());
  const auto parts =
      output.narrow(2, 1, latent * 3 * mixtures).unflatten(2, {latent, 3, mixtures}).unbind(3);
  return {output.select(2, 0), parts[0].log_softmax(-1), parts[1], parts[2]};
}

torch::Tensor mixture_nll(const Mixture& mixture, const torch::Tensor& target) {
  const auto from_mean = (target.unsqueeze(-1) - mixture.means) * (-mixture.log_stds).exp();
  const auto log_normal = -0.5 * from_mean.square() - mixture.log_stds - kHalfLogTwoPi;
  return -(mixture.log_weights + log_normal).logsumexp(-1);
}

torch::Tensor done_cross_entropy(const Mixture& mixture, const torch::Tensor& done, double weight) {
  const auto truth = done.to(mixture.done.dtype());
  const auto loss = at::binary_cross_entropy_with_logits(mixture.done, truth, {}, {}, 0);
  return loss * (1 + (weight - 1) * truth);
}

MixtureSample sample_mixture(const Mixture& mixture, double temperature,
                             const torch::Tensor& uniforms, const torch::Tensor& normals) {
  if (!(temperature > 0)) {
    throw ConfigError(c10::str("mixture density: temperature ", temperature, " is not above 0"));
  }
  const auto sums = (mixture.log_weights / temperature).softmax(-1).cumsum(-1);
  // Rounding may leave the last sum just under 1: there is always a component.
  const auto component =
      sums.lt(uniforms.unsqueeze(-1)).sum(-1).clamp_max(mixture.log_weights.size(-1) - 1);
  const auto pick = [&](const torch::Tensor& of) {
    return of.gather(-1, component.unsqueeze(-1)).squeeze(-1);
  };
  MixtureSample sample;
  sample.component = component;
  sample.latent =
      pick(mixture.means) + pick(mixture.log_stds).exp() * normals * std::sqrt(temperature);
  sample.done = mixture.done.gt(0);
  sample.done_logit = mixture.done;
  return sample;
}

void MixtureDensityOptions::describe(OptionVisitor& visit) {
  visit("latent", latent, {.help = "width of a latent", .min = 1});
  visit("action_width", action_width, {.help = "numbers in an action", .min = 1});
  visit("hidden", hidden, {.help = "width of the LSTM", .min = 1});
  visit("mixtures", mixtures, {.help = "normals for each latent dimension", .min = 1});
}

MixtureDensityRnnImpl::MixtureDensityRnnImpl(MixtureDensityOptions options) : options_(options) {
  const auto& o = options_;
  if (o.latent < 1 || o.action_width < 1 || o.hidden < 1 || o.mixtures < 1) {
    throw ConfigError("mixture density model: all widths must be 1 or more");
  }
  const int64_t input = o.latent + o.action_width;
  weight_ih_ = register_parameter("weight_ih_l0", torch::empty({4 * o.hidden, input}));
  weight_hh_ = register_parameter("weight_hh_l0", torch::empty({4 * o.hidden, o.hidden}));
  bias_ih_ = register_parameter("bias_ih_l0", torch::empty({4 * o.hidden}));
  bias_hh_ = register_parameter("bias_hh_l0", torch::empty({4 * o.hidden}));
  output_ = register_module("output", nn::Linear(o.hidden, 1 + o.latent * 3 * o.mixtures));
}

MixtureDensityRnnImpl::State MixtureDensityRnnImpl::start(int64_t batch) const {
  const auto zeros =
      torch::zeros({batch, options_.hidden}, weight_ih_.options().requires_grad(false));
  return {zeros, zeros};
}

torch::Tensor MixtureDensityRnnImpl::forward(const torch::Tensor& latents,
                                             const torch::Tensor& actions, State& state) {
  const auto& o = options_;
  TORCH_CHECK(latents.dim() == 3 && actions.dim() == 3 && latents.size(2) == o.latent &&
                  actions.size(2) == o.action_width && actions.size(1) == latents.size(1),
              "MixtureDensityRnn: latents [B, T, ", o.latent, "] and actions [B, T, ",
              o.action_width, "] expected, got ", latents.sizes(), " and ", actions.sizes());
  const auto result = at::lstm(torch::cat({latents, actions}, 2),
                               {state.hidden.unsqueeze(0), state.cell.unsqueeze(0)},
                               {weight_ih_, weight_hh_, bias_ih_, bias_hh_}, /*has_biases=*/true,
                               /*num_layers=*/1, /*dropout=*/0, is_training(),
                               /*bidirectional=*/false, /*batch_first=*/true);
  state = {std::get<1>(result).squeeze(0), std::get<2>(result).squeeze(0)};
  return output_->forward(std::get<0>(result));
}

MixtureSample MixtureDensityRnnImpl::imagine(const torch::Tensor& latent,
                                             const torch::Tensor& action, double temperature,
                                             State& state, at::Generator& generator) {
  const auto next = mixture(forward(latent.unsqueeze(1), action.unsqueeze(1), state));
  const std::vector<int64_t> sizes = {latent.size(0), 1, options_.latent};
  const auto cpu = latent.options().device(torch::kCPU).requires_grad(false);
  const auto uniforms = at::rand(sizes, generator, cpu).to(latent.device());
  const auto normals = at::randn(sizes, generator, cpu).to(latent.device());
  return sample_mixture(next, temperature, uniforms, normals);
}

void MixtureDensityRnnImpl::initialise(at::Generator generator) {
  const torch::NoGradGuard no_grad;
  const double bound = 1.0 / std::sqrt(static_cast<double>(options_.hidden));
  for (const auto& weight : {weight_ih_, weight_hh_, bias_ih_, bias_hh_}) {
    weight.uniform_(-bound, bound, generator);
  }
  nn::initialise_layers(*this, std::move(generator), /*xavier=*/true);
}

}  // namespace jepa::predictors

#include <eval/dreaming/dream.hpp>
#include <jepa/errors.hpp>
#include <jepa/random.hpp>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::eval::dreaming {

using State = predictors::MixtureDensityRnnImpl::State;

torch::Tensor LinearController::act(const torch::Tensor& weights, const torch::Tensor& latents,
                                    const State& state) const {
  TORCH_CHECK(weights.dim() == 2 && weights.size(1) == parameters(),
              "LinearController: weights [P, ", parameters(), "] expected, got ", weights.sizes());
  const int64_t count = weights.size(0);
  const auto seen = torch::cat({latents, state.hidden.view({count, -1, hidden}),
                                state.cell.view({count, -1, hidden})}, -1);
  const auto matrix = weights.narrow(1, 0, outputs * inputs()).view({count, outputs, inputs()});
  const auto bias = weights.narrow(1, outputs * inputs(), outputs).unsqueeze(1);
  return at::tanh(at::baddbmm(bias, seen, matrix.transpose(1, 2)));
}

torch::Tensor dream_scores(predictors::MixtureDensityRnn& model, const LinearController& controller,
                           const torch::Tensor& weights, const torch::Tensor& starts,
                           const DreamOptions& options) {
  const torch::NoGradGuard no_grad;
  const auto& shape = model->options();
  if (controller.latent != shape.latent || controller.hidden != shape.hidden ||
      controller.outputs != shape.action_width || starts.dim() != 2 ||
      starts.size(1) != shape.latent || options.episodes < 1 || options.limit < 1) {
    throw ConfigError(c10::str("dream: a controller of ", controller.latent, " + 2 x ",
                               controller.hidden, " -> ", controller.outputs, " and starts ",
                               starts.sizes(), " for a model of latent ", shape.latent, ", hidden ",
                               shape.hidden, ", action ", shape.action_width));
  }
  const int64_t count = weights.size(0), rows = count * options.episodes;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(
      stream_seed(options.seed, "dream", 0));
  // Every controller dreams from the same starts.
  const auto order = torch::arange(options.episodes, torch::kInt64).remainder(starts.size(0));
  auto latent = starts.index_select(0, order).repeat({count, 1});
  auto state = model->start(rows);
  auto life = torch::zeros({rows});
  auto alive = torch::ones({rows}, torch::kBool);
  const auto float_weights = weights.to(torch::kFloat32);
  for (int64_t step = 0; step < options.limit; ++step) {
    const auto action =
        controller.act(float_weights, latent.view({count, options.episodes, -1}), state)
            .flatten(0, 1);
    const auto next = model->imagine(latent, action, options.temperature, state, generator);
    life += alive.to(torch::kFloat32);
    latent = next.latent.squeeze(1);
    alive = alive.logical_and(next.done.squeeze(1).logical_not());
    if (!alive.any().item<bool>()) break;
  }
  return life.view({count, options.episodes}).mean(1);
}

}  // namespace jepa::eval::dreaming

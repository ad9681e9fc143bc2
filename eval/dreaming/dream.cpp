#include <eval/dreaming/dream.hpp>
#include <eval/dreaming/game.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::dreaming {

using State = predictors::MixtureDensityRnnImpl::State;

torch::Tensor join_memory(const torch::Tensor& latents, const State& state) {
  return torch::cat({latents, state.hidden, state.cell}, 1);
}

Memory split_memory(const torch::Tensor& rows, const predictors::MixtureDensityRnn& model) {
  const int64_t width = model->options().latent, hidden = model->options().hidden;
  return {rows.narrow(1, 0, width),
          {rows.narrow(1, width, hidden), rows.narrow(1, width + hidden, hidden)}};
}

torch::Tensor LinearController::act(const torch::Tensor& weights, const torch::Tensor& latents,
                                    const State& state) const {
  TORCH_CHECK(weights.dim() == 2 && weights.size(1) == parameters(),
              "LinearController: weights [R, ", parameters(), "] expected, got ", weights.sizes());
  const auto seen = join_memory(latents, state).unsqueeze(-1);
  const auto matrix =
      weights.narrow(1, 0, outputs * inputs()).view({weights.size(0), outputs, inputs()});
  const auto bias = weights.narrow(1, outputs * inputs(), outputs).unsqueeze(-1);
  return at::tanh(at::baddbmm(bias, matrix, seen)).squeeze(-1);
}

torch::Tensor LinearControllers::act(const torch::Tensor& rows, const torch::Tensor& latents,
                                     const State& state) {
  const auto of = rows.div(episodes_, "floor");
  return shape_.act(weights_.index_select(0, of), latents, state);
}

torch::Tensor chance_of_end(const predictors::MixtureSample& step, double death_weight) {
  if (death_weight <= 0) return step.done.to(torch::kFloat32);
  return at::sigmoid(step.done_logit - std::log(death_weight));
}

DreamLives dream_lives(
    predictors::MixtureDensityRnn& model, Controller& controller, int64_t count,
    const torch::Tensor& starts, const DreamOptions& options,
    const std::function<void(const torch::Tensor&, const torch::Tensor&)>& seen) {
  const torch::NoGradGuard no_grad;
  const int64_t width = model->options().latent, hidden = model->options().hidden;
  const bool remembering = starts.dim() == 2 && starts.size(1) == width + 2 * hidden;
  if (starts.dim() != 2 || (starts.size(1) != width && !remembering) || starts.size(0) < 1 ||
      count < 1 || options.episodes < 1 || options.limit < 1) {
    throw ConfigError(c10::str("dream: ", count, " episodes of at most ", options.limit,
                               " steps from starts ", starts.sizes(), " for a model of latent ",
                               width));
  }
  const GameInfo actions_as{.three_way = options.three_way};
  auto generator = seeded_generator(options.seed, "dream");
  auto rows = torch::arange(count, torch::kInt64);
  const auto first =
      starts.index_select(0, rows.remainder(options.episodes).remainder(starts.size(0)));
  auto [latent, state] =
      remembering ? split_memory(first, model) : Memory{first, model->start(count)};
  DreamLives result{.lives = torch::zeros({count})};
  constexpr double kOver = 1e-3;  // of being alive: too small to be followed
  auto alive = torch::ones({count});
  for (int64_t step = 0; step < options.limit && rows.size(0) > 0; ++step) {
    stop_if_asked(options.stop, "dream");
    if (seen) seen(rows, latent);
    const auto action = game_actions(actions_as, controller.act(rows, latent, state));
    const auto next = model->imagine(latent, action, options.temperature, state, generator);
    result.lives.index_add_(0, rows, alive);
    result.steps += rows.size(0);
    alive = alive * (1 - chance_of_end(next, options.death_weight).squeeze(1));
    const auto going = alive.gt(kOver).nonzero().squeeze(1);
    alive = alive.index_select(0, going);
    latent = next.latent.squeeze(1).index_select(0, going);
    state = {state.hidden.index_select(0, going), state.cell.index_select(0, going)};
    rows = rows.index_select(0, going);
  }
  return result;
}

torch::Tensor dream_scores(predictors::MixtureDensityRnn& model, const LinearController& controller,
                           const torch::Tensor& weights, const torch::Tensor& starts,
                           const DreamOptions& options) {
  const auto& shape = model->options();
  if (controller.latent != shape.latent || controller.hidden != shape.hidden ||
      controller.outputs != shape.action_width) {
    throw ConfigError(c10::str("dream: a controller of ", controller.latent, " + 2 x ",
                               controller.hidden, " -> ", controller.outputs,
                               " for a model of latent ", shape.latent, ", hidden ", shape.hidden,
                               ", action ", shape.action_width));
  }
  LinearControllers controllers(controller, weights, options.episodes);
  const int64_t count = weights.size(0);
  return dream_lives(model, controllers, count * options.episodes, starts, options)
      .lives.view({count, options.episodes})
      .mean(1);
}

}  // namespace jepa::eval::dreaming

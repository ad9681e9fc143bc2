#include <jepa/errors.hpp>
#include <jepa/nn/folder.hpp>
#include <predictors/recurrent.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::predictors {
namespace {

constexpr double kEps = 1e-5;

void check_widths(const char* who, int64_t dim, int64_t action_width, int64_t hidden) {
  if (dim >= 1 && action_width >= 1 && hidden >= 1) return;
  throw ConfigError(c10::str(who, ": dim ", dim, ", action width ", action_width,
                             " and hidden width ", hidden, " must be 1 or more"));
}

}  // namespace

torch::Tensor LatentDynamicsImpl::rollout(const torch::Tensor& state,
                                          const torch::Tensor& actions) {
  TORCH_CHECK(state.dim() == 2 && actions.dim() == 3 && actions.size(0) == state.size(0),
              "rollout: state [B, D] and actions [B, T, A] expected, got ", state.sizes(), " and ",
              actions.sizes());
  std::vector<torch::Tensor> states;
  auto current = state;
  for (int64_t t = 0; t < actions.size(1); ++t) {
    current = forward(current, actions.select(1, t));
    states.push_back(current);
  }
  TORCH_CHECK(!states.empty(), "rollout: no action");
  return torch::stack(states, 1);
}

void GruPredictorOptions::describe(OptionVisitor& visit) {
  visit("dim", dim, {.help = "width of a latent", .min = 1});
  visit("action_width", action_width, {.help = "numbers in an action", .min = 1});
}

GruPredictorImpl::GruPredictorImpl(GruPredictorOptions options, nn::LayerNorm norm)
    : options_(options) {
  const auto& o = options_;
  check_widths("GRU predictor", o.dim, o.action_width, 1);
  auto rnn = nn::folder(*this, "rnn");
  weight_ih_ = rnn->register_parameter("weight_ih_l0", torch::empty({3 * o.dim, o.action_width}));
  weight_hh_ = rnn->register_parameter("weight_hh_l0", torch::empty({3 * o.dim, o.dim}));
  bias_ih_ = rnn->register_parameter("bias_ih_l0", torch::empty({3 * o.dim}));
  bias_hh_ = rnn->register_parameter("bias_hh_l0", torch::empty({3 * o.dim}));
  final_ln_ = register_module("final_ln", norm.is_empty() ? nn::LayerNorm(o.dim, kEps) : norm);
}

torch::Tensor GruPredictorImpl::forward(const torch::Tensor& state, const torch::Tensor& action) {
  TORCH_CHECK(state.size(-1) == options_.dim && action.size(-1) == options_.action_width,
              "GruPredictor: state [B, ", options_.dim, "] and action [B, ", options_.action_width,
              "] expected, got ", state.sizes(), " and ", action.sizes());
  return final_ln_->forward(
      at::gru_cell(action, state, weight_ih_, weight_hh_, bias_ih_, bias_hh_));
}

void GruPredictorImpl::initialise(at::Generator generator) {
  const torch::NoGradGuard no_grad;
  const double bound = 1.0 / std::sqrt(static_cast<double>(options_.dim));
  for (const auto& weight : {weight_ih_, weight_hh_, bias_ih_, bias_hh_}) {
    weight.uniform_(-bound, bound, generator);
  }
  final_ln_->weight.fill_(1);
  final_ln_->bias.zero_();
}

void ResidualMlpOptions::describe(OptionVisitor& visit) {
  visit("dim", dim, {.help = "width of a latent", .min = 1});
  visit("action_width", action_width, {.help = "numbers in a block of actions", .min = 1});
  visit("hidden", hidden, {.help = "hidden width", .min = 1});
  visit("layers", layers, {.help = "hidden layers", .min = 1});
}

ResidualMlpImpl::ResidualMlpImpl(ResidualMlpOptions options) : options_(options) {
  const auto& o = options_;
  check_widths("residual MLP predictor", o.dim, o.action_width, o.hidden);
  for (int64_t i = 0; i <= o.layers; ++i) {
    const int64_t in = i == 0 ? o.dim + o.action_width : o.hidden;
    layers_.push_back(
        register_module(c10::str("layer", i), nn::Linear(in, i == o.layers ? o.dim : o.hidden)));
  }
  norm_ = register_module("norm", nn::LayerNorm(o.dim, kEps));
}

torch::Tensor ResidualMlpImpl::forward(const torch::Tensor& state, const torch::Tensor& action) {
  auto x = torch::cat({state, action}, -1);
  for (size_t i = 0; i + 1 < layers_.size(); ++i) x = at::silu(layers_[i]->forward(x));
  return norm_->forward(state + layers_.back()->forward(x));
}

void ResidualMlpImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, std::move(generator), /*xavier=*/true);
  const torch::NoGradGuard no_grad;
  layers_.back()->weight.mul_(0.1);
}

void InverseDynamicsOptions::describe(OptionVisitor& visit) {
  visit("dim", dim, {.help = "width of a latent", .min = 1});
  visit("action_width", action_width, {.help = "numbers in an action", .min = 1});
  visit("hidden", hidden, {.help = "hidden width", .min = 1});
}

InverseDynamicsImpl::InverseDynamicsImpl(InverseDynamicsOptions options) : options_(options) {
  const auto& o = options_;
  check_widths("inverse dynamics", o.dim, o.action_width, o.hidden);
  auto model = nn::folder(*this, "model");
  layers_ = {model->register_module("0", nn::Linear(2 * o.dim, o.hidden)),
             model->register_module("2", nn::Linear(o.hidden, o.hidden)),
             model->register_module("4", nn::Linear(o.hidden, o.action_width))};
}

torch::Tensor InverseDynamicsImpl::forward(const torch::Tensor& before,
                                           const torch::Tensor& after) {
  auto x = torch::cat({before, after}, -1);
  x = at::relu(layers_[0]->forward(x));
  x = at::relu(layers_[1]->forward(x));
  return layers_[2]->forward(x);
}

void InverseDynamicsImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, std::move(generator), /*xavier=*/true);
}

}  // namespace jepa::predictors

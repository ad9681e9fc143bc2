#include <eval/dreaming/actor_critic.hpp>
#include <eval/dreaming/returns.hpp>
#include <jepa/errors.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::dreaming {
namespace {

constexpr int64_t kBins = 255;
constexpr double kReach = 20;  // symlog of the outermost bins

}  // namespace

// Two hidden layers with layer norm and SiLU; the last one starts at zero.
struct ActorCritic::Net : torch::nn::Module {
  nn::Linear first{nullptr}, second{nullptr}, last{nullptr};
  nn::LayerNorm norm1{nullptr}, norm2{nullptr};

  Net(int64_t in, int64_t hidden, int64_t out) {
    first = register_module("first", nn::Linear(in, hidden));
    norm1 = register_module("norm1", nn::LayerNorm(hidden));
    second = register_module("second", nn::Linear(hidden, hidden));
    norm2 = register_module("norm2", nn::LayerNorm(hidden));
    last = register_module("last", nn::Linear(hidden, out));
  }
  void initialise(at::Generator& generator) {
    nn::initialise_layers(*this, generator, /*xavier=*/true);
    const torch::NoGradGuard no_grad;
    last->weight.zero_();
  }
  torch::Tensor forward(const torch::Tensor& x) {
    auto y = at::silu(norm1->forward(first->forward(x)));
    y = at::silu(norm2->forward(second->forward(y)));
    return last->forward(y);
  }
};

void ActorCriticOptions::describe(OptionVisitor& visit) {
  visit("hidden", hidden, {.help = "width of both networks", .min = 1, .max = 8192});
  visit("horizon", horizon, {.help = "imagined decisions", .min = 1, .max = 1000});
  visit("gamma", gamma, {.help = "discount a decision", .min = 0, .max = 1});
  visit("lambda", lambda, {.help = "of the returns", .min = 0, .max = 1});
  visit("entropy", entropy, {.help = "weight of the actor's entropy", .min = 0});
  visit("lr", lr, {.help = "of both, Adam", .min = 0});
  visit("slow_rate", slow_rate, {.help = "of the slow critic", .min = 0, .max = 1});
  visit("range_rate", range_rate, {.help = "of the running range of returns", .min = 0, .max = 1});
}

std::shared_ptr<torch::nn::Module> ActorCritic::actor() const { return actor_; }

ActorCritic::ActorCritic(ActorCriticOptions options, at::Generator generator) : options_(options) {
  const auto& o = options_;
  if (o.latent < 1 || o.actions < 1 || o.hidden < 1 || o.horizon < 1) {
    throw ConfigError(c10::str("actor-critic: latent ", o.latent, ", ", o.actions,
                               " actions, hidden ", o.hidden, ", horizon ", o.horizon,
                               " must be 1 or more"));
  }
  actor_ = std::make_shared<Net>(o.latent, o.hidden, o.actions);
  critic_ = std::make_shared<Net>(o.latent, o.hidden, kBins);
  slow_ = std::make_shared<Net>(o.latent, o.hidden, kBins);
  actor_->initialise(generator);
  critic_->initialise(generator);
  {
    const torch::NoGradGuard no_grad;
    const auto from = critic_->parameters(), to = slow_->parameters();
    for (size_t i = 0; i < to.size(); ++i) to[i].copy_(from[i]);
  }
  const torch::optim::AdamOptions adam(o.lr);
  actor_optimiser_ = std::make_unique<torch::optim::Adam>(actor_->parameters(), adam);
  critic_optimiser_ = std::make_unique<torch::optim::Adam>(critic_->parameters(), adam);
  const auto spaced = at::linspace(-kReach, kReach, kBins, at::TensorOptions(at::kFloat));
  bins_ = spaced.sign() * spaced.abs().expm1();
}

torch::Tensor ActorCritic::sample(const torch::Tensor& logits, at::Generator& generator) const {
  return logits.softmax(-1).multinomial(1, /*replacement=*/true, generator).squeeze(-1);
}

torch::Tensor ActorCritic::act(const torch::Tensor& latents,
                               std::optional<at::Generator> generator) {
  const torch::NoGradGuard no_grad;
  const auto logits = actor_->forward(latents);
  return generator ? sample(logits, *generator) : logits.argmax(-1);
}

torch::Tensor ActorCritic::mean_of(const torch::Tensor& logits) const {
  return (logits.softmax(-1) * bins_).sum(-1);
}

torch::Tensor ActorCritic::two_hot(const torch::Tensor& values) const {
  const auto x =
      values.clamp(bins_[0].item<double>(), bins_[kBins - 1].item<double>()).contiguous();
  const auto above = at::searchsorted(bins_, x).clamp(1, kBins - 1);
  const auto low = bins_.take(above - 1), high = bins_.take(above);
  const auto share = ((x - low) / (high - low)).unsqueeze(-1);
  auto sizes = x.sizes().vec();
  sizes.push_back(kBins);
  auto hot = torch::zeros(sizes, bins_.options());
  hot.scatter_(-1, above.unsqueeze(-1), share);
  return hot.scatter_(-1, above.unsqueeze(-1) - 1, 1 - share);
}

torch::Tensor ActorCritic::value(const torch::Tensor& latents) {
  const torch::NoGradGuard no_grad;
  return mean_of(critic_->forward(latents));
}

Improvement ActorCritic::improve(const ImaginedStep& model, const torch::Tensor& starts,
                                 at::Generator& generator) {
  const auto& o = options_;
  std::vector<torch::Tensor> latents = {starts}, actions, rewards, continues;
  {
    const torch::NoGradGuard no_grad;
    for (int64_t t = 0; t < o.horizon; ++t) {
      actions.push_back(sample(actor_->forward(latents.back()), generator));
      const Imagined next = model(latents.back(), actions.back());
      latents.push_back(next.latent);
      rewards.push_back(next.reward);
      continues.push_back(next.continues);
    }
  }
  const auto states = torch::stack(latents, 1);  // [B, H + 1, D]
  const auto before = states.narrow(1, 0, o.horizon);
  const auto kept = torch::stack(continues, 1);
  const auto weights = rollout_weights(kept, o.gamma);
  torch::Tensor returns, advantage;
  {
    const torch::NoGradGuard no_grad;
    const auto values = mean_of(critic_->forward(states));
    returns = lambda_returns(torch::stack(rewards, 1), kept, values, o.gamma, o.lambda);
    const auto flat = returns.flatten();
    const double range = (flat.quantile(0.95) - flat.quantile(0.05)).item<double>();
    range_ += (range_ == 0 ? 1 : o.range_rate) * (range - range_);
    advantage = (returns - values.narrow(1, 0, o.horizon)) / std::max(1.0, range_);
  }
  const at::AutoGradMode with_gradient(true);
  const auto log_policy = actor_->forward(before).log_softmax(-1);
  const auto chosen = log_policy.gather(-1, torch::stack(actions, 1).unsqueeze(-1)).squeeze(-1);
  const auto entropy = -(log_policy.exp() * log_policy).sum(-1);
  const auto actor_loss = -(weights * (chosen * advantage + o.entropy * entropy)).mean();
  actor_optimiser_->zero_grad();
  actor_loss.backward();
  actor_optimiser_->step();

  const auto log_critic = critic_->forward(before).log_softmax(-1);
  torch::Tensor target;
  {
    const torch::NoGradGuard no_grad;
    target = two_hot(returns) + two_hot(mean_of(slow_->forward(before)));
  }
  const auto critic_loss = -(weights * (target * log_critic).sum(-1)).mean();
  critic_optimiser_->zero_grad();
  critic_loss.backward();
  critic_optimiser_->step();
  const torch::NoGradGuard no_grad;
  const auto from = critic_->parameters(), to = slow_->parameters();
  for (size_t i = 0; i < to.size(); ++i) to[i].lerp_(from[i], o.slow_rate);
  return {actor_loss.item<double>(), critic_loss.item<double>(), returns.mean().item<double>(),
          entropy.mean().item<double>()};
}

}  // namespace jepa::eval::dreaming

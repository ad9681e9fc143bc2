#include <jepa/errors.hpp>
#include <jepa/training/optimizer.hpp>

#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace jepa {

namespace {

constexpr int64_t kAlign = 16;  // floats in 64 bytes

int64_t aligned(int64_t count) { return (count + kAlign - 1) / kAlign * kAlign; }

/// Views of `flat`, one for each parameter, in order.
std::vector<torch::Tensor> views_of(const torch::Tensor& flat,
                                    const std::vector<torch::Tensor>& parameters) {
  std::vector<torch::Tensor> views;
  int64_t offset = 0;
  for (const auto& p : parameters) {
    views.push_back(flat.narrow(0, offset, p.numel()).view(p.sizes()));
    offset += aligned(p.numel());
  }
  return views;
}

/// A buffer of zeros with room for all parameters.
torch::Tensor flat_zeros(const std::vector<torch::Tensor>& parameters) {
  int64_t total = 0;
  for (const auto& p : parameters) total += aligned(p.numel());
  return torch::zeros({total}, parameters.front().options().requires_grad(false));
}

}  // namespace

AdamW::AdamW(const std::map<std::string, std::shared_ptr<torch::nn::Module>>& modules,
             const OptimisationOptions& options)
    : beta1_(options.beta1), beta2_(options.beta2), eps_(options.eps) {
  for (const auto& [name, module] : modules) add_group(name, *module);
}

void AdamW::add_group(const std::string& name, torch::nn::Module& module) {
  std::vector<std::string> names;
  std::vector<torch::Tensor> parameters;
  for (const auto& item : module.named_parameters()) {
    if (!item.value().requires_grad()) continue;
    names.push_back(item.key());
    parameters.push_back(item.value());
  }
  if (parameters.empty()) return;
  Group group{.name = name, .gradients = flat_zeros(parameters), .slots = {}};
  const auto gradients = views_of(group.gradients, parameters);
  const auto averages = views_of(flat_zeros(parameters), parameters);
  const auto squares = views_of(flat_zeros(parameters), parameters);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const bool decayed = parameters[i].dim() > 1 && !names[i].ends_with("bias");
    group.slots.push_back({.name = name + "." + names[i],
                           .parameter = parameters[i],
                           .gradient = gradients[i],
                           .exp_avg = averages[i],
                           .exp_avg_sq = squares[i],
                           .step = torch::zeros({}, group.gradients.options()),
                           .decayed = decayed,
                           .reached = std::make_shared<bool>(false)});
    auto& slot = group.slots.back();
    slot.parameter.mutable_grad() = slot.gradient;
    slot.parameter.register_hook([reached = slot.reached](const torch::Tensor& gradient) {
      *reached = *reached || gradient.defined();
    });
  }
  groups_.push_back(std::move(group));
}

void AdamW::zero_gradients() {
  const torch::NoGradGuard no_grad;
  for (auto& group : groups_) {
    group.gradients.zero_();
    for (auto& slot : group.slots) {
      *slot.reached = false;
      slot.parameter.mutable_grad() = slot.gradient;  // a caller may have reset it
    }
  }
}

torch::Tensor AdamW::clip_gradients(const std::string& name, double limit) {
  const torch::NoGradGuard no_grad;
  const auto group = std::find_if(groups_.begin(), groups_.end(),
                                  [&](const Group& candidate) { return candidate.name == name; });
  if (group == groups_.end()) return torch::zeros({});
  std::vector<torch::Tensor> gradients;
  for (const auto& slot : group->slots) gradients.push_back(slot.gradient);
  const torch::Tensor norm = torch::stack(at::_foreach_norm(gradients)).norm().to(torch::kFloat64);
  if (limit > 0) group->gradients.mul_((limit / (norm + 1e-6)).clamp_max(1.0));
  return norm;
}

void AdamW::step(const StepRates& rates) {
  const torch::NoGradGuard no_grad;
  step_slots(true, rates.lr, rates.weight_decay);
  step_slots(false, rates.lr, 0.0);
}

void AdamW::step_slots(bool decayed, double lr, double weight_decay) {
  std::vector<torch::Tensor> parameters, gradients, averages, squares, steps;
  for (auto& group : groups_) {
    for (auto& slot : group.slots) {
      if (slot.decayed != decayed || !*slot.reached) continue;
      parameters.push_back(slot.parameter);
      gradients.push_back(slot.gradient);
      averages.push_back(slot.exp_avg);
      squares.push_back(slot.exp_avg_sq);
      steps.push_back(slot.step);
    }
  }
  if (parameters.empty()) return;
  at::_foreach_add_(steps, 1);
  at::_fused_adamw_(parameters, gradients, averages, squares, /*max_exp_avg_sqs=*/{}, steps, lr,
                    beta1_, beta2_, weight_decay, eps_, /*amsgrad=*/false, /*maximize=*/false);
}

std::vector<std::string> AdamW::modules() const {
  std::vector<std::string> names;
  for (const auto& group : groups_) names.push_back(group.name);
  return names;
}

std::vector<torch::Tensor> AdamW::gradients() const {
  std::vector<torch::Tensor> all;
  for (const auto& group : groups_) all.push_back(group.gradients);
  return all;
}

std::map<std::string, torch::Tensor> AdamW::state() const {
  std::map<std::string, torch::Tensor> state;
  for (const auto& group : groups_) {
    for (const auto& slot : group.slots) {
      state[slot.name + ".exp_avg"] = slot.exp_avg;
      state[slot.name + ".exp_avg_sq"] = slot.exp_avg_sq;
      state[slot.name + ".step"] = slot.step;
    }
  }
  return state;
}

void AdamW::load_state(const std::map<std::string, torch::Tensor>& state) {
  const torch::NoGradGuard no_grad;
  const auto load = [&](torch::Tensor& into, const std::string& key) {
    const auto found = state.find(key);
    if (found == state.end()) throw CheckpointError("optimizer state: key " + key + " is missing");
    if (found->second.sizes() != into.sizes()) {
      throw CheckpointError(c10::str("optimizer state: key ", key, " has shape ",
                                     found->second.sizes(), ", expected ", into.sizes()));
    }
    into.copy_(found->second);
  };
  for (auto& group : groups_) {
    for (auto& slot : group.slots) {
      load(slot.exp_avg, slot.name + ".exp_avg");
      load(slot.exp_avg_sq, slot.name + ".exp_avg_sq");
      load(slot.step, slot.name + ".step");
    }
  }
}

void copy_parameters(const torch::nn::Module& from, torch::nn::Module& to) {
  torch::NoGradGuard no_grad;
  const auto copy = [](const auto& sources, auto targets) {
    for (auto& item : targets) {
      const torch::Tensor* source = sources.find(item.key());
      if (source == nullptr) throw Error("parameter " + item.key() + " has no counterpart");
      item.value().copy_(*source);
    }
  };
  copy(from.named_parameters(), to.named_parameters());
  copy(from.named_buffers(), to.named_buffers());
}

torch::Tensor flatten_parameters(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  auto parameters = module.parameters();
  torch::Tensor flat = flat_zeros(parameters);
  const auto views = views_of(flat, parameters);
  for (size_t i = 0; i < parameters.size(); ++i) {
    torch::Tensor view = views[i];
    view.copy_(parameters[i]);
    parameters[i].set_data(view);
  }
  return flat;
}

MovingAverage::MovingAverage(torch::nn::Module& online, torch::nn::Module& target) {
  const auto ours = online.named_parameters();
  const auto theirs = target.named_parameters();
  if (ours.size() != theirs.size()) {
    throw Error(c10::str("moving average: ", ours.size(), " parameters against ", theirs.size()));
  }
  // Modules of one type register in one order; checked, since the flat buffers rely on it.
  for (size_t i = 0; i < ours.size(); ++i) {
    if (ours[i].key() != theirs[i].key() || ours[i].value().sizes() != theirs[i].value().sizes()) {
      throw Error("moving average: parameter " + ours[i].key() + " meets " + theirs[i].key());
    }
  }
  online_ = flatten_parameters(online);
  target_ = flatten_parameters(target);
}

void MovingAverage::update(double momentum) {
  torch::NoGradGuard no_grad;
  target_.lerp_(online_, 1.0 - momentum);
}

}  // namespace jepa

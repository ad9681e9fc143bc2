#include <jepa/errors.hpp>
#include <jepa/training/optimizer.hpp>

#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa {

AdamW::AdamW(const std::map<std::string, std::shared_ptr<torch::nn::Module>>& modules,
             const OptimisationOptions& options)
    : beta1_(options.beta1), beta2_(options.beta2), eps_(options.eps) {
  for (const auto& [module_name, module] : modules) {
    for (const auto& item : module->named_parameters()) {
      const torch::Tensor& parameter = item.value();
      if (!parameter.requires_grad()) continue;
      const bool decayed = parameter.dim() > 1 && !item.key().ends_with("bias");
      slots_.push_back({module_name + "." + item.key(), parameter,
                        torch::zeros_like(parameter, torch::MemoryFormat::Contiguous),
                        torch::zeros_like(parameter, torch::MemoryFormat::Contiguous),
                        torch::zeros({}, parameter.options().requires_grad(false)), decayed});
    }
  }
}

void AdamW::zero_gradients() {
  for (auto& slot : slots_) slot.parameter.mutable_grad().reset();
}

void AdamW::step(const StepRates& rates) {
  torch::NoGradGuard no_grad;
  step_group(true, rates.lr, rates.weight_decay);
  step_group(false, rates.lr, 0.0);
}

void AdamW::step_group(bool decayed, double lr, double weight_decay) {
  std::vector<torch::Tensor> parameters, gradients, averages, squares, steps;
  for (auto& slot : slots_) {
    if (slot.decayed != decayed || !slot.parameter.grad().defined()) continue;
    slot.step.add_(1);
    parameters.push_back(slot.parameter);
    gradients.push_back(slot.parameter.grad());
    averages.push_back(slot.exp_avg);
    squares.push_back(slot.exp_avg_sq);
    steps.push_back(slot.step);
  }
  if (parameters.empty()) return;
  at::_fused_adamw_(parameters, gradients, averages, squares, /*max_exp_avg_sqs=*/{}, steps, lr,
                    beta1_, beta2_, weight_decay, eps_, /*amsgrad=*/false, /*maximize=*/false);
}

std::map<std::string, torch::Tensor> AdamW::state() const {
  std::map<std::string, torch::Tensor> state;
  for (const auto& slot : slots_) {
    state[slot.name + ".exp_avg"] = slot.exp_avg;
    state[slot.name + ".exp_avg_sq"] = slot.exp_avg_sq;
    state[slot.name + ".step"] = slot.step;
  }
  return state;
}

void AdamW::load_state(const std::map<std::string, torch::Tensor>& state) {
  torch::NoGradGuard no_grad;
  const auto load = [&](torch::Tensor& into, const std::string& key) {
    const auto found = state.find(key);
    if (found == state.end()) throw CheckpointError("optimizer state: key " + key + " is missing");
    if (found->second.sizes() != into.sizes()) {
      throw CheckpointError(c10::str("optimizer state: key ", key, " has shape ",
                                     found->second.sizes(), ", expected ", into.sizes()));
    }
    into.copy_(found->second);
  };
  for (auto& slot : slots_) {
    load(slot.exp_avg, slot.name + ".exp_avg");
    load(slot.exp_avg_sq, slot.name + ".exp_avg_sq");
    load(slot.step, slot.name + ".step");
  }
}

double clip_gradients(torch::nn::Module& module, double limit) {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> gradients;
  for (const auto& p : module.parameters()) {
    if (p.grad().defined()) gradients.push_back(p.grad());
  }
  if (gradients.empty()) return 0.0;
  const double norm =
      torch::stack(at::_foreach_norm(gradients)).norm().item<double>();
  if (limit > 0 && norm > limit) at::_foreach_mul_(gradients, limit / (norm + 1e-6));
  return norm;
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
  torch::NoGradGuard no_grad;
  constexpr int64_t kAlign = 16;  // floats in 64 bytes
  int64_t total = 0;
  auto parameters = module.parameters();
  for (const auto& p : parameters) total += (p.numel() + kAlign - 1) / kAlign * kAlign;
  torch::Tensor flat = torch::zeros({total}, parameters.front().options().requires_grad(false));
  int64_t offset = 0;
  for (auto& p : parameters) {
    auto view = flat.narrow(0, offset, p.numel()).view(p.sizes());
    view.copy_(p);
    p.set_data(view);
    offset += (p.numel() + kAlign - 1) / kAlign * kAlign;
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

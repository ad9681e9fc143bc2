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

int64_t flat_size(const std::vector<torch::Tensor>& parameters) {
  int64_t total = 0;
  for (const auto& p : parameters) total += aligned(p.numel());
  return total;
}

/// `size` zeros of the parameters' type and device.
torch::Tensor zeros_like_parameters(int64_t size, const std::vector<torch::Tensor>& parameters) {
  return torch::zeros({size}, parameters.front().options().requires_grad(false));
}

/// Numbers that one collective carries of each process: what it needs beside stays small.
constexpr int64_t kExchanged = 1 << 20;

}  // namespace

AdamW::AdamW(const std::map<std::string, std::shared_ptr<torch::nn::Module>>& modules,
             const OptimisationOptions& options, Processes* processes)
    : buckets_(static_cast<int64_t>(options.bucket_mb * (1 << 20) / sizeof(float))),
      processes_(options.shard_moments ? processes : nullptr),
      beta1_(options.beta1),
      beta2_(options.beta2),
      eps_(options.eps) {
  if (processes_ != nullptr && processes_->count() == 1) processes_ = nullptr;
  for (const auto& [name, module] : modules) add_group(name, *module);
  if (processes == nullptr || processes->count() == 1) return;
  // The largest module first: what is small may have parameters that a pass does not reach, and
  // would hold it up.
  std::vector<const Group*> order;
  for (const auto& group : groups_) order.push_back(&group);
  std::stable_sort(order.begin(), order.end(), [](const Group* a, const Group* b) {
    return a->gradients.numel() > b->gradients.numel();
  });
  for (const Group* group : order) {
    std::vector<torch::Tensor> parameters, gradients;
    for (const auto& slot : group->slots) {
      parameters.push_back(slot.parameter);
      gradients.push_back(slot.gradient);
    }
    buckets_.add(group->gradients, parameters, gradients);
  }
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
  const int64_t count = processes_ == nullptr ? 1 : processes_->count();
  const int64_t shard = aligned((flat_size(parameters) + count - 1) / count);
  Group group{.name = name,
              .gradients = zeros_like_parameters(count * shard, parameters),
              .exp_avg = zeros_like_parameters(shard, parameters),
              .exp_avg_sq = zeros_like_parameters(shard, parameters),
              .shard = shard,
              .slots = {}};
  const int64_t begin = processes_ == nullptr ? 0 : processes_->rank() * shard;
  const auto gradients = views_of(group.gradients, parameters);
  int64_t offset = 0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const bool decayed = parameters[i].dim() > 1 && !names[i].ends_with("bias");
    const int64_t size = parameters[i].numel();
    const int64_t first = std::clamp<int64_t>(begin - offset, 0, size);
    const int64_t own = std::clamp<int64_t>(begin + shard - offset, 0, size) - first;
    const int64_t place = own > 0 ? offset + first - begin : 0;
    const auto moments = [&](const torch::Tensor& flat) {
      const torch::Tensor part = flat.narrow(0, place, own);
      return processes_ == nullptr ? part.view(parameters[i].sizes()) : part;
    };
    offset += aligned(size);
    group.slots.push_back({.name = name + "." + names[i],
                           .parameter = parameters[i],
                           .gradient = gradients[i],
                           .exp_avg = moments(group.exp_avg),
                           .exp_avg_sq = moments(group.exp_avg_sq),
                           .first = first,
                           .count = own,
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
  if (processes_ != nullptr) exchange_weights();
}

void AdamW::step_slots(bool decayed, double lr, double weight_decay) {
  std::vector<torch::Tensor> parameters, gradients, averages, squares, steps, all_steps;
  for (auto& group : groups_) {
    for (auto& slot : group.slots) {
      if (slot.decayed != decayed || !*slot.reached) continue;
      all_steps.push_back(slot.step);
      if (slot.count == 0) continue;
      parameters.push_back(own_part(slot.parameter, slot));
      gradients.push_back(own_part(slot.gradient, slot));
      averages.push_back(slot.exp_avg);
      squares.push_back(slot.exp_avg_sq);
      steps.push_back(slot.step);
    }
  }
  if (all_steps.empty()) return;
  at::_foreach_add_(all_steps, 1);
  if (parameters.empty()) return;
  at::_fused_adamw_(parameters, gradients, averages, squares, /*max_exp_avg_sqs=*/{}, steps, lr,
                    beta1_, beta2_, weight_decay, eps_, /*amsgrad=*/false, /*maximize=*/false);
}

torch::Tensor AdamW::own_part(const torch::Tensor& whole, const Slot& slot) const {
  if (processes_ == nullptr) return whole;
  return whole.view({-1}).narrow(0, slot.first, slot.count);
}

/// The gradients are done with: their buffer carries the weights.
void AdamW::exchange_weights() {
  for (auto& group : groups_) {
    for (auto& slot : group.slots) {
      own_part(slot.gradient, slot).copy_(own_part(slot.parameter, slot));
    }
    torch::Tensor shards = group.gradients.view({processes_->count(), group.shard});
    for (int64_t start = 0; start < group.shard; start += kExchanged) {
      torch::Tensor part = shards.narrow(1, start, std::min(kExchanged, group.shard - start));
      part.copy_(processes_->gather(part.narrow(0, processes_->rank(), 1)));
    }
    for (auto& slot : group.slots) slot.parameter.copy_(slot.gradient);
  }
}

/// The flat moments of all processes on rank 0, empty on others.
torch::Tensor AdamW::all_moments(const torch::Tensor& own) const {
  const bool keeps = processes_->rank() == 0;
  torch::Tensor all = torch::empty({processes_->count(), keeps ? own.numel() : 0}, own.options());
  for (int64_t start = 0; start < own.numel(); start += kExchanged) {
    const int64_t size = std::min(kExchanged, own.numel() - start);
    const torch::Tensor part = processes_->gather(own.narrow(0, start, size).unsqueeze(0));
    if (keeps) all.narrow(1, start, size).copy_(part);
  }
  return all.view({-1});
}

std::vector<std::string> AdamW::modules() const {
  std::vector<std::string> names;
  for (const auto& group : groups_) names.push_back(group.name);
  return names;
}

void AdamW::begin_reduce(Processes& processes) {
  if (processes.count() > 1) buckets_.start(processes);
}

void AdamW::reduce(Processes& processes, MetricSums& sums) {
  if (processes.count() == 1) return;
  const torch::Tensor numbers = sums.stacked();
  buckets_.begin_rest(processes);
  processes.begin_average(numbers);
  processes.finish_averages();
  sums.assign(numbers);
}

std::map<std::string, torch::Tensor> AdamW::state() const {
  const torch::NoGradGuard no_grad;
  std::map<std::string, torch::Tensor> state;
  for (const auto& group : groups_) {
    std::vector<torch::Tensor> parameters;
    for (const auto& slot : group.slots) {
      parameters.push_back(slot.parameter);
      state[slot.name + ".step"] = slot.step;
    }
    const bool sharded = processes_ != nullptr;
    const auto averages = sharded ? all_moments(group.exp_avg) : group.exp_avg;
    const auto squares = sharded ? all_moments(group.exp_avg_sq) : group.exp_avg_sq;
    if (averages.numel() == 0) continue;
    const auto average_views = views_of(averages, parameters);
    const auto square_views = views_of(squares, parameters);
    for (size_t i = 0; i < parameters.size(); ++i) {
      state[group.slots[i].name + ".exp_avg"] = average_views[i];
      state[group.slots[i].name + ".exp_avg_sq"] = square_views[i];
    }
  }
  return state;
}

int64_t AdamW::moment_count() const {
  int64_t count = 0;
  for (const auto& group : groups_) count += group.exp_avg.numel() + group.exp_avg_sq.numel();
  return count;
}

void AdamW::load_state(const std::map<std::string, torch::Tensor>& state) {
  const torch::NoGradGuard no_grad;
  const auto find = [&](const std::string& key, at::IntArrayRef sizes) -> const torch::Tensor& {
    const auto found = state.find(key);
    if (found == state.end()) throw CheckpointError("optimizer state: key " + key + " is missing");
    if (found->second.sizes() != sizes) {
      throw CheckpointError(c10::str("optimizer state: key ", key, " has shape ",
                                     found->second.sizes(), ", expected ", sizes));
    }
    return found->second;
  };
  for (auto& group : groups_) {
    for (auto& slot : group.slots) {
      const auto own = [&](const char* name) {
        return own_part(find(slot.name + name, slot.parameter.sizes()).contiguous(), slot);
      };
      slot.exp_avg.copy_(own(".exp_avg"));
      slot.exp_avg_sq.copy_(own(".exp_avg_sq"));
      slot.step.copy_(find(slot.name + ".step", slot.step.sizes()));
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
  torch::Tensor flat = zeros_like_parameters(flat_size(parameters), parameters);
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

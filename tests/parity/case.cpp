#include "case.hpp"

#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <stdexcept>

namespace parity {
namespace {

/// The part of an attention bias that scores do not depend on, as {start, length}; {0, 0}: none.
std::pair<int64_t, int64_t> key_part(const std::string& key, int64_t size) {
  if (key.ends_with("attn.qkv.bias")) return {size / 3, size / 3};
  if (key.ends_with("attn.kv.bias")) return {0, size / 2};
  return {0, 0};
}

template <class Function>
void for_each_state(torch::nn::Module& module, Function function) {
  for (auto& item : module.named_parameters()) function(item.key(), item.value());
  for (auto& item : module.named_buffers()) function(item.key(), item.value());
}

}  // namespace

Case::Case(const std::string& path)
    : name_(std::filesystem::path(path).stem()),
      folder_(std::filesystem::path(path).parent_path()),
      file_(jepa::read_safetensors(path)) {
  kind_ = file_.metadata.at("case");
  config_ = nlohmann::json::parse(file_.metadata.at("config"));
}

const torch::Tensor& Case::tensor(const std::string& key) const {
  const auto found = file_.tensors.find(key);
  if (found == file_.tensors.end()) throw std::runtime_error("the fixture has no tensor " + key);
  return found->second;
}

torch::Tensor Case::clip(const std::string& key) const {
  const auto& stored = tensor(key);
  if (stored.scalar_type() != torch::kUInt8) return stored.to(torch::kFloat32);
  return stored.to(torch::kFloat32).div_(127.5).sub_(1.0);
}

std::vector<std::string> Case::names(const std::string& prefix) const {
  std::vector<std::string> found;
  for (const auto& [key, value] : file_.tensors) {
    if (key.starts_with(prefix)) found.push_back(key.substr(prefix.size()));
  }
  return found;
}

void Case::load(torch::nn::Module& module, const std::string& prefix,
                const std::set<std::string>& unused) const {
  const torch::NoGradGuard no_grad;
  std::set<std::string> left;
  for (const auto& name : names("weights/" + prefix)) {
    if (!unused.contains(name)) left.insert(name);
  }
  for_each_state(module, [&](const std::string& name, torch::Tensor& value) {
    const auto& stored = tensor("weights/" + prefix + name);
    if (stored.sizes() != value.sizes()) {
      throw std::runtime_error(c10::str("weights/", prefix, name, " is ", stored.sizes(),
                                        ", the module has ", value.sizes()));
    }
    value.copy_(stored);
    left.erase(name);
  });
  if (!left.empty()) throw std::runtime_error("no place for weights/" + prefix + *left.begin());
}

void Case::compare(const std::string& what, const torch::Tensor& ours, const torch::Tensor& theirs,
                   double limit, double scale) {
  const torch::NoGradGuard no_grad;
  if (!ours.defined() || ours.sizes() != theirs.sizes()) {
    fail(c10::str(what, ": shape ", ours.defined() ? c10::str(ours.sizes()) : "none", " but ",
                  theirs.sizes(), " expected"));
    return;
  }
  ++comparisons_;
  if (theirs.numel() == 0) return;
  const double error =
      (ours.to(torch::kFloat64) - theirs.to(torch::kFloat64)).abs().max().item<double>();
  const double largest = theirs.to(torch::kFloat64).abs().max().item<double>();
  const double share = error == 0 ? 0 : error / std::max(scale > 0 ? scale : largest, 1e-300);
  largest_absolute_ = std::max(largest_absolute_, error);
  largest_relative_ = std::max(largest_relative_, share);
  const double measured = scale > 0 ? share : error;
  // Written so that a NaN fails.
  if (!(measured <= limit)) {
    fail(c10::str(what, ": error ", measured, " over the tolerance ", limit));
  }
}

void Case::forward(const std::string& name, const torch::Tensor& ours, double tolerance) {
  const std::string key = "out/" + name;
  const auto& theirs = tensor(key);
  compared_.insert(key);
  compare(key, ours.defined() ? ours.detach() : ours, theirs, tolerance, 0);
}

void Case::equal(const std::string& name, const torch::Tensor& ours) {
  const std::string key = "out/" + name;
  const auto& theirs = tensor(key);
  compared_.insert(key);
  ++comparisons_;
  if (!ours.defined() || !torch::equal(ours, theirs)) fail(key + ": not equal");
}

void Case::absolute(const std::string& key, const torch::Tensor& ours, double tolerance) {
  const auto& theirs = tensor(key);
  compared_.insert(key);
  compare(key, ours.defined() ? ours.detach() : ours, theirs, tolerance, 0);
}

void Case::relative(const std::string& key, const torch::Tensor& ours, double tolerance) {
  const auto& theirs = tensor(key);
  compared_.insert(key);
  const double scale = theirs.to(torch::kFloat64).abs().max().item<double>();
  const auto [start, length] = key_part(key, theirs.numel());
  if (length == 0 || !ours.defined() || ours.sizes() != theirs.sizes()) {
    compare(key, ours.defined() ? ours.detach() : ours, theirs, tolerance, scale);
    return;
  }
  const auto parts = [&, start = start, length = length](const torch::Tensor& t) {
    return torch::cat(
        {t.narrow(0, 0, start), t.narrow(0, start + length, t.numel() - start - length)});
  };
  compare(key, parts(ours), parts(theirs), kWeightTolerance, scale);
  compare(key + " (keys)", ours.narrow(0, start, length), theirs.narrow(0, start, length),
          kKeyBiasTolerance, scale);
}

void Case::gradients(torch::nn::Module& module, const std::string& prefix,
                     const std::set<std::string>& zero, const std::set<std::string>& skipped) {
  const torch::NoGradGuard no_grad;
  for (auto& item : module.named_parameters()) {
    const std::string key = "grad/" + prefix + item.key();
    const auto& gradient = item.value().grad();
    if (skipped.contains(item.key())) continue;
    if (zero.contains(item.key())) {
      absolute(key, gradient, kZeroTolerance);
    } else if (has(key)) {
      relative(key, gradient);
    } else if (gradient.defined() && gradient.count_nonzero().item<int64_t>() != 0) {
      fail(key + ": we have a gradient, the fixture has none");
    }
  }
}

void Case::final_weights(torch::nn::Module& module, const std::string& prefix) {
  const torch::NoGradGuard no_grad;
  for_each_state(module, [&](const std::string& name, torch::Tensor& value) {
    relative("final/" + prefix + name, value);
  });
}

void Case::final_buffers(torch::nn::Module& module, const std::string& prefix) {
  for (auto& item : module.named_buffers()) relative("final/" + prefix + item.key(), item.value());
}

std::vector<std::string> Case::uncompared() const {
  std::vector<std::string> left;
  for (const auto& [key, value] : file_.tensors) {
    const bool wanted =
        key.starts_with("out/") || key.starts_with("grad/") || key.starts_with("final/");
    if (wanted && !compared_.contains(key)) left.push_back(key);
  }
  return left;
}

std::string Case::report() const {
  std::ostringstream out;
  out << (passed() ? "ok    " : "FAILED") << " " << name_ << " (" << kind_ << "): " << comparisons_
      << " comparisons, largest error " << largest_absolute_ << " absolute, " << largest_relative_
      << " relative\n";
  for (const auto& failure : failures_) out << "         " << failure << "\n";
  const auto left = uncompared();
  for (size_t i = 0; i < std::min<size_t>(left.size(), 5); ++i) {
    out << "         " << left[i] << ": not compared\n";
  }
  if (left.size() > 5) out << "         and " << left.size() - 5 << " more not compared\n";
  if (comparisons_ == 0 && failures_.empty()) out << "         nothing was compared\n";
  return out.str();
}

}  // namespace parity

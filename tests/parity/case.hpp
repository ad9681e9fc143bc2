// One parity fixture: what goes in, what must come out, and how far we are from it.
#pragma once

#include <jepa/grid.hpp>
#include <jepa/io/safetensors.hpp>

#include <nlohmann/json.hpp>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <set>
#include <string>
#include <vector>

namespace parity {

// Rounding alone (other kernels, thread counts) stays well below these.
constexpr double kForwardTolerance = 2e-5;    // absolute
constexpr double kWeightTolerance = 2e-5;     // of the tensor's largest value
constexpr double kKeyBiasTolerance = 1e-3;    // likewise, where the true gradient is zero
constexpr double kLossTolerance = 1e-6;       // absolute
constexpr double kZeroTolerance = 1e-5;       // absolute, of gradients that are truly zero
constexpr double kScheduleTolerance = 1e-12;  // absolute

/// A fixture file, and the account of what has been compared with it.
class Case {
 public:
  explicit Case(const std::string& path);

  const std::string& name() const { return name_; }
  const std::string& folder() const { return folder_; }
  /// What kind of case: metadata `case`.
  const std::string& kind() const { return kind_; }
  const nlohmann::json& config() const { return config_; }
  int64_t size(const char* key) const { return config_.at(key).get<int64_t>(); }

  bool has(const std::string& key) const { return file_.tensors.contains(key); }
  const torch::Tensor& tensor(const std::string& key) const;
  /// A float clip from `key`; uint8 means x / 127.5 - 1.
  torch::Tensor clip(const std::string& key) const;
  /// Names behind `prefix`, which is cut off.
  std::vector<std::string> names(const std::string& prefix) const;

  /// Fills `module` with `weights/<prefix>...`: every parameter and buffer must be there, with its
  /// shape, and every tensor there must have a place, except those named in `unused`.
  void load(torch::nn::Module& module, const std::string& prefix,
            const std::set<std::string>& unused = {}) const;

  /// Compares with `out/<name>`, absolutely.
  void forward(const std::string& name, const torch::Tensor& ours,
               double tolerance = kForwardTolerance);
  /// Ids must be equal.
  void equal(const std::string& name, const torch::Tensor& ours);
  /// Compares with the tensor `key`, relatively to its largest value.
  void relative(const std::string& key, const torch::Tensor& ours,
                double tolerance = kWeightTolerance);
  /// Compares with the tensor `key`, absolutely.
  void absolute(const std::string& key, const torch::Tensor& ours, double tolerance);
  /// Compares the gradients of all parameters with `grad/<prefix>...`.
  /// @param zero names whose true gradient is zero: only noise is to be seen on both sides
  /// @param skipped names that are compared under another one
  void gradients(torch::nn::Module& module, const std::string& prefix,
                 const std::set<std::string>& zero = {}, const std::set<std::string>& skipped = {});
  /// Compares all parameters and buffers with `final/<prefix>...`.
  void final_weights(torch::nn::Module& module, const std::string& prefix);
  /// Compares the buffers alone.
  void final_buffers(torch::nn::Module& module, const std::string& prefix);

  /// Notes a failure in words.
  void fail(const std::string& what) { failures_.push_back(what); }
  /// One line: name, kind, comparisons, largest errors, verdict; a line more per failure.
  std::string report() const;
  /// Everything was compared and near enough; at least one comparison.
  bool passed() const { return failures_.empty() && uncompared().empty() && comparisons_ > 0; }

 private:
  void compare(const std::string& what, const torch::Tensor& ours, const torch::Tensor& theirs,
               double limit, double scale);
  std::vector<std::string> uncompared() const;

  std::string name_, folder_, kind_;
  nlohmann::json config_;
  jepa::SafetensorsFile file_;
  std::set<std::string> compared_;
  std::vector<std::string> failures_;
  int64_t comparisons_ = 0;
  double largest_absolute_ = 0;
  double largest_relative_ = 0;
};

// One function per kind of case; each takes all sizes from the config and the tensors.
void sincos_2d(Case& test);
void sincos_3d(Case& test);
void rope_axis(Case& test);
void ijepa_masks(Case& test);
void vjepa_masks(Case& test);
void ijepa_step(Case& test);
void vjepa2_nonsquare(Case& test);
void vjepa21_step(Case& test);
void vjepa2_ac(Case& test);
void attentive_probe(Case& test);
void training(Case& test);
void checkpoint_expected(Case& test);
void hugging_face_expected(Case& test);
void ebjepa_two_rooms(Case& test);
void swm_two_rooms(Case& test);
void ebjepa_ac(Case& test);
void ebjepa_planner(Case& test);
void lewm_step(Case& test);
void sigreg(Case& test);
void ha_mdn(Case& test);
void swm_dataset(Case& test);

}  // namespace parity

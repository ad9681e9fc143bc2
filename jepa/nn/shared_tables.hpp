// Constant tables (positions, masks of attention) that are computed once and shared.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <map>
#include <memory>
#include <mutex>

namespace jepa::nn {

/// Tables by key. What is handed out never changes, so models and threads share it. At most `most`
/// are kept; who holds one that was dropped still has it.
template <class Key, class Table>
class SharedTables {
 public:
  explicit SharedTables(size_t most = 64) : most_(most) {}

  /// The table of `key`; `make` builds it where there is none yet.
  template <class Make>
  std::shared_ptr<const Table> get(const Key& key, Make make) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = tables_.find(key);
    if (found != tables_.end()) return found->second;
    // Ordinary tensors, also where the first to ask runs under InferenceMode.
    const c10::InferenceMode ordinary(false);
    const torch::NoGradGuard no_grad;
    if (tables_.size() >= most_) tables_.clear();
    return tables_[key] = std::make_shared<const Table>(make());
  }

 private:
  size_t most_;
  std::mutex mutex_;
  std::map<Key, std::shared_ptr<const Table>> tables_;
};

}  // namespace jepa::nn

// In which order a loader passes over its source. Internal to data.
#pragma once

#include <jepa/random.hpp>

#include <cstdint>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

namespace jepa {

/// The orders of the passes over a source.
class PassOrder {
 public:
  PassOrder(int64_t size, bool shuffle, uint64_t seed)
      : size_(size), shuffle_(shuffle), seed_(seed) {}

  /// The clip at `place` in the endless sequence of passes.
  int64_t clip(int64_t place) {
    if (!shuffle_) return place % size_;
    const int64_t pass = place / size_;
    return orders_of(pass)[static_cast<size_t>(place % size_)];
  }

 private:
  /// Keeps two passes: a batch may span the end of one and the start of the next.
  const std::vector<int64_t>& orders_of(int64_t pass) {
    auto found = orders_.find(pass);
    if (found == orders_.end()) {
      if (orders_.size() >= 2) orders_.clear();
      std::vector<int64_t> order(static_cast<size_t>(size_));
      std::iota(order.begin(), order.end(), 0);
      Random random(seed_, "order", static_cast<uint64_t>(pass));
      for (int64_t i = size_ - 1; i > 0; --i) {
        std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(random.below(i + 1))]);
      }
      found = orders_.emplace(pass, std::move(order)).first;
    }
    return found->second;
  }

  int64_t size_;
  bool shuffle_;
  uint64_t seed_;
  std::map<int64_t, std::vector<int64_t>> orders_;
};

}  // namespace jepa

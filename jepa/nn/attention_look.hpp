// Looking at attention from outside: what each layer attends to, while someone looks.
#pragma once

#include <torch/types.h>

#include <vector>

namespace jepa::nn {

/// While one lives, every attention of this thread leaves its weights in it, the mean over heads
/// [B, N, N] (query, key), in the order that layers run. Slower, and the values differ in their
/// last bits: the weights are computed, which the usual kernels avoid.
class AttentionLook {
 public:
  AttentionLook();
  ~AttentionLook();
  AttentionLook(const AttentionLook&) = delete;
  AttentionLook& operator=(const AttentionLook&) = delete;

  /// The one that lives on this thread; null: none.
  static AttentionLook* current();

  std::vector<torch::Tensor> layers;

 private:
  AttentionLook* before_;
};

}  // namespace jepa::nn

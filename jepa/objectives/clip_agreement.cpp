#include <jepa/objectives/clip_agreement.hpp>
#include <jepa/objectives/vicreg.hpp>

#include <torch/torch.h>

namespace jepa {
namespace {

/// Columns of [B, D] with mean 0 and variance 1 over the batch.
torch::Tensor standardise(const torch::Tensor& x) {
  const torch::Tensor centred = x - x.mean(0, true);
  return centred / (centred.square().mean(0, true) + 1e-6).sqrt();
}

}  // namespace

torch::Tensor clip_agreement(const torch::Tensor& visible, const torch::Tensor& ids,
                             const torch::Tensor& target, const TokenGrid& grid,
                             double off_diagonal) {
  TORCH_CHECK(visible.dim() == 3 && target.dim() == 3 && visible.size(0) == target.size(0) &&
                  visible.size(2) == target.size(2),
              "clip_agreement: visible [B, K, D] and target [B, N, D] expected, got ",
              visible.sizes(), " and ", target.sizes());
  const torch::Tensor part =
      standardise(less_position_mean(visible, ids, grid.size()).mean(1));  // [B, D]
  const torch::Tensor whole =
      standardise((target - target.mean(0, true)).mean(1)).detach();  // [B, D]
  const torch::Tensor correlation =
      part.t().matmul(whole) / static_cast<double>(visible.size(0));  // [D, D]
  const torch::Tensor diagonal = correlation.diagonal();
  const torch::Tensor others = correlation.square().sum() - diagonal.square().sum();
  return ((1 - diagonal).square().sum() + off_diagonal * others) /
         static_cast<double>(visible.size(2));
}

}  // namespace jepa

#include <jepa/errors.hpp>
#include <jepa/objectives/latent_regression.hpp>

#include <torch/types.h>

#include <string>

namespace jepa {
namespace {

torch::Tensor elementwise(const torch::Tensor& prediction, const torch::Tensor& target,
                          LatentLoss kind, at::Reduction::Reduction reduction) {
  TORCH_CHECK(prediction.sizes() == target.sizes(), "latent loss: predictions ", prediction.sizes(),
              " and targets ", target.sizes(), " differ in shape");
  switch (kind) {
    case LatentLoss::l1:
      return at::l1_loss(prediction, target, reduction);
    case LatentLoss::l2:
      return at::mse_loss(prediction, target, reduction) / 2;
    case LatentLoss::smooth_l1:
      return at::smooth_l1_loss(prediction, target, reduction);
  }
  TORCH_CHECK(false, "unknown latent loss");
}

/// Token ids [B, K] -> float positions (t, h, w) [B, K, 3].
torch::Tensor positions(const torch::Tensor& ids, const TokenGrid& grid) {
  const auto within = ids.remainder(grid.frame_size());
  return torch::stack({ids.div(grid.frame_size(), "floor"), within.div(grid.w, "floor"),
                       within.remainder(grid.w)},
                      -1)
      .to(torch::kFloat32);
}

}  // namespace

LatentLoss latent_loss_from_name(std::string_view name) {
  if (name == "l1") return LatentLoss::l1;
  if (name == "l2") return LatentLoss::l2;
  if (name == "smooth_l1") return LatentLoss::smooth_l1;
  throw ConfigError("unknown latent loss '" + std::string(name) +
                    "': expected l1, l2 or smooth_l1");
}

torch::Tensor latent_regression(const torch::Tensor& prediction, const torch::Tensor& target,
                                LatentLoss kind) {
  return elementwise(prediction, target, kind, at::Reduction::Mean);
}

torch::Tensor normalise_targets(const torch::Tensor& tokens, int64_t levels) {
  const int64_t width = tokens.size(-1);
  TORCH_CHECK(levels > 0 && width % levels == 0, "normalise_targets: width ", width,
              " does not divide into ", levels, " levels");
  const auto chunks = tokens.unflatten(-1, {levels, width / levels});
  return at::layer_norm(chunks, {width / levels}, {}, {}, 1e-5).flatten(-2);
}

torch::Tensor content_targets(const torch::Tensor& tokens) {
  TORCH_CHECK(tokens.dim() == 3 && tokens.size(0) >= 2,
              "content_targets: expected tokens [B >= 2, N, D], found ", tokens.sizes());
  const auto content = tokens - tokens.mean(0, /*keepdim=*/true);
  const auto variance = content.square().mean(at::IntArrayRef({0, 1}), /*keepdim=*/true);
  return content / (variance + 1e-6).sqrt();
}

torch::Tensor context_sqrt_distances(const Mask& mask, const TokenGrid& grid, double unit) {
  TORCH_CHECK(unit > 0, "context_sqrt_distances: unit must be positive, is ", unit);
  const auto target = positions(mask.target, grid);
  const auto context = positions(mask.context, grid).repeat({mask.targets_per_context(), 1, 1});
  // |a - b|^2 = |a|^2 + |b|^2 - 2ab: exact, since all are small integers, and one [M*B, Kc, Kt]
  // buffer instead of three.
  auto squared = at::baddbmm(target.square().sum(-1).unsqueeze(1), context, target.transpose(1, 2),
                             /*beta=*/1, /*alpha=*/-2);
  const auto nearest = squared.amin(-1) + context.square().sum(-1);
  return nearest.sqrt().div(unit).sqrt();
}

torch::Tensor weighted_context_loss(const torch::Tensor& prediction, const torch::Tensor& target,
                                    const torch::Tensor& sqrt_distances, LatentLoss kind) {
  TORCH_CHECK(sqrt_distances.dim() == 2 && sqrt_distances.size(0) == prediction.size(0) &&
                  sqrt_distances.size(1) == prediction.size(1),
              "context loss: distances ", sqrt_distances.sizes(), " for predictions ",
              prediction.sizes());
  const auto loss = elementwise(prediction, target, kind, at::Reduction::None);
  return loss.mean(-1).div(sqrt_distances).mean();
}

}  // namespace jepa

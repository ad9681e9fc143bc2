#include <eval/report/features_pca.hpp>

#include <torch/nn/functional/upsampling.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::eval::report {
namespace {

namespace F = torch::nn::functional;

}  // namespace

torch::Tensor FeaturePca::colours(const torch::Tensor& tokens) const {
  TORCH_CHECK(tokens.dim() == 3 && tokens.size(2) == basis.size(0), "expected tokens [B, N, ",
              basis.size(0), "], got ", tokens.sizes());
  TORCH_CHECK(mean.size(0) == 1 || mean.size(0) == tokens.size(1), "the means are those of ",
              mean.size(0), " positions, the tokens stand at ", tokens.size(1));
  const auto scores = (tokens.detach().cpu().to(torch::kFloat32) - mean).matmul(basis);
  return ((scores - low) / (high - low).clamp_min(1e-12)).clamp(0, 1);
}

FeaturePca fit_pca(const torch::Tensor& tokens, const PcaOptions& options) {
  TORCH_CHECK(tokens.dim() == 3 && tokens.size(2) >= 3 && tokens.size(0) * tokens.size(1) >= 1,
              "fit_pca takes tokens [B, N, D] with D of 3 or more, got ", tokens.sizes());
  torch::NoGradGuard no_grad;
  const auto values = tokens.cpu().to(torch::kFloat64);
  const auto mean = options.remove_position_mean ? values.mean(0)
                                                 : values.flatten(0, 1).mean(0, /*keepdim=*/true);
  const auto centred = (values - mean).flatten(0, 1);
  const auto [spectrum, vectors] =
      torch::linalg_eigh(centred.t().matmul(centred) / centred.size(0), "L");
  // Eigenvalues come smallest first.
  auto basis = vectors.slice(1, vectors.size(1) - 3).flip(1);
  const auto largest = basis.abs().argmax(0, /*keepdim=*/true);
  basis = basis * torch::where(basis.gather(0, largest) < 0, -1.0, 1.0);
  const auto scores = centred.matmul(basis);

  FeaturePca pca;
  pca.mean = mean.to(torch::kFloat32);
  pca.basis = basis.to(torch::kFloat32);
  // Percentiles by sorting: quantile() refuses large inputs.
  const auto sorted = std::get<0>(scores.sort(0)).to(torch::kFloat32);
  const auto last = static_cast<double>(sorted.size(0) - 1);
  pca.low = sorted[static_cast<int64_t>(0.02 * last)].clone();
  pca.high = sorted[static_cast<int64_t>(0.98 * last + 0.5)].clone();
  pca.explained =
      (spectrum.slice(0, spectrum.size(0) - 3).flip(0) / spectrum.sum().clamp_min(1e-300))
          .to(torch::kFloat32);
  return pca;
}

torch::Tensor pca_frames(const torch::Tensor& frames, const torch::Tensor& colours,
                         const TokenGrid& grid) {
  TORCH_CHECK(frames.dim() == 4 && frames.size(3) == 3 && frames.scalar_type() == torch::kUInt8,
              "pca_frames takes uint8 frames [T, H, W, 3], got ", frames.sizes());
  TORCH_CHECK(colours.dim() == 2 && colours.size(0) == grid.size() && colours.size(1) == 3,
              "pca_frames takes one colour a token, [", grid.size(), ", 3], got ", colours.sizes());
  TORCH_CHECK(frames.size(0) % grid.t == 0, frames.size(0), " frames do not divide into ", grid.t,
              " tubelets");
  const int64_t height = frames.size(1), width = frames.size(2);
  auto paint = F::interpolate(colours.cpu().view({grid.t, grid.h, grid.w, 3}).permute({0, 3, 1, 2}),
                              F::InterpolateFuncOptions()
                                  .size(std::vector<int64_t>{height, width})
                                  .mode(torch::kBilinear)
                                  .align_corners(false));
  paint = (paint * 255).round().clamp(0, 255).to(torch::kUInt8).permute({0, 2, 3, 1});
  paint = paint.repeat_interleave(frames.size(0) / grid.t, 0);
  const auto gap = torch::full({frames.size(0), height, 4, 3}, 255, torch::kUInt8);
  return torch::cat({frames.cpu(), gap, paint}, 2);
}

}  // namespace jepa::eval::report

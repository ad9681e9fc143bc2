#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/model.hpp>

#include <torch/types.h>

namespace jepa {

PixelStatistics PixelStatistics::imagenet() {
  return {{0.485 * 255, 0.456 * 255, 0.406 * 255}, {0.229 * 255, 0.224 * 255, 0.225 * 255}};
}

torch::Tensor PixelStatistics::normalise(const torch::Tensor& clips, torch::Device device) const {
  TORCH_CHECK(clips.dim() == 5, "clips: expected [B, C, T, H, W], got ", clips.sizes());
  const auto fits = [&](const std::vector<double>& values) {
    return values.size() == 1 || static_cast<int64_t>(values.size()) == clips.size(1);
  };
  if (!fits(mean) || !fits(std)) {
    throw ConfigError(c10::str("pixel_mean, pixel_std: expected 1 or ", clips.size(1),
                               " values, found ", mean.size(), " and ", std.size()));
  }
  const auto row = [&](const std::vector<double>& values) {
    return torch::tensor(values, torch::kFloat64).view({1, -1, 1, 1, 1});
  };
  // x * (1 / std) - mean / std, written into one buffer.
  const torch::Tensor scale = row(std).reciprocal();
  const torch::Tensor shift = row(mean) * scale;
  const auto there = [&](const torch::Tensor& x) {
    return to_device(x.to(torch::kFloat32), device);
  };
  return to_device(clips, device)
      .to(torch::kFloat32, /*non_blocking=*/false, /*copy=*/true)
      .mul_(there(scale))
      .sub_(there(shift));
}

torch::Tensor PixelStatistics::restore(const torch::Tensor& clips) const {
  const auto row = [](const std::vector<double>& values) {
    return torch::tensor(values, torch::kFloat32).view({1, -1, 1, 1, 1});
  };
  const auto pixels = clips.to(torch::kCPU, torch::kFloat32) * row(std) + row(mean);
  return pixels.round().clamp_(0, 255).to(torch::kUInt8);
}

TokenGrid EncoderImpl::patch() const {
  TORCH_CHECK(clip_sizes_.size() == 5, "an encoder without the sizes of its clips has no patch");
  const TokenGrid tokens = clip_grid();
  TORCH_CHECK(tokens.size() > 0, "an encoder gives no token for its own clips, ", clip_sizes_);
  return {clip_sizes_[2] / tokens.t, clip_sizes_[3] / tokens.h, clip_sizes_[4] / tokens.w};
}

std::string EncoderImpl::description() const {
  const std::string width = c10::str("width ", output_width() / output_levels());
  if (clip_sizes_.empty()) return width;
  const TokenGrid part = patch();
  return c10::str(width, ", a token for ", part.t, part.t == 1 ? " frame" : " frames", " of ",
                  part.h, " x ", part.w, " pixels");
}

torch::Tensor gather_tokens(const torch::Tensor& tokens, const torch::Tensor& ids) {
  TORCH_CHECK(tokens.dim() == 3 && ids.dim() == 2, "gather_tokens: tokens [B, N, D] and ids ",
              "[M*B, K] expected, got ", tokens.sizes(), " and ", ids.sizes());
  const int64_t batch = tokens.size(0);
  const int64_t count = tokens.size(1);
  const int64_t dim = tokens.size(2);
  TORCH_CHECK(ids.size(0) % batch == 0, "gather_tokens: ", ids.size(0),
              " rows of ids do not divide over ", batch, " clips");
  // One index_select over flattened rows: whole rows are copied, no [.., D] index is expanded.
  const auto rows = torch::arange(ids.size(0), ids.options()).remainder_(batch).mul_(count);
  return tokens.reshape({batch * count, dim})
      .index_select(0, (ids + rows.unsqueeze(1)).flatten())
      .view({ids.size(0), ids.size(1), dim});
}

}  // namespace jepa

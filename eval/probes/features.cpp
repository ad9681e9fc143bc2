#include <eval/probes/features.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::probes {
namespace {

int64_t resolve_layer(int64_t layer, int64_t depth) {
  const int64_t resolved = layer < 0 ? depth + layer : layer;
  if (resolved < 0 || resolved >= depth) {
    throw ConfigError("layer " + std::to_string(layer) + ": the encoder has " +
                      std::to_string(depth) + " blocks");
  }
  return resolved;
}

/// Side to which an area of `values` numbers is averaged down.
int64_t side_for(int64_t values, int64_t limit) {
  return std::clamp<int64_t>(static_cast<int64_t>(std::sqrt(static_cast<double>(values))), 1,
                             limit);
}

}  // namespace

void FeatureOptions::describe(OptionVisitor& visit) {
  visit("layer", layer, {.help = "block whose tokens are read; negative: from the end"});
  visit("pool", pool,
        {.help = "how a clip's tokens become one vector", .choices = {"mean", "max", "mean_max"}});
}

torch::Tensor pool_tokens(const torch::Tensor& tokens, const std::string& pool) {
  if (pool == "mean") return tokens.mean(1);
  if (pool == "max") return tokens.amax(1);
  if (pool == "mean_max") return torch::cat({tokens.mean(1), tokens.amax(1)}, 1);
  throw ConfigError("pool: expected mean, max or mean_max, found '" + pool + "'");
}

torch::Tensor frozen_tokens(Encoder& encoder, const torch::Tensor& clips,
                            const FeatureOptions& options) {
  TORCH_CHECK(clips.dim() == 5, "frozen_tokens: expected clips [B, C, T, H, W], found ",
              clips.sizes());
  torch::NoGradGuard no_grad;
  if (options.processes != nullptr) {
    FeatureOptions own = options;
    own.processes = nullptr;
    return share_rows(clips, *options.processes,
                      [&](const torch::Tensor& part) { return frozen_tokens(encoder, part, own); });
  }
  const auto normal = options.pixels.normalise(clips, options.device);
  AutocastScope autocast(options.device, options.precision);
  const auto layer = resolve_layer(options.layer, encoder->depth());
  const bool training = encoder->is_training();  // the online probe looks in while it trains
  encoder->eval();
  const auto tokens = encoder->layers(normal, {layer}).front();
  encoder->train(training);
  return tokens.to(torch::kCPU, torch::kFloat32);
}

std::vector<int64_t> raw_pixel_sizes(at::IntArrayRef clip, int64_t values) {
  if (clip[1] * clip[2] * clip[3] * clip[4] <= values) return clip.slice(1).vec();
  const int64_t frames = std::min<int64_t>(clip[2], 16);
  const int64_t side =
      side_for(values / std::max<int64_t>(1, clip[1] * frames), std::max(clip[3], clip[4]));
  return {clip[1], frames, std::min(side, clip[3]), std::min(side, clip[4])};
}

torch::Tensor raw_pixels(const torch::Tensor& clips, int64_t values) {
  const auto sizes = raw_pixel_sizes(clips.sizes(), values);
  return at::adaptive_avg_pool3d(clips.to(torch::kFloat32) / 255, {sizes[1], sizes[2], sizes[3]})
      .flatten(1);
}

torch::Tensor raw_pixel_tokens(const torch::Tensor& clips, const TokenGrid& grid) {
  constexpr int64_t kValues = 192;
  constexpr int64_t kMultiple = 16;
  const auto sizes = clips.sizes();
  const int64_t batch = sizes[0], channels = sizes[1], frames = sizes[2] / grid.t;
  const int64_t height = sizes[3] / grid.h, width = sizes[4] / grid.w;
  const int64_t side =
      side_for(kValues / std::max<int64_t>(1, channels * frames), std::max(height, width));
  const int64_t rows = std::min(side, height), columns = std::min(side, width);
  auto patches = at::adaptive_avg_pool3d(clips.to(torch::kFloat32) / 255,
                                         {grid.t * frames, grid.h * rows, grid.w * columns})
                     .view({batch, channels, grid.t, frames, grid.h, rows, grid.w, columns})
                     .permute({0, 2, 4, 6, 1, 3, 5, 7})
                     .reshape({batch, grid.size(), -1});
  const auto axis = [](int64_t n) { return torch::linspace(-1, 1, n); };
  const auto places = torch::meshgrid({axis(grid.t), axis(grid.h), axis(grid.w)}, "ij");
  const auto place = torch::stack(places, -1).view({1, grid.size(), 3}).expand({batch, -1, -1});
  auto tokens = torch::cat({patches, place}, 2);
  const int64_t missing = (kMultiple - tokens.size(2) % kMultiple) % kMultiple;
  return at::constant_pad_nd(tokens, {0, missing});
}

void for_each_batch(const std::shared_ptr<const ClipSource>& source, LoaderOptions loader,
                    const std::function<void(const torch::Tensor& clips)>& take) {
  loader.shuffle = false;
  loader.max_errors = 0;
  ClipLoader batches(source, loader, /*seed=*/0);
  for (ClipBatch batch = batches.next(); batch.size() > 0; batch = batches.next()) {
    take(batch.clips);
  }
}

std::vector<torch::Tensor> over_clips(const std::shared_ptr<const ClipSource>& source,
                                      const LoaderOptions& loader,
                                      const FeatureFunction& function) {
  std::vector<std::vector<torch::Tensor>> parts;
  for_each_batch(source, loader, [&](const torch::Tensor& clips) {
    auto features = function(clips);
    parts.resize(features.size());
    for (size_t i = 0; i < features.size(); ++i) parts[i].push_back(std::move(features[i]));
  });
  std::vector<torch::Tensor> result;
  for (auto& part : parts) {
    result.push_back(torch::cat(part));
    part.clear();  // tokens are large: not all twice
  }
  return result;
}

torch::Tensor extract_features(Encoder& encoder, const std::shared_ptr<const ClipSource>& source,
                               const LoaderOptions& loader, const FeatureOptions& options) {
  return over_clips(source, loader,
                    [&](const torch::Tensor& clips) {
                      return std::vector<torch::Tensor>{
                          pool_tokens(frozen_tokens(encoder, clips, options), options.pool)};
                    })
      .front();
}

}  // namespace jepa::eval::probes

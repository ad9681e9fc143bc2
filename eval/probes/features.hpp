// Frozen features: every clip of a source through an encoder once, and the raw pixels beside it.
#pragma once

#include <jepa/data/loader.hpp>
#include <jepa/model.hpp>
#include <jepa/options.hpp>
#include <jepa/training/processes.hpp>

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::probes {

/// What of an encoder is read, and how clips reach it.
struct FeatureOptions {
  int64_t layer = -1;             ///< block from 0; negative counts from the end
  std::string pool = "mean_max";  ///< mean, max or mean_max over all tokens
  PixelStatistics pixels = {};    ///< of the encoder
  torch::Device device = torch::kCPU;
  torch::ScalarType precision = torch::kFloat32;
  Processes* processes = nullptr;  ///< that share the clips of each batch; null: this one alone

  /// Layer and pool; pixel statistics belong to the encoder, device and precision to the program.
  void describe(OptionVisitor& visit);
};

/// Tokens [B, N, D] -> [B, D] (mean, max) or [B, 2D] (mean_max).
/// @throws ConfigError for another name
torch::Tensor pool_tokens(const torch::Tensor& tokens, const std::string& pool);

/// Clips uint8 [B, C, T, H, W] -> tokens float [B, N, D] of the chosen layer on the CPU, without
/// gradient. The encoder, on `options.device`, is put into evaluation mode meanwhile. Of several
/// processes, which all call with the same clips, each encodes its part and gets the tokens of all.
/// @throws ConfigError for a layer the encoder does not have, or pixel statistics that fit neither
///   one channel nor all
torch::Tensor frozen_tokens(Encoder& encoder, const torch::Tensor& clips,
                            const FeatureOptions& options);

/// The sizes [C, T, H, W] to which raw_pixels() averages a clip of sizes [B, C, T, H, W]; the
/// clip's own where it has no more than `values` numbers.
std::vector<int64_t> raw_pixel_sizes(at::IntArrayRef clip_sizes, int64_t values);

/// Raw pixels, averaged down to about `values` numbers a clip (see raw_pixel_sizes): uint8
/// [B, C, T, H, W] -> float [B, numbers] in 0..1.
torch::Tensor raw_pixels(const torch::Tensor& clips, int64_t values);

/// Raw pixels as tokens of `grid`: each its patch (averaged down to at most about 192 numbers) and
/// its place (t, h, w in [-1, 1]), zeros up to a width that 16 divides -> float [B, N, width].
torch::Tensor raw_pixel_tokens(const torch::Tensor& clips, const TokenGrid& grid);

/// Several features of one batch of clips uint8 [B, C, T, H, W], each [B, ...] on the CPU.
using FeatureFunction = std::function<std::vector<torch::Tensor>(const torch::Tensor& clips)>;

/// Hands all clips of `source` to `take`, in their own order and a batch at a time.
/// @param loader batch, threads and augmentation; shuffling and tolerated errors are turned off,
///   so that row i is clip i
/// @throws DataError naming a clip that cannot be read
void for_each_batch(const std::shared_ptr<const ClipSource>& source, LoaderOptions loader,
                    const std::function<void(const torch::Tensor& clips)>& take);

/// Runs one pass over `source` in its own order -> the features of all its clips, each [E, ...].
/// @param loader as for_each_batch takes it
/// @throws DataError naming a clip that cannot be read
std::vector<torch::Tensor> over_clips(const std::shared_ptr<const ClipSource>& source,
                                      const LoaderOptions& loader, const FeatureFunction& function);

/// Pooled features of every clip of `source` -> float [E, D or 2D].
torch::Tensor extract_features(Encoder& encoder, const std::shared_ptr<const ClipSource>& source,
                               const LoaderOptions& loader, const FeatureOptions& options);

}  // namespace jepa::eval::probes

// How good predicted frames are: places that the judge reads off them, pixels, sets of possible
// futures; the trivial predictors that every other has to beat; intervals.
#pragma once

#include <eval/probes/metrics.hpp>

#include <torch/types.h>

#include <cstdint>

namespace jepa::eval::comparison {

// Trivial predictors. Horizon h is the h-th frame after the context.

/// The last context frame, `horizon` times: clips [B, C, T, H, W] -> [B, C, horizon, H, W].
torch::Tensor copy_last_frame(const torch::Tensor& context, int64_t horizon);

/// The last centre, `horizon` times: [B, T, 2] -> [B, horizon, 2], px.
torch::Tensor copy_last_centre(const torch::Tensor& centres, int64_t horizon);

/// The least-squares line through the context's centres, continued: [B, T >= 2, 2] ->
/// [B, horizon, 2], px.
torch::Tensor extrapolate_centres(const torch::Tensor& centres, int64_t horizon);

/// Linear extrapolation as frames: the last context frame, moved by `velocity` [B, 2] (px a frame)
/// times h; what comes in from outside is black. uint8 [B, C, T, H, W] -> [B, C, horizon, H, W].
torch::Tensor extrapolate_frames(const torch::Tensor& context, const torch::Tensor& velocity,
                                 int64_t horizon);

// Errors of each clip and frame. Means over clips, with intervals, are mean_interval's.

/// Distance of read centres [..., T, 2] from true ones -> [..., T], px. A set of futures
/// [K, B, T, 2] may be given for truths [B, T, 2].
torch::Tensor position_error(const torch::Tensor& centres, const torch::Tensor& truth);

/// Peak signal-to-noise ratio of each frame over its channels: [..., C, T, H, W], uint8 or float in
/// 0..255, -> double [..., T], dB. Mean squared error counts as at least 1/12, that of rounding to
/// whole grey levels: equal frames have 58.92 dB instead of infinity, which no mean survives.
torch::Tensor psnr(const torch::Tensor& frames, const torch::Tensor& truth);

/// Structural similarity of each frame (Wang et al. 2004): Gaussian window 11 x 11 of deviation
/// 1.5, K1 = 0.01, K2 = 0.03, white 255; mean over channels and over windows wholly inside the
/// frame. [..., C, T, H, W], H and W at least 11, uint8 or float in 0..255, -> double [..., T].
torch::Tensor ssim(const torch::Tensor& frames, const torch::Tensor& truth);

// K possible futures of each clip, [K, B, ...].

/// The errors [B, T] of the future that is best on the whole, of errors [K, B, T]: the one with the
/// least sum over frames. It favours those who guess widely; print mean_future's error beside it.
torch::Tensor best_of_k(const torch::Tensor& errors);

/// The mean future, of centres or of frames: [K, B, ...] -> float [B, ...].
torch::Tensor mean_future(const torch::Tensor& futures);

/// Whether some future's centre is within `radius` px of the truth: centres [K, B, T, 2] and truth
/// [B, T, 2] -> double [B, T] of 0 and 1.
torch::Tensor coverage(const torch::Tensor& centres, const torch::Tensor& truth, double radius);

/// Energy score of K futures' centres (Gneiting and Raftery 2007), px, lower is better:
/// mean |x_k - y| - sum over pairs |x_j - x_k| / (K (K - 1)), each pair once. In this unbiased form
/// it estimates the same number whatever K is; K = 1 is taken as a forecast without spread, whose
/// score is its distance. Centres [K, B, T, 2] and truth [B, T, 2] -> [B, T].
torch::Tensor energy_score(const torch::Tensor& centres, const torch::Tensor& truth);

// Intervals.

/// Mean of one value a clip [n] with its 95 % bootstrap interval. Give the difference of two
/// methods' values of the same clips for a paired interval.
/// @param units int64 [n], which clips are not independent (share a digit instance), any numbers;
///        undefined: all are
probes::Estimate mean_interval(const torch::Tensor& values, const torch::Tensor& units,
                               uint64_t seed, int64_t resamples = 1000);

}  // namespace jepa::eval::comparison

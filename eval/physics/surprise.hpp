// How surprised a model is of what follows in a video: windows of frames in, a number a token out.
#pragma once

#include <jepa/grid.hpp>

#include <torch/types.h>

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace jepa::eval::physics {

/// A model as it is asked for surprise. It takes frames of any size that it takes at all.
struct SurpriseModel {
  std::string name;
  int64_t window = 0;   ///< frames it is shown at a time, past and future together
  int64_t tubelet = 1;  ///< frames of a token; a past is a multiple of it
  /// Windows uint8 [B, C, window, H, W] of which the first `past` frames are known -> the surprise
  /// of each token of the frames after them, float [B, t, h, w] on the CPU. It is 0 where what
  /// comes is what was predicted. Nothing is drawn at random: the same windows give the same bits.
  std::function<torch::Tensor(const torch::Tensor& windows, int64_t past)> tokens;
  int64_t side = 0;  ///< height of the frames it was made for, px; 0: not known
};

/// Which windows of a film are asked.
struct WindowOptions {
  int64_t past = 4;    ///< frames that are known of each
  int64_t stride = 2;  ///< frames from one window to the next
  int64_t batch = 32;  ///< windows at a time
};

/// Surprise frame by frame from that of windows that overlap: the mean over the windows that
/// foretell a frame. Keeps only frames that were not taken.
class FrameOverlap {
 public:
  explicit FrameOverlap(int64_t tubelet) : tubelet_(tubelet) {}
  /// @param first frame that the tokens float [t, h, w] begin with
  void add(int64_t first, const torch::Tensor& tokens);
  /// A frame's map float [h, w], undefined where no window foretells it; forgets it and all before.
  torch::Tensor take(int64_t frame);

 private:
  int64_t tubelet_;
  std::map<int64_t, std::pair<torch::Tensor, int64_t>> sums_;  // and of how many windows
};

/// The surprise of films, window by window.
struct FilmSurprise {
  torch::Tensor windows;  ///< float [F, W], means over the tokens of each window
  torch::Tensor tokens;   ///< float [F, W, t, h, w]
  int64_t tubelet = 1;
  WindowOptions asked;

  torch::Tensor mean() const { return windows.mean(1); }  ///< [F]
  torch::Tensor max() const { return windows.amax(1); }   ///< [F]
  /// Film `film` frame by frame: tokens averaged over the windows that foretell them, float
  /// [frames, h, w]; NaN for frames that none does.
  torch::Tensor frame_map(int64_t film, int64_t frames) const;
};

/// @throws ConfigError where a model can be told no such past
void require_past(const SurpriseModel& model, int64_t past);

/// Asks a model about films uint8 [F, C, T, H, W] of one length.
/// @throws DataError where a film is shorter than a window or a surprise not finite; ConfigError
/// for a past that is none
FilmSurprise surprise_of(const SurpriseModel& model, const torch::Tensor& films,
                         const WindowOptions& options);

}  // namespace jepa::eval::physics

// A window that slides over a film as it comes: each frame is kept as long as a window needs it.
#pragma once

#include <eval/physics/surprise.hpp>

#include <torch/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

namespace jepa::eval::watching {

/// A frame of which no later window says more.
struct WatchedFrame {
  int64_t index = 0;      ///< of those given, from 0
  torch::Tensor picture;  ///< as it was given
  torch::Tensor map;    ///< float [h, w], the mean over the windows that foretell it; or undefined
  int64_t window = -1;  ///< number of the window that ends with it; -1: none
};

/// Asks a model about windows of `model.window` frames, every `asked.stride` frames, `asked.batch`
/// windows at a time, as surprise_of() does for a film that is there as a whole: the same maps.
class SlidingSurprise {
 public:
  /// Gets frames in order, each once.
  using Take = std::function<void(const WatchedFrame&)>;
  /// Gets windows uint8 [b, C, window, H, W] as they are asked about, in order.
  using OnWindows = std::function<void(const torch::Tensor& windows)>;

  /// @throws ConfigError for a past that is none
  SlidingSurprise(physics::SurpriseModel model, const physics::WindowOptions& asked, Take take,
                  OnWindows on_windows = {});

  /// @param picture uint8 [C, H, W], as large as all others
  void add(const torch::Tensor& picture);
  /// What comes next does not follow from what was: no window holds frames of both sides.
  void cut();
  /// Asks about what is left.
  void finish() { cut(); }

  /// Frames that are kept now.
  int64_t kept() const { return static_cast<int64_t>(frames_.size()); }

 private:
  struct Kept {
    torch::Tensor picture;
    int64_t window = -1;
  };

  void ask();
  void emit(int64_t until);
  const Kept& at(int64_t index) const { return frames_[static_cast<size_t>(index - first_)]; }

  physics::SurpriseModel model_;
  physics::WindowOptions asked_;
  Take take_;
  OnWindows on_windows_;
  std::deque<Kept> frames_;
  int64_t first_ = 0;             // index of the first frame that is kept
  int64_t emitted_ = 0;           // index of the frame that is taken next
  int64_t next_ = 0;              // index of the frame that comes next
  int64_t start_ = 0;             // first frame of the next window
  int64_t windows_ = 0;           // windows so far
  std::vector<int64_t> waiting_;  // first frames of windows that are not asked yet
  physics::FrameOverlap overlap_;
};

}  // namespace jepa::eval::watching

// The most surprising moments of a film of any length, each with the frames about it.
#pragma once

#include <eval/watching/curve.hpp>

#include <torch/types.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace jepa::eval::watching {

/// A frame that has passed, as it is kept for clips.
struct SeenFrame {
  int64_t index = 0;  ///< of those that are watched
  CurveRow row;
  torch::Tensor picture;  ///< uint8 [C, H, W]
  torch::Tensor map;      ///< float [h, w] or undefined
};

/// A peak of the curve: no frame within `around` of it is more surprising.
struct Peak {
  SeenFrame at;
  std::vector<SeenFrame> clip;  ///< `around` frames before and after it, as far as there are any
};

/// Keeps the `count` highest peaks. Memory is that of count + 1 clips at most, however long the
/// film.
class Peaks {
 public:
  Peaks(int64_t count, int64_t around) : count_(count), around_(around) {}

  void add(const SeenFrame& frame);
  /// The last frame has been added: what is a peak so far is one.
  void finish();
  /// The most surprising one first.
  const std::vector<Peak>& peaks() const { return peaks_; }

 private:
  void settle();

  int64_t count_, around_;
  std::deque<SeenFrame> recent_;        // 2 * around + 1 at most
  std::optional<SeenFrame> candidate_;  // nothing since has been more surprising
  std::vector<Peak> peaks_;
};

}  // namespace jepa::eval::watching

// The grid of tokens that a clip becomes.
#pragma once

#include <cstdint>

namespace jepa {

/// Token counts along time, height and width. Ids are time-major, row-major:
/// `id = (t * h + row) * w + column`.
struct TokenGrid {
  int64_t t = 1;
  int64_t h = 1;
  int64_t w = 1;

  int64_t size() const { return t * h * w; }
  /// Tokens in one time step.
  int64_t frame_size() const { return h * w; }
  int64_t id(int64_t time, int64_t row, int64_t column) const {
    return (time * h + row) * w + column;
  }
  bool operator==(const TokenGrid&) const = default;
};

}  // namespace jepa

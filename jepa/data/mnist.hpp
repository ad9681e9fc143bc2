// Real handwritten digits that come with the library (see mnist_5k.md for their source).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace jepa {

/// 5,000 digits, 500 a class, in class order.
struct DigitSet {
  static constexpr int64_t kSide = 28;
  std::vector<uint8_t> labels;  ///< [5000], 0 to 9
  std::vector<uint8_t> images;  ///< [5000, 28, 28], 255 is ink

  const uint8_t* image(int64_t index) const { return images.data() + index * kSide * kSide; }
};

/// The digits, unpacked on first use.
const DigitSet& mnist_digits();

/// Numbers of the digits of a split: `train` 350 a class, `validation` 50, `test` 100; disjoint.
/// @throws ConfigError for another name
std::vector<int64_t> mnist_split(const std::string& split);

}  // namespace jepa

#include <jepa/data/mnist.hpp>
#include <jepa/errors.hpp>

#include <zlib.h>

// The packed digits become part of the library, so that an installed one needs no file.
asm(".section .rodata\n"
    ".balign 16\n"
    ".globl jepa_mnist_5k_begin\n"
    "jepa_mnist_5k_begin:\n"
    ".incbin \"" JEPA_MNIST_FILE
    "\"\n"
    ".globl jepa_mnist_5k_end\n"
    "jepa_mnist_5k_end:\n"
    ".byte 0\n"
    ".previous\n");

extern "C" {
extern const unsigned char jepa_mnist_5k_begin[];
extern const unsigned char jepa_mnist_5k_end[];
}

namespace jepa {
namespace {

constexpr int64_t kDigits = 5000;
constexpr int64_t kClasses = 10;
constexpr int64_t kPerClass = kDigits / kClasses;

DigitSet unpack() {
  std::vector<uint8_t> bytes(kDigits * (1 + DigitSet::kSide * DigitSet::kSide));
  uLongf size = bytes.size();
  const auto packed = static_cast<uLong>(jepa_mnist_5k_end - jepa_mnist_5k_begin);
  if (uncompress(bytes.data(), &size, jepa_mnist_5k_begin, packed) != Z_OK ||
      size != bytes.size()) {
    throw DataError("the digits inside the library are damaged");
  }
  return {{bytes.begin(), bytes.begin() + kDigits}, {bytes.begin() + kDigits, bytes.end()}};
}

}  // namespace

const DigitSet& mnist_digits() {
  static const DigitSet digits = unpack();
  return digits;
}

std::vector<int64_t> mnist_split(const std::string& split) {
  int64_t first = 0;
  int64_t last = 350;
  if (split == "validation") {
    first = 350;
    last = 400;
  } else if (split == "test") {
    first = 400;
    last = kPerClass;
  } else if (split != "train") {
    throw ConfigError("split: expected train, validation or test, found '" + split + "'");
  }
  std::vector<int64_t> indices;
  for (int64_t digit = 0; digit < kClasses; ++digit) {
    for (int64_t i = first; i < last; ++i) indices.push_back(digit * kPerClass + i);
  }
  return indices;
}

}  // namespace jepa

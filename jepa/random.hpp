// Counter-based randomness: every draw is a function of (run seed, stream name, index), never of
// what a thread happened to draw before. That gives exact resume and thread-independent loading.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

namespace jepa {

/// One round of SplitMix64 (Steele et al., 2014): a bijective 64-bit mixer.
constexpr uint64_t mix_bits(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// Seed of the stream `name` at `index` in a run seeded with `seed`.
constexpr uint64_t stream_seed(uint64_t seed, std::string_view name, uint64_t index) {
  uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a over the name
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return mix_bits(mix_bits(mix_bits(seed) ^ hash) ^ index);
}

/// Small generator for plain loops (no ATen, so loader threads may use it).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  Random(uint64_t seed, std::string_view name, uint64_t index)
      : state_(stream_seed(seed, name, index)) {}

  uint64_t bits() { return mix_bits(state_++); }
  /// Uniform in [0, 1).
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }
  /// Uniform in [low, high).
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Uniform integer in [0, n); n > 0.
  int64_t below(int64_t n) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<int64_t>((static_cast<Wide>(bits()) * static_cast<uint64_t>(n)) >> 64);
  }
  /// Standard normal (Box-Muller, one of the pair).
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(6.283185307179586 * uniform());
  }

 private:
  uint64_t state_;
};

}  // namespace jepa

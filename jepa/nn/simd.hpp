// Sixteen floats at a time, compiled for each instruction set and chosen when the program runs.
#pragma once

#include <cstdint>
#include <cstring>

namespace jepa::nn::simd {

constexpr int64_t kLanes = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));

#define JEPA_INLINE inline __attribute__((always_inline))

/// kLanes floats from `p`, wherever it lies.
JEPA_INLINE Floats load(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

/// The lanes of `v` to `p`, wherever it lies.
JEPA_INLINE void store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }

/// `x` in every lane.
JEPA_INLINE Floats all(float x) { return Floats{} + x; }

/// Of all lanes, first to last.
JEPA_INLINE float sum(Floats v) {
  float total = 0;
  for (int64_t i = 0; i < kLanes; ++i) total += v[i];
  return total;
}

/// The largest of all lanes.
JEPA_INLINE float largest(Floats v) {
  float most = v[0];
  for (int64_t i = 1; i < kLanes; ++i) most = v[i] > most ? v[i] : most;
  return most;
}

/// e^x within 2 units in the last place, for x <= 88; below -87 about 1e-38. What is not a number
/// stays so.
JEPA_INLINE Floats exp(Floats x) {
  x = x < -87.0f ? all(-87.0f) : x;
  const Floats shifter = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
  const Floats shifted = x * 1.44269504f + shifter;
  const Floats n = shifted - shifter;
  const Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;  // x - n ln 2, ln 2 in two parts
  Floats p = all(1.9875691500e-4f);  // minimax polynomial of (e^r - 1 - r) / r^2 (Cephes)
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // 2^n: n stands in the low bits of `shifted`, and belongs into the exponent's bits.
  Ints bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + (127 - 0x4B400000)) << 23;
  Floats power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

#if defined(__x86_64__)
template <class Function>
__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma"))) void run_avx512(
    const Function& function) {
  function();
}
template <class Function>
__attribute__((target("avx2,fma"))) void run_avx2(const Function& function) {
  function();
}
/// What this processor has: 2 AVX-512 (F, VL, DQ, BW), 1 AVX2 and FMA, 0 neither.
inline int instruction_level() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    return 2;
  }
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 0;
}
#endif

/// Calls `function` (a lambda that is always inlined) with the widest instructions of this machine.
template <class Function>
void widest(const Function& function) {
#if defined(__x86_64__)
  static const int level = instruction_level();
  if (level == 2) return run_avx512(function);
  if (level == 1) return run_avx2(function);
#endif
  function();
}

}  // namespace jepa::nn::simd

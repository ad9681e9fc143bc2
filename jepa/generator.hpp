// LibTorch's generator on the CPU, seeded as jepa/random.hpp seeds its own.
#pragma once

#include <jepa/random.hpp>

#include <ATen/CPUGeneratorImpl.h>

#include <cstdint>
#include <string_view>

namespace jepa {

/// A CPU generator seeded with `seed`.
inline at::Generator seeded_generator(uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}
/// Of the stream `name` at `index` in a run seeded with `seed`.
inline at::Generator seeded_generator(uint64_t seed, std::string_view name, uint64_t index = 0) {
  return seeded_generator(stream_seed(seed, name, index));
}

}  // namespace jepa

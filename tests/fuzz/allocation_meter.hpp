// How much memory the process has allocated.
#pragma once

#include <cstdint>

namespace jepa::fuzz {

/// Starts counting from zero. One thread measures at a time.
void reset_allocation_peak();

/// Most bytes allocated at one time since then, beyond what was allocated at that moment. Without
/// AddressSanitizer only C++ allocations are counted, not the content of tensors.
int64_t allocation_peak();

}  // namespace jepa::fuzz

// How the process holds its memory.
#pragma once

namespace jepa {

/// Tells the C library to keep freed memory instead of giving it back to the system, so that the
/// tensors of one training step reuse the pages of the last (glibc; elsewhere nothing happens). A
/// choice for a whole process, so programs make it, not the library.
void keep_freed_memory();

/// From here on `peak_memory_mb()` (jepa/device.hpp) tells the peak of what comes; freed memory is
/// given back first. Linux; elsewhere it stays the peak of the whole process.
void restart_peak_memory();

}  // namespace jepa

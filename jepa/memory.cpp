#include <jepa/memory.hpp>

#include <fstream>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace jepa {

void keep_freed_memory() {
#if defined(__GLIBC__)
  // By default blocks of 128 KiB and more are mapped and unmapped each time, and every page of
  // them is cleared by the kernel again.
  constexpr int kMapThreshold = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, kMapThreshold);
  mallopt(M_TRIM_THRESHOLD, kMapThreshold);
  mallopt(M_ARENA_MAX, 2);
#endif
}

void restart_peak_memory() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
  std::ofstream("/proc/self/clear_refs") << 5;  // the high-water mark, see proc(5)
}

}  // namespace jepa

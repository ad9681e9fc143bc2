#include "allocation_meter.hpp"

#include <algorithm>
#include <cstdlib>
#include <new>

#ifdef __SANITIZE_ADDRESS__
// GCC ships the functions without their header.
extern "C" {
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*, size_t),
                                              void (*on_free)(const volatile void*));
int __sanitizer_get_ownership(const volatile void*);
size_t __sanitizer_get_allocated_size(const volatile void*);
}
#else
#include <malloc.h>
#endif

namespace {

// Constant-initialised and trivial: allocations happen before and after main.
thread_local int64_t current = 0;
thread_local int64_t peak = 0;

void count(int64_t bytes) {
  current += bytes;
  peak = std::max(peak, current);
}

}  // namespace

namespace jepa::fuzz {

#ifdef __SANITIZE_ADDRESS__
namespace {
const int installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, size_t size) { count(static_cast<int64_t>(size)); },
    [](const volatile void* pointer) {
      if (pointer != nullptr && __sanitizer_get_ownership(pointer) != 0) {
        count(-static_cast<int64_t>(__sanitizer_get_allocated_size(pointer)));
      }
    });
}  // namespace
#endif

void reset_allocation_peak() { current = peak = 0; }
int64_t allocation_peak() { return peak; }

}  // namespace jepa::fuzz

#ifndef __SANITIZE_ADDRESS__
void* operator new(size_t size) {
  void* memory = std::malloc(std::max<size_t>(size, 1));
  if (memory == nullptr) throw std::bad_alloc();
  count(static_cast<int64_t>(malloc_usable_size(memory)));
  return memory;
}
void operator delete(void* memory) noexcept {
  if (memory != nullptr) count(-static_cast<int64_t>(malloc_usable_size(memory)));
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
#endif

#include <jepa/device.hpp>
#include <jepa/memory.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

namespace jepa {
namespace {

TEST(Memory, PeakStartsAgain) {
  if (access("/proc/self/clear_refs", W_OK) != 0) GTEST_SKIP() << "the system keeps one peak";
  constexpr size_t kBytes = size_t{256} << 20;
  void* block = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(block, MAP_FAILED);
  std::memset(block, 1, kBytes);
  munmap(block, kBytes);
  const double before = peak_memory_mb();
  EXPECT_GE(before, 256);
  restart_peak_memory();
  EXPECT_LT(peak_memory_mb(), before - 200);
}

}  // namespace
}  // namespace jepa

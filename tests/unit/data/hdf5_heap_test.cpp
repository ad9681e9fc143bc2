// Damage that HDF5 1.10 would follow out of its memory.
#include "temporary_folder.hpp"

#include <jepa/data/hdf5_file.hpp>
#include <jepa/data/hdf5_heap.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>

#include <cstring>

namespace jepa {
namespace {

/// A store whose attributes are texts of variable length.
std::string store() { return read_bytes(JEPA_TEST_FIXTURES "/stores/attributes.h5"); }

std::string with_number(std::string bytes, size_t at, uint64_t value, size_t size) {
  std::memcpy(bytes.data() + at, &value, size);
  return bytes;
}

TEST(Hdf5Heap, DamageIsFound) {
  const std::string bytes = store();
  const size_t heap = bytes.find("GCOL");
  ASSERT_NE(heap, std::string::npos);
  const auto damage = [&](const std::string& changed) {
    return heap_damage(changed, changed.size());
  };
  EXPECT_EQ(damage(bytes), "");
  for (const uint64_t size : {uint64_t{0}, uint64_t{16}, uint64_t{1} << 20, ~uint64_t{0}}) {
    EXPECT_NE(damage(with_number(bytes, heap + 8, size, 8)), "") << size;
  }
  // The first text's size, then a text's number.
  for (const uint64_t size : {uint64_t{5000}, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    EXPECT_NE(damage(with_number(bytes, heap + 16 + 8, size, 8)), "") << size;
  }
  EXPECT_NE(damage(with_number(bytes, heap + 16, 0, 2)), "");
  EXPECT_EQ(damage(bytes.substr(0, heap + 8)), "");
}

TEST(Hdf5Heap, AStoreWithADamagedOneIsAnError) {
  const TemporaryFolder folder;
  const std::string bytes = store();
  write_bytes(folder.file("a.h5"), bytes);
  EXPECT_FALSE(Hdf5File::open(folder.file("a.h5")).attributes({"texts"}).empty());
  write_bytes(folder.file("b.h5"), with_number(bytes, bytes.find("GCOL") + 24, ~uint64_t{0}, 8));
  const std::string error =
      message_of<DataError>([&] { Hdf5File::open(folder.file("b.h5")).attributes({"texts"}); });
  EXPECT_NE(error.find("b.h5: a heap of texts is damaged"), std::string::npos) << error;
}

}  // namespace
}  // namespace jepa

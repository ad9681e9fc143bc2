#include <jepa/data/hdf5_heap.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace jepa {
namespace {

template <class T>
T number_at(std::string_view bytes, uint64_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

/// A collection: signature, version and size in 16 bytes; then objects of a 16-byte head (number,
/// uses, padding, size) and their bytes, padded to 8; number 0 is the free rest, head included.
std::string collection_damage(std::string_view collection) {
  constexpr uint64_t kHead = 16;
  for (uint64_t at = kHead; at < collection.size();) {
    const uint64_t left = collection.size() - at;
    if (left < kHead) return "";  // too little for another object
    const auto object = number_at<uint16_t>(collection, at);
    const auto size = number_at<uint64_t>(collection, at + 8);
    if (object == 0) return size == left ? "" : "its free space has another size";
    if (size > left - kHead) return "an object reaches beyond it";
    at += kHead + (size + 7) / 8 * 8;
  }
  return "";
}

}  // namespace

std::string heap_damage(std::string_view bytes, uint64_t file_bytes) {
  using namespace std::string_view_literals;
  constexpr uint64_t kLeast = 4096;
  for (size_t at = bytes.find("GCOL\1\0\0\0"sv); at != std::string_view::npos;
       at = bytes.find("GCOL\1\0\0\0"sv, at + 1)) {
    if (bytes.size() - at < 16) break;
    const auto size = number_at<uint64_t>(bytes, at + 8);
    if (size < kLeast || size > file_bytes - at) return "a heap of texts has an impossible size";
    if (size > bytes.size() - at) break;  // the rest is not looked at
    const std::string why = collection_damage(bytes.substr(at, size));
    if (!why.empty()) return "a heap of texts is damaged: " + why;
  }
  return "";
}

std::string heap_damage_of_file(const std::string& path) {
  constexpr uint64_t kMost = uint64_t{256} << 20;
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return "";  // HDF5 has it open all the same
  struct stat status {};
  const bool sized = ::fstat(file, &status) == 0 && status.st_size > 0;
  const auto size = sized ? static_cast<uint64_t>(status.st_size) : 0;
  const uint64_t part = std::min(size, kMost);
  void* data = part > 0 ? ::mmap(nullptr, part, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
  ::close(file);
  if (data == MAP_FAILED) return "";
  std::string why = heap_damage({static_cast<const char*>(data), part}, size);
  ::munmap(data, part);
  return why;
}

}  // namespace jepa

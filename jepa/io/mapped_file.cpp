#include <jepa/errors.hpp>
#include <jepa/io/mapped_file.hpp>

#include <ATen/ATen.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace jepa {

MappedFile::MappedFile(std::string path, void* data, uint64_t size)
    : path_(std::move(path)), data_(data), size_(size) {}

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path) {
  // A pipe is refused below and must not be waited for.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    throw CheckpointError("cannot open " + path + ": " + std::strerror(errno));
  }
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw CheckpointError(path + " is not a regular file");
  }
  const auto size = static_cast<uint64_t>(status.st_size);
  void* data = nullptr;
  if (size > 0) {
    data =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor, 0);
  }
  const int reason = errno;
  ::close(descriptor);
  if (data == MAP_FAILED) {
    throw CheckpointError("cannot map " + path + ": " + std::strerror(reason));
  }
  return std::shared_ptr<MappedFile>(new MappedFile(path, data, size));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

torch::Tensor MappedFile::tensor(uint64_t offset, uint64_t bytes, at::IntArrayRef sizes,
                                 at::IntArrayRef strides, torch::ScalarType type) {
  const auto options = at::TensorOptions().dtype(type);
  if (bytes == 0) return at::empty(sizes, options);
  char* start = static_cast<char*>(data_) + offset;
  if (reinterpret_cast<uintptr_t>(start) % c10::elementSize(type) == 0) {
    return at::from_blob(
        start, sizes, strides, [self = shared_from_this()](void*) {}, options);
  }
  torch::Tensor aligned =
      at::empty({static_cast<int64_t>(bytes / c10::elementSize(type))}, options);
  std::memcpy(aligned.data_ptr(), start, bytes);
  return aligned.as_strided(sizes, strides);
}

void MappedFile::release(const torch::Tensor& tensor) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto base = reinterpret_cast<uintptr_t>(data_);
  const auto start = reinterpret_cast<uintptr_t>(tensor.const_data_ptr());
  const uintptr_t end = start + tensor.nbytes();
  if (start < base || end > base + size_) return;
  const uintptr_t first = (start + page - 1) / page * page;
  const uintptr_t last = end / page * page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

int64_t checked_bytes(at::IntArrayRef sizes, int64_t item_size) {
  constexpr int64_t limit = int64_t{1} << 62;
  int64_t bytes = item_size;
  for (const int64_t size : sizes) {
    const int64_t factor = size == 0 ? 1 : size;
    if (bytes > limit / factor) return -1;
    bytes *= factor;
  }
  return bytes;
}

}  // namespace jepa

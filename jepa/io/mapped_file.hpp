// Read access to a file through the page cache, without a copy.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace jepa {

/// A file mapped privately: writing to the memory (an optimiser updating loaded weights) copies the
/// page and never touches the file. The file must not be shortened while it is mapped; files that
/// are replaced by a rename, as this library does, are safe.
class MappedFile : public std::enable_shared_from_this<MappedFile> {
 public:
  /// @throws CheckpointError naming the file: missing, not a regular file, unreadable.
  static std::shared_ptr<MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  std::string_view bytes() const { return {static_cast<const char*>(data_), size_}; }

  /// A tensor over `[offset, offset + bytes)`, which the caller has checked to lie inside the file
  /// and to hold all that `sizes` and `strides` reach. It keeps the mapping alive. Where the offset
  /// is not aligned for `type` the bytes are copied.
  torch::Tensor tensor(uint64_t offset, uint64_t bytes, at::IntArrayRef sizes,
                       at::IntArrayRef strides, torch::ScalarType type);
  /// Gives back the memory of the pages that `tensor` fills alone, if it lies in this mapping: its
  /// content then comes from the file again when it is touched, and changes to it are lost.
  void release(const torch::Tensor& tensor);

 private:
  MappedFile(std::string path, void* data, uint64_t size);

  std::string path_;
  void* data_ = nullptr;
  uint64_t size_ = 0;
};

/// Product of `sizes` (each >= 0, zeros counted as one) times `item_size`, or -1 where it passes
/// 2^62: a declared shape must not overflow on its way to being compared with a file's size.
int64_t checked_bytes(at::IntArrayRef sizes, int64_t item_size);

}  // namespace jepa

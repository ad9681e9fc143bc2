// Files that appear whole or not at all.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace jepa {

/// Writes `PATH.partial` beside the file and renames it into place, so that a reader sees the old
/// content or the new one, also after a crash, a kill or a full disk. A link stays, and the file
/// behind it is replaced; a pipe or character device (/dev/stdout, /dev/null) is written to.
///
/// Every failure throws DataError naming the file and the system's reason; the old file stays.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  /// Removes the partial file unless `commit` was called.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Flushes to the disk (fsync of the file, rename, fsync of the folder).
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  std::string path_;
  bool stream_;  ///< `path_` itself is written to
  std::string partial_;
  int descriptor_ = -1;
};

/// Replaces the content of `path` by `bytes`, atomically.
/// @throws DataError naming the file.
void write_file_atomic(const std::string& path, std::string_view bytes);

/// Makes the entries of a folder durable (after renames in it).
/// @throws DataError naming the folder.
void sync_directory(const std::string& path);

}  // namespace jepa

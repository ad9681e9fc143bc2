// One writer a folder.
#pragma once

#include <memory>
#include <string>

namespace jepa {

/// Holds a folder for this process until it is destroyed or the process ends, however it ends.
class FolderLock {
 public:
  /// @param folder exists
  /// @throws Error naming the process that holds it already
  explicit FolderLock(const std::string& folder);
  /// The same by a lock of another name; null where another process holds it.
  /// @throws Error where the file cannot be opened
  static std::unique_ptr<FolderLock> take(const std::string& folder, const std::string& name);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  FolderLock() = default;
  /// Empty: it is taken; else who holds it.
  std::string open_file(const std::string& path);

  int handle_ = -1;
};

}  // namespace jepa

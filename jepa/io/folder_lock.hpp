// One writer a folder.
#pragma once

#include <string>

namespace jepa {

/// Holds a folder for this process until it is destroyed or the process ends, however it ends.
class FolderLock {
 public:
  /// @param folder exists
  /// @throws Error naming the process that holds it already
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int handle_ = -1;
};

}  // namespace jepa

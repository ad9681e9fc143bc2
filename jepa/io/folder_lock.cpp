#include <jepa/errors.hpp>
#include <jepa/io/folder_lock.hpp>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <utility>

namespace jepa {

FolderLock::FolderLock(const std::string& folder) {
  const std::string holder = open_file(folder + "/.lock");
  if (!holder.empty()) throw Error(folder + ": is being written by " + holder);
}

std::unique_ptr<FolderLock> FolderLock::take(const std::string& folder, const std::string& name) {
  std::unique_ptr<FolderLock> lock(new FolderLock);
  return lock->open_file(folder + "/" + name).empty() ? std::move(lock) : nullptr;
}

std::string FolderLock::open_file(const std::string& path) {
  handle_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (handle_ < 0) {
    throw Error(path + ": cannot be opened: " + std::strerror(errno));
  }
  if (flock(handle_, LOCK_EX | LOCK_NB) != 0) {
    const bool held = errno == EWOULDBLOCK;
    char text[256] = {};
    const auto length = read(handle_, text, sizeof text - 1);
    close(handle_);
    handle_ = -1;
    // A file system without locks: nothing can be said, and nothing is refused.
    if (!held) return "";
    return length > 0 ? std::string(text, static_cast<size_t>(length)) : "another process";
  }
  char host[128] = {};
  gethostname(host, sizeof host - 1);
  const std::string owner = "process " + std::to_string(getpid()) + " on " + host;
  if (ftruncate(handle_, 0) != 0 || pwrite(handle_, owner.data(), owner.size(), 0) < 0) {
    // The lock holds all the same; only its owner stays unnamed.
  }
  return "";
}

FolderLock::~FolderLock() {
  if (handle_ >= 0) close(handle_);
}

}  // namespace jepa

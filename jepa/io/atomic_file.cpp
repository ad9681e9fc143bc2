#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace jepa {

namespace {

/// Whether a name stands for what is open already, which may be a file.
bool is_open_already(const std::string& path) {
  return path == "/dev/stdout" || path == "/dev/stderr" || path.starts_with("/dev/fd/") ||
         (path.starts_with("/proc/") && path.find("/fd/") != std::string::npos);
}

/// Whether `path` is a pipe, a terminal or such (/dev/stdout, /dev/null), which is written to.
/// @throws DataError for folders and disks
bool is_stream(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return false;
  if (S_ISDIR(status.st_mode) || S_ISBLK(status.st_mode) || S_ISSOCK(status.st_mode)) {
    throw DataError("cannot write " + path + ": a folder, disk or socket");
  }
  return !S_ISREG(status.st_mode) || is_open_already(path);
}

/// Where a link leads: its file is replaced, and the link stays.
std::string behind_links(const std::string& path) {
  constexpr int kMostLinks = 40;  // as the system follows
  std::filesystem::path real = path;
  std::error_code error;
  for (int i = 0; i < kMostLinks && std::filesystem::is_symlink(real, error); ++i) {
    const auto target = std::filesystem::read_symlink(real, error);
    if (error) break;
    real = target.is_absolute() ? target : real.parent_path() / target;
  }
  return real.string();
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), stream_(is_stream(path_)) {
  if (!stream_) {
    path_ = behind_links(path_);
    partial_ = path_ + ".partial";
  }
  descriptor_ = stream_ ? ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC)
                        : ::open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail("cannot create");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  if (!stream_) ::unlink(partial_.c_str());
}

void AtomicFile::fail(const char* what) const {
  throw DataError(std::string(what) + " " + path_ + ": " + std::strerror(errno));
}

void AtomicFile::write(const void* data, size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    // Linux writes at most about 2 GiB a call.
    const ssize_t written = ::write(descriptor_, next, std::min<size_t>(bytes, size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot write");
    next += written;
    bytes -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  if (stream_) {
    if (::close(std::exchange(descriptor_, -1)) != 0) fail("cannot write");
    return;
  }
  if (::fsync(descriptor_) != 0) fail("cannot write");
  // Some file systems report a full disk only here.
  if (::close(std::exchange(descriptor_, -1)) != 0 ||
      std::rename(partial_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    ::unlink(partial_.c_str());
    errno = reason;
    fail("cannot write");
  }
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  sync_directory(folder.empty() ? "." : folder);
}

void write_file_atomic(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void sync_directory(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // EINVAL: the file system has no such operation, so there is nothing to wait for.
  const bool good = descriptor >= 0 && (::fsync(descriptor) == 0 || errno == EINVAL);
  const int reason = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (!good) throw DataError("cannot sync the folder " + path + ": " + std::strerror(reason));
}

}  // namespace jepa

#include <jepa/data/hdf5_driver.hpp>

#include <hdf5.h>
#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace jepa {
namespace {

/// HDF5 keeps a driver's files by their first member.
struct OpenFile {
  H5FD_t head;
  int descriptor;
  haddr_t size;
  haddr_t end;  ///< of what HDF5 takes for allocated
  dev_t device;
  ino_t inode;
};
constexpr haddr_t kMostAddress = (haddr_t{1} << 63) - 1;

OpenFile& opened(H5FD_t* file) { return *reinterpret_cast<OpenFile*>(file); }
const OpenFile& opened(const H5FD_t* file) { return *reinterpret_cast<const OpenFile*>(file); }

/// Leaves a reason that hdf5_reason() finds.
void say(const std::string& why) {
  H5Epush2(H5E_DEFAULT, __FILE__, "read_only_access", __LINE__, H5E_ERR_CLS, H5E_IO, H5E_READERROR,
           "%s", why.c_str());
}

H5FD_t* open_file(const char* name, unsigned flags, hid_t, haddr_t) {
  const int descriptor = ::open(name, O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (descriptor < 0 || (flags & H5F_ACC_RDWR) != 0 || ::fstat(descriptor, &status) != 0) {
    const int reason = errno;
    if (descriptor >= 0) ::close(descriptor);
    say(std::string("it cannot be opened: ") + std::strerror(reason));
    return nullptr;
  }
  auto* file = new OpenFile{};
  file->descriptor = descriptor;
  file->size = static_cast<haddr_t>(status.st_size);
  file->device = status.st_dev;
  file->inode = status.st_ino;
  return &file->head;
}

herr_t close_file(H5FD_t* file) {
  const int result = ::close(opened(file).descriptor);
  delete &opened(file);
  return result;
}

/// HDF5 opens a file once for the process.
int compare(const H5FD_t* left, const H5FD_t* right) {
  const OpenFile &a = opened(left), &b = opened(right);
  if (a.device != b.device) return a.device < b.device ? -1 : 1;
  if (a.inode != b.inode) return a.inode < b.inode ? -1 : 1;
  return 0;
}

herr_t query(const H5FD_t*, unsigned long* flags) {
  if (flags != nullptr) *flags = H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  return 0;
}

haddr_t end_of_allocated(const H5FD_t* file, H5FD_mem_t) { return opened(file).end; }

herr_t set_end_of_allocated(H5FD_t* file, H5FD_mem_t, haddr_t end) {
  opened(file).end = end;
  return 0;
}

haddr_t end_of_file(const H5FD_t* file, H5FD_mem_t) { return opened(file).size; }

herr_t read_bytes_at(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t at, size_t size, void* to) {
  const OpenFile& from = opened(file);
  if (at > from.size || size > from.size - at) {
    say("a part lies beyond the end of the file");
    return -1;
  }
  for (auto* place = static_cast<char*>(to); size > 0;) {
    const ssize_t got = ::pread(from.descriptor, place, size, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      say(got == 0 ? "the file has become shorter" : std::strerror(errno));
      return -1;
    }
    place += got;
    at += static_cast<haddr_t>(got);
    size -= static_cast<size_t>(got);
  }
  return 0;
}

herr_t refuse_to_write(H5FD_t*, H5FD_mem_t, hid_t, haddr_t, size_t, const void*) { return -1; }

herr_t lock_file(H5FD_t* file, hbool_t) {
  // Not every file system has locks; one that is held is another program's that writes.
  if (::flock(opened(file).descriptor, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK) return 0;
  say("unable to lock file");
  return -1;
}

herr_t unlock_file(H5FD_t* file) {
  ::flock(opened(file).descriptor, LOCK_UN);
  return 0;
}

const H5FD_class_t& driver_class() {
  static const H5FD_class_t driver = [] {
    H5FD_class_t made{};
#if H5_VERSION_GE(1, 13, 0)
    made.version = H5FD_CLASS_VERSION;
    made.value = 512;  // the first of those that nobody registered
#endif
    made.name = "jepa_read_only";
    made.maxaddr = kMostAddress;
    made.fc_degree = H5F_CLOSE_WEAK;
    made.open = open_file;
    made.close = close_file;
    made.cmp = compare;
    made.query = query;
    made.get_eoa = end_of_allocated;
    made.set_eoa = set_end_of_allocated;
    made.get_eof = end_of_file;
    made.read = read_bytes_at;
    made.write = refuse_to_write;
    made.lock = lock_file;
    made.unlock = unlock_file;
    return made;
  }();
  return driver;
}

}  // namespace

Hdf5Handle read_only_access() {
  const Hdf5Lock lock;
  static const hid_t driver = H5FDregister(&driver_class());
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_driver(access.id(), driver, nullptr);
  return access;
}

}  // namespace jepa

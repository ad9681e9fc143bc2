#include <jepa/data/hdf5_dataset.hpp>
#include <jepa/data/hdf5_driver.hpp>
#include <jepa/data/hdf5_file.hpp>
#include <jepa/data/hdf5_heap.hpp>
#include <jepa/data/hdf5_trial.hpp>
#include <jepa/errors.hpp>

#include <hdf5.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <mutex>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace jepa {
namespace {

static_assert(std::is_same_v<hid_t, int64_t>, "Hdf5Handle keeps an hid_t as int64_t");

hid_t memory_type(torch::ScalarType type) {
  switch (type) {
    case torch::kUInt8:
      return H5T_NATIVE_UINT8;
    case torch::kInt32:
      return H5T_NATIVE_INT32;
    case torch::kInt64:
      return H5T_NATIVE_INT64;
    case torch::kFloat32:
      return H5T_NATIVE_FLOAT;
    case torch::kFloat64:
      return H5T_NATIVE_DOUBLE;
    default:
      throw DataError(std::string("HDF5 files hold no ") + c10::toString(type) + " here");
  }
}

constexpr size_t kAttributeBytes = size_t{1} << 20;

/// Text out of a field of fixed size, up to its first zero.
std::string field_text(const char* field, size_t size) { return {field, strnlen(field, size)}; }

std::vector<std::string> read_texts(int64_t attribute, int64_t type, size_t count) {
  std::vector<std::string> texts;
  if (H5Tis_variable_str(type) > 0) {
    std::vector<char*> fields(count, nullptr);
    if (H5Aread(attribute, type, fields.data()) < 0) return {};
    for (char* field : fields) {
      texts.emplace_back(field == nullptr ? "" : field);
      H5free_memory(field);
    }
    return texts;
  }
  const size_t size = H5Tget_size(type);
  if (size == 0 || size > kAttributeBytes / count) return {};
  std::vector<char> fields(count * size);
  if (H5Aread(attribute, type, fields.data()) < 0) return {};
  for (size_t i = 0; i < count; ++i) texts.push_back(field_text(fields.data() + i * size, size));
  return texts;
}

std::vector<std::string> read_numbers(int64_t attribute, size_t count) {
  std::vector<double> numbers(count);
  if (H5Aread(attribute, H5T_NATIVE_DOUBLE, numbers.data()) < 0) return {};
  std::vector<std::string> texts;
  for (const double number : numbers) {
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", number);
    texts.emplace_back(text);
  }
  return texts;
}

/// Text, numbers and lists of either; "" for what else there is.
std::string read_attribute(int64_t attribute, const std::string& between) {
  const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
  const Hdf5Handle space(H5Aget_space(attribute), H5Sclose);
  const hssize_t points = H5Sget_simple_extent_npoints(space.id());
  const auto count = static_cast<size_t>(std::max<hssize_t>(points, 0));
  if (count == 0 || count > kAttributeBytes / sizeof(double)) return "";
  const H5T_class_t kind = H5Tget_class(type.id());
  std::vector<std::string> texts;
  if (kind == H5T_STRING) texts = read_texts(attribute, type.id(), count);
  if (kind == H5T_INTEGER || kind == H5T_FLOAT) texts = read_numbers(attribute, count);
  std::string joined;
  for (size_t i = 0; i < texts.size(); ++i) joined += (i == 0 ? "" : between) + texts[i];
  return joined;
}

/// Whether an attribute's texts are of variable length and so lie in the file's heaps.
bool in_heap(int64_t attribute) {
  const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
  return H5Tdetect_class(type.id(), H5T_VLEN) > 0 || H5Tis_variable_str(type.id()) > 0;
}

bool printable(const std::string& name) {
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return static_cast<unsigned char>(c) >= 32 && c != 127; });
}

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

/// Keeps a file that another program is writing: HDF5 would empty it before it asks for the lock.
void remove_stale(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return;  // none, or creating it will say why not
  struct stat opened {};
  struct stat named {};
  // The name may have passed to a newer file since it was opened.
  const bool ours = ::flock(file, LOCK_EX | LOCK_NB) == 0 && ::fstat(file, &opened) == 0 &&
                    ::stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino;
  if (ours) ::unlink(path.c_str());
  ::close(file);
  if (!ours) throw DataError(path + ": another program is writing it");
}

}  // namespace

Hdf5Handle::Hdf5Handle(Hdf5Handle&& other) noexcept
    : id_(std::exchange(other.id_, -1)), close_(other.close_) {}

Hdf5Handle& Hdf5Handle::operator=(Hdf5Handle&& other) noexcept {
  if (this != &other) {
    reset();
    id_ = std::exchange(other.id_, -1);
    close_ = other.close_;
  }
  return *this;
}

bool Hdf5Handle::reset() {
  if (id_ < 0) return true;
  const Hdf5Lock lock;
  return close_(std::exchange(id_, -1)) >= 0;
}

namespace {

std::mutex& hdf5_mutex() {
  static std::mutex mutex;
  return mutex;
}

// Not a recursive mutex: that asks for the thread's number, which is another one after a fork.
thread_local int times_locked = 0;

}  // namespace

Hdf5Lock::Hdf5Lock() {
  if (times_locked == 0) hdf5_mutex().lock();
  ++times_locked;
  // Its clean-up at exit crashes on a file that a full disk kept from being closed; ours are all
  // closed by their handles.
  static const bool asked = H5dont_atexit() >= 0;  // fails where the application did so already
  static_cast<void>(asked);
  H5Eget_auto2(H5E_DEFAULT, &print_, &print_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Hdf5Lock::~Hdf5Lock() {
  H5Eset_auto2(H5E_DEFAULT, print_, print_data_);
  if (--times_locked == 0) hdf5_mutex().unlock();
}

std::string hdf5_reason() {
  std::string reason = "unknown";
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned depth, const H5E_error2_t* error, void* to) -> herr_t {
        if (depth == 0 && error->desc != nullptr) *static_cast<std::string*>(to) = error->desc;
        return 0;
      },
      &reason);
  if (reason.find("unable to lock file") != std::string::npos) {
    return "another program has it open for writing";
  }
  if (reason.find("bad version number") != std::string::npos) {
    return "damaged, or written by a newer HDF5 than the " + hdf5_version() + " here: " + reason;
  }
  // Where the system refused, HDF5's text holds addresses and a time with a line break: keep the
  // core.
  const std::string start = "error message = '";
  if (const size_t at = reason.find(start); at != std::string::npos) {
    reason = reason.substr(at + start.size());
    reason = reason.substr(0, reason.find('\''));
  }
  std::replace_if(
      reason.begin(), reason.end(), [](char c) { return static_cast<unsigned char>(c) < 32; }, ' ');
  return reason;
}

Hdf5File Hdf5File::open(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) throw DataError(path + ": no such file");
  if (!std::filesystem::is_regular_file(path, error)) {
    throw DataError(path + ": expected a file, found a folder, pipe or device");
  }
  if (std::filesystem::file_size(path, error) == 0) throw DataError(path + ": the file is empty");
  try_hdf5_file(path);
  return open_untried(path);
}

Hdf5File Hdf5File::open_untried(const std::string& path) {
  const Hdf5Lock lock;
  const Hdf5Handle access = read_only_access();  // closing it would empty HDF5's stack of reasons
  Hdf5Handle handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()), H5Fclose);
  if (!handle.valid()) {
    throw DataError(path + ": not a readable HDF5 file (" + hdf5_reason() + ")");
  }
  return {path, std::move(handle)};
}

Hdf5File Hdf5File::create(const std::string& path) {
  remove_stale(path);
  const Hdf5Lock lock;
  Hdf5Handle handle(H5Fcreate(path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
  if (!handle.valid()) {
    const std::string reason = hdf5_reason();
    // On a full disk it is there already, empty; one that exists is another program's.
    if (reason.find("exists") == std::string::npos) ::unlink(path.c_str());
    throw DataError(path + ": cannot be written (" + reason + ")");
  }
  return {path, std::move(handle)};
}

std::vector<std::string> Hdf5File::datasets() const {
  const Hdf5Lock lock;
  std::vector<std::string> names;
  H5Literate(
      id(), H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t group, const char* name, const H5L_info_t* link, void* to) -> herr_t {
        // A link into another file is not even looked at; soft links are followed by opening.
        if (link->type != H5L_TYPE_HARD && link->type != H5L_TYPE_SOFT) return 0;
        const Hdf5Handle access = no_external_links();
        H5O_info_t info;
        if (printable(name) && H5Oget_info_by_name(group, name, &info, access.id()) >= 0 &&
            info.type == H5O_TYPE_DATASET) {
          static_cast<std::vector<std::string>*>(to)->emplace_back(name);
        }
        return 0;
      },
      &names);
  return names;
}

bool Hdf5File::has(const std::string& name) const {
  const Hdf5Lock lock;
  return H5Lexists(id(), name.c_str(), no_external_links().id()) > 0;
}

std::vector<int64_t> Hdf5File::shape(const std::string& name) const {
  return Hdf5Dataset(*this, name).shape();
}

torch::Tensor Hdf5File::read(const std::string& name) const {
  const Hdf5Dataset dataset(*this, name);
  const torch::ScalarType type = dataset.tensor_type();
  torch::Tensor tensor = torch::empty(dataset.shape(), type);
  dataset.read_all(tensor.mutable_data_ptr(), static_cast<int64_t>(tensor.nbytes()));
  return tensor;
}

void Hdf5File::write(const std::string& name, const torch::Tensor& tensor) {
  const torch::Tensor plain = tensor.detach().cpu().contiguous();
  const Hdf5Lock lock;
  const hid_t type = memory_type(plain.scalar_type());
  const std::vector<hsize_t> dims(plain.sizes().begin(), plain.sizes().end());
  const Hdf5Handle space(
      dims.empty() ? H5Screate(H5S_SCALAR)
                   : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr),
      H5Sclose);
  Hdf5Handle dataset(
      H5Dcreate2(id(), name.c_str(), type, space.id(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
      H5Dclose);
  // Small datasets reach the file only as they are closed.
  if (!dataset.valid() ||
      H5Dwrite(dataset.id(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, plain.const_data_ptr()) < 0 ||
      !dataset.reset()) {
    throw DataError(path_ + ": dataset '" + name + "' cannot be written (" + hdf5_reason() + ")");
  }
}

std::map<std::string, std::string> Hdf5File::attributes(const std::vector<std::string>& names,
                                                        const std::string& between) const {
  const Hdf5Lock lock;
  std::map<std::string, std::string> values;
  bool heaps_are_whole = false;
  for (const auto& name : names) {
    if (H5Aexists(id(), name.c_str()) <= 0) continue;
    const Hdf5Handle attribute(H5Aopen(id(), name.c_str(), H5P_DEFAULT), H5Aclose);
    if (!attribute.valid()) continue;
    if (!heaps_are_whole && in_heap(attribute.id())) {
      const std::string why = heap_damage_of_file(path_);
      if (!why.empty()) throw DataError(path_ + ": " + why);
      heaps_are_whole = true;
    }
    values[name] = read_attribute(attribute.id(), between);
  }
  return values;
}

void Hdf5File::write_attribute(const std::string& name, const std::string& value) {
  const Hdf5Lock lock;
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.id(), value.size() + 1);
  H5Tset_cset(type.id(), H5T_CSET_UTF8);
  const Hdf5Handle attribute(
      H5Acreate2(id(), name.c_str(), type.id(), space.id(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (!attribute.valid() || H5Awrite(attribute.id(), type.id(), value.c_str()) < 0) {
    throw DataError(path_ + ": attribute '" + name + "' cannot be written (" + hdf5_reason() + ")");
  }
}

void Hdf5File::write_attribute(const std::string& name, double value) {
  const Hdf5Lock lock;
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(
      H5Acreate2(id(), name.c_str(), H5T_NATIVE_DOUBLE, space.id(), H5P_DEFAULT, H5P_DEFAULT),
      H5Aclose);
  if (!attribute.valid() || H5Awrite(attribute.id(), H5T_NATIVE_DOUBLE, &value) < 0) {
    throw DataError(path_ + ": attribute '" + name + "' cannot be written (" + hdf5_reason() + ")");
  }
}

void Hdf5File::close() {
  const Hdf5Lock lock;
  if (H5Fflush(id(), H5F_SCOPE_LOCAL) < 0 || !handle_.reset()) {
    throw DataError(path_ + ": cannot be written (" + hdf5_reason() + ")");
  }
}

void write_hdf5(const std::string& path, const std::map<std::string, torch::Tensor>& tensors,
                const std::map<std::string, std::string>& attributes) {
  require_replaceable(path);
  const std::string partial = path + ".partial";
  Hdf5File file = Hdf5File::create(partial);
  try {
    for (const auto& [name, tensor] : tensors) file.write(name, tensor);
    for (const auto& [name, value] : attributes) file.write_attribute(name, value);
    file.close();
  } catch (...) {
    std::remove(partial.c_str());
    throw;
  }
  put_in_place(partial, path);
}

void require_replaceable(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    throw DataError(path + ": cannot be written (a folder, pipe or device)");
  }
}

void put_in_place(const std::string& from, const std::string& to) {
  const int file = ::open(from.c_str(), O_RDONLY | O_CLOEXEC);
  const bool flushed = file >= 0 && ::fsync(file) == 0;
  int reason = errno;
  if (file >= 0) ::close(file);
  if (flushed && std::rename(from.c_str(), to.c_str()) == 0) return;
  if (flushed) reason = errno;
  std::remove(from.c_str());
  throw DataError(to + ": cannot be written (" + std::strerror(reason) + ")");
}

}  // namespace jepa

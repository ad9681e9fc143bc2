#include <jepa/data/hdf5_file.hpp>
#include <jepa/errors.hpp>

#include <hdf5.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>
#include <utility>

namespace jepa {
namespace {

static_assert(std::is_same_v<hid_t, int64_t>, "Hdf5Handle keeps an hid_t as int64_t");

Hdf5Handle open_dataset(const Hdf5File& file, const std::string& name) {
  Hdf5Handle dataset(H5Dopen2(file.id(), name.c_str(), H5P_DEFAULT), H5Dclose);
  if (!dataset.valid()) throw DataError(file.path() + ": no dataset '" + name + "'");
  return dataset;
}

std::vector<int64_t> shape_of(int64_t dataset) {
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose);
  hsize_t dims[H5S_MAX_RANK];
  const int rank = H5Sget_simple_extent_dims(space.id(), dims, nullptr);
  return {dims, dims + std::max(rank, 0)};
}

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

/// The tensor type a dataset is read as.
torch::ScalarType tensor_type(int64_t dataset, const std::string& where) {
  const Hdf5Handle type(H5Dget_type(dataset), H5Tclose);
  const size_t size = H5Tget_size(type.id());
  switch (H5Tget_class(type.id())) {
    case H5T_INTEGER:
      return size == 1 && H5Tget_sign(type.id()) == H5T_SGN_NONE ? torch::kUInt8 : torch::kInt64;
    case H5T_FLOAT:
      return size > 4 ? torch::kFloat64 : torch::kFloat32;
    default:
      throw DataError(where + ": expected numbers");
  }
}

std::string read_attribute(int64_t attribute) {
  const Hdf5Handle type(H5Aget_type(attribute), H5Tclose);
  if (H5Tget_class(type.id()) == H5T_STRING) {
    if (H5Tis_variable_str(type.id()) > 0) {
      char* text = nullptr;
      if (H5Aread(attribute, type.id(), &text) < 0 || text == nullptr) return "";
      std::string value(text);
      H5free_memory(text);
      return value;
    }
    std::string value(H5Tget_size(type.id()), '\0');
    if (H5Aread(attribute, type.id(), value.data()) < 0) return "";
    return value.c_str();
  }
  double number = 0;
  const Hdf5Handle space(H5Aget_space(attribute), H5Sclose);
  if (H5Sget_simple_extent_npoints(space.id()) != 1) return "";
  if (H5Aread(attribute, H5T_NATIVE_DOUBLE, &number) < 0) return "";
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", number);
  return text;
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
  const auto lock = lock_hdf5();
  return close_(std::exchange(id_, -1)) >= 0;
}

std::unique_lock<std::recursive_mutex> lock_hdf5() {
  static std::recursive_mutex mutex;
  std::unique_lock lock(mutex);
  // Its clean-up at exit crashes on a file that a full disk kept from being closed; ours are all
  // closed by their handles.
  static const bool quiet = [] {
    H5dont_atexit();  // fails where the application has asked for it already
    return H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  }();
  static_cast<void>(quiet);
  return lock;
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
  // Where the system refused, HDF5's text holds addresses and a time with a line break: keep the
  // core.
  const std::string start = "error message = '";
  if (const size_t at = reason.find(start); at != std::string::npos) {
    reason = reason.substr(at + start.size());
    reason = reason.substr(0, reason.find('\''));
  }
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  return reason;
}

Hdf5File Hdf5File::open(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) throw DataError(path + ": no such file");
  if (std::filesystem::file_size(path, error) == 0) throw DataError(path + ": the file is empty");
  const auto lock = lock_hdf5();
  Hdf5Handle handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  if (!handle.valid()) {
    throw DataError(path + ": not a readable HDF5 file (" + hdf5_reason() + ")");
  }
  return {path, std::move(handle)};
}

Hdf5File Hdf5File::create(const std::string& path) {
  const auto lock = lock_hdf5();
  Hdf5Handle handle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), H5Fclose);
  if (!handle.valid()) {
    const std::string reason = hdf5_reason();
    ::unlink(path.c_str());  // on a full disk it is there already, empty
    throw DataError(path + ": cannot be written (" + reason + ")");
  }
  return {path, std::move(handle)};
}

std::vector<std::string> Hdf5File::datasets() const {
  const auto lock = lock_hdf5();
  std::vector<std::string> names;
  H5Literate(
      id(), H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t group, const char* name, const H5L_info_t*, void* to) -> herr_t {
        H5O_info_t info;
        if (H5Oget_info_by_name(group, name, &info, H5P_DEFAULT) >= 0 &&
            info.type == H5O_TYPE_DATASET) {
          static_cast<std::vector<std::string>*>(to)->emplace_back(name);
        }
        return 0;
      },
      &names);
  return names;
}

bool Hdf5File::has(const std::string& name) const {
  const auto lock = lock_hdf5();
  return H5Lexists(id(), name.c_str(), H5P_DEFAULT) > 0;
}

std::vector<int64_t> Hdf5File::shape(const std::string& name) const {
  const auto lock = lock_hdf5();
  return shape_of(open_dataset(*this, name).id());
}

torch::Tensor Hdf5File::read(const std::string& name) const {
  const auto lock = lock_hdf5();
  const Hdf5Handle dataset = open_dataset(*this, name);
  const torch::ScalarType type = tensor_type(dataset.id(), path_ + ": dataset '" + name + "'");
  torch::Tensor tensor = torch::empty(shape_of(dataset.id()), type);
  if (H5Dread(dataset.id(), memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT,
              tensor.mutable_data_ptr()) < 0) {
    throw DataError(path_ + ": dataset '" + name + "' cannot be read (" + hdf5_reason() + ")");
  }
  return tensor;
}

void Hdf5File::write(const std::string& name, const torch::Tensor& tensor) {
  const torch::Tensor plain = tensor.detach().cpu().contiguous();
  const auto lock = lock_hdf5();
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

std::map<std::string, std::string> Hdf5File::attributes() const {
  const auto lock = lock_hdf5();
  std::map<std::string, std::string> values;
  H5Aiterate2(
      id(), H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t group, const char* name, const H5A_info_t*, void* to) -> herr_t {
        const Hdf5Handle attribute(H5Aopen(group, name, H5P_DEFAULT), H5Aclose);
        (*static_cast<std::map<std::string, std::string>*>(to))[name] =
            read_attribute(attribute.id());
        return 0;
      },
      &values);
  return values;
}

void Hdf5File::write_attribute(const std::string& name, const std::string& value) {
  const auto lock = lock_hdf5();
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
  const auto lock = lock_hdf5();
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(
      H5Acreate2(id(), name.c_str(), H5T_NATIVE_DOUBLE, space.id(), H5P_DEFAULT, H5P_DEFAULT),
      H5Aclose);
  if (!attribute.valid() || H5Awrite(attribute.id(), H5T_NATIVE_DOUBLE, &value) < 0) {
    throw DataError(path_ + ": attribute '" + name + "' cannot be written (" + hdf5_reason() + ")");
  }
}

void Hdf5File::close() {
  const auto lock = lock_hdf5();
  if (H5Fflush(id(), H5F_SCOPE_LOCAL) < 0 || !handle_.reset()) {
    throw DataError(path_ + ": cannot be written (" + hdf5_reason() + ")");
  }
}

void write_hdf5(const std::string& path, const std::map<std::string, torch::Tensor>& tensors,
                const std::map<std::string, std::string>& attributes) {
  const std::string partial = path + ".partial";
  try {
    Hdf5File file = Hdf5File::create(partial);
    for (const auto& [name, tensor] : tensors) file.write(name, tensor);
    for (const auto& [name, value] : attributes) file.write_attribute(name, value);
    file.close();
  } catch (...) {
    std::remove(partial.c_str());
    throw;
  }
  put_in_place(partial, path);
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

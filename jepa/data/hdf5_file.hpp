// HDF5 files as named tensors. The HDF5 library is not safe for threads, so all of it runs under
// one lock for the process; its own error printing is off meanwhile, and its reasons end up in our
// messages. Files that take bytes from other files (external links and storage, virtual datasets)
// are refused. Nor is the library safe with damaged files: see hdf5_trial.hpp and hdf5_driver.hpp.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace jepa {

/// An identifier of the HDF5 library (`hid_t`), closed when it goes.
class Hdf5Handle {
 public:
  using Close = int (*)(int64_t);
  Hdf5Handle() = default;
  Hdf5Handle(int64_t id, Close close) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept;
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept;
  ~Hdf5Handle() { reset(); }

  int64_t id() const { return id_; }
  bool valid() const { return id_ >= 0; }
  /// Closes it. False: HDF5 could not (a full disk shows up here).
  bool reset();

 private:
  int64_t id_ = -1;
  Close close_ = nullptr;
};

/// The lock under which every call of the HDF5 library runs; a thread may take it again. While it
/// is held HDF5 does not print its error stack on this thread (the setting is each thread's own);
/// afterwards the caller's setting is back.
class Hdf5Lock {
 public:
  Hdf5Lock();
  ~Hdf5Lock();
  Hdf5Lock(const Hdf5Lock&) = delete;
  Hdf5Lock& operator=(const Hdf5Lock&) = delete;

 private:
  int (*print_)(int64_t, void*) = nullptr;
  void* print_data_ = nullptr;
};

/// Why the last HDF5 call failed, in HDF5's own words (the innermost of its error stack).
std::string hdf5_reason();

/// An open HDF5 file. Reads and writes whole datasets of its root group.
class Hdf5File {
 public:
  /// Opens for reading.
  /// @throws DataError naming the file: missing, empty, truncated, no regular file, not HDF5,
  /// locked by another program, so damaged that the HDF5 library crashes on it
  static Hdf5File open(const std::string& path);
  /// The same, in the process that tries the file out (hdf5_trial.hpp).
  static Hdf5File open_untried(const std::string& path);
  /// Makes an empty file, over an old one.
  /// @throws DataError where it cannot be made, or another program is writing it
  static Hdf5File create(const std::string& path);

  const std::string& path() const { return path_; }
  int64_t id() const { return handle_.id(); }

  /// Names of the datasets in the root group that can be opened and printed.
  std::vector<std::string> datasets() const;
  bool has(const std::string& name) const;
  /// @throws DataError where there is no such dataset
  std::vector<int64_t> shape(const std::string& name) const;
  /// uint8 (booleans too: 0 or 1), int64 (from any integer type) or float32 / float64.
  /// @throws DataError naming the file and dataset
  torch::Tensor read(const std::string& name) const;
  /// Writes uint8, int32, int64, float32 or float64.
  void write(const std::string& name, const torch::Tensor& tensor);

  /// Those of these attributes that the root group has, as text; lists are joined with
  /// `between`. (HDF5 1.10 follows null pointers where it lists the attributes of a damaged group.)
  /// @throws DataError where the file's heaps of texts are damaged
  std::map<std::string, std::string> attributes(const std::vector<std::string>& names,
                                                const std::string& between = ", ") const;
  void write_attribute(const std::string& name, const std::string& value);
  void write_attribute(const std::string& name, double value);

  /// Writes everything to disk and closes the file.
  /// @throws DataError where that fails (a full disk)
  void close();

 private:
  Hdf5File(std::string path, Hdf5Handle handle)
      : path_(std::move(path)), handle_(std::move(handle)) {}

  std::string path_;
  Hdf5Handle handle_;
};

/// Writes tensors as the datasets of one HDF5 file: beside `path`, renamed when complete. For
/// features and other results.
void write_hdf5(const std::string& path, const std::map<std::string, torch::Tensor>& tensors,
                const std::map<std::string, std::string>& attributes = {});

/// @throws DataError where `path` is there and no regular file (a device, a pipe, a folder)
void require_replaceable(const std::string& path);

/// Flushes `from` to the disk and renames it to `to`.
/// @throws DataError naming the file
void put_in_place(const std::string& from, const std::string& to);

}  // namespace jepa

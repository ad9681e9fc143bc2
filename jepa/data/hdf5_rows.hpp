// Results that grow: one HDF5 dataset, written row by row.
#pragma once

#include <jepa/data/hdf5_file.hpp>

#include <memory>

namespace jepa {

/// Writes rows of one float32 dataset [rows, ...] as they come, beside `path`, renamed when
/// complete; memory is that of the rows given at a time. Without finish() nothing is left behind.
class Hdf5RowWriter {
 public:
  /// @throws DataError naming the file that cannot be written
  Hdf5RowWriter(const std::string& path, std::string dataset,
                const std::map<std::string, std::string>& attributes = {});
  ~Hdf5RowWriter();
  Hdf5RowWriter(const Hdf5RowWriter&) = delete;
  Hdf5RowWriter& operator=(const Hdf5RowWriter&) = delete;

  /// Appends float32 [n, ...].
  /// @throws DataError where rows differ in shape or the disk is full
  void append(const torch::Tensor& rows);
  /// @throws DataError naming the file
  void finish();

 private:
  void create(const torch::Tensor& rows);

  std::string path_, name_;
  std::unique_ptr<Hdf5File> file_;
  Hdf5Handle dataset_;
  std::vector<int64_t> shape_;  // of all rows so far
};

}  // namespace jepa

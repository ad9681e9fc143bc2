// One dataset of an HDF5 file, open for reading, with the checks that a stranger's file needs.
#pragma once

#include <jepa/data/hdf5_chunks.hpp>
#include <jepa/data/hdf5_file.hpp>

#include <array>

namespace jepa {

/// Link access (an HDF5 property list) that refuses to follow links into other files.
Hdf5Handle no_external_links();

/// A dataset open for reading. Values are numbers; booleans count as 0 and 1.
class Hdf5Dataset {
 public:
  /// What its values are.
  enum class Kind { uint8, integer, real, other };

  /// @throws DataError naming file and dataset: not there, or not in the root group; its bytes lie
  /// in another file; compressed with a filter that is not installed; larger than its file can
  /// account for
  Hdf5Dataset(const Hdf5File& file, const std::string& name);

  const std::vector<int64_t>& shape() const { return shape_; }
  Kind kind() const { return kind_; }
  /// uint8, int64, float32 or float64.
  /// @throws DataError where it does not hold numbers
  torch::ScalarType tensor_type() const;

  /// Reads everything as tensor_type().
  void read_all(void* to, int64_t bytes) const;
  /// Reads `count` rows from `first` on as float32; `to` takes `count` times row_size() values.
  void read_rows(int64_t first, int64_t count, float* to) const;
  /// Reads bytes of a dataset of rank 4: starts and counts in each dimension, and the step from one
  /// to the next in the first.
  void read_bytes(const std::array<int64_t, 4>& start, int64_t step,
                  const std::array<int64_t, 4>& count, uint8_t* to) const;
  /// Values a row (an index of the first dimension).
  int64_t row_size() const;
  /// Makes HDF5 look at all that a reader makes it look at, but for the values of large datasets,
  /// of which the first and the last row are read.
  void walk() const;

 private:
  std::string where() const { return path_ + ": dataset '" + name_ + "'"; }
  void refuse_other_files(int64_t layout) const;
  void require_filters(int64_t layout) const;
  void require_plausible_size(int64_t file) const;
  void require_stored(int64_t layout) const;
  void open(int64_t file, int64_t access);
  /// Reads the values from `start` on, `count` of them in each dimension, as the HDF5 type `as`.
  /// @throws DataError with HDF5's reason
  void read(int64_t as, const std::vector<int64_t>& start, const std::vector<int64_t>& count,
            void* to) const;
  void read_chunks(int64_t as, const std::vector<int64_t>& start, const std::vector<int64_t>& count,
                   void* to) const;

  std::string path_;
  std::string name_;
  Hdf5Handle dataset_;
  std::unique_ptr<Hdf5Chunks> chunks_;  ///< where it unpacks them here
  std::vector<int64_t> shape_;
  Kind kind_ = Kind::other;
  bool bits_ = false;  ///< a bit field: HDF5 does not convert it to integers
  bool wide_ = false;  ///< unsigned numbers of 64 bits
  size_t value_bytes_ = 0;
};

}  // namespace jepa

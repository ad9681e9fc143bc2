// Compressed chunks of an HDF5 dataset, unpacked here.
#pragma once

#include <jepa/data/hdf5_file.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace jepa {

/// Reads a dataset that is stored in chunks compressed with deflate, with or without shuffle and
/// checksums (fletcher32): what h5py, PyTables and our own writer make. The HDF5 library unpacks a
/// chunk and copies out as many bytes as the shape promises, however few came out: a damaged or
/// crafted chunk puts the process's own memory into the pixels. Here the sizes have to agree. The
/// chunk read last is kept, for the next frames are mostly in it. Used under Hdf5Lock.
class Hdf5Chunks {
 public:
  /// For the open dataset; nullptr where its storage is another one (other filters go through the
  /// HDF5 library and its plugins, which are trusted).
  static std::unique_ptr<Hdf5Chunks> make(int64_t dataset, std::string where);

  /// Reads the values from `start` on, `count` of them in each dimension, in the file's own type.
  /// @throws DataError where a chunk is damaged
  void read(const std::vector<int64_t>& start, const std::vector<int64_t>& count, char* to);

 private:
  Hdf5Chunks() = default;
  /// Whether a chunk reaches beyond the shape.
  bool at_edge(const std::vector<int64_t>& corner) const;
  /// The unpacked chunk whose first value is `corner`.
  const std::vector<char>& chunk_at(const std::vector<int64_t>& corner);
  /// @throws DataError where a chunk cannot come out of so many bytes
  void require_plausible(uint64_t packed) const;
  std::vector<char> unpack(std::vector<char> bytes, uint32_t skipped) const;
  std::vector<char> fill_values() const;
  void copy(const std::vector<int64_t>& corner, const std::vector<int64_t>& start,
            const std::vector<int64_t>& count, char* to);
  [[noreturn]] void damaged(const std::string& why) const;

  int64_t dataset_ = -1;  ///< open elsewhere
  std::string where_;
  unsigned long long file_bytes_ = 0;
  size_t value_bytes_ = 0, chunk_bytes_ = 0;
  std::vector<int64_t> shape_;  ///< of the dataset
  std::vector<int64_t> chunk_;  ///< of a chunk
  bool plain_edges_ = false;    ///< chunks at the edge go without filters
  std::vector<int> filters_;    ///< in the order of writing
  std::vector<int64_t> kept_corner_;
  std::vector<char> kept_;
};

}  // namespace jepa

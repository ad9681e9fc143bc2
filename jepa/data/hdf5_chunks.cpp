#include <jepa/data/hdf5_chunks.hpp>
#include <jepa/errors.hpp>

#include <hdf5.h>

#include <algorithm>
#include <cstring>
#include <zlib.h>

namespace jepa {
namespace {

constexpr size_t kChecksumBytes = 4;
/// Of unpacked to packed bytes at most; deflate reaches 1032.
constexpr size_t kMostRatio = 4096;
constexpr size_t kAlwaysAllowed = size_t{64} << 20;

/// HDF5's checksum: Fletcher's over 16-bit words, the first byte of each the higher one.
uint32_t fletcher32(const std::vector<char>& bytes, size_t size) {
  uint32_t first = 0, second = 0;
  const auto byte = [&](size_t at) { return uint32_t{static_cast<uint8_t>(bytes[at])}; };
  const auto fold = [](uint32_t sum) { return (sum & 0xffff) + (sum >> 16); };
  for (size_t at = 0; at < size; at += 2) {
    first += byte(at) << 8 | (at + 1 < size ? byte(at + 1) : 0);
    first = fold(first);
    second = fold(second + first);
  }
  return fold(second) << 16 | fold(first);
}

/// HDF5 before 1.6.3 wrote the halves' bytes the other way round on machines like this one.
bool checksum_is(uint32_t computed, uint32_t stored) {
  const uint32_t swapped = (stored & 0x00ff00ff) << 8 | (stored & 0xff00ff00) >> 8;
  return computed == stored || computed == swapped;
}

/// The inverse of the shuffle filter: the first bytes of all values, then the second ones, ...
std::vector<char> in_order(const std::vector<char>& shuffled, size_t value_bytes) {
  const size_t values = shuffled.size() / value_bytes;
  std::vector<char> bytes = shuffled;  // a rest that fills no value stays where it is
  for (size_t b = 0; b < value_bytes; ++b) {
    for (size_t i = 0; i < values; ++i) bytes[i * value_bytes + b] = shuffled[b * values + i];
  }
  return bytes;
}

/// Filters of a dataset, where they are all known here; otherwise none.
/// @throws DataError for a shuffle of other values than the dataset's
std::vector<int> known_filters(hid_t layout, size_t value_bytes, const std::string& where) {
  std::vector<int> filters;
  bool known = true;
  for (int i = 0; i < H5Pget_nfilters(layout); ++i) {
    unsigned flags = 0, value = 0;
    size_t values = 1;
    const H5Z_filter_t id = H5Pget_filter2(layout, static_cast<unsigned>(i), &flags, &values,
                                           &value, 0, nullptr, nullptr);
    const bool shuffle = id == H5Z_FILTER_SHUFFLE;
    if (shuffle && value != value_bytes) known = false;
    if (id != H5Z_FILTER_DEFLATE && id != H5Z_FILTER_FLETCHER32 && !shuffle) return {};
    filters.push_back(id);
  }
  if (!known) throw DataError(where + " cannot be read (damaged: it shuffles other values)");
  return filters;
}

}  // namespace

std::unique_ptr<Hdf5Chunks> Hdf5Chunks::make(int64_t dataset, std::string where) {
  const Hdf5Handle layout(H5Dget_create_plist(dataset), H5Pclose);
  if (H5Pget_layout(layout.id()) != H5D_CHUNKED) return nullptr;
  const Hdf5Handle type(H5Dget_type(dataset), H5Tclose);
  const auto filters = known_filters(layout.id(), H5Tget_size(type.id()), where);
  hsize_t dims[H5S_MAX_RANK];
  const int rank = H5Pget_chunk(layout.id(), H5S_MAX_RANK, dims);
  unsigned options = 0;
  H5Pget_chunk_opts(layout.id(), &options);
  if (filters.empty()) return nullptr;
  auto chunks = std::unique_ptr<Hdf5Chunks>(new Hdf5Chunks);
  chunks->dataset_ = dataset;
  chunks->where_ = std::move(where);
  chunks->filters_ = filters;
  chunks->plain_edges_ = (options & H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS) != 0;
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose);
  hsize_t sizes[H5S_MAX_RANK];
  if (rank < 1 || H5Sget_simple_extent_dims(space.id(), sizes, nullptr) != rank) {
    chunks->damaged("its chunks have other dimensions");
  }
  for (int i = 0; i < rank; ++i) {
    chunks->shape_.push_back(static_cast<int64_t>(std::min<hsize_t>(sizes[i], INT64_MAX)));
  }
  chunks->value_bytes_ = chunks->chunk_bytes_ = H5Tget_size(type.id());
  for (int i = 0; i < rank; ++i) {
    const hsize_t length = dims[i];
    // HDF5 itself has no chunks of 4 GB and more.
    if (length == 0 || length > UINT32_MAX / std::max<size_t>(chunks->chunk_bytes_, 1)) {
      chunks->damaged("chunks of an impossible size");
    }
    chunks->chunk_bytes_ *= length;
    chunks->chunk_.push_back(static_cast<int64_t>(length));
  }
  const Hdf5Handle file(H5Iget_file_id(dataset), H5Fclose);
  H5Fget_filesize(file.id(), &chunks->file_bytes_);
  chunks->require_plausible(chunks->file_bytes_);
  return chunks;
}

void Hdf5Chunks::damaged(const std::string& why) const {
  throw DataError(where_ + " cannot be read (damaged: " + why + ")");
}

void Hdf5Chunks::require_plausible(uint64_t packed) const {
  if (packed > file_bytes_ ||
      (chunk_bytes_ > kAlwaysAllowed && chunk_bytes_ / kMostRatio > packed)) {
    damaged("a chunk of " + std::to_string(chunk_bytes_) + " bytes out of " +
            std::to_string(packed));
  }
}

std::vector<char> Hdf5Chunks::unpack(std::vector<char> bytes, uint32_t skipped) const {
  for (size_t i = filters_.size(); i-- > 0;) {
    if ((skipped >> i & 1) != 0) continue;
    if (filters_[i] == H5Z_FILTER_SHUFFLE) {
      bytes = in_order(bytes, value_bytes_);
    } else if (filters_[i] == H5Z_FILTER_FLETCHER32) {
      if (bytes.size() < kChecksumBytes) damaged("a chunk without its checksum");
      uint32_t stored = 0;
      const size_t size = bytes.size() - kChecksumBytes;
      std::memcpy(&stored, bytes.data() + size, kChecksumBytes);
      if (!checksum_is(fletcher32(bytes, size), stored)) damaged("a chunk's checksum is wrong");
      bytes.resize(size);
    } else {
      const auto checksums = std::count(
          filters_.begin(), filters_.begin() + static_cast<int64_t>(i), H5Z_FILTER_FLETCHER32);
      std::vector<char> unpacked(chunk_bytes_ + static_cast<size_t>(checksums) * kChecksumBytes);
      auto size = static_cast<uLongf>(unpacked.size());
      if (uncompress(reinterpret_cast<Bytef*>(unpacked.data()), &size,
                     reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()) != Z_OK) {
        damaged("a chunk's compressed bytes");
      }
      unpacked.resize(size);
      bytes = std::move(unpacked);
    }
  }
  if (bytes.size() != chunk_bytes_) {
    damaged("a chunk of " + std::to_string(bytes.size()) + " bytes where its shape has " +
            std::to_string(chunk_bytes_));
  }
  return bytes;
}

/// A chunk that was never written.
std::vector<char> Hdf5Chunks::fill_values() const {
  const Hdf5Handle layout(H5Dget_create_plist(dataset_), H5Pclose);
  const Hdf5Handle type(H5Dget_type(dataset_), H5Tclose);
  std::vector<char> value(value_bytes_), bytes(chunk_bytes_);
  H5D_fill_value_t kind = H5D_FILL_VALUE_UNDEFINED;
  if (H5Pfill_value_defined(layout.id(), &kind) >= 0 && kind != H5D_FILL_VALUE_UNDEFINED) {
    H5Pget_fill_value(layout.id(), type.id(), value.data());
  }
  for (size_t at = 0; at < bytes.size(); at += value_bytes_) {
    std::memcpy(bytes.data() + at, value.data(), value_bytes_);
  }
  return bytes;
}

bool Hdf5Chunks::at_edge(const std::vector<int64_t>& corner) const {
  for (size_t d = 0; d < corner.size(); ++d) {
    if (corner[d] + chunk_[d] > shape_[d]) return true;
  }
  return false;
}

const std::vector<char>& Hdf5Chunks::chunk_at(const std::vector<int64_t>& corner) {
  if (corner == kept_corner_) return kept_;
  kept_corner_.clear();
  const std::vector<hsize_t> offset(corner.begin(), corner.end());
  hsize_t stored = 0;
  if (H5Dget_chunk_storage_size(dataset_, offset.data(), &stored) < 0) {
    const std::string why = hdf5_reason();
    // Of a dataset that was never written to; all else is damage.
    if (why.find("storage is not allocated") == std::string::npos) {
      throw DataError(where_ + " cannot be read (" + why + ")");
    }
    stored = 0;
  }
  if (stored == 0) {
    kept_ = fill_values();
  } else {
    require_plausible(stored);
    std::vector<char> bytes(stored);
    uint32_t skipped = 0;
    if (H5Dread_chunk(dataset_, H5P_DEFAULT, offset.data(), &skipped, bytes.data()) < 0) {
      throw DataError(where_ + " cannot be read (" + hdf5_reason() + ")");
    }
    if (plain_edges_ && at_edge(corner)) skipped = ~uint32_t{0};  // said nowhere in the chunk
    kept_ = unpack(std::move(bytes), skipped);
  }
  kept_corner_ = corner;
  return kept_;
}

void Hdf5Chunks::copy(const std::vector<int64_t>& corner, const std::vector<int64_t>& start,
                      const std::vector<int64_t>& count, char* to) {
  const std::vector<char>& bytes = chunk_at(corner);
  const size_t rank = corner.size();
  // What both share, in each dimension, counted over the dataset.
  std::vector<int64_t> from(rank), end(rank);
  for (size_t d = 0; d < rank; ++d) {
    from[d] = std::max(corner[d], start[d]);
    end[d] = std::min(corner[d] + chunk_[d], start[d] + count[d]);
  }
  std::vector<int64_t> at = from;
  const size_t run = static_cast<size_t>(end[rank - 1] - from[rank - 1]) * value_bytes_;
  for (;;) {
    size_t source = 0, target = 0;
    for (size_t d = 0; d < rank; ++d) {
      source = source * static_cast<size_t>(chunk_[d]) + static_cast<size_t>(at[d] - corner[d]);
      target = target * static_cast<size_t>(count[d]) + static_cast<size_t>(at[d] - start[d]);
    }
    std::memcpy(to + target * value_bytes_, bytes.data() + source * value_bytes_, run);
    // The next run: all dimensions but the last are counted up.
    size_t d = rank - 1;
    while (d > 0 && ++at[d - 1] == end[d - 1]) {
      at[d - 1] = from[d - 1];
      --d;
    }
    if (d == 0) return;
  }
}

void Hdf5Chunks::read(const std::vector<int64_t>& start, const std::vector<int64_t>& count,
                      char* to) {
  if (std::find(count.begin(), count.end(), 0) != count.end()) return;
  const size_t rank = chunk_.size();
  std::vector<int64_t> first(rank);
  for (size_t d = 0; d < rank; ++d) first[d] = start[d] / chunk_[d] * chunk_[d];
  std::vector<int64_t> corner = first;
  for (;;) {
    copy(corner, start, count, to);
    size_t d = rank;
    while (d > 0 && (corner[d - 1] += chunk_[d - 1]) >= start[d - 1] + count[d - 1]) {
      corner[d - 1] = first[d - 1];
      --d;
    }
    if (d == 0) return;
  }
}

}  // namespace jepa

#include <jepa/data/hdf5_dataset.hpp>
#include <jepa/errors.hpp>

#include <hdf5.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>

namespace jepa {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

/// Filters that people's files are compressed with, and what installs them.
struct KnownFilter {
  H5Z_filter_t id;
  const char* name;
  const char* package;  ///< of Debian
};
constexpr KnownFilter kFilters[] = {
    {307, "bzip2", "hdf5-filter-plugin"},
    {32000, "lzf", "hdf5-plugin-lzf"},
    {32001, "blosc", "hdf5-filter-plugin-blosc-serial"},
    {32004, "lz4", "hdf5-filter-plugin"},
    {32008, "bitshuffle", "hdf5-filter-plugin"},
    {32013, "zfp", "hdf5-filter-plugin-zfp-serial"},
    {32015, "zstd", nullptr},
    {32026, "blosc2", nullptr},
};

std::string filter_text(H5Z_filter_t id) {
  for (const auto& known : kFilters) {
    if (known.id != id) continue;
    std::string text = std::string(known.name) + " (HDF5 filter " + std::to_string(id) +
                       "), which is not installed; its plugin comes with ";
    if (known.package != nullptr) text += "Debian's " + std::string(known.package) + " or ";
    return text + "pip's hdf5plugin (set HDF5_PLUGIN_PATH to its folder of plugins)";
  }
  return "HDF5 filter " + std::to_string(id) +
         ", which is not installed; HDF5_PLUGIN_PATH names the folder of its plugin";
}

/// The product of `shape` and `size`; kMost where it does not fit.
int64_t total_bytes(const std::vector<int64_t>& shape, size_t size) {
  auto bytes = static_cast<int64_t>(size);
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  for (const int64_t length : shape) {
    if (length < 0 || __builtin_mul_overflow(bytes, length, &bytes)) return kMost;
  }
  return bytes;
}

hsize_t extent(int64_t value) { return static_cast<hsize_t>(value); }

}  // namespace

Hdf5Handle no_external_links() {
  Hdf5Handle access(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose);
  H5Pset_elink_cb(
      access.id(),
      [](const char*, const char*, const char*, const char*, unsigned*, hid_t, void*) -> herr_t {
        return -1;
      },
      nullptr);
  return access;
}

/// Whether an enumeration names numbers below zero. (h5py's booleans are signed bytes, 0 and 1.)
static bool has_negative(hid_t type) {
  const Hdf5Handle base(H5Tget_super(type), H5Tclose);
  const int members = H5Tget_nmembers(type);
  for (int i = 0; i < members; ++i) {
    int64_t value = 0;  // as wide as any that is converted in place
    if (H5Tget_size(base.id()) > sizeof value ||
        H5Tget_member_value(type, static_cast<unsigned>(i), &value) < 0 ||
        H5Tconvert(base.id(), H5T_NATIVE_INT64, 1, &value, nullptr, H5P_DEFAULT) < 0 || value < 0) {
      return true;
    }
  }
  return false;
}

Hdf5Dataset::Hdf5Dataset(const Hdf5File& file, const std::string& name)
    : path_(file.path()), name_(name) {
  const Hdf5Lock lock;
  const Hdf5Handle access = no_external_links();
  // Only the root group is tried out before (hdf5_trial.hpp).
  if (name.find('/') != std::string::npos) {
    throw DataError(path_ + ": dataset '" + name + "': only datasets of the root group are read");
  }
  if (H5Lexists(file.id(), name.c_str(), access.id()) <= 0) {
    throw DataError(path_ + ": no dataset '" + name + "'");
  }
  H5L_info_t link;
  if (H5Lget_info(file.id(), name.c_str(), &link, access.id()) >= 0 &&
      link.type == H5L_TYPE_EXTERNAL) {
    throw DataError(where() + " is a link into another file, which is not followed");
  }
  open(file.id(), access.id());
  const Hdf5Handle layout(H5Dget_create_plist(dataset_.id()), H5Pclose);
  refuse_other_files(layout.id());
  if (H5Pget_layout(layout.id()) == H5D_CHUNKED && H5Pget_nfilters(layout.id()) == 0) {
    // Without a cache HDF5 reads from a chunk that is not compressed what it is asked for; with one
    // it takes the chunk's size from the index and never compares it with the shape.
    H5Pset_chunk_cache(access.id(), H5D_CHUNK_CACHE_NSLOTS_DEFAULT, 0, H5D_CHUNK_CACHE_W0_DEFAULT);
    dataset_.reset();
    open(file.id(), access.id());
  }
  const Hdf5Handle space(H5Dget_space(dataset_.id()), H5Sclose);
  hsize_t dims[H5S_MAX_RANK];
  const int rank = H5Sget_simple_extent_dims(space.id(), dims, nullptr);
  for (int i = 0; i < rank; ++i) {
    shape_.push_back(static_cast<int64_t>(std::min<hsize_t>(dims[i], kMost)));
  }
  const Hdf5Handle type(H5Dget_type(dataset_.id()), H5Tclose);
  value_bytes_ = H5Tget_size(type.id());
  switch (H5Tget_class(type.id())) {
    case H5T_INTEGER:
      kind_ =
          value_bytes_ == 1 && H5Tget_sign(type.id()) == H5T_SGN_NONE ? Kind::uint8 : Kind::integer;
      wide_ = value_bytes_ == 8 && H5Tget_sign(type.id()) == H5T_SGN_NONE;
      break;
    case H5T_FLOAT:
      kind_ = Kind::real;
      break;
    case H5T_ENUM:  // how h5py writes booleans
      kind_ = value_bytes_ == 1 && !has_negative(type.id()) ? Kind::uint8 : Kind::integer;
      break;
    case H5T_BITFIELD:  // how PyTables does
      bits_ = true;
      kind_ = value_bytes_ == 1 ? Kind::uint8 : Kind::other;
      break;
    default:
      break;
  }
  require_plausible_size(file.id());
  require_stored(layout.id());
  if (kind_ == Kind::other) return;
  require_filters(layout.id());
  chunks_ = Hdf5Chunks::make(dataset_.id(), where());
}

void Hdf5Dataset::open(int64_t file, int64_t access) {
  dataset_ = Hdf5Handle(H5Dopen2(file, name_.c_str(), access), H5Dclose);
  if (!dataset_.valid()) throw DataError(where() + " cannot be opened (" + hdf5_reason() + ")");
}

void Hdf5Dataset::refuse_other_files(int64_t layout) const {
  if (H5Pget_external_count(layout) > 0) {
    throw DataError(where() +
                    ": its values lie in another file (external storage), which is not "
                    "read");
  }
  if (H5Pget_layout(layout) == H5D_VIRTUAL) {
    throw DataError(where() +
                    ": its values lie in other files (a virtual dataset), which are not "
                    "read; copy them into one file");
  }
}

void Hdf5Dataset::require_filters(int64_t layout) const {
  H5Z_filter_t missing = 0;
  for (int i = 0; i < H5Pget_nfilters(layout); ++i) {
    unsigned flags = 0;
    size_t values = 0;
    const H5Z_filter_t id = H5Pget_filter2(layout, static_cast<unsigned>(i), &flags, &values,
                                           nullptr, 0, nullptr, nullptr);
    if (id > 0 && missing == 0 && H5Zfilter_avail(id) <= 0) missing = id;
  }
  if (missing == 0 || std::find(shape_.begin(), shape_.end(), 0) != shape_.end()) return;
  // A filter may have been skipped where it gained nothing: only what fails needs it.
  const std::vector<hsize_t> first(shape_.size(), 0);
  const std::vector<hsize_t> one(shape_.size(), 1);
  const Hdf5Handle space(H5Dget_space(dataset_.id()), H5Sclose);
  const Hdf5Handle memory(H5Screate_simple(1, one.data(), nullptr), H5Sclose);
  double value = 0;
  if (H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, first.data(), nullptr, one.data(), nullptr) >=
          0 &&
      H5Dread(dataset_.id(), bits_ ? H5T_NATIVE_B8 : H5T_NATIVE_DOUBLE, memory.id(), space.id(),
              H5P_DEFAULT, &value) >= 0) {
    return;
  }
  throw DataError(where() + " is compressed with " + filter_text(missing));
}

/// Sizes come from the file, and memory is taken for them: damage must not ask for all of it.
void Hdf5Dataset::require_plausible_size(int64_t file) const {
  constexpr int64_t always = int64_t{64} << 20;
  constexpr int64_t ratio = 4096;  // of bytes in memory to bytes in the file; gzip gives 1032
  hsize_t file_bytes = 0;
  H5Fget_filesize(file, &file_bytes);
  const int64_t bytes = total_bytes(shape_, std::max<size_t>(value_bytes_, 1));
  if (bytes > always && static_cast<hsize_t>(bytes) / ratio > file_bytes) {
    throw DataError(where() + ": its size does not fit a file of " + std::to_string(file_bytes) +
                    " bytes");
  }
}

/// HDF5 1.10 copies as many bytes as the shape asks for, whatever the file holds of them.
void Hdf5Dataset::require_stored(int64_t layout) const {
  const H5D_layout_t kind = H5Pget_layout(layout);
  if (kind != H5D_COMPACT && kind != H5D_CONTIGUOUS) return;
  const Hdf5Handle space(H5Dget_space(dataset_.id()), H5Sclose);
  if (H5Sget_simple_extent_npoints(space.id()) == 0) return;
  const hsize_t stored = H5Dget_storage_size(dataset_.id());
  if (kind == H5D_CONTIGUOUS && stored == 0) return;  // never written: its fill values
  if (stored < static_cast<hsize_t>(total_bytes(shape_, value_bytes_))) {
    throw DataError(where() + ": its shape needs more than the " + std::to_string(stored) +
                    " bytes that are there");
  }
}

void Hdf5Dataset::walk() const {
  constexpr int64_t few = int64_t{1} << 20;
  const Hdf5Lock lock;
  hsize_t chunks = 0;
  H5Dget_num_chunks(dataset_.id(), H5S_ALL, &chunks);
  const int64_t bytes = total_bytes(shape_, c10::elementSize(tensor_type()));
  if (bytes <= few) {
    std::vector<char> values(static_cast<size_t>(bytes));
    return read_all(values.data(), bytes);
  }
  if (shape_.empty() || row_size() > few) return;
  std::vector<float> row(static_cast<size_t>(row_size()));
  read_rows(0, 1, row.data());
  read_rows(shape_[0] - 1, 1, row.data());
}

torch::ScalarType Hdf5Dataset::tensor_type() const {
  switch (kind_) {
    case Kind::uint8:
      return torch::kUInt8;
    case Kind::integer:
      return torch::kInt64;
    case Kind::real:
      return value_bytes_ > 4 ? torch::kFloat64 : torch::kFloat32;
    default:
      throw DataError(where() + ": expected numbers");
  }
}

int64_t Hdf5Dataset::row_size() const {
  int64_t size = 1;
  for (size_t i = 1; i < shape_.size(); ++i) size *= shape_[i];
  return size;
}

void Hdf5Dataset::read(int64_t as, const std::vector<int64_t>& start,
                       const std::vector<int64_t>& count, void* to) const {
  if (chunks_) return read_chunks(as, start, count, to);
  std::vector<hsize_t> starts, counts;
  std::transform(start.begin(), start.end(), std::back_inserter(starts), extent);
  std::transform(count.begin(), count.end(), std::back_inserter(counts), extent);
  const Hdf5Handle space(H5Dget_space(dataset_.id()), H5Sclose);
  const Hdf5Handle memory(
      counts.empty() ? H5Screate(H5S_SCALAR)
                     : H5Screate_simple(static_cast<int>(counts.size()), counts.data(), nullptr),
      H5Sclose);
  const bool selected =
      counts.empty() || H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, starts.data(), nullptr,
                                            counts.data(), nullptr) >= 0;
  if (!selected || H5Dread(dataset_.id(), as, memory.id(), space.id(), H5P_DEFAULT, to) < 0) {
    throw DataError(where() + " cannot be read (" + hdf5_reason() + ")");
  }
}

void Hdf5Dataset::read_chunks(int64_t as, const std::vector<int64_t>& start,
                              const std::vector<int64_t>& count, void* to) const {
  const Hdf5Handle type(H5Dget_type(dataset_.id()), H5Tclose);
  if (H5Tequal(type.id(), as) > 0) return chunks_->read(start, count, static_cast<char*>(to));
  // HDF5 converts in place.
  size_t values = 1;
  for (const int64_t length : count) values *= static_cast<size_t>(length);
  const size_t size = H5Tget_size(as);
  std::vector<char> converted(values * std::max(size, value_bytes_));
  chunks_->read(start, count, converted.data());
  if (H5Tconvert(type.id(), as, values, converted.data(), nullptr, H5P_DEFAULT) < 0) {
    throw DataError(where() + " cannot be converted (" + hdf5_reason() + ")");
  }
  if (values > 0) std::memcpy(to, converted.data(), values * size);
}

void Hdf5Dataset::read_all(void* to, int64_t bytes) const {
  const Hdf5Lock lock;
  const torch::ScalarType type = tensor_type();
  TORCH_CHECK(bytes == total_bytes(shape_, c10::elementSize(type)), "expected room for all values");
  hid_t as = bits_ ? H5T_NATIVE_B8 : H5T_NATIVE_UINT8;
  if (type == torch::kInt64) as = H5T_NATIVE_INT64;
  if (type == torch::kFloat32) as = H5T_NATIVE_FLOAT;
  if (type == torch::kFloat64) as = H5T_NATIVE_DOUBLE;
  read(as, std::vector<int64_t>(shape_.size(), 0), shape_, to);
  if (!wide_) return;
  const auto* values = static_cast<const int64_t*>(to);  // where HDF5 clamps what is larger
  const auto count = bytes / static_cast<int64_t>(sizeof(int64_t));
  if (std::find(values, values + count, INT64_MAX) != values + count) {
    throw DataError(where() + ": numbers of 2^63 and more are not read");
  }
}

void Hdf5Dataset::read_rows(int64_t first, int64_t count, float* to) const {
  const Hdf5Lock lock;
  std::vector<int64_t> start(shape_.size(), 0), counts = shape_;
  start[0] = first;
  counts[0] = count;
  if (!bits_) return read(H5T_NATIVE_FLOAT, start, counts, to);
  std::vector<uint8_t> bits(static_cast<size_t>(count * row_size()));
  read(H5T_NATIVE_B8, start, counts, bits.data());
  std::copy(bits.begin(), bits.end(), to);
}

void Hdf5Dataset::read_bytes(const std::array<int64_t, 4>& start, int64_t step,
                             const std::array<int64_t, 4>& count, uint8_t* to) const {
  std::vector<int64_t> from(start.begin(), start.end()), counts(count.begin(), count.end());
  const Hdf5Lock lock;
  if (step == 1) return read(H5T_NATIVE_UINT8, from, counts, to);
  // HDF5 walks over every element of a selection with gaps: frame by frame is far faster.
  counts[0] = 1;
  for (int64_t i = 0; i < count[0]; ++i) {
    from[0] = start[0] + i * step;
    read(H5T_NATIVE_UINT8, from, counts, to + i * count[1] * count[2] * count[3]);
  }
}

}  // namespace jepa

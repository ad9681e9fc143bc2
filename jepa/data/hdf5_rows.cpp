#include <jepa/data/hdf5_rows.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <hdf5.h>

#include <algorithm>
#include <cstdio>

namespace jepa {
namespace {

constexpr int64_t kChunkBytes = 1 << 20;  // the size of HDF5's own cache of chunks

std::vector<hsize_t> extent(at::IntArrayRef sizes) { return {sizes.begin(), sizes.end()}; }

}  // namespace

Hdf5RowWriter::Hdf5RowWriter(const std::string& path, std::string dataset,
                             const std::map<std::string, std::string>& attributes)
    : path_(path), name_(std::move(dataset)) {
  require_replaceable(path_);
  file_ = std::make_unique<Hdf5File>(Hdf5File::create(path_ + ".partial"));
  for (const auto& [name, value] : attributes) file_->write_attribute(name, value);
}

Hdf5RowWriter::~Hdf5RowWriter() {
  if (!file_) return;
  dataset_.reset();
  file_.reset();
  std::remove((path_ + ".partial").c_str());
}

void Hdf5RowWriter::create(const torch::Tensor& rows) {
  shape_ = rows.sizes().vec();
  shape_[0] = 0;
  std::vector<hsize_t> most = extent(shape_), chunk = extent(rows.sizes());
  most[0] = H5S_UNLIMITED;
  const int64_t row_bytes = std::max<int64_t>(rows.nbytes() / rows.size(0), 1);
  chunk[0] = static_cast<hsize_t>(std::max<int64_t>(kChunkBytes / row_bytes, 1));
  const int rank = static_cast<int>(rows.dim());
  const Hdf5Handle space(H5Screate_simple(rank, extent(shape_).data(), most.data()), H5Sclose);
  const Hdf5Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_chunk(layout.id(), rank, chunk.data());
  dataset_ = Hdf5Handle(H5Dcreate2(file_->id(), name_.c_str(), H5T_NATIVE_FLOAT, space.id(),
                                   H5P_DEFAULT, layout.id(), H5P_DEFAULT),
                        H5Dclose);
}

void Hdf5RowWriter::append(const torch::Tensor& rows) {
  TORCH_CHECK(rows.scalar_type() == torch::kFloat32 && rows.dim() > 0 && rows.numel() > 0,
              "Hdf5RowWriter: float32 rows expected, got ", rows.sizes());
  const torch::Tensor values = rows.cpu().contiguous();
  const Hdf5Lock lock;
  if (!dataset_.valid()) create(values);
  if (values.sizes().slice(1) != at::IntArrayRef(shape_).slice(1)) {
    throw DataError(c10::str(path_, ": rows of '", name_, "' have shape ",
                             at::IntArrayRef(shape_).slice(1), ", found ",
                             values.sizes().slice(1)));
  }
  std::vector<hsize_t> start(shape_.size(), 0);
  start[0] = static_cast<hsize_t>(shape_[0]);
  shape_[0] += values.size(0);
  const std::vector<hsize_t> count = extent(values.sizes());
  bool done = dataset_.valid() && H5Dset_extent(dataset_.id(), extent(shape_).data()) >= 0;
  const Hdf5Handle space(done ? H5Dget_space(dataset_.id()) : -1, H5Sclose);
  const Hdf5Handle memory(H5Screate_simple(static_cast<int>(count.size()), count.data(), nullptr),
                          H5Sclose);
  done = done && H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, start.data(), nullptr,
                                     count.data(), nullptr) >= 0;
  done = done && H5Dwrite(dataset_.id(), H5T_NATIVE_FLOAT, memory.id(), space.id(), H5P_DEFAULT,
                          values.const_data_ptr<float>()) >= 0;
  if (!done) throw DataError(path_ + ": cannot be written (" + hdf5_reason() + ")");
}

void Hdf5RowWriter::finish() {
  const std::string partial = path_ + ".partial";
  {
    const Hdf5Lock lock;
    dataset_.reset();
  }
  try {
    file_->close();
  } catch (...) {
    file_.reset();
    std::remove(partial.c_str());
    throw;
  }
  file_.reset();
  put_in_place(partial, path_);
}

}  // namespace jepa

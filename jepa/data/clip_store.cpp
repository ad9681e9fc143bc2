#include <jepa/data/clip_store.hpp>
#include <jepa/data/hdf5_file.hpp>
#include <jepa/errors.hpp>

#include <hdf5.h>
#include <torch/types.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

namespace jepa {
namespace {

bool is_index(const std::string& name) {
  return name == "pixels" || name == "ep_len" || name == "ep_offset";
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::ostringstream text;
  text << at::IntArrayRef(shape);
  return text.str();
}

/// One of the two index datasets, as int64 [E].
std::vector<int64_t> read_index(const Hdf5File& file, const std::string& name) {
  const torch::Tensor values = file.read(name);
  if (values.dim() != 1 || values.is_floating_point()) {
    std::ostringstream text;
    text << file.path() << ": dataset '" << name << "': expected integers (E), found "
         << values.scalar_type() << " " << values.sizes();
    throw DataError(text.str());
  }
  const torch::Tensor wide = values.to(torch::kInt64).contiguous();
  return {wide.const_data_ptr<int64_t>(), wide.const_data_ptr<int64_t>() + wide.numel()};
}

}  // namespace

class ClipStore::Impl {
 public:
  Impl(const std::string& path, const ClipOptions& options)
      : options_(options), file_(Hdf5File::open(path)) {
    open_pixels();
    lengths_ = read_index(file_, "ep_len");
    offsets_ = read_index(file_, "ep_offset");
    check_episodes();
    info_.attributes = file_.attributes();
    if (const auto fps = info_.attributes.find("fps"); fps != info_.attributes.end()) {
      info_.fps = std::strtod(fps->second.c_str(), nullptr);
    }
  }

  int64_t size() const { return info_.episodes * options_.clips_per_video; }
  const ClipStoreInfo& info() const { return info_; }

  RawClip read(int64_t index, Random& random, const CropChooser& crop) const {
    const auto episode = static_cast<size_t>(index / options_.clips_per_video);
    const auto frames =
        choose_frames(lengths_[episode], info_.fps, options_, index % options_.clips_per_video,
                      random, file_.path() + ": episode " + std::to_string(episode));
    const PixelRect rect =
        crop ? crop(info_.height, info_.width, random) : PixelRect{0, 0, info_.height, info_.width};
    RawClip clip{static_cast<int64_t>(frames.size()), rect.height, rect.width, info_.channels, {}};
    clip.pixels.resize(static_cast<size_t>(clip.frames * clip.frame_bytes()));
    // Only a held last frame breaks the even spacing: read what differs, then repeat it.
    const int64_t different = count_different(frames);
    read_pixels(offsets_[episode] + frames[0], different > 1 ? frames[1] - frames[0] : 1, different,
                rect, clip.pixels.data(), static_cast<int64_t>(episode));
    for (int64_t t = different; t < clip.frames; ++t) {
      std::memcpy(clip.pixels.data() + t * clip.frame_bytes(),
                  clip.pixels.data() + (different - 1) * clip.frame_bytes(),
                  static_cast<size_t>(clip.frame_bytes()));
    }
    return clip;
  }

  std::vector<std::string> columns() const {
    std::vector<std::string> names;
    for (const auto& name : file_.datasets()) {
      if (is_index(name)) continue;
      const auto shape = file_.shape(name);
      if ((shape.size() == 1 || shape.size() == 2) && shape[0] == info_.episodes) {
        names.push_back(name);
      }
    }
    return names;
  }

  torch::Tensor column(const std::string& name) const {
    torch::Tensor values = file_.read(name);
    values = values.to(values.is_floating_point() ? torch::kFloat32 : torch::kInt64);
    return values.repeat_interleave(options_.clips_per_video, 0);
  }

 private:
  void open_pixels() {
    const auto lock = lock_hdf5();
    const auto shape = file_.shape("pixels");
    if (shape.size() != 4 || shape[1] < 1 || shape[2] < 1 || shape[3] < 1 || shape[3] > 4) {
      throw DataError(file_.path() + ": dataset 'pixels': expected (frames, height, width, " +
                      "channels 1 to 4), found " + shape_text(shape));
    }
    info_.frames = shape[0];
    info_.height = shape[1];
    info_.width = shape[2];
    info_.channels = shape[3];
    pixels_ = Hdf5Handle(H5Dopen2(file_.id(), "pixels", H5P_DEFAULT), H5Dclose);
    const Hdf5Handle type(H5Dget_type(pixels_.id()), H5Tclose);
    if (H5Tget_class(type.id()) != H5T_INTEGER || H5Tget_size(type.id()) != 1 ||
        H5Tget_sign(type.id()) != H5T_SGN_NONE) {
      throw DataError(file_.path() + ": dataset 'pixels': expected uint8");
    }
  }

  void check_episodes() {
    info_.episodes = static_cast<int64_t>(lengths_.size());
    if (offsets_.size() != lengths_.size()) {
      throw DataError(file_.path() + ": " + std::to_string(lengths_.size()) + " ep_len but " +
                      std::to_string(offsets_.size()) + " ep_offset");
    }
    if (lengths_.empty()) throw DataError(file_.path() + ": holds no episodes");
    for (size_t e = 0; e < lengths_.size(); ++e) {
      if (lengths_[e] < 1 || offsets_[e] < 0 || offsets_[e] > info_.frames - lengths_[e]) {
        throw DataError(file_.path() + ": episode " + std::to_string(e) + ": frames " +
                        std::to_string(offsets_[e]) + " to " +
                        std::to_string(offsets_[e] + lengths_[e]) + " of " +
                        std::to_string(info_.frames) + " in 'pixels'");
      }
    }
  }

  static int64_t count_different(const std::vector<int64_t>& frames) {
    int64_t count = 1;
    while (count < static_cast<int64_t>(frames.size()) &&
           frames[static_cast<size_t>(count)] > frames[static_cast<size_t>(count - 1)]) {
      ++count;
    }
    return count;
  }

  void read_pixels(int64_t first, int64_t step, int64_t count, const PixelRect& rect, uint8_t* to,
                   int64_t episode) const {
    const auto size = [](int64_t value) { return static_cast<hsize_t>(value); };
    const hsize_t start[4] = {size(first), size(rect.top), size(rect.left), 0};
    const hsize_t stride[4] = {size(step), 1, 1, 1};
    const hsize_t counts[4] = {size(count), size(rect.height), size(rect.width),
                               size(info_.channels)};
    const auto lock = lock_hdf5();
    const Hdf5Handle file_space(H5Dget_space(pixels_.id()), H5Sclose);
    const Hdf5Handle memory_space(H5Screate_simple(4, counts, nullptr), H5Sclose);
    if (H5Sselect_hyperslab(file_space.id(), H5S_SELECT_SET, start, stride, counts, nullptr) < 0 ||
        H5Dread(pixels_.id(), H5T_NATIVE_UINT8, memory_space.id(), file_space.id(), H5P_DEFAULT,
                to) < 0) {
      throw DataError(file_.path() + ": episode " + std::to_string(episode) + " cannot be read (" +
                      hdf5_reason() + ")");
    }
  }

  ClipOptions options_;
  ClipStoreInfo info_;
  Hdf5File file_;
  Hdf5Handle pixels_;
  std::vector<int64_t> lengths_;
  std::vector<int64_t> offsets_;
};

ClipStore::ClipStore(const std::string& path, const ClipOptions& options)
    : impl_(std::make_unique<Impl>(path, options)) {}
ClipStore::~ClipStore() = default;
int64_t ClipStore::size() const { return impl_->size(); }
RawClip ClipStore::read(int64_t index, Random& random, const CropChooser& crop) const {
  return impl_->read(index, random, crop);
}
std::vector<std::string> ClipStore::columns() const { return impl_->columns(); }
torch::Tensor ClipStore::column(const std::string& name) const {
  const auto known = impl_->columns();
  if (std::find(known.begin(), known.end(), name) == known.end()) return ClipSource::column(name);
  return impl_->column(name);
}
const ClipStoreInfo& ClipStore::info() const { return impl_->info(); }

class ClipStoreWriter::Impl {
 public:
  Impl(std::string path, ClipStoreInfo info)
      : path_(std::move(path)),
        info_(std::move(info)),
        file_(std::make_unique<Hdf5File>(Hdf5File::create(partial()))) {}

  ~Impl() {
    if (!file_) return;
    pixels_.reset();
    file_.reset();
    std::remove(partial().c_str());
  }

  void append(const RawClip& clip) {
    if (!pixels_.valid()) create_pixels(clip);
    if (clip.height != info_.height || clip.width != info_.width ||
        clip.channels != info_.channels || clip.frames < 1) {
      throw DataError(path_ + ": episode " + std::to_string(lengths_.size()) +
                      ": expected frames " +
                      shape_text({info_.height, info_.width, info_.channels}) + ", found " +
                      std::to_string(clip.frames) + " of " +
                      shape_text({clip.height, clip.width, clip.channels}));
    }
    const auto size = [](int64_t value) { return static_cast<hsize_t>(value); };
    const hsize_t total[4] = {size(info_.frames + clip.frames), size(clip.height), size(clip.width),
                              size(clip.channels)};
    const hsize_t start[4] = {size(info_.frames), 0, 0, 0};
    const hsize_t count[4] = {size(clip.frames), total[1], total[2], total[3]};
    const auto lock = lock_hdf5();
    bool done = H5Dset_extent(pixels_.id(), total) >= 0;
    const Hdf5Handle file_space(H5Dget_space(pixels_.id()), H5Sclose);
    const Hdf5Handle memory_space(H5Screate_simple(4, count, nullptr), H5Sclose);
    done = done && H5Sselect_hyperslab(file_space.id(), H5S_SELECT_SET, start, nullptr, count,
                                       nullptr) >= 0;
    done = done && H5Dwrite(pixels_.id(), H5T_NATIVE_UINT8, memory_space.id(), file_space.id(),
                            H5P_DEFAULT, clip.pixels.data()) >= 0;
    if (!done) throw DataError(path_ + ": cannot be written (" + hdf5_reason() + ")");
    offsets_.push_back(info_.frames);
    lengths_.push_back(clip.frames);
    info_.frames += clip.frames;
  }

  void finish(const std::map<std::string, torch::Tensor>& columns) {
    const auto episodes = static_cast<int64_t>(lengths_.size());
    if (episodes == 0) throw DataError(path_ + ": no clips to write");
    for (const auto& [name, values] : columns) {
      if (is_index(name) || values.dim() < 1 || values.size(0) != episodes) {
        throw DataError(path_ + ": column '" + name + "': expected " + std::to_string(episodes) +
                        " rows");
      }
      file_->write(name, values);
    }
    file_->write("ep_len", torch::tensor(lengths_).to(torch::kInt32));
    file_->write("ep_offset", torch::tensor(offsets_));
    file_->write_attribute("fps", info_.fps);
    for (const auto& [name, value] : info_.attributes) file_->write_attribute(name, value);
    // The chunks still in memory are written here: a full disk must not pass unseen.
    const auto lock = lock_hdf5();
    if (!pixels_.reset()) throw DataError(path_ + ": cannot be written (" + hdf5_reason() + ")");
    file_->close();
    put_in_place(partial(), path_);
    file_.reset();
  }

 private:
  std::string partial() const { return path_ + ".partial"; }

  void create_pixels(const RawClip& clip) {
    info_.height = clip.height;
    info_.width = clip.width;
    info_.channels = clip.channels;
    const auto size = [](int64_t value) { return static_cast<hsize_t>(value); };
    const hsize_t now[4] = {0, size(clip.height), size(clip.width), size(clip.channels)};
    const hsize_t most[4] = {H5S_UNLIMITED, now[1], now[2], now[3]};
    // A few frames a chunk, but no more than about a megabyte: reading a window reads its chunks.
    const int64_t fit =
        std::max<int64_t>(1, (int64_t{1} << 20) / std::max<int64_t>(1, clip.frame_bytes()));
    const hsize_t chunk[4] = {size(std::min({clip.frames, int64_t{16}, fit})), now[1], now[2],
                              now[3]};
    const auto lock = lock_hdf5();
    const Hdf5Handle space(H5Screate_simple(4, now, most), H5Sclose);
    const Hdf5Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_chunk(layout.id(), 4, chunk);
    pixels_ = Hdf5Handle(H5Dcreate2(file_->id(), "pixels", H5T_NATIVE_UINT8, space.id(),
                                    H5P_DEFAULT, layout.id(), H5P_DEFAULT),
                         H5Dclose);
    if (!pixels_.valid()) throw DataError(path_ + ": cannot be written (" + hdf5_reason() + ")");
  }

  std::string path_;
  ClipStoreInfo info_;
  std::unique_ptr<Hdf5File> file_;
  Hdf5Handle pixels_;
  std::vector<int64_t> lengths_;
  std::vector<int64_t> offsets_;
};

ClipStoreWriter::ClipStoreWriter(const std::string& path, const ClipStoreInfo& info)
    : impl_(std::make_unique<Impl>(path, info)) {}
ClipStoreWriter::~ClipStoreWriter() = default;
void ClipStoreWriter::append(const RawClip& clip) { impl_->append(clip); }
void ClipStoreWriter::finish(const std::map<std::string, torch::Tensor>& columns) {
  impl_->finish(columns);
}

}  // namespace jepa

#include <jepa/data/clip_store.hpp>
#include <jepa/data/hdf5_file.hpp>
#include <jepa/errors.hpp>

#include <hdf5.h>
#include <torch/types.h>

#include <algorithm>
#include <cstdio>
#include <sstream>

namespace jepa {
namespace {

bool is_reserved(const std::string& name) {
  return name == "pixels" || name == "ep_len" || name == "ep_offset";
}

std::string sizes_text(const std::vector<int64_t>& shape) {
  std::ostringstream text;
  text << at::IntArrayRef(shape);
  return text.str();
}

}  // namespace

class ClipStoreWriter::Impl {
 public:
  Impl(std::string path, ClipStoreInfo info)
      : path_(std::move(path)),
        info_(std::move(info)),
        file_((require_replaceable(path_),
               std::make_unique<Hdf5File>(Hdf5File::create(partial())))) {}

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
                      sizes_text({info_.height, info_.width, info_.channels}) + ", found " +
                      std::to_string(clip.frames) + " of " +
                      sizes_text({clip.height, clip.width, clip.channels}));
    }
    take_signals(clip);
    const auto size = [](int64_t value) { return static_cast<hsize_t>(value); };
    const hsize_t total[4] = {size(info_.frames + clip.frames), size(clip.height), size(clip.width),
                              size(clip.channels)};
    const hsize_t start[4] = {size(info_.frames), 0, 0, 0};
    const hsize_t count[4] = {size(clip.frames), total[1], total[2], total[3]};
    const Hdf5Lock lock;
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

  void set_fps(double fps) { info_.fps = fps; }
  void note(const std::string& attribute, const std::string& value) {
    info_.attributes[attribute] = value;
  }

  void finish(const std::map<std::string, torch::Tensor>& columns) {
    const auto episodes = static_cast<int64_t>(lengths_.size());
    if (episodes == 0) throw DataError(path_ + ": no clips to write");
    for (const auto& [name, values] : columns) {
      if (is_reserved(name) || values.dim() < 1 || values.size(0) != episodes) {
        throw DataError(path_ + ": column '" + name + "': expected " + std::to_string(episodes) +
                        " rows");
      }
      file_->write(name, values);
    }
    for (auto& [name, signal] : signals_) {
      if (columns.contains(name)) {
        throw DataError(path_ + ": '" + name + "' is both a column and a signal");
      }
      file_->write(name, torch::from_blob(signal.values.data(), {info_.frames, signal.width}));
    }
    file_->write("ep_len", torch::tensor(lengths_).to(torch::kInt32));
    file_->write("ep_offset", torch::tensor(offsets_));
    file_->write_attribute("fps", info_.fps);
    std::string names;
    for (const auto& [name, value] : info_.attributes) {
      file_->write_attribute(name, value);
      names += (names.empty() ? "" : ",") + name;
    }
    file_->write_attribute(kAttributeNames, names);
    // The chunks still in memory are written here: a full disk must not pass unseen.
    const Hdf5Lock lock;
    if (!pixels_.reset()) throw DataError(path_ + ": cannot be written (" + hdf5_reason() + ")");
    file_->close();
    put_in_place(partial(), path_);
    file_.reset();
  }

 private:
  std::string partial() const { return path_ + ".partial"; }

  /// Adds a clip's signals to the columns that finish() writes.
  void take_signals(const RawClip& clip) {
    if (lengths_.empty()) {
      for (const auto& [name, signal] : clip.signals) signals_[name] = {signal.width, {}};
    }
    bool same = signals_.size() == clip.signals.size();
    for (const auto& [name, signal] : clip.signals) {
      const auto found = signals_.find(name);
      same = same && !is_reserved(name) && signal.width > 0 && found != signals_.end() &&
             found->second.width == signal.width &&
             static_cast<int64_t>(signal.values.size()) == clip.frames * signal.width;
    }
    if (!same) {
      throw DataError(path_ + ": episode " + std::to_string(lengths_.size()) +
                      ": its signals differ from the first one's");
    }
    for (const auto& [name, signal] : clip.signals) {
      auto& values = signals_[name].values;
      values.insert(values.end(), signal.values.begin(), signal.values.end());
    }
  }

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
    const Hdf5Lock lock;
    const Hdf5Handle space(H5Screate_simple(4, now, most), H5Sclose);
    const Hdf5Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_chunk(layout.id(), 4, chunk);
    if (info_.deflate > 0) H5Pset_deflate(layout.id(), static_cast<unsigned>(info_.deflate));
    pixels_ = Hdf5Handle(H5Dcreate2(file_->id(), "pixels", H5T_NATIVE_UINT8, space.id(),
                                    H5P_DEFAULT, layout.id(), H5P_DEFAULT),
                         H5Dclose);
    if (!pixels_.valid()) throw DataError(path_ + ": cannot be written (" + hdf5_reason() + ")");
  }

  std::string path_;
  ClipStoreInfo info_;
  std::unique_ptr<Hdf5File> file_;
  Hdf5Handle pixels_;
  Signals signals_;  // of all frames so far
  std::vector<int64_t> lengths_;
  std::vector<int64_t> offsets_;
};

ClipStoreWriter::ClipStoreWriter(const std::string& path, const ClipStoreInfo& info)
    : impl_(std::make_unique<Impl>(path, info)) {}
ClipStoreWriter::~ClipStoreWriter() = default;
void ClipStoreWriter::append(const RawClip& clip) { impl_->append(clip); }
void ClipStoreWriter::note(const std::string& attribute, const std::string& value) {
  impl_->note(attribute, value);
}
void ClipStoreWriter::set_fps(double fps) { impl_->set_fps(fps); }
void ClipStoreWriter::finish(const std::map<std::string, torch::Tensor>& columns) {
  impl_->finish(columns);
}

}  // namespace jepa

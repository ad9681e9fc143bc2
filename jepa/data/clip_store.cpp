#include <jepa/data/clip_store.hpp>
#include <jepa/data/hdf5_dataset.hpp>
#include <jepa/data/signal_columns.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <sstream>

namespace jepa {
namespace {

/// A number, or one over another ("30000/1001"); 0: neither.
double frame_rate(const std::string& text) {
  char* end = nullptr;
  double rate = std::strtod(text.c_str(), &end);
  if (*end == '/') rate /= std::strtod(end + 1, &end);
  return *end == '\0' && std::isfinite(rate) && rate > 0 ? rate : 0;
}

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

/// Those that the store's writer named.
std::map<std::string, std::string> listed_attributes(const Hdf5File& file) {
  std::vector<std::string> names;
  const auto listed = file.attributes({kAttributeNames});
  if (listed.empty()) return {};
  std::istringstream text(listed.at(kAttributeNames));
  for (std::string name; std::getline(text, name, ',');) names.push_back(name);
  return file.attributes(names);
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
    info_.attributes =
        file_.attributes({"fps", "generator", "seed", "licence", "version", "recipe"});
    info_.attributes.merge(file_.attributes({"label_names"}, "\n"));  // as join_names() has them
    info_.attributes.merge(listed_attributes(file_));
    if (const auto fps = info_.attributes.find("fps"); fps != info_.attributes.end()) {
      info_.fps = frame_rate(fps->second);
    }
    choose_episodes();
    signals_.emplace(file_, options_, info_.frames, info_.episodes);
  }

  int64_t size() const { return static_cast<int64_t>(kept_.size()) * options_.clips_per_video; }
  const ClipStoreInfo& info() const { return info_; }
  std::string name(int64_t index) const { return episode_name(episode_of(index)); }

  RawClip read(int64_t index, Random& random, const CropChooser& crop) const {
    const int64_t episode = episode_of(index);
    const auto frames =
        choose_frames(lengths_[static_cast<size_t>(episode)], info_.fps, options_,
                      index % options_.clips_per_video, random, episode_name(episode));
    return cut(episode, frames,
               crop ? crop(info_.height, info_.width, random)
                    : PixelRect{0, 0, info_.height, info_.width});
  }

  RawClip read_at(int64_t episode, int64_t start) const {
    if (episode < 0 || episode >= info_.episodes) {
      throw DataError(file_.path() + ": no episode " + std::to_string(episode) + " of " +
                      std::to_string(info_.episodes));
    }
    const int64_t length = lengths_[static_cast<size_t>(episode)];
    const int64_t step = frame_step(info_.fps, options_, episode_name(episode));
    const int64_t span = clip_span(options_.frames, step, options_);
    if (options_.frames < 1 || start < 0 || span > length || start > length - span) {
      throw DataError(episode_name(episode) + ": no clip of " + std::to_string(span) +
                      " frames from " + std::to_string(start) + " of " + std::to_string(length));
    }
    std::vector<int64_t> frames;
    for (int64_t i = 0; i < options_.frames; ++i) frames.push_back(start + i * step);
    return cut(episode, frames, {0, 0, info_.height, info_.width});
  }

  std::vector<std::pair<int64_t, int64_t>> windows() const {
    std::vector<std::pair<int64_t, int64_t>> all;
    const int64_t span = clip_span(std::max<int64_t>(options_.frames, 1),
                                   frame_step(info_.fps, options_, file_.path()), options_);
    for (int64_t e = 0; e < info_.episodes; ++e) {
      const int64_t last = lengths_[static_cast<size_t>(e)] - span;
      for (int64_t start = 0; start <= last; ++start) all.emplace_back(e, start);
    }
    return all;
  }

  ColumnStatistics statistics(const std::string& name) const {
    torch::Tensor rows = file_.read(name).to(torch::kFloat64);
    rows = rows.dim() < 2 ? rows.view({-1, 1}) : rows.flatten(1);
    rows = rows.index_select(0, rows.isnan().any(1).logical_not().nonzero().view({-1}));
    if (rows.size(0) < 2) {
      throw DataError(file_.path() + ": dataset '" + name + "': " + std::to_string(rows.size(0)) +
                      " rows without a NaN, statistics need two");
    }
    return {rows.mean(0), rows.std(0, false), rows.std(0, true), rows.size(0)};
  }

  /// Columns of one value or row an episode that hold numbers. What cannot be opened (types of a
  /// newer HDF5, missing filters) is none; asked for by name, it says why.
  std::vector<std::string> columns() const { return columns_of(info_.episodes, 2); }
  std::vector<std::string> signals() const { return columns_of(info_.frames, 32); }

  torch::Tensor column(const std::string& name) const {
    // `NAME.K` is one number of each row, where no column has that name itself.
    const size_t dot = name.rfind('.');
    if (dot != std::string::npos && !file_.has(name) && file_.has(name.substr(0, dot))) {
      return number_of(name.substr(0, dot), name.substr(dot + 1));
    }
    const auto shape = file_.shape(name);
    const bool per_frame = !shape.empty() && shape[0] == info_.frames && shape[0] != info_.episodes;
    if (is_index(name) || shape.empty() || shape.size() > 2 ||
        (!per_frame && shape[0] != info_.episodes)) {
      throw DataError(file_.path() + ": dataset '" + name + "': expected a value or row for each " +
                      "of " + std::to_string(info_.episodes) + " episodes or " +
                      std::to_string(info_.frames) + " frames, found " + shape_text(shape));
    }
    torch::Tensor values = file_.read(name);
    if (!values.is_floating_point()) values = values.to(torch::kInt64);
    if (per_frame) return values.index_select(0, torch::tensor(last_frames(name)));
    return values.index_select(0, torch::tensor(kept_))
        .repeat_interleave(options_.clips_per_video, 0);
  }

  const std::string& path() const { return file_.path(); }

 private:
  std::string episode_name(int64_t episode) const {
    return file_.path() + ": episode " + std::to_string(episode);
  }

  int64_t episode_of(int64_t index) const {
    return kept_[static_cast<size_t>(index / options_.clips_per_video)];
  }

  torch::Tensor number_of(const std::string& base, const std::string& number) const {
    const torch::Tensor rows = column(base);
    const int64_t width = rows.dim() == 2 ? rows.size(1) : 0;
    const bool digits =
        !number.empty() && number.size() < 8 &&
        std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || std::stoll(number) >= width) {
      throw DataError(file_.path() + ": dataset '" + base + "': no number '" + number +
                      "' in rows of " + std::to_string(width));
    }
    return rows.select(1, std::stoll(number)).contiguous();
  }

  /// The last frame of each clip, counted over the whole store.
  std::vector<int64_t> last_frames(const std::string& name) const {
    if (options_.random_window) {
      throw DataError(file_.path() + ": dataset '" + name +
                      "' has a value for each frame: clips "
                      "need fixed frames (random_window false)");
    }
    std::vector<int64_t> frames;
    Random unused(0);
    for (int64_t index = 0; index < size(); ++index) {
      const int64_t episode = episode_of(index);
      const auto chosen =
          choose_frames(lengths_[static_cast<size_t>(episode)], info_.fps, options_,
                        index % options_.clips_per_video, unused, episode_name(episode));
      frames.push_back(offsets_[static_cast<size_t>(episode)] + chosen.back());
    }
    return frames;
  }

  std::vector<std::string> columns_of(int64_t rows, size_t most_dimensions) const {
    std::vector<std::string> names;
    for (const auto& name : file_.datasets()) {
      if (is_index(name)) continue;
      try {
        const Hdf5Dataset dataset(file_, name);
        const auto& shape = dataset.shape();
        if (!shape.empty() && shape.size() <= most_dimensions && shape[0] == rows &&
            dataset.kind() != Hdf5Dataset::Kind::other) {
          names.push_back(name);
        }
      } catch (const DataError&) {
        continue;
      }
    }
    return names;
  }

  void open_pixels() {
    pixels_.emplace(file_, "pixels");
    const auto& shape = pixels_->shape();
    if (shape.size() != 4 || shape[1] < 1 || shape[2] < 1 || shape[3] < 1 || shape[3] > 4) {
      throw DataError(file_.path() + ": dataset 'pixels': expected (frames, height, width, " +
                      "channels 1 to 4), found " + shape_text(shape));
    }
    if (pixels_->kind() != Hdf5Dataset::Kind::uint8) {
      throw DataError(file_.path() + ": dataset 'pixels': expected uint8");
    }
    info_.frames = shape[0];
    info_.height = shape[1];
    info_.width = shape[2];
    info_.channels = shape[3];
  }

  void check_episodes() {
    info_.episodes = static_cast<int64_t>(lengths_.size());
    if (offsets_.size() != lengths_.size()) {
      throw DataError(file_.path() + ": " + std::to_string(lengths_.size()) + " ep_len but " +
                      std::to_string(offsets_.size()) + " ep_offset");
    }
    for (size_t e = 0; e < lengths_.size(); ++e) {
      if (lengths_[e] < 0 || offsets_[e] < 0 || offsets_[e] > info_.frames - lengths_[e]) {
        int64_t end = 0;
        if (__builtin_add_overflow(offsets_[e], lengths_[e], &end)) {
          end = std::numeric_limits<int64_t>::max();
        }
        throw DataError(file_.path() + ": episode " + std::to_string(e) + ": frames " +
                        std::to_string(offsets_[e]) + " to " + std::to_string(end) + " of " +
                        std::to_string(info_.frames) + " in 'pixels'");
      }
    }
  }

  /// Empty episodes have no clips; short ones neither, where that is asked.
  void choose_episodes() {
    if (options_.clips_per_video < 1) throw ConfigError("clips_per_video: expected at least 1");
    int64_t shortest = 1;
    if (options_.skip_short) {
      shortest = clip_span(std::max<int64_t>(options_.frames, 1),
                           frame_step(info_.fps, options_, file_.path()), options_);
    }
    for (int64_t e = 0; e < info_.episodes; ++e) {
      if (lengths_[static_cast<size_t>(e)] >= shortest) kept_.push_back(e);
    }
    if (kept_.empty()) {
      throw DataError(file_.path() + ": holds no episodes" +
                      (info_.episodes > 0 ? " of " + std::to_string(shortest) + " frames" : ""));
    }
  }

  RawClip cut(int64_t episode, std::vector<int64_t> frames, const PixelRect& rect) const {
    const int64_t offset = offsets_[static_cast<size_t>(episode)];
    const int64_t end = offset + lengths_[static_cast<size_t>(episode)];
    for (int64_t& frame : frames) frame += offset;
    RawClip clip{static_cast<int64_t>(frames.size()), rect.height, rect.width, info_.channels, {}};
    clip.pixels.resize(static_cast<size_t>(clip.frames * clip.frame_bytes()));
    try {
      read_frames(frames, rect, clip);
      clip.signals =
          signals_->read(frames, end, frame_step(info_.fps, options_, file_.path()), episode);
    } catch (const DataError& error) {
      throw DataError(std::string(error.what()) + ", episode " + std::to_string(episode));
    }
    return clip;
  }

  /// Runs of evenly spaced frames are read at once; a held frame is copied. Holding the last frame
  /// can leave a shorter step before it.
  void read_frames(const std::vector<int64_t>& frames, const PixelRect& rect, RawClip& clip) const {
    const auto count = static_cast<int64_t>(frames.size());
    const auto at = [&](int64_t i) { return frames[static_cast<size_t>(i)]; };
    const auto bytes = static_cast<size_t>(clip.frame_bytes());
    for (int64_t first = 0; first < count;) {
      uint8_t* to = clip.pixels.data() + first * clip.frame_bytes();
      if (first > 0 && at(first) == at(first - 1)) {
        std::memcpy(to, to - bytes, bytes);
        ++first;
        continue;
      }
      int64_t next = first + 1;
      const int64_t step = next < count ? at(next) - at(first) : 0;
      while (step > 0 && next < count && at(next) - at(next - 1) == step) ++next;
      pixels_->read_bytes({at(first), rect.top, rect.left, 0}, std::max<int64_t>(step, 1),
                          {next - first, rect.height, rect.width, info_.channels}, to);
      first = next;
    }
  }

  ClipOptions options_;
  ClipStoreInfo info_;
  Hdf5File file_;
  std::optional<Hdf5Dataset> pixels_;
  std::optional<SignalColumns> signals_;
  std::vector<int64_t> lengths_;
  std::vector<int64_t> offsets_;
  std::vector<int64_t> kept_;  // episodes that clips come from
};

ClipStore::ClipStore(const std::string& path, const ClipOptions& options)
    : impl_(std::make_unique<Impl>(path, options)) {}
ClipStore::~ClipStore() = default;
int64_t ClipStore::size() const { return impl_->size(); }
RawClip ClipStore::read(int64_t index, Random& random, const CropChooser& crop) const {
  return impl_->read(index, random, crop);
}
std::string ClipStore::name(int64_t index) const { return impl_->name(index); }
RawClip ClipStore::read_at(int64_t episode, int64_t start) const {
  return impl_->read_at(episode, start);
}
std::vector<std::pair<int64_t, int64_t>> ClipStore::windows() const { return impl_->windows(); }
ColumnStatistics ClipStore::statistics(const std::string& column) const {
  return impl_->statistics(column);
}
std::vector<std::string> ClipStore::columns() const { return impl_->columns(); }
std::vector<std::string> ClipStore::signals() const { return impl_->signals(); }
torch::Tensor ClipStore::column(const std::string& name) const {
  try {
    return impl_->column(name);
  } catch (const DataError& error) {
    const std::string text = error.what();
    if (text.find("no dataset") == std::string::npos) throw;
  }
  std::string known;
  for (const auto& column : impl_->columns()) known += (known.empty() ? "" : ", ") + column;
  throw DataError(impl_->path() + ": no column '" + name + "': there is " +
                  (known.empty() ? "none" : known));
}
const ClipStoreInfo& ClipStore::info() const { return impl_->info(); }

}  // namespace jepa

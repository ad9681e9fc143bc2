#include <jepa/data/median_step.hpp>
#include <jepa/data/video_source.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <unistd.h>

namespace jepa {
namespace {

std::vector<std::string> paths_of(const std::vector<MediaEntry>& videos) {
  if (videos.empty()) throw DataError("no videos: the list is empty");
  std::vector<std::string> paths;
  for (const auto& video : videos) paths.push_back(video.path);
  return paths;
}

/// What a computer can hold of one clip: it is copied on its way, up to four times.
int64_t most_clip_bytes() {
  const auto pages = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES));
  const auto page = static_cast<int64_t>(sysconf(_SC_PAGESIZE));
  return pages > 0 && page > 0 ? pages / 4 * page : std::numeric_limits<int64_t>::max();
}

/// choose_frames for a video whose rate varies: by it on an even grid of the wanted rate, then the
/// frame nearest to each time of the grid.
std::vector<int64_t> choose_by_times(const std::vector<double>& times, const ClipOptions& options,
                                     int64_t part, Random& random, const std::string& name) {
  const double step = times.size() > 1 ? median_step(times) : 0.0;
  // As frame_step() does: 4.98 frames a second count as 5.
  if (step > 0 && std::ceil(1.0 / step - 0.05) < options.fps) {
    throw DataError(name + ": " + std::to_string(1.0 / step) +
                    " frames a second, expected at least " + std::to_string(options.fps));
  }
  ClipOptions grid = options;
  grid.fps = 0.0;
  grid.frame_step = 1;
  const double length = times.back() + (step > 0 ? step : 1.0 / options.fps);
  const auto points = std::max<int64_t>(1, std::llround(length * options.fps));
  auto chosen = choose_frames(points, options.fps, grid, part, random, name);
  for (int64_t& point : chosen) {
    const double time = static_cast<double>(point) / options.fps;
    auto at = std::lower_bound(times.begin(), times.end(), time);
    if (at == times.end()) --at;
    if (at != times.begin() && time - *std::prev(at) <= *at - time) --at;
    point = std::lower_bound(times.begin(), at, *at) - times.begin();  // the first of equal times
  }
  return chosen;
}

}  // namespace

VideoSource::VideoSource(const std::vector<MediaEntry>& videos, const ClipOptions& options)
    : options_(options),
      library_(paths_of(videos), FrameScale{.short_side = options.short_side}, options.channels,
               options.cache_mb) {
  for (const auto& video : videos) labels_.push_back(video.label);
  class_names_ = jepa::class_names(videos);
}

int64_t VideoSource::size() const { return library_.size() * options_.clips_per_video; }

RawClip VideoSource::read(int64_t index, Random& random, const CropChooser& crop) const {
  const int64_t video = index / options_.clips_per_video;
  const VideoInfo& info = library_.info(video);
  const int64_t in_video = index % options_.clips_per_video;
  const std::string& name = library_.path(video);
  const auto times = options_.fps > 0 ? library_.times(video) : std::vector<double>{};
  const auto frames = times.empty()
                          ? choose_frames(info.frames, info.fps, options_, in_video, random, name)
                          : choose_by_times(times, options_, in_video, random, name);
  const PixelRect part =
      crop ? crop(info.height, info.width, random) : PixelRect{0, 0, info.height, info.width};
  RawClip clip{
      static_cast<int64_t>(frames.size()), part.height, part.width, library_.channels(), {}};
  if (clip.frames > most_clip_bytes() / std::max<int64_t>(1, clip.frame_bytes())) {
    throw DataError(this->name(index) + ": " + std::to_string(clip.frames) + " frames of " +
                    std::to_string(clip.height) + " x " + std::to_string(clip.width) +
                    " do not fit in this computer's memory; clip.frames asks for less");
  }
  clip.pixels.resize(static_cast<size_t>(clip.frames * clip.frame_bytes()));
  for (int64_t t = 0; t < clip.frames; ++t) {
    const int64_t frame = frames[static_cast<size_t>(t)];
    uint8_t* to = clip.pixels.data() + t * clip.frame_bytes();
    if (t > 0 && frame == frames[static_cast<size_t>(t - 1)]) {  // the last one, held
      std::memcpy(to, to - clip.frame_bytes(), static_cast<size_t>(clip.frame_bytes()));
    } else {
      library_.read(video, frame, part, to);
    }
  }
  return clip;
}

std::string VideoSource::name(int64_t index) const {
  const int64_t parts = options_.clips_per_video;
  const std::string& path = library_.path(index / parts);
  if (parts == 1) return path;
  return path + ": clip " + std::to_string(index % parts + 1) + " of " + std::to_string(parts);
}

std::pair<double, double> VideoSource::rates() const {
  std::optional<std::pair<double, double>> range;
  for (int64_t video = 0; video < library_.size(); ++video) {
    double rate = 0;
    try {
      const VideoInfo& info = library_.info(video);
      rate = options_.fps > 0 && info.timed
                 ? options_.fps
                 : info.fps /
                       static_cast<double>(frame_step(info.fps, options_, library_.path(video)));
    } catch (const DataError&) {
      continue;  // its clips say so when they are read
    }
    if (!range) range.emplace(rate, rate);
    range->first = std::min(range->first, rate);
    range->second = std::max(range->second, rate);
  }
  return range.value_or(std::pair{0.0, 0.0});
}

double VideoSource::frames_a_second() const {
  const auto [lowest, highest] = rates();
  // 29.97 and 30 count as the same, as frame_step() has it.
  constexpr double kSame = 1.002;
  return highest <= kSame * lowest ? lowest : 0.0;
}

torch::Tensor VideoSource::column(const std::string& name) const {
  torch::Tensor values;
  if (name == "label") {
    values = torch::tensor(labels_);
  } else if (name == "video") {
    values = torch::arange(library_.size());
  } else {
    return ClipSource::column(name);
  }
  return values.repeat_interleave(options_.clips_per_video, 0);
}

}  // namespace jepa

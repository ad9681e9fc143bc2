#include <jepa/data/video_source.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>

namespace jepa {
namespace {

std::vector<std::string> paths_of(const std::vector<MediaEntry>& videos) {
  if (videos.empty()) throw DataError("no videos: the list is empty");
  std::vector<std::string> paths;
  for (const auto& video : videos) paths.push_back(video.path);
  return paths;
}

/// choose_frames for a video whose rate varies: by it on an even grid of the wanted rate, then the
/// frame nearest to each time of the grid.
std::vector<int64_t> choose_by_times(const std::vector<double>& times, const VideoInfo& info,
                                     const ClipOptions& options, int64_t part, Random& random,
                                     const std::string& name) {
  if (info.fps < options.fps) {
    throw DataError(name + ": " + std::to_string(info.fps) +
                    " frames a second, expected at least " + std::to_string(options.fps));
  }
  ClipOptions grid = options;
  grid.fps = 0.0;
  grid.frame_step = 1;
  const double length = times.back() + 1.0 / info.fps;
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
                          : choose_by_times(times, info, options_, in_video, random, name);
  const PixelRect part =
      crop ? crop(info.height, info.width, random) : PixelRect{0, 0, info.height, info.width};
  RawClip clip{
      static_cast<int64_t>(frames.size()), part.height, part.width, library_.channels(), {}};
  clip.pixels.resize(static_cast<size_t>(clip.frames * clip.frame_bytes()));
  for (int64_t t = 0; t < clip.frames; ++t) {
    library_.read(video, frames[static_cast<size_t>(t)], part,
                  clip.pixels.data() + t * clip.frame_bytes());
  }
  return clip;
}

double VideoSource::frames_a_second() const {
  for (int64_t video = 0; video < library_.size(); ++video) {
    try {
      const VideoInfo& info = library_.info(video);
      if (options_.fps > 0 && !library_.times(video).empty()) return options_.fps;
      return info.fps / static_cast<double>(frame_step(info.fps, options_, library_.path(video)));
    } catch (const DataError&) {
      // Its clips say so when they are read.
    }
  }
  return 0;
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

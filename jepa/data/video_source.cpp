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

}  // namespace

VideoSource::VideoSource(const std::vector<MediaEntry>& videos, const ClipOptions& options)
    : options_(options),
      library_(paths_of(videos), FrameScale{.short_side = options.short_side}, options.channels,
               options.cache_mb) {
  for (const auto& video : videos) labels_.push_back(video.label);
}

int64_t VideoSource::size() const { return library_.size() * options_.clips_per_video; }

RawClip VideoSource::read(int64_t index, Random& random, const CropChooser& crop) const {
  const int64_t video = index / options_.clips_per_video;
  const VideoInfo& info = library_.info(video);
  auto frames = choose_frames(info.frames, info.fps, options_, index % options_.clips_per_video,
                              random, library_.path(video));
  if (options_.fps > 0 && !info.times.empty()) choose_by_time(info, frames, library_.path(video));
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
      if (options_.fps > 0 && !info.times.empty()) return options_.fps;
      return info.fps /
             static_cast<double>(frame_step(info.fps, options_, library_.path(video)));
    } catch (const DataError&) {
      // Its clips say so when they are read.
    }
  }
  return 0;
}

/// Frames of a variable rate `fps` apart in time, from the first of `frames` on or, where the end is
/// near, from as much earlier as is needed.
void VideoSource::choose_by_time(const VideoInfo& info, std::vector<int64_t>& frames,
                                 const std::string& path) const {
  const auto& times = info.times;
  const double span = static_cast<double>(frames.size() - 1) / options_.fps;
  const double begin = times[static_cast<size_t>(
      std::llround(options_.from * static_cast<double>(info.frames - 1)))];
  double start = times[static_cast<size_t>(frames.front())];
  if (start + span > times.back() + 0.5 / options_.fps) start = std::max(begin, times.back() - span);
  if (start + span > times.back() + 0.5 / options_.fps && !options_.repeat_last) {
    throw DataError(path + ": " + std::to_string(times.back() - begin) +
                    " seconds to use, a clip needs " + std::to_string(span));
  }
  for (size_t i = 0; i < frames.size(); ++i) {
    const double wanted = start + static_cast<double>(i) / options_.fps;
    const auto after = std::lower_bound(times.begin(), times.end(), wanted);
    auto nearest = after == times.end() ? std::prev(after) : after;
    if (nearest != times.begin() && wanted - *std::prev(nearest) < *nearest - wanted) --nearest;
    frames[i] = nearest - times.begin();
  }
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

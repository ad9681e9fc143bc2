#include <jepa/data/video_source.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

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
  const auto frames = choose_frames(info.frames, info.fps, options_,
                                    index % options_.clips_per_video, random, library_.path(video));
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

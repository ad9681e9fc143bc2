#include <jepa/data/clip_source.hpp>
#include <jepa/errors.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace jepa {

RawClip cut_frames(const uint8_t* pixels, int64_t frames, int64_t height, int64_t width,
                   int64_t channels, const PixelRect& part) {
  RawClip clip{frames, part.height, part.width, channels, {}};
  clip.pixels.resize(static_cast<size_t>(clip.frames * clip.frame_bytes()));
  const int64_t row_bytes = part.width * channels;
  uint8_t* to = clip.pixels.data();
  for (int64_t t = 0; t < frames; ++t) {
    for (int64_t y = 0; y < part.height; ++y, to += row_bytes) {
      const int64_t pixel = (t * height + part.top + y) * width + part.left;
      std::memcpy(to, pixels + pixel * channels, static_cast<size_t>(row_bytes));
    }
  }
  return clip;
}

torch::Tensor ClipSource::column(const std::string& name) const {
  std::string known;
  for (const auto& column : columns()) known += (known.empty() ? "" : ", ") + column;
  throw DataError("no column '" + name + "': there is " + (known.empty() ? "none" : known));
}

void ClipOptions::describe(OptionVisitor& visit) {
  visit("frames", frames, {.help = "frames a clip; 0: the whole episode", .min = 0});
  visit("frame_step", frame_step,
        {.help = "source frames from one clip frame to the next", .min = 1});
  visit("fps", fps,
        {.help = "clip frames a second; 0: use frame_step", .unit = "1/s", .min = 0, .max = 1000});
  visit("clips_per_video", clips_per_video,
        {.help = "equal parts of a video, one clip from each", .min = 1});
  visit("random_window", random_window,
        {.help = "draw where in its part a clip starts; false: its middle"});
  visit("from", from,
        {.help = "share of a video's time where its used part starts", .min = 0, .max = 1});
  visit("to", to, {.help = "share of a video's time where its used part ends", .min = 0, .max = 1});
  visit("repeat_last", repeat_last,
        {.help = "hold the last frame of videos shorter than a clip; false: an error"});
  visit("short_side", short_side,
        {.help = "scale decoded frames to this short side; 0: as they are",
         .unit = "px",
         .min = 0,
         .max = 8192});
  visit("channels", channels,
        {.help = "of videos and images: 1 (luma) or 3 (RGB)", .min = 1, .max = 3});
  visit("cache_mb", cache_mb,
        {.help = "decoded video frames kept in memory", .unit = "MB", .min = 1});
}

namespace {

int64_t step_for(double video_fps, const ClipOptions& options, const std::string& name) {
  if (options.fps <= 0.0) return options.frame_step;
  if (video_fps <= 0.0) {
    throw DataError(name + ": its frame rate is unknown, so fps cannot be asked for");
  }
  // V-JEPA 2: a rate of 29.97 counts as 30.
  const auto step = static_cast<int64_t>(std::floor(std::ceil(video_fps) / options.fps));
  if (step < 1) {
    throw DataError(name + ": " + std::to_string(video_fps) +
                    " frames a second, expected at least " + std::to_string(options.fps));
  }
  return step;
}

}  // namespace

std::vector<int64_t> choose_frames(int64_t length, double video_fps, const ClipOptions& options,
                                   int64_t part, Random& random, const std::string& name) {
  const auto share = [length](double at) {
    return static_cast<int64_t>(std::llround(at * static_cast<double>(length)));
  };
  const int64_t first = share(options.from);
  const int64_t usable = share(options.to) - first;
  const int64_t step = step_for(video_fps, options, name);
  const int64_t frames = options.frames > 0 ? options.frames : usable / step + (usable % step != 0);
  // No video is so long; what follows must not overflow.
  constexpr int64_t kLongest = int64_t{1} << 40;
  if (frames > kLongest || step > kLongest / std::max<int64_t>(1, frames)) {
    throw DataError(name + ": " + std::to_string(frames) + " frames in steps of " +
                    std::to_string(step) + " are more than any video has");
  }
  const int64_t span = (frames - 1) * step + 1;
  if (usable < 1 || (usable < span && !options.repeat_last)) {
    throw DataError(name + ": " + std::to_string(usable) + " frames to use, a clip needs " +
                    std::to_string(span));
  }
  // Parts that are long enough do not overlap; shorter ones are spread evenly instead.
  const int64_t parts = options.clips_per_video;
  const int64_t partition = usable / parts;
  int64_t start = first;
  if (partition >= span) {
    const int64_t room = partition - span;
    start += part * partition + (options.random_window ? random.below(room + 1) : room / 2);
  } else if (usable > span) {
    const int64_t room = usable - span;
    if (parts > 1) {
      start += room * part / (parts - 1);
    } else {
      start += options.random_window ? random.below(room + 1) : room / 2;
    }
  }
  std::vector<int64_t> chosen(static_cast<size_t>(frames));
  for (int64_t i = 0; i < frames; ++i) {
    chosen[static_cast<size_t>(i)] = std::min(start + i * step, first + usable - 1);
  }
  return chosen;
}

}  // namespace jepa

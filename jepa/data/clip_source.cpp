#include <jepa/data/clip_source.hpp>
#include <jepa/errors.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>

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
  visit("frames", frames,
        {.help = "frames a clip; 0: the whole episode", .min = 0, .max = 1 << 20});
  visit("frame_step", frame_step,
        {.help = "source frames from one clip frame to the next", .min = 1});
  visit("fps", fps,
        {.help = "clip frames a second; 0: use frame_step", .unit = "1/s", .min = 0, .max = 1000});
  visit("clips_per_video", clips_per_video,
        {.help = "equal parts of a video, one clip from each", .min = 1, .max = 1 << 20});
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
  visit("skip_short", skip_short,
        {.help = "clip stores: leave out episodes shorter than a clip; false: an error"});
  visit("signals", signals,
        {.help = "columns of a clip store that clips carry (action,state,...)"});
  visit("action_mode", action_mode,
        {.help = "what an action is under a frame step: all, one behind the other; their sum; the "
                 "last",
         .choices = {"concat", "sum", "last"}});
}

std::vector<std::string> ClipOptions::signal_names() const {
  std::vector<std::string> names;
  std::istringstream parts(signals);
  for (std::string name; std::getline(parts, name, ',');) {
    const size_t first = name.find_first_not_of(' ');
    if (first == std::string::npos) continue;
    names.push_back(name.substr(first, name.find_last_not_of(' ') - first + 1));
  }
  return names;
}

int64_t frame_step(double video_fps, const ClipOptions& options, const std::string& name) {
  if (options.fps <= 0.0) return options.frame_step;
  if (video_fps <= 0.0) {
    throw DataError(name + ": its frame rate is unknown, so fps cannot be asked for");
  }
  if (!(video_fps / options.fps < 1e9)) {
    throw DataError(name + ": " + std::to_string(video_fps) + " frames a second cannot be");
  }
  // V-JEPA 2: a rate of 29.97 counts as 30; so does the 30.02 that a coarse clock makes of it.
  const auto step = static_cast<int64_t>(std::floor(std::ceil(video_fps - 0.05) / options.fps));
  if (step < 1) {
    throw DataError(name + ": " + std::to_string(video_fps) +
                    " frames a second, expected at least " + std::to_string(options.fps));
  }
  return step;
}

int64_t clip_span(int64_t frames, int64_t step, const ClipOptions& options) {
  const auto names = options.signal_names();
  const bool actions = std::find(names.begin(), names.end(), kActionSignal) != names.end();
  int64_t span = 0;
  if (__builtin_mul_overflow(actions ? frames : frames - 1, step, &span) ||
      __builtin_add_overflow(span, actions ? 0 : 1, &span)) {
    return std::numeric_limits<int64_t>::max();
  }
  return span;
}

std::vector<int64_t> choose_frames(int64_t length, double video_fps, const ClipOptions& options,
                                   int64_t part, Random& random, const std::string& name) {
  const auto share = [length](double at) {
    return static_cast<int64_t>(std::llround(at * static_cast<double>(length)));
  };
  const int64_t first = share(options.from);
  const int64_t usable = share(options.to) - first;
  const int64_t step = frame_step(video_fps, options, name);
  constexpr int64_t kLongest = int64_t{1} << 40;
  if (step > kLongest && !options.repeat_last) {
    throw DataError(name + ": steps of " + std::to_string(step) +
                    " frames: a clip needs more than any video has");
  }
  int64_t frames = options.frames;
  if (frames <= 0) {
    // The whole: as many frames as start a step within it, with all of its actions where asked.
    const bool whole_steps = clip_span(1, step, options) == step;
    frames = whole_steps ? std::max<int64_t>(usable / step, 1)
                         : usable / step + (usable % step > 0 ? 1 : 0);
  }
  const int64_t span = clip_span(frames, step, options);
  if (usable < 1 || (usable < span && !options.repeat_last)) {
    throw DataError(name + ": " + std::to_string(usable) + " frames to use, a clip needs " +
                    std::to_string(span) + " (clip.skip_short leaves shorter ones out)");
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
  const int64_t last = first + usable - 1;
  for (int64_t i = 0; i < frames; ++i) {
    // The product may not fit where the last frame is held.
    const bool held = i > 0 && step > (last - start) / i;
    chosen[static_cast<size_t>(i)] = held ? last : start + i * step;
  }
  return chosen;
}

}  // namespace jepa

#include <jepa/data/footage.hpp>
#include <jepa/data/media_list.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace jepa {
namespace {

/// Share of a video's time where a split starts, and where it ends.
std::pair<double, double> part_of(const std::string& split) {
  if (split == "train") return {0.0, 0.6};
  if (split == "validation") return {0.6, 0.8};
  if (split == "test") return {0.8, 1.0};
  throw ConfigError("split: expected train, validation or test, found '" + split + "'");
}

/// Tries for a place that moves, before another segment is tried.
constexpr int kTriesInSegment = 40;
constexpr int kSegmentsTried = 50;

/// Mean absolute difference of two frames' luma over every second row of a part.
double difference(const uint8_t* a, const uint8_t* b, int64_t width, const PixelRect& part) {
  int64_t sum = 0;
  int64_t rows = 0;
  for (int64_t y = part.top; y < part.top + part.height; y += 2, ++rows) {
    const uint8_t* left = a + y * width + part.left;
    const uint8_t* right = b + y * width + part.left;
    int32_t row = 0;
    for (int64_t x = 0; x < part.width; ++x) row += std::abs(left[x] - right[x]);
    sum += row;
  }
  return static_cast<double>(sum) / static_cast<double>(rows * part.width);
}

}  // namespace

void FootageOptions::describe(OptionVisitor& visit) {
  visit("frames", frames, {.help = "frames a clip", .min = 2, .max = 1024});
  visit("size", size, {.help = "side of the crop", .unit = "px", .min = 4, .max = 4096});
  visit("divide", divide,
        {.help = "frames are scaled to 1 / divide; 1: native scale", .min = 1, .max = 64});
  visit("channels", channels, {.help = "1 (luma) or 3 (RGB)", .min = 1, .max = 3});
  visit("speeds", speeds, {.help = "source frames from one clip frame to the next", .min = 1});
  visit("drift_max", drift_max,
        {.help = "fastest drift of the crop; 0: none drifts",
         .unit = "px a frame",
         .min = 0,
         .max = 64});
  visit("drift_share", drift_share,
        {.help = "share of clips whose crop drifts", .min = 0, .max = 1});
  visit("backward_share", backward_share,
        {.help = "share of clips played backward", .min = 0, .max = 1});
  visit("motion_min", motion_min,
        {.help = "least mean change of luma from source frame to source frame",
         .min = 0,
         .max = 255});
  visit("motion_max", motion_max, {.help = "most: above it, a cut", .min = 0, .max = 255});
  visit("cache_mb", cache_mb,
        {.help = "decoded video frames kept in memory", .unit = "MB", .min = 1});
  visit("max_errors", max_errors,
        {.help = "videos that may be unreadable, whole or in part; those parts are not used",
         .min = 0});
}

FootageSource::FootageSource(const FootageOptions& options, uint64_t seed)
    : options_(options), seed_(seed) {
  if (options_.speeds.empty() ||
      *std::min_element(options_.speeds.begin(), options_.speeds.end()) < 1) {
    throw ConfigError("speeds: expected at least one, of at least 1");
  }
  longest_ = span(*std::max_element(options_.speeds.begin(), options_.speeds.end()));
  std::vector<std::string> paths;
  for (auto& entry : find_videos(options_.data)) paths.push_back(std::move(entry.path));
  library_ = std::make_unique<VideoLibrary>(std::move(paths), FrameScale{.divide = options_.divide},
                                            options_.channels, options_.cache_mb);
  cut_segments();
}

void FootageSource::cut_segments() {
  const auto [from, to] = part_of(options_.split);
  const int64_t room = options_.size + 2 * options_.drift_max * (options_.frames - 1);
  for (int64_t video = 0; video < library_->size(); ++video) {
    VideoInfo info;
    try {
      info = library_->info(video);
    } catch (const DataError& error) {
      if (!tolerate(video, error.what())) throw;
      continue;
    }
    if (std::min(info.height, info.width) < room) continue;
    const auto frames = static_cast<double>(info.frames);
    const int64_t first = std::llround(from * frames);
    const int64_t length = std::llround(to * frames) - first;
    const int64_t count = length / longest_;
    for (int64_t i = 0; i < count; ++i) {
      segments_.push_back({video, first + i * length / count, length / count});
    }
  }
  if (segments_.empty()) {
    throw DataError(options_.data + ": no video whose " + options_.split + " part has " +
                    std::to_string(longest_) + " frames of at least " + std::to_string(room) +
                    " px a side");
  }
}

FootageClip FootageSource::draw(int64_t index) const {
  Random random(seed_, "footage/" + options_.split, static_cast<uint64_t>(index));
  FootageClip clip;
  clip.speed = random.below(static_cast<int64_t>(options_.speeds.size()));
  clip.backward = random.uniform() < options_.backward_share;
  const bool drifts = random.uniform() < options_.drift_share && options_.drift_max > 0;
  const int64_t direction = random.below(8);
  const int64_t drift_speed = 1 + random.below(std::max<int64_t>(options_.drift_max, 1));
  if (drifts) {
    constexpr int64_t kX[8] = {1, 1, 0, -1, -1, -1, 0, 1};
    constexpr int64_t kY[8] = {0, 1, 1, 1, 0, -1, -1, -1};
    clip.drift = 1 + direction;
    clip.drift_x = drift_speed * kX[direction];
    clip.drift_y = drift_speed * kY[direction];
  }
  for (int segment = 0; segment < kSegmentsTried; ++segment) {
    clip.segment = random.below(segments());
    for (int attempt = 0; attempt < kTriesInSegment; ++attempt) {
      if (place(clip, random)) return clip;
    }
  }
  throw DataError(options_.data + ": clip " + std::to_string(index) + ": no place of the " +
                  options_.split + " part changes by motion_min or more");
}

/// Draws where and when in its segment a clip lies. True: it moves there.
bool FootageSource::place(FootageClip& clip, Random& random) const {
  const Segment& segment = segments_[static_cast<size_t>(clip.segment)];
  const VideoInfo& info = library_->info(segment.video);
  clip.video = segment.video;
  const int64_t window = segment.first + random.below(segment.length - longest_ + 1);
  const int64_t step = options_.speeds[static_cast<size_t>(clip.speed)];
  clip.start = window + random.below(longest_ - span(step) + 1);
  const int64_t margin = options_.drift_max * (options_.frames - 1);
  const auto within = [&](int64_t side) {
    return margin + random.below(side - options_.size - 2 * margin + 1);
  };
  clip.middle.top = within(info.height);
  clip.middle.left = within(info.width);
  clip.middle.height = clip.middle.width = options_.size;
  try {
    return moves(segment.video, window, clip.middle);
  } catch (const DataError& error) {
    if (!tolerate(segment.video, error.what())) throw;
    return false;  // as where nothing moves: another place is drawn
  }
}

/// Notes a video that cannot be read, whole or in part. False: those are too many.
bool FootageSource::tolerate(int64_t video, const std::string& why) const {
  const std::lock_guard lock(left_out_mutex_);
  left_out_.emplace(video, why);
  return static_cast<int64_t>(left_out_.size()) <= options_.max_errors;
}

std::vector<std::string> FootageSource::left_out() const {
  const std::lock_guard lock(left_out_mutex_);
  std::vector<std::string> lines;
  for (const auto& [video, why] : left_out_) lines.push_back(why);
  return lines;
}

/// Whether a part sees motion in each quarter of the longest span, and no cut.
bool FootageSource::moves(int64_t video, int64_t start, const PixelRect& part) const {
  const int64_t width = library_->info(video).width;
  std::shared_ptr<const FrameBlock> hold;
  std::shared_ptr<const FrameBlock> hold_next;
  const int64_t changes = longest_ - 1;
  const uint8_t* now = library_->luma(video, start, hold);
  double sum = 0;
  int64_t counted = 0;
  int64_t quarter = 1;
  for (int64_t i = 0; i < changes; ++i) {
    const uint8_t* next = library_->luma(video, start + i + 1, hold_next);
    const double change = difference(now, next, width, part);
    if (change > options_.motion_max) return false;
    sum += change;
    ++counted;
    if (4 * (i + 1) >= quarter * changes) {
      if (sum < options_.motion_min * static_cast<double>(counted)) return false;
      ++quarter;
      sum = 0;
      counted = 0;
    }
    now = next;
    if (hold != hold_next) hold = hold_next;
  }
  return true;
}

RawClip FootageSource::read(int64_t index, Random& random, const CropChooser& crop) const {
  const FootageClip drawn = draw(index);
  const int64_t step = options_.speeds[static_cast<size_t>(drawn.speed)];
  RawClip clip{options_.frames, options_.size, options_.size, options_.channels, {}};
  clip.pixels.resize(static_cast<size_t>(clip.frames * clip.frame_bytes()));
  for (int64_t t = 0; t < clip.frames; ++t) {
    const int64_t place = drawn.backward ? clip.frames - 1 - t : t;
    PixelRect part = drawn.middle;
    part.left += drawn.drift_x * t - drawn.drift_x * (clip.frames - 1) / 2;
    part.top += drawn.drift_y * t - drawn.drift_y * (clip.frames - 1) / 2;
    library_->read(drawn.video, drawn.start + place * step, part,
                   clip.pixels.data() + t * clip.frame_bytes());
  }
  if (!crop) return clip;
  return cut_frames(clip.pixels.data(), clip.frames, clip.height, clip.width, clip.channels,
                    crop(clip.height, clip.width, random));
}

std::vector<std::string> FootageSource::columns() const {
  return {"speed", "arrow", "drift", "drift_speed", "drift_velocity", "source", "segment"};
}

torch::Tensor FootageSource::column(const std::string& name) const {
  const auto known = columns();
  if (std::find(known.begin(), known.end(), name) == known.end()) return ClipSource::column(name);
  std::call_once(drawn_once_, [this] {
    for (int64_t i = 0; i < size(); ++i) drawn_.push_back(draw(i));
  });
  if (name == "drift_velocity") {
    torch::Tensor values = torch::empty({size(), 2}, torch::kFloat32);
    auto* row = values.mutable_data_ptr<float>();
    for (const auto& clip : drawn_) {
      *row++ = static_cast<float>(clip.drift_x);
      *row++ = static_cast<float>(clip.drift_y);
    }
    return values;
  }
  torch::Tensor values = torch::empty({size()}, torch::kInt64);
  auto* value = values.mutable_data_ptr<int64_t>();
  for (const auto& clip : drawn_) {
    if (name == "speed") {
      *value++ = clip.speed;
    } else if (name == "arrow") {
      *value++ = clip.backward ? 1 : 0;
    } else if (name == "drift") {
      *value++ = clip.drift;
    } else if (name == "drift_speed") {
      *value++ = std::max(std::abs(clip.drift_x), std::abs(clip.drift_y));
    } else if (name == "source") {
      *value++ = clip.video;
    } else {
      *value++ = clip.segment;
    }
  }
  return values;
}

}  // namespace jepa

#include <jepa/data/video_library.hpp>
#include <jepa/errors.hpp>

#include <algorithm>
#include <cmath>

namespace jepa {
namespace {

/// Lists of more videos than this close each file after use.
constexpr size_t kOpenFiles = 64;
/// Videos whose frames' times are kept; those of others are read again from their packets.
constexpr size_t kReaders = 256;

uint8_t to_byte(int32_t fixed) {
  return static_cast<uint8_t>(std::clamp((fixed + (1 << 15)) >> 16, 0, 255));
}

/// Limited-range Y'CbCr to R'G'B', in 1/65536.
struct ColourMatrix {
  int32_t luma, red_cr, green_cb, green_cr, blue_cb;
};
constexpr int32_t kLuma = 76309;  // 65536 * 255 / 219

ColourMatrix matrix_of(const LumaWeights& weights) {
  const double unit = 65536.0 * 255 / 224;
  const double green = 1 - weights.red - weights.blue;
  const auto fixed = [unit](double value) {
    return static_cast<int32_t>(std::lround(unit * value));
  };
  return {kLuma, fixed(2 * (1 - weights.red)),
          fixed(-2 * weights.blue * (1 - weights.blue) / green),
          fixed(-2 * weights.red * (1 - weights.red) / green), fixed(2 * (1 - weights.blue))};
}

void write_rgb(const VideoFrame& frame, int64_t height, int64_t width, const PixelRect& part,
               uint8_t* to) {
  const ColourMatrix matrix = matrix_of(frame.weights);
  const int64_t half_width = (width + 1) / 2;
  const uint8_t* luma = frame.planes.data();
  const uint8_t* cb = luma + height * width;
  const uint8_t* cr = cb + (height + 1) / 2 * half_width;
  for (int64_t y = part.top; y < part.top + part.height; ++y) {
    for (int64_t x = part.left; x < part.left + part.width; ++x, to += 3) {
      const int32_t bright = matrix.luma * (luma[y * width + x] - 16);
      const int32_t blue = cb[y / 2 * half_width + x / 2] - 128;
      const int32_t red = cr[y / 2 * half_width + x / 2] - 128;
      to[0] = to_byte(bright + matrix.red_cr * red);
      to[1] = to_byte(bright + matrix.green_cb * blue + matrix.green_cr * red);
      to[2] = to_byte(bright + matrix.blue_cb * blue);
    }
  }
}

std::shared_ptr<const FrameBlock> decode_block(VideoReader& reader, int64_t video, int64_t number) {
  const int64_t first = number * VideoLibrary::kBlock;
  auto block = std::make_shared<FrameBlock>();
  block->video = video;
  block->number = number;
  block->frames =
      reader.decode(first, std::min(VideoLibrary::kBlock, reader.info().frames - first));
  for (const auto& frame : block->frames) block->bytes += static_cast<int64_t>(frame.planes.size());
  return block;
}

}  // namespace

void write_part(const VideoFrame& picture, int64_t whole_height, int64_t whole_width,
                int64_t channels, const PixelRect& part, uint8_t* to) {
  if (channels == 3) {
    write_rgb(picture, whole_height, whole_width, part, to);
    return;
  }
  for (int64_t y = part.top; y < part.top + part.height; ++y) {
    for (int64_t x = part.left; x < part.left + part.width; ++x) {
      const int32_t value = picture.planes[static_cast<size_t>(y * whole_width + x)] - 16;
      *to++ = to_byte(kLuma * value);
    }
  }
}

VideoLibrary::VideoLibrary(std::vector<std::string> paths, const FrameScale& scale,
                           int64_t channels, int64_t cache_mb)
    : scale_(scale), channels_(channels), cache_limit_(cache_mb << 20) {
  if (channels != 1 && channels != 3) {
    throw ConfigError("channels: expected 1 or 3, found " + std::to_string(channels));
  }
  for (auto& path : paths) {
    videos_.push_back(std::make_unique<Video>());
    videos_.back()->path = std::move(path);
  }
}

VideoReader& VideoLibrary::reader(Video& video) const {
  if (!video.reader) {
    if (!video.error.empty()) throw DataError(video.error);
    try {
      video.reader = std::make_unique<VideoReader>(video.path, scale_, channels_ == 1);
      if (!video.info) video.info = video.reader->info();
    } catch (const DataError& error) {
      video.error = error.what();
      throw;
    }
  }
  return *video.reader;
}

const VideoInfo& VideoLibrary::info(int64_t number) const {
  Video& video = *videos_[static_cast<size_t>(number)];
  {
    const std::lock_guard lock(video.mutex);
    if (video.info) return *video.info;
    reader(video);
  }
  used(number);
  return *video.info;
}

std::vector<double> VideoLibrary::times(int64_t number) const {
  Video& video = *videos_[static_cast<size_t>(number)];
  std::vector<double> times;
  {
    const std::lock_guard lock(video.mutex);
    times = reader(video).times();
  }
  used(number);
  return times;
}

/// Notes that a video's reader was used; lets the one go that was not for longest. Holds no video's
/// lock.
void VideoLibrary::used(int64_t number) const {
  int64_t oldest = -1;
  {
    const std::lock_guard lock(readers_mutex_);
    const auto place = reader_places_.find(number);
    if (place != reader_places_.end()) {
      readers_.splice(readers_.begin(), readers_, place->second);
    } else {
      readers_.push_front(number);
      reader_places_[number] = readers_.begin();
    }
    if (readers_.size() <= kReaders) return;
    oldest = readers_.back();
    readers_.pop_back();
    reader_places_.erase(oldest);
  }
  Video& video = *videos_[static_cast<size_t>(oldest)];
  const std::unique_lock lock(video.mutex, std::try_to_lock);
  if (lock) video.reader.reset();  // else it is in use, and noted again after that
}

std::shared_ptr<const FrameBlock> VideoLibrary::cached(const Key& key) const {
  const std::lock_guard lock(cache_mutex_);
  const auto found = cache_.find(key);
  if (found == cache_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, found->second.used);
  return found->second.block;
}

void VideoLibrary::remember(const Key& key, const std::shared_ptr<const FrameBlock>& block) const {
  const std::lock_guard lock(cache_mutex_);
  if (cache_.contains(key)) return;
  recent_.push_front(key);
  cache_[key] = {block, recent_.begin()};
  cache_bytes_ += block->bytes;
  while (cache_bytes_ > cache_limit_ && recent_.size() > 1) {
    const auto oldest = cache_.find(recent_.back());
    cache_bytes_ -= oldest->second.block->bytes;
    cache_.erase(oldest);
    recent_.pop_back();
  }
}

std::shared_ptr<const FrameBlock> VideoLibrary::block(int64_t number, int64_t which) const {
  const Key key{number, which};
  if (auto found = cached(key)) return found;
  auto fresh = decode(key);
  used(number);
  return fresh;
}

std::shared_ptr<const FrameBlock> VideoLibrary::decode(const Key& key) const {
  const auto [number, which] = key;
  Video& video = *videos_[static_cast<size_t>(number)];
  const std::lock_guard lock(video.mutex);
  if (auto found = cached(key)) return found;  // another thread decoded it meanwhile
  VideoReader& decoder = reader(video);
  // What has to be decoded on the way is kept too, so that no frame is decoded for nothing.
  const int64_t start = (decoder.decode_start(which * kBlock) + kBlock - 1) / kBlock;
  std::shared_ptr<const FrameBlock> fresh;
  for (int64_t at = std::min(start, which); at <= which; ++at) {
    fresh = decode_block(decoder, number, at);
    remember({number, at}, fresh);
  }
  if (videos_.size() > kOpenFiles) decoder.release();
  return fresh;
}

const VideoFrame& VideoLibrary::frame(int64_t video, int64_t number,
                                      std::shared_ptr<const FrameBlock>& hold) const {
  if (!hold || hold->video != video || hold->number != number / kBlock) {
    hold = block(video, number / kBlock);
  }
  const VideoFrame& found = hold->frames[static_cast<size_t>(number % kBlock)];
  if (!found.error.empty()) {
    throw DataError(path(video) + ": frame " + std::to_string(number) + ": " + found.error);
  }
  return found;
}

void VideoLibrary::read(int64_t video, int64_t number, const PixelRect& part, uint8_t* to) const {
  std::shared_ptr<const FrameBlock> hold;
  const VideoFrame& decoded = frame(video, number, hold);
  const VideoInfo& info = *videos_[static_cast<size_t>(video)]->info;
  write_part(decoded, info.height, info.width, channels_, part, to);
}

const uint8_t* VideoLibrary::luma(int64_t video, int64_t number,
                                  std::shared_ptr<const FrameBlock>& hold) const {
  return frame(video, number, hold).planes.data();
}

int64_t VideoLibrary::cached_bytes() const {
  const std::lock_guard lock(cache_mutex_);
  return cache_bytes_;
}

}  // namespace jepa

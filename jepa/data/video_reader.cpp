#include <jepa/data/video_decoder.hpp>
#include <jepa/data/video_reader.hpp>
#include <jepa/errors.hpp>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
}

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <iterator>

namespace jepa {

void scaled_size(const FrameScale& scale, int64_t& height, int64_t& width) {
  const int64_t now = std::min(height, width);
  const int64_t wanted = scale.short_side > 0 ? scale.short_side : now;
  if (wanted == now && scale.divide == 1) return;
  const int64_t whole = now * scale.divide;
  const auto scaled = [&](int64_t side) {
    return std::max<int64_t>(2, (side * wanted + whole / 2) / whole / 2 * 2);
  };
  height = scaled(height);
  width = scaled(width);
}

class VideoReader::Impl {
 public:
  Impl(const std::string& path, const FrameScale& scale, bool luma_only)
      : path_(path), luma_only_(luma_only), decoder_(std::make_unique<Decoder>(path)) {
    const AVStream& stream = decoder_->stream();
    info_.height = decoder_->codec().height;
    info_.width = decoder_->codec().width;
    scaled_size(scale, info_.height, info_.width);
    turn_ = decoder_->turn();
    if (turn_.transpose) std::swap(info_.height, info_.width);
    if (stream.avg_frame_rate.den > 0) info_.fps = av_q2d(stream.avg_frame_rate);
    build_index();
    release();  // reading the packets has left it at the end
  }

  const VideoInfo& info() const { return info_; }
  std::vector<double> times() const {
    std::vector<double> seconds;
    // Times that repeat are no names of frames, yet say when they are shown; those of joined
    // transport streams start anew, which sorting has mixed up.
    if (info_.constant_rate || tick_ <= 0 || (!timed_ && !exact_)) return seconds;
    for (const int64_t time : times_) {
      seconds.push_back(static_cast<double>(time - times_.front()) * tick_);
    }
    return seconds;
  }
  void release() {
    decoder_.reset();
    scaler_.reset();  // its tables are most of what an open video keeps
  }

  int64_t decode_start(int64_t first) const {
    int64_t key = 0;
    if (seekable_) {
      const auto after =
          std::upper_bound(keys_.begin(), keys_.end(), times_[static_cast<size_t>(first)]);
      if (after != keys_.begin()) key = number_of(*std::prev(after), 0);
    }
    return decoder_ && next_ <= first && next_ >= key ? next_ : key;
  }

  std::vector<VideoFrame> decode(int64_t first, int64_t count) {
    go_to(first);
    const int64_t start = entered_;
    auto frames = decode_on(first, count);
    const auto failed = [](const std::vector<VideoFrame>& some) {
      return std::count_if(some.begin(), some.end(),
                           [](const VideoFrame& frame) { return !frame.error.empty(); });
    };
    const auto before = failed(frames);
    if (before == 0 || start == 0) return frames;
    // A seek may land too late, and an open group of pictures builds on the group before it: what
    // could not be decoded is tried once more from one key frame earlier.
    enter(std::max<int64_t>(0, key_before(start)));
    auto again = decode_on(first, count);
    return failed(again) < before ? again : frames;
  }

 private:
  std::vector<VideoFrame> decode_on(int64_t first, int64_t count) {
    std::vector<VideoFrame> frames(static_cast<size_t>(count));
    const auto slot = [&](int64_t at) -> VideoFrame* {
      return at >= first && at < first + count ? &frames[static_cast<size_t>(at - first)] : nullptr;
    };
    const auto bad = [&](int64_t time, const std::string& why) {
      const int64_t number = number_of(time, next_);
      if (VideoFrame* frame = slot(number)) frame->error = why;
      broken_ = number;
    };
    while (next_ < first + count) {
      const AVFrame* decoded = decoder_->frame(bad);
      if (decoded == nullptr) break;
      const int64_t number = number_of(decoded->best_effort_timestamp, next_);
      next_ = number + 1;
      const std::string error = check_frame(*decoded, number);
      if (VideoFrame* frame = slot(number)) {
        if (frame->error.empty()) frame->error = error;
        if (frame->error.empty()) keep(*decoded, *frame);
      } else if (number >= first + count) {
        // A frame was lost just before the end of the range; the next call must find this one
        // again.
        release();
        break;
      }
    }
    for (auto& frame : frames) {
      if (frame.planes.empty() && frame.error.empty()) frame.error = "it cannot be decoded";
    }
    return frames;
  }

  /// Frames in the order they are shown, from the times of their packets.
  void build_index() {
    int64_t bytes = 0;
    bool reordered = false;
    bool cut = false;
    while (const AVPacket* packet = decoder_->packet()) {
      if ((packet->flags & AV_PKT_FLAG_DISCARD) != 0) continue;  // the file says: not to be shown
      times_.push_back(Decoder::time_of(*packet));
      if ((packet->flags & AV_PKT_FLAG_KEY) != 0) keys_.push_back(times_.back());
      bytes += packet->size;
      reordered = reordered || (packet->pts != AV_NOPTS_VALUE && packet->pts != packet->dts);
      cut = (packet->flags & AV_PKT_FLAG_CORRUPT) != 0;
      if (cut) corrupt_.push_back(times_.back());
    }
    const std::string counted = std::to_string(times_.size()) + " frames";
    if (const std::string why = decoder_->read_error(); !why.empty()) {
      throw DataError(path_ + ": ends early, after " + counted + " (" + why + ")");
    }
    // What a transport stream has lost on its way is an error of single frames.
    if (cut && decoder_->exact_seek()) {
      throw DataError(path_ + ": ends early: the last of " + counted + " is cut off");
    }
    if (const int64_t missing = decoder_->missing_bytes(); missing > 0) {
      throw DataError(path_ + ": ends early, after about " + counted + ": " +
                      std::to_string(missing) + " bytes are missing");
    }
    info_.frames = static_cast<int64_t>(times_.size());
    if (bytes == 0) throw DataError(path_ + ": holds no frames");
    std::sort(times_.begin(), times_.end());
    std::sort(keys_.begin(), keys_.end());
    std::sort(corrupt_.begin(), corrupt_.end());
    // Without usable times frames are counted instead, always from the start of the file: where
    // there are none, and where frames are stored out of order but their times do not say so.
    timed_ = times_.front() != AV_NOPTS_VALUE &&
             std::adjacent_find(times_.begin(), times_.end()) == times_.end() &&
             (reordered || decoder_->codec().has_b_frames == 0);
    exact_ = decoder_->exact_seek();
    seekable_ = timed_ && exact_;
    if (times_.front() == AV_NOPTS_VALUE || info_.frames < 2) return;
    tick_ = av_q2d(decoder_->stream().time_base);
    const auto length = static_cast<double>(times_.back() - times_.front());
    const double step = length / static_cast<double>(info_.frames - 1);
    if (step <= 0) return;
    check_end(length, step);
    find_rate(1.0 / (step * tick_));
  }

  /// Compares the last frame's time with the length that the file's header promises.
  void check_end(double length, double step) const {
    const double missing = (decoder_->promised_length() - length - step) / step;
    if (missing > 2.0) {
      throw DataError(path_ + ": ends early, after " + std::to_string(info_.frames) + " of about " +
                      std::to_string(info_.frames + static_cast<int64_t>(missing)) + " frames");
    }
  }

  /// True where every frame's time is that of a constant rate, rounded to the file's ticks.
  bool fits(double rate) const {
    const double tick = std::max(tick_, 1e-5);
    for (size_t i = 0; i < times_.size(); ++i) {
      const double time = static_cast<double>(times_[i] - times_.front()) * tick_;
      if (std::abs(time - static_cast<double>(i) / rate) > 1.01 * tick) return false;
    }
    return true;
  }

  /// The rate: a usual one where the times are its, rounded (WebM, Matroska and FLV write whole
  /// milliseconds), else what the times amount to.
  void find_rate(double measured) {
    info_.fps = measured;
    const double whole = std::max(1.0, std::round(measured));
    const double ntsc = std::max(1.0, std::round(measured * 1.001)) / 1.001;
    const AVRational average = decoder_->stream().avg_frame_rate;
    const double header = average.den > 0 ? av_q2d(average) : 0.0;
    const auto near = [header](double rate) { return std::abs(header - rate) < 1e-6 * rate; };
    const std::array<double, 4> rates = {near(ntsc) ? ntsc : whole, ntsc, header, measured};
    for (const double rate : rates) {
      if (rate <= 0 || !fits(rate)) continue;
      info_.fps = rate;
      info_.constant_rate = true;
      return;
    }
  }

  int64_t number_of(int64_t time, int64_t otherwise) const {
    if (!timed_ || time == AV_NOPTS_VALUE) return otherwise;
    const auto found = std::lower_bound(times_.begin(), times_.end(), time);
    return std::min<int64_t>(found - times_.begin(), info_.frames - 1);
  }

  /// Makes the decoder's next frame the one where decoding for `first` starts.
  void go_to(int64_t first) {
    const int64_t start = decode_start(first);
    if (decoder_ && start == next_) return;
    enter(start);
  }

  /// The last key frame before frame `start`; the first frame where there is none.
  int64_t key_before(int64_t start) const {
    const auto at =
        std::lower_bound(keys_.begin(), keys_.end(), times_[static_cast<size_t>(start)]);
    return at == keys_.begin() ? 0 : number_of(*std::prev(at), 0);
  }

  void enter(int64_t start) {
    restart();
    // Where the format cannot seek after all, decoding goes on from the first frame.
    if (start > 0 && decoder_->seek(times_[static_cast<size_t>(start)])) next_ = start;
    entered_ = next_;
  }

  void restart() {
    decoder_ = std::make_unique<Decoder>(path_);
    next_ = 0;
    broken_ = -1;
  }

  /// What is wrong with a decoded frame; empty: nothing. Until the next key frame, frames build on
  /// the ones before them, so what follows a broken one is guesswork of the decoder.
  std::string check_frame(const AVFrame& decoded, int64_t number) {
    if ((decoded.flags & AV_FRAME_FLAG_CORRUPT) != 0 || decoded.decode_error_flags != 0) {
      broken_ = number;
      return "it is corrupt";
    }
    if (timed_ &&
        std::binary_search(corrupt_.begin(), corrupt_.end(), times_[static_cast<size_t>(number)])) {
      broken_ = number;
      return "a part of it is lost";
    }
    // Streams may change their size and are scaled then, but not their shape.
    const AVCodecParameters& header = *decoder_->stream().codecpar;
    const double shape = static_cast<double>(decoded.width) * header.height /
                         (static_cast<double>(decoded.height) * header.width);
    if (shape < 0.9 || shape > 1.1) {
      broken_ = number;
      return "it is " + std::to_string(decoded.width) + " x " + std::to_string(decoded.height) +
             " px, its video " + std::to_string(header.width) + " x " +
             std::to_string(header.height);
    }
    if (decoded.key_frame != 0) broken_ = -1;
    return broken_ < 0 ? ""
                       : "it builds on frame " + std::to_string(broken_) + ", which is corrupt";
  }

  void keep(const AVFrame& decoded, VideoFrame& frame) {
    const int64_t height = turn_.transpose ? info_.width : info_.height;
    const int64_t width = turn_.transpose ? info_.height : info_.width;
    try {
      // Luma alone is the head of the same planes: a conversion to grey would stretch its range.
      frame.planes = scaler_.convert(decoded, AV_PIX_FMT_YUV420P, height, width, turn_);
      frame.weights = luma_weights(decoded);
    } catch (const DataError& error) {
      frame.error = error.what();
      return;
    }
    if (luma_only_) {
      frame.planes.resize(static_cast<size_t>(info_.height * info_.width));
      frame.planes.shrink_to_fit();
    }
  }

  std::string path_;
  bool luma_only_;
  std::unique_ptr<Decoder> decoder_;
  VideoInfo info_;
  Turn turn_;
  double tick_ = 0.0;             // seconds
  bool timed_ = true;             // frames can be told by their times
  bool exact_ = true;             // the format's times are the file's, from end to end
  bool seekable_ = true;          // the file can be entered at key frames
  std::vector<int64_t> times_;    // of each frame, in the order shown
  std::vector<int64_t> keys_;     // of those that can be decoded by themselves
  std::vector<int64_t> corrupt_;  // of those that the container knows to be damaged
  int64_t entered_ = 0;           // the frame where decoding last started
  int64_t next_ = 0;              // number of the frame that the decoder gives next
  int64_t broken_ = -1;           // the last frame found corrupt since the last key frame
  Scaler scaler_;
};

VideoReader::VideoReader(const std::string& path, const FrameScale& scale, bool luma_only)
    : impl_(std::make_unique<Impl>(path, scale, luma_only)) {}
VideoReader::~VideoReader() = default;
const VideoInfo& VideoReader::info() const { return impl_->info(); }
std::vector<double> VideoReader::times() const { return impl_->times(); }
std::vector<VideoFrame> VideoReader::decode(int64_t first, int64_t count) {
  return impl_->decode(first, count);
}
int64_t VideoReader::decode_start(int64_t first) const { return impl_->decode_start(first); }
void VideoReader::release() { impl_->release(); }

namespace {

/// Whether these are the bytes of a JPEG without its end marker: decoders fill what is missing with
/// grey or green and say nothing. What other software appends after the marker does not matter.
bool is_cut_jpeg(const std::string& bytes) {
  if (!bytes.starts_with("\xFF\xD8\xFF")) return false;
  const size_t scan = bytes.rfind("\xFF\xDA");  // the last scan's pixels come after it
  const size_t end = bytes.rfind("\xFF\xD9");
  return scan == std::string::npos || end == std::string::npos || end < scan;
}

/// Whether these are the bytes of a TIFF whose first picture is a JPEG: the decoder makes it black.
bool is_jpeg_in_tiff(const std::string& bytes) {
  const bool little = bytes.starts_with(std::string("II*\0", 4));
  if (!little && !bytes.starts_with(std::string("MM\0*", 4))) return false;
  const auto number = [&](size_t at, size_t length) -> size_t {
    size_t value = 0;
    for (size_t i = 0; i < length && at + i < bytes.size(); ++i) {
      const auto byte = static_cast<unsigned char>(bytes[at + (little ? length - 1 - i : i)]);
      value = value * 256 + byte;
    }
    return value;
  };
  const size_t directory = number(4, 4);
  constexpr size_t kCompression = 259;
  for (size_t i = 0; i < number(directory, 2); ++i) {
    const size_t entry = directory + 2 + 12 * i;
    if (entry + 12 > bytes.size()) return false;
    if (number(entry, 2) != kCompression) continue;
    const size_t kind = number(entry + 8, 2);
    return kind == 6 || kind == 7;
  }
  return false;
}

/// @throws DataError for a picture that decoders get wrong without a word
void check_picture(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const int first = file.peek();
  if (first != 0xFF && first != 'I' && first != 'M') return;  // neither JPEG nor TIFF
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (is_cut_jpeg(bytes)) throw DataError(path + ": the picture is cut off");
  if (is_jpeg_in_tiff(bytes)) throw DataError(path + ": a JPEG inside a TIFF cannot be read");
}

}  // namespace

std::vector<uint8_t> read_image(const std::string& path, const FrameScale& scale, int64_t channels,
                                int64_t& height, int64_t& width) {
  check_picture(path);
  Decoder decoder(path);
  decoder.codec().err_recognition |= AV_EF_EXPLODE;  // where a decoder could also guess
  std::string error = "it holds no picture";
  const AVFrame* frame = decoder.frame([&](int64_t, const std::string& why) { error = why; });
  if (frame == nullptr) throw DataError(path + ": " + error);
  if ((frame->flags & AV_FRAME_FLAG_CORRUPT) != 0 || frame->decode_error_flags != 0) {
    throw DataError(path + ": the picture is corrupt");
  }
  height = frame->height;
  width = frame->width;
  scaled_size(scale, height, width);
  const Turn turn = decoder.turn().none() ? frame_turn(*frame) : decoder.turn();
  Scaler scaler;
  try {
    auto pixels = scaler.convert(*frame, channels == 1 ? AV_PIX_FMT_GRAY8 : AV_PIX_FMT_RGB24,
                                 height, width, turn);
    if (turn.transpose) std::swap(height, width);
    return pixels;
  } catch (const DataError& failure) {
    throw DataError(path + ": " + failure.what());
  }
}

}  // namespace jepa

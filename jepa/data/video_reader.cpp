#include <jepa/data/median_step.hpp>
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
  // What is asked for is kept though it be odd.
  const int64_t least = scale.short_side > 0 && scale.divide == 1 ? wanted : 2;
  const auto scaled = [&](int64_t side) {
    if (side == now && least == wanted) return wanted;
    return std::max(least, (side * wanted + whole / 2) / whole / 2 * 2);
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
    // Times that repeat are no names of frames, yet say when they are shown.
    if (!info_.timed) return seconds;
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

  /// What is noted of a packet.
  struct Packet {
    int64_t time = 0;
    int64_t decoded = 0;  // when
    bool key = false;
    bool corrupt = false;
  };

  /// Frames in the order they are shown, from the times of their packets.
  void build_index() {
    std::vector<Packet> packets;
    int64_t bytes = 0;
    bool reordered = false;
    while (const AVPacket* packet = decoder_->packet()) {
      if ((packet->flags & AV_PKT_FLAG_DISCARD) != 0) continue;  // the file says: not to be shown
      packets.push_back({Decoder::time_of(*packet), packet->dts,
                         (packet->flags & AV_PKT_FLAG_KEY) != 0,
                         (packet->flags & AV_PKT_FLAG_CORRUPT) != 0});
      bytes += packet->size;
      reordered = reordered || (packet->pts != AV_NOPTS_VALUE && packet->pts != packet->dts);
    }
    exact_ = decoder_->exact_seek();
    check_whole(packets);
    info_.frames = static_cast<int64_t>(packets.size());
    if (bytes == 0) throw DataError(path_ + ": holds no frames");
    if (!exact_) join_parts(packets);
    for (const auto& packet : packets) {
      times_.push_back(packet.time);
      if (packet.key) keys_.push_back(packet.time);
      if (packet.corrupt) corrupt_.push_back(packet.time);
    }
    std::sort(times_.begin(), times_.end());
    std::sort(keys_.begin(), keys_.end());
    std::sort(corrupt_.begin(), corrupt_.end());
    // Without usable times frames are counted instead, always from the start of the file: where
    // there are none, or they start again, and where frames are stored out of order but their times
    // do not say so.
    timed_ = times_.front() != AV_NOPTS_VALUE && !joined_ &&
             std::adjacent_find(times_.begin(), times_.end()) == times_.end() &&
             (reordered || decoder_->codec().has_b_frames == 0);
    seekable_ = timed_ && exact_;
    if (times_.front() == AV_NOPTS_VALUE || info_.frames < 2) return;
    tick_ = av_q2d(decoder_->stream().time_base);
    const auto length = static_cast<double>(times_.back() - times_.front());
    const double step = length / static_cast<double>(info_.frames - 1);
    if (step <= 0) return;
    check_end(length, step);
    find_rate(1.0 / (step * tick_));
    info_.timed = !info_.constant_rate && (timed_ || exact_ || joined_);
  }

  /// @throws DataError where the file ends early
  void check_whole(const std::vector<Packet>& packets) const {
    const std::string counted = std::to_string(packets.size()) + " frames";
    if (const std::string why = decoder_->read_error(); !why.empty()) {
      throw DataError(path_ + ": ends early, after " + counted + " (" + why + ")");
    }
    // What a transport stream has lost on its way is an error of single frames.
    if (!packets.empty() && packets.back().corrupt && exact_) {
      throw DataError(path_ + ": ends early: the last of " + counted + " is cut off");
    }
    if (const int64_t missing = decoder_->missing_bytes(); missing > 0) {
      throw DataError(path_ + ": ends early, after about " + counted + ": " +
                      std::to_string(missing) + " bytes are missing");
    }
    if (decoder_->lacks_trailer()) {
      throw DataError(path_ + ": ends early, after " + counted + ": its trailer is missing");
    }
  }

  /// Where the times of a stream start again (files joined to one), puts each part behind the one
  /// before it.
  void join_parts(std::vector<Packet>& packets) {
    std::vector<size_t> starts = {0};
    for (size_t i = 0; i < packets.size(); ++i) {
      if (packets[i].time == AV_NOPTS_VALUE || packets[i].decoded == AV_NOPTS_VALUE) return;
      // A single time that is too low or too high is damage.
      const auto low = [&](size_t at, size_t than) {
        return packets[at].decoded < packets[than].decoded;
      };
      if (i > 0 && low(i, i - 1) && (i < 2 || low(i, i - 2)) &&
          (i + 1 == packets.size() || low(i + 1, i - 1))) {
        starts.push_back(i);
        // The jump of the transport's counters is no loss here. It is told of up to two before.
        for (size_t at = i - std::min<size_t>(i, 2); at < i; ++at) packets[at].corrupt = false;
      }
    }
    joined_ = starts.size() > 1;
    starts.push_back(packets.size());
    const auto times_of = [&](size_t part) {
      std::vector<int64_t> times;
      for (size_t i = starts[part]; i < starts[part + 1]; ++i) times.push_back(packets[i].time);
      std::sort(times.begin(), times.end());
      return times;
    };
    for (size_t part = 1; joined_ && part + 1 < starts.size(); ++part) {
      const auto before = times_of(part - 1);
      const int64_t shift = before.back() + usual_step(before) - times_of(part).front();
      for (size_t i = starts[part]; i < starts[part + 1]; ++i) packets[i].time += shift;
    }
  }

  /// The usual step between sorted times; of one time alone, what the header says.
  int64_t usual_step(const std::vector<int64_t>& times) const {
    if (times.size() > 1) return median_step(times);
    const double fps = info_.fps > 0 ? info_.fps : 25.0;
    return std::llround(1.0 / (fps * av_q2d(decoder_->stream().time_base)));
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
    if ((timed_ || joined_) &&
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
  bool joined_ = false;           // the file's times start again; those here are put in a row
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

}  // namespace jepa

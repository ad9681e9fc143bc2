#include <jepa/data/video_decoder.hpp>
#include <jepa/data/video_stream.hpp>
#include <jepa/errors.hpp>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
}

#include <algorithm>
#include <cmath>
#include <unistd.h>

namespace jepa {
namespace {

constexpr double kUsualFps = 25;  // of streams that tell neither rate nor times

}  // namespace

class VideoStream::Impl {
 public:
  Impl(const std::string& path, const StreamOptions& options)
      : path_(path == "-" ? "standard input" : path),
        options_(options),
        decoder_(path == "-" ? std::make_unique<Decoder>(
                                   path_, PipeInput{STDIN_FILENO, options.timeout, options.stop})
                             : std::make_unique<Decoder>(path)) {
    const AVStream& stream = decoder_->stream();
    if (stream.avg_frame_rate.den > 0) fps_ = av_q2d(stream.avg_frame_rate);
    if (fps_ <= 0 && stream.r_frame_rate.den > 0) fps_ = av_q2d(stream.r_frame_rate);
    if (!(fps_ > 0 && fps_ <= 1000)) fps_ = 0;
    tick_ = av_q2d(stream.time_base);
    turn_ = decoder_->turn();
  }

  double fps() const { return fps_; }
  const std::string& end() const { return end_; }

  std::optional<StreamFrame> next() {
    while (true) {
      const AVFrame* decoded =
          decoder_->frame([this](int64_t, const std::string&) { lost_ = true; });
      if (decoded == nullptr) {
        end_ = decoder_->early_end();
        if (end_.empty() && lost_) end_ = "what comes last cannot be decoded";
        return std::nullopt;
      }
      StreamFrame frame;
      if (take(*decoded, frame)) return frame;
    }
  }

 private:
  /// @returns false where the picture cannot be converted
  bool take(const AVFrame& decoded, StreamFrame& frame) {
    const auto mark = [&frame](const char* what) {
      frame.mark += (frame.mark.empty() ? "" : "+") + std::string(what);
    };
    int64_t height = decoded.height, width = decoded.width;
    scaled_size(options_.scale, height, width);
    try {
      frame.picture.planes = scaler_.convert(decoded, AV_PIX_FMT_YUV420P, height, width, turn_);
    } catch (const DataError&) {
      lost_ = true;
      return false;
    }
    frame.picture.weights = luma_weights(decoded);
    frame.height = turn_.transpose ? width : height;
    frame.width = turn_.transpose ? height : width;
    if (height_ != 0 && (decoded.height != height_ || decoded.width != width_)) mark("size");
    height_ = decoded.height;
    width_ = decoded.width;
    if (lost_) mark("lost");
    // Until the next key frame, frames build on the ones before them.
    if (decoded.key_frame != 0) broken_ = false;
    if (lost_ && decoded.key_frame == 0) broken_ = true;
    if ((decoded.flags & AV_FRAME_FLAG_CORRUPT) != 0 || decoded.decode_error_flags != 0) {
      broken_ = true;
    }
    if (broken_) mark("damaged");
    lost_ = false;
    if (!tell_time(decoded, frame.seconds)) mark("clock");
    return true;
  }

  /// Seconds since the first frame. @returns false where the stream's clock jumped
  bool tell_time(const AVFrame& decoded, double& seconds) {
    const double step = 1 / (fps_ > 0 ? fps_ : kUsualFps);
    const int64_t stamp = decoded.best_effort_timestamp;
    bool regular = true;
    if (stamp == AV_NOPTS_VALUE) {
      seconds = first_ ? 0 : last_ + step;
    } else {
      const double clock = static_cast<double>(stamp) * tick_;
      if (first_) offset_ = clock;
      seconds = clock - offset_;
      // A clock that goes backwards, or hours ahead, says nothing of when the frame was taken.
      if (!first_ && (seconds <= last_ || seconds > last_ + kLongestGap)) {
        regular = false;
        seconds = last_ + step;
        offset_ = clock - seconds;
      }
    }
    first_ = false;
    last_ = seconds;
    return regular;
  }

  static constexpr double kLongestGap = 60;  // seconds

  std::string path_;
  StreamOptions options_;
  std::unique_ptr<Decoder> decoder_;
  Scaler scaler_;
  Turn turn_;
  double fps_ = 0, tick_ = 0;
  double offset_ = 0, last_ = 0;
  bool first_ = true, lost_ = false, broken_ = false;
  int height_ = 0, width_ = 0;
  std::string end_;
};

VideoStream::VideoStream(const std::string& path, const StreamOptions& options)
    : impl_(std::make_unique<Impl>(path, options)) {}
VideoStream::~VideoStream() = default;
double VideoStream::fps() const { return impl_->fps(); }
std::optional<StreamFrame> VideoStream::next() { return impl_->next(); }
const std::string& VideoStream::end() const { return impl_->end(); }

}  // namespace jepa

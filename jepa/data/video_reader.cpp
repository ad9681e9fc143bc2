#include <jepa/data/video_reader.hpp>
#include <jepa/errors.hpp>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libavutil/imgutils.h>
#include <libavutil/log.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <utility>

namespace jepa {
namespace {

std::string reason(int code) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, text, sizeof text);
  return text;
}

/// Height and width of a frame once it is scaled; even, for 4:2:0.
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

/// The same layout without the old names that mean full range: then nothing stretches ranges unasked.
AVPixelFormat plain_format(int format) {
  switch (format) {
    case AV_PIX_FMT_YUVJ420P: return AV_PIX_FMT_YUV420P;
    case AV_PIX_FMT_YUVJ422P: return AV_PIX_FMT_YUV422P;
    case AV_PIX_FMT_YUVJ444P: return AV_PIX_FMT_YUV444P;
    case AV_PIX_FMT_YUVJ440P: return AV_PIX_FMT_YUV440P;
    case AV_PIX_FMT_YUVJ411P: return AV_PIX_FMT_YUV411P;
    default: return static_cast<AVPixelFormat>(format);
  }
}

/// Whether a frame's values are Y'CbCr; else they are RGB, a palette or grey.
bool has_chroma(const AVFrame& frame) {
  const AVPixFmtDescriptor* format = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  return format != nullptr && format->nb_components >= 3 &&
         (format->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) == 0;
}

bool full_range(const AVFrame& frame) {
  return frame.color_range == AVCOL_RANGE_JPEG || plain_format(frame.format) != frame.format;
}

/// Colours of the planes that a frame is handed out as.
FrameColours colours_of(const AVFrame& frame) {
  FrameColours colours;  // what RGB and grey are converted to
  if (!has_chroma(frame)) return colours;
  colours.full_range = full_range(frame);
  switch (frame.colorspace) {
    case AVCOL_SPC_BT709: colours.red = 0.2126, colours.blue = 0.0722; break;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL: colours.red = 0.2627, colours.blue = 0.0593; break;
    case AVCOL_SPC_SMPTE240M: colours.red = 0.212, colours.blue = 0.087; break;
    case AVCOL_SPC_FCC: colours.red = 0.30, colours.blue = 0.11; break;
    default: break;
  }
  return colours;
}

/// How a picture is turned before it is shown: transposed first, then mirrored.
struct Orientation {
  bool transpose = false;
  bool mirror_x = false;
  bool mirror_y = false;

  /// @param matrix as FFmpeg's display matrix: x' = m[0] x + m[3] y, y' = m[1] x + m[4] y; null:
  ///   as it is. Turns that are no multiple of 90 degrees are not made.
  explicit Orientation(const int32_t* matrix = nullptr) {
    if (matrix == nullptr) return;
    const auto near_zero = [&](int i) { return std::abs(matrix[i]) < (1 << 12); };
    if (near_zero(1) && near_zero(3)) {
      mirror_x = matrix[0] < 0;
      mirror_y = matrix[4] < 0;
    } else if (near_zero(0) && near_zero(4)) {
      transpose = true;
      mirror_x = matrix[3] < 0;
      mirror_y = matrix[1] < 0;
    }
  }
  bool any() const { return transpose || mirror_x || mirror_y; }

  /// Pixels [height, width, channels], sizes as before the turn -> turned, as many bytes.
  void apply(uint8_t* pixels, int64_t height, int64_t width, int64_t channels) const {
    if (!any()) return;
    const std::vector<uint8_t> from(pixels, pixels + height * width * channels);
    const int64_t rows = transpose ? width : height, columns = transpose ? height : width;
    for (int64_t y = 0; y < rows; ++y) {
      const int64_t to_y = mirror_y ? rows - 1 - y : y;
      for (int64_t x = 0; x < columns; ++x) {
        const int64_t to_x = mirror_x ? columns - 1 - x : x;
        const int64_t source = transpose ? x * width + y : y * width + x;
        std::copy_n(from.data() + source * channels, channels,
                    pixels + (to_y * columns + to_x) * channels);
      }
    }
  }
};

/// The display matrix of a frame, else of its stream; null: none.
const int32_t* display_matrix(const AVFrame& frame, const AVStream& stream) {
  if (const auto* side = av_frame_get_side_data(&frame, AV_FRAME_DATA_DISPLAYMATRIX)) {
    if (side->size >= 9 * sizeof(int32_t)) return reinterpret_cast<const int32_t*>(side->data);
  }
  size_t size = 0;
  const uint8_t* data = av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
  return size >= 9 * sizeof(int32_t) ? reinterpret_cast<const int32_t*>(data) : nullptr;
}

/// Converts and scales frames; keeps its tables from frame to frame.
class Scaler {
 public:
  Scaler() = default;
  Scaler(const Scaler&) = delete;
  Scaler& operator=(const Scaler&) = delete;
  ~Scaler() { clear(); }

  void clear() {
    sws_freeContext(context_);
    context_ = nullptr;
  }

  /// `to` has room for `height` x `width` in `format`, rows without gaps.
  void convert(const AVFrame& frame, AVPixelFormat format, int64_t height, int64_t width,
               uint8_t* to) {
    const int rows = static_cast<int>(height), columns = static_cast<int>(width);
    const int flags = SWS_AREA | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT;
    const bool to_planes = format == AV_PIX_FMT_YUV420P;
    context_ = sws_getCachedContext(context_, frame.width, frame.height,
                                    plain_format(frame.format), columns, rows, format, flags,
                                    nullptr, nullptr, nullptr);
    if (context_ == nullptr) throw DataError("its pixel format cannot be converted");
    // Y'CbCr to Y'CbCr keeps its range, which goes along with the frame; RGB needs it here.
    if (!to_planes && has_chroma(frame)) {
      sws_setColorspaceDetails(context_, sws_getCoefficients(frame.colorspace),
                               full_range(frame) ? 1 : 0, sws_getCoefficients(SWS_CS_DEFAULT), 1,
                               0, 1 << 16, 1 << 16);
    }
    // swscale writes whole vectors, past the end of rows that are shorter.
    constexpr int kAlign = 64;
    const int bytes = av_image_get_buffer_size(format, columns, rows, kAlign);
    if (bytes < 0) throw DataError("its size cannot be handled");
    padded_.resize(static_cast<size_t>(bytes) + 8 * kAlign);
    uint8_t* planes[4];
    int strides[4];
    av_image_fill_arrays(planes, strides, padded_.data(), format, columns, rows, kAlign);
    if (sws_scale(context_, frame.data, frame.linesize, 0, frame.height, planes, strides) < 0) {
      throw DataError("it cannot be converted");
    }
    av_image_copy_to_buffer(to, av_image_get_buffer_size(format, columns, rows, 1), planes,
                            strides, format, columns, rows, 1);
  }

 private:
  SwsContext* context_ = nullptr;
  std::vector<uint8_t> padded_;
};

/// Formats that name other files: what they name is not ours to open.
bool names_other_files(const std::string& format) {
  for (const char* playlist : {"hls", "dash", "concat", "sdp", "rtsp", "rtp", "image2", "imf"}) {
    if (("," + format + ",").find(std::string(",") + playlist + ",") != std::string::npos) {
      return true;
    }
  }
  return false;
}

/// An open file with its best video stream and a decoder.
class Decoder {
 public:
  /// @param strict what is damaged is an error, where a decoder could also guess
  explicit Decoder(const std::string& path, bool strict = false) : path_(path), strict_(strict) {
    av_log_set_level(AV_LOG_QUIET);  // the library never prints
    try {
      open();
    } catch (...) {
      close();
      throw;
    }
  }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() { close(); }

  AVStream& stream() const { return *format_->streams[stream_]; }
  AVCodecContext& codec() const { return *codec_; }

  /// The next packet of the stream, valid until the next call; null at the end of the file.
  const AVPacket* packet() {
    while (true) {
      av_packet_unref(packet_);
      read_error_ = av_read_frame(format_, packet_);
      if (read_error_ < 0) return nullptr;
      if (packet_->stream_index == stream_) return packet_;
    }
  }
  /// Why packet() gave none.
  int read_error() const { return read_error_; }

  /// The next frame, valid until the next call; null at the end of the file. Packets that the
  /// decoder refuses are told to `bad(time, reason)`.
  template <class Bad>
  const AVFrame* frame(const Bad& bad) {
    while (true) {
      av_frame_unref(frame_);
      const int received = avcodec_receive_frame(codec_, frame_);
      if (received >= 0) return frame_;
      if (received == AVERROR_EOF) return nullptr;
      if (received != AVERROR(EAGAIN)) bad(last_time_, reason(received));
      if (draining_) {
        if (received == AVERROR(EAGAIN)) return nullptr;
        continue;
      }
      const AVPacket* next = packet();
      draining_ = next == nullptr;
      if (next != nullptr) last_time_ = time_of(*next);
      const int sent = avcodec_send_packet(codec_, next);
      if (sent < 0 && sent != AVERROR_EOF) bad(last_time_, reason(sent));
    }
  }

  /// Goes to the key frame at `time`, or to the start of the file.
  bool seek(int64_t time) {
    avcodec_flush_buffers(codec_);
    draining_ = false;
    return av_seek_frame(format_, stream_, time, AVSEEK_FLAG_BACKWARD) >= 0;
  }

  /// How long the header says that the video is, in the stream's time base; 0: it does not say.
  double promised_length() const {
    if (stream().duration != AV_NOPTS_VALUE) return static_cast<double>(stream().duration);
    // Some formats tell the length of the file only, which is its longest stream's.
    if (format_->nb_streams != 1 || format_->duration == AV_NOPTS_VALUE ||
        format_->duration_estimation_method == AVFMT_DURATION_FROM_BITRATE) {
      return 0.0;
    }
    return static_cast<double>(format_->duration) / AV_TIME_BASE / av_q2d(stream().time_base);
  }

  /// False for formats where a seek may end beside the frame that was asked for.
  bool exact_seek() const { return (format_->iformat->flags & AVFMT_TS_DISCONT) == 0; }

  static int64_t time_of(const AVPacket& packet) {
    return packet.pts != AV_NOPTS_VALUE ? packet.pts : packet.dts;
  }

 private:
  void open() {
    std::error_code error;
    if (!std::filesystem::exists(path_, error)) throw DataError(path_ + ": no such file");
    if (std::filesystem::file_size(path_, error) == 0) {
      throw DataError(path_ + ": the file is empty");
    }
    if (!std::filesystem::is_regular_file(path_, error)) {
      throw DataError(path_ + ": not a file that can be read anew at any place");
    }
    // Opened by us and recognised by what is in it: a name is never taken for a pattern or a
    // protocol, and nothing that the file names is opened.
    int code = avio_open2(&bytes_, ("file:" + path_).c_str(), AVIO_FLAG_READ, nullptr, nullptr);
    if (code < 0) throw DataError(path_ + ": cannot be opened (" + reason(code) + ")");
    format_ = avformat_alloc_context();
    format_->pb = bytes_;
    format_->io_open = [](AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) {
      return AVERROR(EPERM);
    };
    AVDictionary* options = nullptr;
    av_dict_set(&options, "protocol_whitelist", "file", 0);
    code = avformat_open_input(&format_, "", nullptr, &options);
    av_dict_free(&options);
    if (code == AVERROR(EPERM)) {
      throw DataError(path_ + ": names other files, which are not opened for it");
    }
    if (code < 0) throw DataError(path_ + ": not a readable video or picture (" + reason(code) + ")");
    if (names_other_files(format_->iformat->name)) {
      throw DataError(path_ + ": names other files (" + format_->iformat->name +
                      "), which are not opened for it");
    }
    code = avformat_find_stream_info(format_, nullptr);
    const AVCodec* decoder = nullptr;
    if (code >= 0) {
      code = stream_ = av_find_best_stream(format_, AVMEDIA_TYPE_VIDEO, -1, -1, &decoder, 0);
    }
    if (code < 0 || decoder == nullptr) {
      throw DataError(path_ + ": no video in it that can be decoded (" + reason(code) + ")");
    }
    codec_ = avcodec_alloc_context3(decoder);
    packet_ = av_packet_alloc();
    frame_ = av_frame_alloc();
    avcodec_parameters_to_context(codec_, stream().codecpar);
    codec_->thread_count = 1;
    codec_->pkt_timebase = stream().time_base;
    codec_->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER;
    if (strict_) codec_->err_recognition |= AV_EF_EXPLODE;
    code = avcodec_open2(codec_, decoder, nullptr);
    if (code < 0 || codec_->width < 1 || codec_->height < 1) {
      throw DataError(path_ + ": its video cannot be decoded (" + reason(code) + ")");
    }
  }

  void close() {
    av_frame_free(&frame_);
    av_packet_free(&packet_);
    avcodec_free_context(&codec_);
    avformat_close_input(&format_);
    avio_closep(&bytes_);
  }

  std::string path_;
  bool strict_;
  AVIOContext* bytes_ = nullptr;
  AVFormatContext* format_ = nullptr;
  AVCodecContext* codec_ = nullptr;
  AVPacket* packet_ = nullptr;
  AVFrame* frame_ = nullptr;
  int stream_ = -1;
  int read_error_ = 0;
  bool draining_ = false;
  int64_t last_time_ = AV_NOPTS_VALUE;
};

}  // namespace

class VideoReader::Impl {
 public:
  Impl(const std::string& path, const FrameScale& scale, bool luma_only)
      : path_(path), luma_only_(luma_only), decoder_(std::make_unique<Decoder>(path)) {
    const AVStream& stream = decoder_->stream();
    info_.height = decoder_->codec().height;
    info_.width = decoder_->codec().width;
    scaled_size(scale, info_.height, info_.width);
    if (stream.avg_frame_rate.den > 0) info_.fps = av_q2d(stream.avg_frame_rate);
    build_index();
    find_orientation();
    release();  // reading the packets has left it at the end
  }

  const VideoInfo& info() const { return info_; }
  /// Keeps no more than the times: thousands of videos are known at once.
  void release() {
    decoder_.reset();
    scaler_.clear();
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
    const int64_t start = go_to(first);
    auto frames = decode_from_here(first, count);
    const bool whole = std::all_of(frames.begin(), frames.end(),
                                   [](const VideoFrame& frame) { return frame.error.empty(); });
    if (whole || start <= 0 || entered_ != start) return frames;
    // The first frames after an open key frame build on the group before it.
    restart();
    const int64_t before = decode_start(start - 1);
    if (before > 0 && decoder_->seek(times_[static_cast<size_t>(before)])) next_ = before;
    entered_ = next_;
    auto again = decode_from_here(first, count);
    for (size_t i = 0; i < frames.size(); ++i) {
      if (!frames[i].error.empty()) frames[i] = std::move(again[i]);
    }
    return frames;
  }

 private:
  std::vector<VideoFrame> decode_from_here(int64_t first, int64_t count) {
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
      const std::string error = judge(*decoded, number);
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
    while (const AVPacket* packet = decoder_->packet()) {
      if ((packet->flags & AV_PKT_FLAG_DISCARD) != 0) continue;  // the file says: not to be shown
      times_.push_back(Decoder::time_of(*packet));
      if ((packet->flags & AV_PKT_FLAG_KEY) != 0) keys_.push_back(times_.back());
      bytes += packet->size;
      reordered = reordered || (packet->pts != AV_NOPTS_VALUE && packet->pts != packet->dts);
      last_duration_ = packet->duration;
      // A stream that may lose packets on its way is not cut off by one: its frame is.
      if ((packet->flags & AV_PKT_FLAG_CORRUPT) != 0 && decoder_->exact_seek()) {
        throw DataError(path_ + ": frame " + std::to_string(times_.size() - 1) +
                        ": its data is cut off");
      }
    }
    if (decoder_->read_error() != AVERROR_EOF) {
      throw DataError(path_ + ": ends early, after " + std::to_string(times_.size()) + " frames (" +
                      reason(decoder_->read_error()) + ")");
    }
    info_.frames = static_cast<int64_t>(times_.size());
    if (bytes == 0) throw DataError(path_ + ": holds no frames");
    std::sort(times_.begin(), times_.end());
    std::sort(keys_.begin(), keys_.end());
    // Without usable times frames are counted instead, always from the start of the file: where
    // there are none, and where frames are stored out of order but their times do not say so.
    timed_ = times_.front() != AV_NOPTS_VALUE &&
             std::adjacent_find(times_.begin(), times_.end()) == times_.end() &&
             (reordered || decoder_->codec().has_b_frames == 0);
    seekable_ = timed_ && decoder_->exact_seek();
    if (times_.front() != AV_NOPTS_VALUE) check_end();
  }

  /// Compares the last frame's time with the length that the file's header promises.
  void check_end() {
    const AVStream& stream = decoder_->stream();
    if (info_.frames < 2) return;
    const double length = static_cast<double>(times_.back() - times_.front());
    const double step = length / static_cast<double>(info_.frames - 1);
    if (step <= 0) return;
    info_.fps = 1.0 / (step * av_q2d(stream.time_base));
    note_variable_rate(step);
    const double promised = decoder_->promised_length();
    // What is promised may count from 0 or from the first frame; the last frame may be held.
    const double end = std::max(length, static_cast<double>(times_.back())) +
                       std::max(step, static_cast<double>(last_duration_));
    const double missing = (promised - end) / step;
    if (missing > 2.0) {
      throw DataError(path_ + ": ends early, after " + std::to_string(info_.frames) + " of about " +
                      std::to_string(info_.frames + static_cast<int64_t>(missing)) + " frames");
    }
  }

  /// Keeps the times of frames that are not `step` apart, within what a coarse clock makes of it.
  void note_variable_rate(double step) {
    const double clock = av_q2d(decoder_->stream().time_base);
    bool varies = false;
    for (size_t i = 1; i < times_.size() && !varies; ++i) {
      varies = std::abs(static_cast<double>(times_[i] - times_[i - 1]) - step) >
               std::max(0.25 * step, 1.5);
    }
    if (!varies || !timed_) return;
    for (const int64_t time : times_) {
      info_.times.push_back(static_cast<double>(time - times_.front()) * clock);
    }
  }

  /// Sizes are told as frames are handed out: turned. A picture's own word for it is in its frame.
  void find_orientation() {
    size_t size = 0;
    const uint8_t* data =
        av_stream_get_side_data(&decoder_->stream(), AV_PKT_DATA_DISPLAYMATRIX, &size);
    if (size < 9 * sizeof(int32_t)) return;
    orientation_ = Orientation(reinterpret_cast<const int32_t*>(data));
    if (orientation_.transpose) std::swap(info_.height, info_.width);
  }

  int64_t number_of(int64_t time, int64_t otherwise) const {
    if (!timed_ || time == AV_NOPTS_VALUE) return otherwise;
    const auto found = std::lower_bound(times_.begin(), times_.end(), time);
    return std::min<int64_t>(found - times_.begin(), info_.frames - 1);
  }

  /// Makes the decoder's next frame the one where decoding for `first` starts. @returns that frame
  int64_t go_to(int64_t first) {
    const int64_t start = decode_start(first);
    if (decoder_ && start == next_) return start;
    restart();
    // Where the format cannot seek after all, decoding goes on from the first frame.
    if (start > 0 && decoder_->seek(times_[static_cast<size_t>(start)])) next_ = start;
    entered_ = next_;
    return next_;
  }

  void restart() {
    decoder_ = std::make_unique<Decoder>(path_);
    next_ = 0;
    broken_ = -1;
  }

  /// What is wrong with a decoded frame; empty: nothing. Until the next key frame, frames build on
  /// the ones before them, so what follows a broken one is guesswork of the decoder.
  std::string judge(const AVFrame& decoded, int64_t number) {
    if ((decoded.flags & AV_FRAME_FLAG_CORRUPT) != 0 || decoded.decode_error_flags != 0) {
      broken_ = number;
      return "it is corrupt";
    }
    if (decoded.key_frame != 0) broken_ = -1;
    return broken_ < 0 ? ""
                       : "it builds on frame " + std::to_string(broken_) + ", which is corrupt";
  }

  void keep(const AVFrame& decoded, VideoFrame& frame) {
    // Luma alone is the head of the same buffer: a conversion to grey would stretch its range.
    const int64_t height = orientation_.transpose ? info_.width : info_.height;
    const int64_t width = orientation_.transpose ? info_.height : info_.width;
    const int64_t luma = height * width, half_height = (height + 1) / 2, half_width = (width + 1) / 2;
    frame.planes.resize(static_cast<size_t>(luma + 2 * half_height * half_width));
    frame.colours = colours_of(decoded);
    try {
      scaler_.convert(decoded, AV_PIX_FMT_YUV420P, height, width, frame.planes.data());
    } catch (const DataError& error) {
      frame.planes.clear();
      frame.error = error.what();
      return;
    }
    uint8_t* plane = frame.planes.data();
    orientation_.apply(plane, height, width, 1);
    if (luma_only_) {
      frame.planes.resize(static_cast<size_t>(luma));
      frame.planes.shrink_to_fit();
      return;
    }
    orientation_.apply(plane + luma, half_height, half_width, 1);
    orientation_.apply(plane + luma + half_height * half_width, half_height, half_width, 1);
  }

  std::string path_;
  bool luma_only_;
  std::unique_ptr<Decoder> decoder_;
  VideoInfo info_;
  Orientation orientation_;
  int64_t last_duration_ = 0;   // of the last packet, in the stream's time base
  int64_t entered_ = 0;         // frame where the file was entered last
  bool timed_ = true;           // frames can be told by their times
  bool seekable_ = true;        // and the file can be entered at key frames
  std::vector<int64_t> times_;  // of each frame, in the order shown
  std::vector<int64_t> keys_;   // of those that can be decoded by themselves
  int64_t next_ = 0;            // number of the frame that the decoder gives next
  int64_t broken_ = -1;         // the last frame that was found corrupt since the last key frame
  Scaler scaler_;
};

VideoReader::VideoReader(const std::string& path, const FrameScale& scale, bool luma_only)
    : impl_(std::make_unique<Impl>(path, scale, luma_only)) {}
VideoReader::~VideoReader() = default;
const VideoInfo& VideoReader::info() const { return impl_->info(); }
std::vector<VideoFrame> VideoReader::decode(int64_t first, int64_t count) {
  return impl_->decode(first, count);
}
int64_t VideoReader::decode_start(int64_t first) const { return impl_->decode_start(first); }
void VideoReader::release() { impl_->release(); }

std::vector<uint8_t> read_image(const std::string& path, const FrameScale& scale, int64_t channels,
                                int64_t& height, int64_t& width) {
  Decoder decoder(path, /*strict=*/true);
  std::string error = "it holds no picture";
  const AVFrame* frame = decoder.frame([&](int64_t, const std::string& why) { error = why; });
  if (frame == nullptr) throw DataError(path + ": " + error);
  if ((frame->flags & AV_FRAME_FLAG_CORRUPT) != 0 || frame->decode_error_flags != 0) {
    throw DataError(path + ": the picture is corrupt");
  }
  height = frame->height;
  width = frame->width;
  scaled_size(scale, height, width);
  std::vector<uint8_t> pixels(static_cast<size_t>(height * width * channels));
  Scaler scaler;
  try {
    scaler.convert(*frame, channels == 1 ? AV_PIX_FMT_GRAY8 : AV_PIX_FMT_RGB24, height, width,
                   pixels.data());
  } catch (const DataError& failure) {
    throw DataError(path + ": " + failure.what());
  }
  const Orientation orientation(display_matrix(*frame, decoder.stream()));
  orientation.apply(pixels.data(), height, width, channels);
  if (orientation.transpose) std::swap(height, width);
  return pixels;
}

}  // namespace jepa

#include <jepa/data/media_list.hpp>
#include <jepa/data/picture_bytes.hpp>
#include <jepa/data/stream_walk.hpp>
#include <jepa/data/video_decoder.hpp>
#include <jepa/errors.hpp>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/log.h>
}

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <set>
#include <string_view>
#include <unistd.h>

namespace jepa {
namespace {

std::string reason(int code) {
  if (code >= 0) return "it holds none";
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, text, sizeof text);
  return text;
}

/// Containers and pictures that hold their own frames. Playlists, patterns, devices and network
/// descriptions, which open what they name, are none of these.
bool known_format(std::string_view names) {
  static const std::set<std::string_view> known = {
      "mov",  "mp4", "matroska", "webm", "avi",  "flv", "mpegts",     "mpeg",         "mpegvideo",
      "gif",  "ogg", "asf",      "rm",   "nut",  "ivf", "h264",       "hevc",         "av1",
      "obu",  "m4v", "mjpeg",    "mxf",  "apng", "dv",  "live_flv",   "yuv4mpegpipe", "h263",
      "h261", "vc1", "dirac",    "avs",  "swf",  "wtv", "mjpeg_2000", "mpjpeg",       "webp"};
  while (!names.empty()) {
    const size_t comma = std::min(names.find(','), names.size());
    const std::string_view name = names.substr(0, comma);
    if (known.contains(name) || name.ends_with("_pipe")) return true;
    names.remove_prefix(std::min(comma + 1, names.size()));
  }
  return false;
}

/// @param missing bytes; 0: not known how many
std::string early(int64_t missing) {
  if (missing <= 0) return "it ends early: its end is missing";
  return "it ends early: " + std::to_string(missing) +
         (missing == 1 ? " byte is missing" : " bytes are missing");
}

int refuse_to_open(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) {
  return AVERROR(EPERM);
}

Turn turn_of(const int32_t* matrix) {
  Turn turn;
  turn.transpose = std::abs(static_cast<int64_t>(matrix[1])) + std::abs(int64_t{matrix[3]}) >
                   std::abs(static_cast<int64_t>(matrix[0])) + std::abs(int64_t{matrix[4]});
  turn.mirror_x = (turn.transpose ? matrix[3] : matrix[0]) < 0;
  turn.mirror_y = (turn.transpose ? matrix[1] : matrix[4]) < 0;
  return turn;
}

}  // namespace

Turn frame_turn(const AVFrame& frame) {
  const AVFrameSideData* data = av_frame_get_side_data(&frame, AV_FRAME_DATA_DISPLAYMATRIX);
  if (data == nullptr || data->size < 9 * sizeof(int32_t)) return {};
  return turn_of(reinterpret_cast<const int32_t*>(data->data));
}

/// What a pipe has given so far.
struct Decoder::Pipe {
  PipeInput input;
  int64_t received = 0;
  bool stalled = false;
  bool stopped = false;
  bool ended = false;
  bool known = false;                // what container it is
  std::string head = {};             // what came before that was
  std::unique_ptr<StreamWalk> walk;  // null: its framing is not followed

  void follow(const char* formats) {
    known = true;
    walk = make_stream_walk(formats);
    if (walk) walk->take(reinterpret_cast<const uint8_t*>(head.data()), head.size());
    head = {};
  }
  void take(const uint8_t* bytes, size_t count) {
    received += static_cast<int64_t>(count);
    if (walk) walk->take(bytes, count);
    if (!known) head.append(reinterpret_cast<const char*>(bytes), count);
  }

  static int read(void* opaque, uint8_t* to, int size) {
    using Clock = std::chrono::steady_clock;
    auto& pipe = *static_cast<Pipe*>(opaque);
    const auto start = Clock::now();
    while (true) {
      if (pipe.input.stop && pipe.input.stop()) {
        pipe.stopped = true;
        return AVERROR_EXIT;
      }
      pollfd waited{pipe.input.descriptor, POLLIN, 0};
      const int ready = poll(&waited, 1, 100);
      if (ready > 0) {
        const auto count = ::read(pipe.input.descriptor, to, static_cast<size_t>(size));
        if (count == 0) {
          pipe.ended = true;
          return AVERROR_EOF;
        }
        if (count < 0 && errno != EINTR && errno != EAGAIN) return AVERROR(errno);
        if (count > 0) {
          pipe.take(to, static_cast<size_t>(count));
          return static_cast<int>(count);
        }
      } else if (ready < 0 && errno != EINTR) {
        return AVERROR(errno);
      }
      const double waited_for = std::chrono::duration<double>(Clock::now() - start).count();
      if (pipe.input.timeout > 0 && waited_for > pipe.input.timeout) {
        pipe.stalled = true;
        return AVERROR(ETIMEDOUT);
      }
    }
  }
};

Decoder::Decoder(const std::string& name, const PipeInput& pipe)
    : path_(name), pipe_(std::make_unique<Pipe>()), last_time_(AV_NOPTS_VALUE) {
  av_log_set_level(AV_LOG_QUIET);
  pipe_->input = pipe;
  try {
    open();
  } catch (const DataError&) {
    const std::string why = pipe_->stalled || pipe_->stopped ? early_end() : "";
    close();
    if (!why.empty()) throw DataError(path_ + ": " + why + " before its first frame");
    throw;
  }
}

Decoder::~Decoder() { close(); }

Decoder::Decoder(const std::string& path) : path_(path), last_time_(AV_NOPTS_VALUE) {
  av_log_set_level(AV_LOG_QUIET);  // the library never prints
  try {
    open();
  } catch (...) {
    close();
    throw;
  }
}

const AVStream& Decoder::stream() const { return *format_->streams[stream_]; }

const AVPacket* Decoder::packet() {
  while (true) {
    av_packet_unref(packet_);
    read_error_ = av_read_frame(format_, packet_);
    if (read_error_ < 0) return nullptr;
    if (packet_->pos >= 0) packets_end_ = packet_->pos + packet_->size;
    cut_packet_ = (packet_->flags & AV_PKT_FLAG_CORRUPT) != 0;
    if (packet_->stream_index == stream_) return packet_;
  }
}

std::string Decoder::read_error() const {
  return read_error_ == AVERROR_EOF ? "" : reason(read_error_);
}

std::string Decoder::early_end() const {
  if (pipe_ && pipe_->stopped) return "stopped";
  if (pipe_ && pipe_->stalled) {
    const auto tenths = static_cast<int64_t>(pipe_->input.timeout * 10);
    return "nothing came for " + std::to_string(tenths / 10) +
           (tenths % 10 != 0 ? "." + std::to_string(tenths % 10) : "") + " s";
  }
  const bool walked = pipe_ && pipe_->walk && pipe_->ended;
  const StreamEnd end = walked ? pipe_->walk->end() : StreamEnd::kRegular;
  // The last frame that was decoded may be shown before others.
  const bool mended = mended_ > 0 && frames_ - mended_ <= codec_->has_b_frames;
  // Its frames are of one size, so that what is left over is the head of one.
  const bool rest = pipe_ && is_format("yuv4mpegpipe") && pipe_->received > packets_end_;
  const std::string why = read_error();
  if (end == StreamEnd::kFrame || (end == StreamEnd::kMaybe && mended) ||
      (why.empty() && (cut_packet_ || rest))) {
    return "it ends within a frame";
  }
  if (!why.empty()) return "it ends early (" + why + ")";
  if (end == StreamEnd::kPart) return early(pipe_->walk->missing());
  if (!pipe_ && missing_bytes() > 0) return early(missing_bytes());
  return lacks_trailer() ? "it ends early: its trailer is missing" : "";
}

const AVFrame* Decoder::frame(const Bad& bad) {
  while (true) {
    av_frame_unref(frame_);
    const int received = avcodec_receive_frame(codec_, frame_);
    if (received >= 0) {
      // TIFFs use all levels, which the decoder does not say.
      if (codec_->codec_id == AV_CODEC_ID_TIFF) frame_->color_range = AVCOL_RANGE_JPEG;
      ++frames_;
      const bool mended = (frame_->flags & AV_FRAME_FLAG_CORRUPT) != 0;
      if (mended || frame_->decode_error_flags != 0) mended_ = frames_;
      return frame_;
    }
    if (received == AVERROR_EOF) return nullptr;
    if (received != AVERROR(EAGAIN)) bad(last_time_, reason(received));
    if (draining_) {
      if (received == AVERROR(EAGAIN)) return nullptr;
      continue;
    }
    const AVPacket* next = packet();
    draining_ = next == nullptr;
    if (next != nullptr) {
      last_time_ = time_of(*next);
      plain_picture();
    }
    const int sent = avcodec_send_packet(codec_, next);
    if (sent < 0 && sent != AVERROR_EOF) bad(last_time_, reason(sent));
  }
}

/// Takes out of a picture's packet what its decoder would stumble over.
void Decoder::plain_picture() {
  if (is_format("jpeg_pipe")) {
    const size_t length = jpeg_length(
        {reinterpret_cast<const char*>(packet_->data), static_cast<size_t>(packet_->size)});
    if (length > 0) av_shrink_packet(packet_, static_cast<int>(length));
  } else if (codec_->codec_id == AV_CODEC_ID_TIFF && av_packet_make_writable(packet_) >= 0) {
    drop_tiff_tags(packet_->data, static_cast<size_t>(packet_->size));
  }
}

bool Decoder::seek(int64_t time) {
  avcodec_flush_buffers(codec_);
  draining_ = false;
  return av_seek_frame(format_, stream_, time, AVSEEK_FLAG_BACKWARD) >= 0;
}

Turn Decoder::turn() const {
  size_t size = 0;
  const uint8_t* data = av_stream_get_side_data(&stream(), AV_PKT_DATA_DISPLAYMATRIX, &size);
  if (data == nullptr || size < 9 * sizeof(int32_t)) return {};
  return turn_of(reinterpret_cast<const int32_t*>(data));
}

bool Decoder::is_format(const char* name) const {
  return ("," + std::string(format_->iformat->name) + ",").find("," + std::string(name) + ",") !=
         std::string::npos;
}

int64_t Decoder::missing_bytes() const {
  int64_t promised = 0;
  if (is_format("mov")) {
    auto* stream = format_->streams[stream_];
    const int entries = avformat_index_get_entries_count(stream);
    for (int i = 0; i < entries; ++i) {
      const AVIndexEntry* entry = avformat_index_get_entry(stream, i);
      promised = std::max(promised, entry->pos + entry->size);
    }
  } else if (is_format("matroska") || is_format("flv")) {
    std::string head(4096, '\0');
    std::ifstream in(path_, std::ios::binary);
    in.read(head.data(), static_cast<std::streamsize>(head.size()));
    head.resize(static_cast<size_t>(in.gcount()));
    promised = promised_size(format_->iformat->name, head);
  }
  return std::max<int64_t>(0, promised - file_size_);
}

bool Decoder::lacks_trailer() const {
  if (pipe_ || !is_format("gif")) return false;
  std::ifstream file(path_, std::ios::binary);
  return !gif_is_whole(file);
}

double Decoder::promised_length() const {
  if (!is_format("avi") && !is_format("asf")) return 0.0;
  return stream().duration != AV_NOPTS_VALUE ? static_cast<double>(stream().duration) : 0.0;
}

bool Decoder::exact_seek() const { return (format_->iformat->flags & AVFMT_TS_DISCONT) == 0; }

int64_t Decoder::time_of(const AVPacket& packet) {
  return packet.pts != AV_NOPTS_VALUE ? packet.pts : packet.dts;
}

void Decoder::open_file() {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(path_, error)) throw DataError(path_ + ": no such file");
  if (!fs::is_regular_file(path_, error)) throw DataError(path_ + ": not a regular file");
  file_size_ = static_cast<int64_t>(fs::file_size(path_, error));
  if (file_size_ == 0) throw DataError(path_ + ": the file is empty");
  AVDictionary* only_files = nullptr;
  av_dict_set(&only_files, "protocol_whitelist", "file", 0);
  const int code =
      avio_open2(&io_, ("file:" + path_).c_str(), AVIO_FLAG_READ, nullptr, &only_files);
  av_dict_free(&only_files);
  if (code < 0) throw DataError(path_ + ": cannot be opened (" + reason(code) + ")");
}

void Decoder::open_container() {
  if (pipe_) {
    constexpr int kBuffer = 1 << 15;
    io_ = avio_alloc_context(static_cast<uint8_t*>(av_malloc(kBuffer)), kBuffer, 0, pipe_.get(),
                             &Pipe::read, nullptr, nullptr);
  } else {
    open_file();
  }
  // The format is told by the content alone: names could be taken for patterns. Pictures may need
  // their ending too: what follows in a JPEG (a film, a second one) can look like something else.
  const AVInputFormat* input = nullptr;
  int code = 0;
  const std::string ending = pipe_ ? "" : lower_extension(path_);
  uint8_t head[2] = {};
  if (ending == ".jpg" || ending == ".jpeg") avio_read(io_, head, 2);
  if (head[0] == 0xFF && head[1] == 0xD8) input = av_find_input_format("jpeg_pipe");
  if (!pipe_) avio_seek(io_, 0, SEEK_SET);
  if (input == nullptr) code = av_probe_input_buffer2(io_, &input, "", nullptr, 0, 0);
  if (input == nullptr && !ending.empty()) {
    const std::string name = ending == ".tif" ? "tiff" : ending.substr(1);
    input = av_find_input_format((name + "_pipe").c_str());
    avio_seek(io_, 0, SEEK_SET);
  }
  if (input == nullptr) {
    throw DataError(path_ + ": not a readable video or picture (" + reason(code) + ")");
  }
  if (!known_format(input->name)) {
    throw DataError(path_ + ": format '" + input->name +
                    "' is not opened: playlists and the like name other files");
  }
  if (pipe_) pipe_->follow(input->name);
  format_ = avformat_alloc_context();
  format_->pb = io_;
  format_->flags |= AVFMT_FLAG_CUSTOM_IO;
  format_->io_open = refuse_to_open;
  code = avformat_open_input(&format_, "", input, nullptr);
  if (code < 0) throw DataError(path_ + ": not a readable video or picture (" + reason(code) + ")");
}

void Decoder::open() {
  open_container();
  int code = avformat_find_stream_info(format_, nullptr);
  const AVCodec* decoder = nullptr;
  if (code >= 0) {
    code = stream_ = av_find_best_stream(format_, AVMEDIA_TYPE_VIDEO, -1, -1, &decoder, 0);
  }
  if (code < 0 || decoder == nullptr) {
    throw DataError(path_ + ": nothing in it that can be decoded (" + reason(code) + ")");
  }
  codec_ = avcodec_alloc_context3(decoder);
  packet_ = av_packet_alloc();
  frame_ = av_frame_alloc();
  avcodec_parameters_to_context(codec_, stream().codecpar);
  codec_->thread_count = 1;
  codec_->pkt_timebase = stream().time_base;
  codec_->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER;
  codec_->max_pixels = int64_t{1} << 27;  // a damaged header must not ask for all memory
  code = avcodec_open2(codec_, decoder, nullptr);
  if (code < 0) throw DataError(path_ + ": it cannot be decoded (" + reason(code) + ")");
  if (codec_->width < 1 || codec_->height < 1) {
    throw DataError(path_ + ": it cannot be decoded (its size is unknown)");
  }
}

void Decoder::close() {
  av_frame_free(&frame_);
  av_packet_free(&packet_);
  avcodec_free_context(&codec_);
  avformat_close_input(&format_);
  if (!pipe_) {
    avio_closep(&io_);
  } else if (io_ != nullptr) {
    av_freep(&io_->buffer);
    avio_context_free(&io_);
  }
}

}  // namespace jepa

#include <eval/report/video_writer.hpp>
#include <jepa/data/hdf5_file.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>

#include <torch/types.h>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
}

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace jepa::eval::report {
namespace {

/// The growing file, in memory or on disk. MP4 goes back to fill in sizes, so it must be seekable.
struct MemoryFile {
  std::string bytes;
  size_t position = 0;
  std::FILE* disk = nullptr;
};

int write_memory(void* opaque, uint8_t* data, int size) {
  auto& file = *static_cast<MemoryFile*>(opaque);
  const auto count = static_cast<size_t>(size);
  if (file.disk != nullptr) {
    return std::fwrite(data, 1, count, file.disk) == count ? size : AVERROR(ENOSPC);
  }
  if (file.position + count > file.bytes.size()) file.bytes.resize(file.position + count);
  std::memcpy(file.bytes.data() + file.position, data, count);
  file.position += count;
  return size;
}

int64_t seek_memory(void* opaque, int64_t offset, int whence) {
  auto& file = *static_cast<MemoryFile*>(opaque);
  if (file.disk != nullptr) {
    if (whence == AVSEEK_SIZE) return AVERROR(ENOSYS);
    if (fseeko(file.disk, offset, whence) != 0) return AVERROR(errno);
    return ftello(file.disk);
  }
  const auto end = static_cast<int64_t>(file.bytes.size());
  if (whence == AVSEEK_SIZE) return end;
  const int64_t base = whence == SEEK_CUR   ? static_cast<int64_t>(file.position)
                       : whence == SEEK_END ? end
                                            : 0;
  if (base + offset < 0 || base + offset > end) return AVERROR(EINVAL);
  file.position = static_cast<size_t>(base + offset);
  return static_cast<int64_t>(file.position);
}

void check(int code, const std::string& what) {
  if (code >= 0) return;
  char reason[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, reason, sizeof reason);
  throw DataError("video: cannot " + what + ": " + reason);
}

AVCodecContext* open_encoder(int height, int width, AVRational frame_rate) {
  // By name: the first H.264 encoder that FFmpeg lists may be one that needs hardware.
  for (const char* name : {"libx264", "libopenh264", "mpeg4"}) {
    const AVCodec* codec = avcodec_find_encoder_by_name(name);
    if (!codec) continue;
    AVCodecContext* context = avcodec_alloc_context3(codec);
    context->width = width;
    context->height = height;
    context->pix_fmt = AV_PIX_FMT_YUV420P;
    context->framerate = frame_rate;
    context->time_base = av_inv_q(frame_rate);
    context->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    context->thread_count = 1;                 // same bytes on every machine
    context->log_level_offset = AV_LOG_TRACE;  // say nothing; errors come back as codes
    // Near-lossless: the pictures are small and hard-edged.
    av_opt_set(context->priv_data, "crf", "16", 0);
    av_opt_set(context->priv_data, "preset", "medium", 0);
    if (codec->id == AV_CODEC_ID_MPEG4) {
      context->flags |= AV_CODEC_FLAG_QSCALE;
      context->global_quality = 2 * FF_QP2LAMBDA;
    }
    if (avcodec_open2(context, codec, nullptr) >= 0) return context;
    avcodec_free_context(&context);
  }
  throw DataError("video: this FFmpeg has no encoder for MP4 frames of " + std::to_string(width) +
                  " x " + std::to_string(height) + " (tried libx264, libopenh264, mpeg4)");
}

}  // namespace

struct VideoEncoder::State {
  int64_t height = 0, width = 0;  // as given
  MemoryFile file;
  std::string path;  // empty: in memory
  AVCodecContext* codec = nullptr;
  AVFormatContext* format = nullptr;
  AVStream* stream = nullptr;
  SwsContext* scaler = nullptr;
  AVFrame* frame = nullptr;
  AVPacket* packet = nullptr;
  int64_t frames = 0;

  ~State() {
    av_packet_free(&packet);
    av_frame_free(&frame);
    sws_freeContext(scaler);
    avcodec_free_context(&codec);
    if (format) {
      if (format->pb) {
        av_freep(&format->pb->buffer);
        avio_context_free(&format->pb);
      }
      avformat_free_context(format);
    }
    if (file.disk != nullptr) {  // not finished
      std::fclose(file.disk);
      std::remove((path + ".partial").c_str());
    }
  }

  /// Sends a frame (null: the end) and moves finished packets into the file.
  void encode(const AVFrame* next) {
    check(avcodec_send_frame(codec, next), "encode a frame");
    while (true) {
      const int code = avcodec_receive_packet(codec, packet);
      if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return;
      check(code, "encode a frame");
      packet->duration = 1;
      av_packet_rescale_ts(packet, codec->time_base, stream->time_base);
      packet->stream_index = stream->index;
      check(av_interleaved_write_frame(format, packet), "write a frame");
    }
  }
};

VideoEncoder::VideoEncoder(int64_t height, int64_t width, double fps, const std::string& path)
    : state_(std::make_unique<State>()) {
  TORCH_CHECK(height > 0 && width > 0 && height <= 16384 && width <= 16384,
              "a film's sides are 1 to 16384 pixels, got ", width, " x ", height);
  TORCH_CHECK(std::isfinite(fps) && fps > 0, "frames per second must be positive, got ", fps);
  State& s = *state_;
  s.height = height;
  s.width = width;
  s.path = path;
  const int even_height = static_cast<int>(height + height % 2);
  const int even_width = static_cast<int>(width + width % 2);
  s.codec = open_encoder(even_height, even_width, av_d2q(fps, 60000));

  if (!path.empty()) {
    s.file.disk = std::fopen((path + ".partial").c_str(), "wb");
    if (s.file.disk == nullptr) {
      throw DataError(path + ": cannot be written (" + std::strerror(errno) + ")");
    }
  }
  check(avformat_alloc_output_context2(&s.format, nullptr, "mp4", nullptr), "make an MP4");
  constexpr int kBuffer = 1 << 16;
  s.format->pb = avio_alloc_context(static_cast<unsigned char*>(av_malloc(kBuffer)), kBuffer, 1,
                                    &s.file, nullptr, write_memory, seek_memory);
  s.stream = avformat_new_stream(s.format, nullptr);
  s.stream->time_base = s.codec->time_base;
  s.stream->avg_frame_rate = s.codec->framerate;
  check(avcodec_parameters_from_context(s.stream->codecpar, s.codec), "describe the stream");
  check(avformat_write_header(s.format, nullptr), "write the MP4 header");

  s.scaler = sws_getContext(even_width, even_height, AV_PIX_FMT_RGB24, even_width, even_height,
                            AV_PIX_FMT_YUV420P, SWS_BILINEAR | SWS_ACCURATE_RND, nullptr, nullptr,
                            nullptr);
  s.frame = av_frame_alloc();
  s.packet = av_packet_alloc();
  TORCH_CHECK(s.scaler && s.frame && s.packet, "out of memory for a film of ", width, " x ",
              height);
  s.frame->format = AV_PIX_FMT_YUV420P;
  s.frame->width = even_width;
  s.frame->height = even_height;
  check(av_frame_get_buffer(s.frame, 0), "allocate a frame");
}

VideoEncoder::~VideoEncoder() = default;

void VideoEncoder::add(const torch::Tensor& frames) {
  State& s = *state_;
  const auto all = frames.dim() == 3 ? frames.unsqueeze(0) : frames;
  TORCH_CHECK(all.dim() == 4 && all.scalar_type() == torch::kUInt8 && all.size(1) == s.height &&
                  all.size(2) == s.width && all.size(3) == 3,
              "expected uint8 frames [T, ", s.height, ", ", s.width, ", 3], got ",
              frames.scalar_type(), " ", frames.sizes());
  for (int64_t t = 0; t < all.size(0); ++t) {
    auto picture = all[t].cpu();
    if (s.height % 2) picture = torch::cat({picture, picture.slice(0, s.height - 1)}, 0);
    if (s.width % 2) picture = torch::cat({picture, picture.slice(1, s.width - 1)}, 1);
    picture = picture.contiguous();
    const uint8_t* rows[1] = {picture.data_ptr<uint8_t>()};
    const int stride[1] = {static_cast<int>(picture.size(1)) * 3};
    // The encoder may still hold the last frame's buffer.
    check(av_frame_make_writable(s.frame), "allocate a frame");
    sws_scale(s.scaler, rows, stride, 0, s.frame->height, s.frame->data, s.frame->linesize);
    s.frame->pts = s.frames++;
    s.encode(s.frame);
  }
}

std::string VideoEncoder::finish() {
  State& s = *state_;
  if (s.frames == 0) throw DataError("video: no frames were given");
  s.encode(nullptr);
  check(av_write_trailer(s.format), "end the MP4");
  avio_flush(s.format->pb);
  if (s.file.disk != nullptr) {
    const bool good = std::fflush(s.file.disk) == 0 && s.format->pb->error >= 0;
    std::fclose(s.file.disk);
    s.file.disk = nullptr;
    if (!good) {
      std::remove((s.path + ".partial").c_str());
      throw DataError(s.path + ": cannot be written: the disk is full");
    }
    put_in_place(s.path + ".partial", s.path);
  }
  return std::move(s.file.bytes);
}

std::string VideoEncoder::codec() const { return state_->codec->codec->name; }

std::string encode_video(const torch::Tensor& frames, double fps) {
  TORCH_CHECK(frames.dim() == 4, "a film is uint8 [T, H, W, 3], got ", frames.sizes());
  VideoEncoder encoder(frames.size(1), frames.size(2), fps);
  encoder.add(frames);
  return encoder.finish();
}

void write_video(const std::string& path, const torch::Tensor& frames, double fps) {
  std::string bytes;
  try {
    bytes = encode_video(frames, fps);
  } catch (const DataError& error) {
    throw DataError(path + ": " + error.what());
  }
  write_file_atomic(path, bytes);
}

}  // namespace jepa::eval::report

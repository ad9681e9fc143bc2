// One open media file: its packets, its decoded frames, and their conversion. Names no FFmpeg
// header, so that it costs those who include it nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

struct AVCodecContext;
struct AVFormatContext;
struct AVFrame;
struct AVIOContext;
struct AVPacket;
struct AVStream;
struct SwsContext;

namespace jepa {

/// How decoded pixels are turned to be shown: a pixel at (x, y) goes to (y, x) first where
/// `transpose` says so, then is mirrored.
struct Turn {
  bool transpose = false;
  bool mirror_x = false;
  bool mirror_y = false;
  bool none() const { return !transpose && !mirror_x && !mirror_y; }
};

/// One plane of `bytes` a pixel, [height, width] as decoded, turned into `to` without gaps.
void turn_plane(const uint8_t* from, int64_t stride, int64_t height, int64_t width, int64_t bytes,
                const Turn& turn, uint8_t* to);

/// Shares of red and blue in luma.
struct LumaWeights {
  double red = 0.299;  // ITU-R BT.601, also where a file does not say
  double blue = 0.114;
};
/// Those of the frame's colour space; BT.601 where it has none or is RGB.
LumaWeights luma_weights(const AVFrame& frame);

/// The turn that a decoded frame itself asks for (EXIF orientation of pictures).
Turn frame_turn(const AVFrame& frame);

/// Converts and scales frames; keeps its tables from frame to frame.
class Scaler {
 public:
  Scaler() = default;
  Scaler(const Scaler&) = delete;
  Scaler& operator=(const Scaler&) = delete;
  ~Scaler() { reset(); }
  void reset();

  /// @param format AV_PIX_FMT_YUV420P (limited range), GRAY8 or RGB24
  /// @param height, width of the frame before it is turned
  /// @return the planes one after the other, without gaps
  /// @throws DataError where the pixel format cannot be converted
  std::vector<uint8_t> convert(const AVFrame& frame, int format, int64_t height, int64_t width,
                               const Turn& turn);

 private:
  struct Key {
    int width = 0, height = 0, format = -1, full = 0, colours = 0;
    int to_format = -1, to_width = 0, to_height = 0;
    bool operator==(const Key&) const = default;
  };
  void prepare(const Key& key);

  SwsContext* context_ = nullptr;
  Key key_;
  std::vector<uint8_t> room_;
};

/// Bytes that come through a pipe.
struct PipeInput {
  int descriptor = -1;
  double timeout = 0;               ///< seconds without a byte after which it has stalled; 0: waits
  std::function<bool()> stop = {};  ///< asked while it waits; true ends the stream
};

/// An open file with its best video stream and a decoder. Opens no other file, whatever the file
/// says, and takes no name for a pattern or a protocol.
class Decoder {
 public:
  /// Told of packets that the decoder refuses: their time, and why.
  using Bad = std::function<void(int64_t time, const std::string& why)>;

  /// @throws DataError naming the file
  explicit Decoder(const std::string& path);
  /// A container that can be read in one go.
  /// @param name in messages
  /// @throws DataError naming it
  Decoder(const std::string& name, const PipeInput& pipe);
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder();

  const AVStream& stream() const;
  const AVCodecContext& codec() const { return *codec_; }
  AVCodecContext& codec() { return *codec_; }

  /// The next packet of the stream, valid until the next call; null at the end of the file.
  const AVPacket* packet();
  /// Why packet() gave none; empty: the file's regular end.
  std::string read_error() const;

  /// At the end: why it is not a regular one, in words; empty: it is. A pipe's container is
  /// followed by its own framing (stream_walk.hpp); a cut between its frames is not seen where it
  /// does not say how long it is.
  std::string early_end() const;

  /// The next frame, valid until the next call; null at the end of the file.
  const AVFrame* frame(const Bad& bad);

  /// Goes to the key frame at `time`, or to the start of the file.
  bool seek(int64_t time);

  /// How the stream is turned to be shown.
  Turn turn() const;

  /// Bytes that the file's own tables promise beyond its end; 0: none, or they do not say.
  int64_t missing_bytes() const;

  /// Whether the file's format ends with a trailer (GIF) and it has none.
  bool lacks_trailer() const;

  /// How long the header says that the video is, in the stream's time base; 0: it does not say, or
  /// its word is no proof of frames (a last frame may be held, a stream may start late).
  double promised_length() const;

  /// False for formats where a seek may end beside the frame that was asked for.
  bool exact_seek() const;

  static int64_t time_of(const AVPacket& packet);

 private:
  void open();
  void open_file();
  void open_container();
  void close();
  void plain_picture();
  bool is_format(const char* name) const;

  struct Pipe;

  std::string path_;
  std::unique_ptr<Pipe> pipe_;  // where it is no file
  int64_t file_size_ = 0;
  AVIOContext* io_ = nullptr;
  AVFormatContext* format_ = nullptr;
  AVCodecContext* codec_ = nullptr;
  AVPacket* packet_ = nullptr;
  AVFrame* frame_ = nullptr;
  int stream_ = -1;
  int read_error_ = 0;
  bool cut_packet_ = false;  // the last packet is known to be cut off
  int64_t frames_ = 0;       // so far
  int64_t mended_ = 0;       // of these, the last that the decoder had to mend
  int64_t packets_end_ = 0;  // bytes from the start to where packets so far end
  bool draining_ = false;
  int64_t last_time_;
};

}  // namespace jepa

// One video or image file through FFmpeg: which frames it has, and any of them decoded.
#pragma once

#include <jepa/data/video_decoder.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace jepa {

/// What a video file holds.
struct VideoInfo {
  int64_t frames = 0;
  int64_t height = 0;  ///< as decoded frames are handed out (scaled where that was asked)
  int64_t width = 0;
  double fps = 0.0;            ///< 0: unknown
  bool constant_rate = false;  ///< every frame's time is that of `fps`, rounded
  bool timed = false;          ///< it varies, and VideoReader::times() tells how
};

/// How frames are scaled once they are decoded, by averages over areas.
struct FrameScale {
  int64_t short_side = 0;  ///< to this short side, odd or not; 0: as they are
  int64_t divide = 1;      ///< then to 1 / divide
};

/// Height and width of a frame once it is scaled; even, for 4:2:0, but for an odd short side that
/// was asked for.
void scaled_size(const FrameScale& scale, int64_t& height, int64_t& width);

/// A decoded frame, turned as it is shown: planar Y'CbCr, 4:2:0, limited range; or why there is
/// none.
struct VideoFrame {
  std::vector<uint8_t>
      planes;  ///< Y [H, W], then (unless only luma was asked) Cb and Cr of half of it, rounded up
  LumaWeights weights;  ///< how its colours are coded
  std::string error;    ///< not empty: the frame could not be decoded
};

/// Decodes one file. Not safe for threads; each file has one decoder, with one thread.
class VideoReader {
 public:
  /// Reads the file's packets once to know its frames, without decoding them.
  /// @param luma_only hand out no colour planes
  /// @throws DataError naming the file: missing, empty, not a video, ends early
  VideoReader(const std::string& path, const FrameScale& scale, bool luma_only);
  ~VideoReader();

  const VideoInfo& info() const;
  /// Each frame's time from the first one's, in seconds; empty where the rate is constant or
  /// the file tells no times.
  std::vector<double> times() const;

  /// The frame where decoding starts so that frame `first` can be reached: where the last call
  /// ended when that is nearer than the last key frame, else that key frame (the first frame of
  /// files whose times are not good enough to seek by).
  int64_t decode_start(int64_t first) const;

  /// Frames first .. first + count - 1. A frame that cannot be decoded is returned with its error.
  std::vector<VideoFrame> decode(int64_t first, int64_t count);

  /// Closes the file until the next decode(): for lists of more videos than files can be open.
  void release();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// A picture file as [H, W, channels].
/// @throws DataError naming the file
std::vector<uint8_t> read_image(const std::string& path, const FrameScale& scale, int64_t channels,
                                int64_t& height, int64_t& width);

}  // namespace jepa

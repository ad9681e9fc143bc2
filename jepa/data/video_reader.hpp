// One video or image file through FFmpeg: which frames it has, and any of them decoded.
#pragma once

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
  double fps = 0.0;  ///< 0: unknown; of a variable rate the mean
  /// Where the rate varies: when each frame is shown, seconds from the first one; else empty.
  std::vector<double> times = {};
};

/// How frames are scaled once they are decoded, by averages over areas.
struct FrameScale {
  int64_t short_side = 0;  ///< to this short side; 0: as they are
  int64_t divide = 1;      ///< then to 1 / divide
};

/// How Y'CbCr becomes R'G'B'.
struct FrameColours {
  double red = 0.299;       ///< share of red in luma (ITU-R BT.601, BT.709, BT.2020, ...)
  double blue = 0.114;      ///< share of blue
  bool full_range = false;  ///< 0 to 255; else luma 16 to 235, chroma 16 to 240
  bool operator==(const FrameColours&) const = default;
};

/// A decoded frame: planar Y'CbCr, 4:2:0, turned as the file says; or why there is none.
struct VideoFrame {
  std::vector<uint8_t>
      planes;         ///< Y [H, W], then (unless only luma was asked) Cb and Cr [H/2, W/2]
  FrameColours colours = {};
  std::string error;  ///< not empty: the frame could not be decoded
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

/// A picture file as [H, W, channels], turned as its EXIF orientation says.
/// @throws DataError naming the file
std::vector<uint8_t> read_image(const std::string& path, const FrameScale& scale, int64_t channels,
                                int64_t& height, int64_t& width);

}  // namespace jepa

// A video as it comes: one pass from the first frame on, each decoded once, nothing kept. Files of
// any length and pipes alike.
#pragma once

#include <jepa/data/video_reader.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace jepa {

/// How a stream is read.
struct StreamOptions {
  FrameScale scale;
  double timeout = 30;  ///< seconds without a byte after which a pipe has stalled; 0: waits
  /// Asked about ten times a second while a pipe is waited for; true ends the stream.
  std::function<bool()> stop = {};
};

/// A frame of a stream.
struct StreamFrame {
  VideoFrame picture;  ///< scaled; `error` is empty
  int64_t height = 0;  ///< of the picture
  int64_t width = 0;
  double seconds = 0;  ///< since the first one; goes on where the stream's clock jumps
  /// What is not as it should be, joined by `+`; empty: nothing.
  /// - `size`: frames are of another size from here on
  /// - `lost`: something before it could not be decoded
  /// - `damaged`: it is corrupt, or builds on a frame that is
  /// - `clock`: its time is no successor of the last one's
  std::string mark;
};

class VideoStream {
 public:
  /// @param path a file, or `-`: the standard input, a container that can be read in one go (what
  ///   ffmpeg writes into a pipe: Matroska, NUT, MPEG-TS, yuv4mpegpipe, fragmented MP4, ...)
  /// @throws DataError naming it: missing, no video, or stalled before its first frame
  VideoStream(const std::string& path, const StreamOptions& options);
  ~VideoStream();

  /// Frames a second that the stream claims; 0: it does not say.
  double fps() const;

  /// The next frame; none at the end, see end().
  std::optional<StreamFrame> next();

  /// Why a stream that is at its end ended: empty: regularly; else in words ("nothing came for
  /// 30 s", "it ends within a frame", "stopped").
  /// @note Matroska and NUT over a pipe do not say where they end: a cut between frames is regular.
  const std::string& end() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace jepa

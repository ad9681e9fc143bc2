// Films from tensors: MP4 that browsers play, through FFmpeg.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>

namespace jepa::eval::report {

/// Encodes frames as they come and gives the MP4 file's bytes at the end (H.264 in yuv420p where
/// FFmpeg has an encoder for it, else MPEG-4 part 2, which players show and browsers may not).
///
/// The format halves colour resolution, so sides must be even: an odd side gets its last row or
/// column repeated once.
class VideoEncoder {
 public:
  /// @param path where the film is written as it grows, beside it until finish() renames it: memory
  ///   is then that of the frames under way and of the film's index; empty: kept in memory
  /// @throws DataError where no encoder takes frames of this size, or the file cannot be made
  VideoEncoder(int64_t height, int64_t width, double fps, const std::string& path = {});
  ~VideoEncoder();
  VideoEncoder(const VideoEncoder&) = delete;
  VideoEncoder& operator=(const VideoEncoder&) = delete;

  /// Appends uint8 [H, W, 3] or [T, H, W, 3].
  void add(const torch::Tensor& frames);
  /// Ends the film; nothing can be added after. Empty where it is a file.
  /// @throws DataError if no frame was added, or the disk is full
  std::string finish();
  /// Name of the encoder in use, such as `libx264`.
  std::string codec() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// MP4 bytes from `frames` uint8 [T, H, W, 3].
std::string encode_video(const torch::Tensor& frames, double fps);

/// Writes `encode_video(frames, fps)` to `path`, whole or not at all.
/// @throws DataError naming the file.
void write_video(const std::string& path, const torch::Tensor& frames, double fps);

}  // namespace jepa::eval::report

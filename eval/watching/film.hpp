// The film that was watched, under its heat, in pieces that are written as it goes.
#pragma once

#include <eval/report/video_writer.hpp>
#include <eval/watching/peaks.hpp>

#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::watching {

/// Frames with their heat, uint8 [T, scale*H, scale*W, 3].
/// @param full surprise of a token that is drawn brightest
torch::Tensor draw_frames(const std::vector<SeenFrame>& frames, int64_t scale, double full);

/// Writes frames under their heat as one film, a few drawn at a time.
/// @throws DataError on a full disk
void write_clip(const std::string& path, const std::vector<SeenFrame>& frames, int64_t scale,
                double full, double fps);

/// Writes `FOLDER/film-000.mp4`, `film-001.mp4`, ... of `piece` frames each: an MP4's index grows
/// with its length, a piece's does not with the film's. The piece under way is `.partial`.
class FilmWriter {
 public:
  FilmWriter(std::string folder, double fps, int64_t piece, int64_t scale);

  /// @throws DataError on a full disk
  void add(const SeenFrame& frame, double full);
  void finish();
  /// Files so far, without the folder.
  int64_t pieces() const { return pieces_; }
  /// `film-000.mp4#t=12.340`: where frame `index` is shown.
  std::string place(int64_t index) const;
  static std::string name(int64_t piece);

 private:
  void flush();

  std::string folder_;
  double fps_;
  int64_t piece_, scale_;
  int64_t pieces_ = 0;   // begun
  int64_t written_ = 0;  // frames of this piece
  double full_ = 0;
  std::vector<SeenFrame> waiting_;  // drawn together
  std::unique_ptr<report::VideoEncoder> encoder_;
};

}  // namespace jepa::eval::watching

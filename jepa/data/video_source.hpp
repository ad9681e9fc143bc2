// Clips cut from video files.
#pragma once

#include <jepa/data/media_list.hpp>
#include <jepa/data/video_library.hpp>

#include <string>
#include <utility>
#include <vector>

namespace jepa {

/// Clips from videos: clip i comes from video i / clips_per_video. Columns: `label`, and `video`,
/// the number in the list. Files are opened when they are first read; a bad one is an error of its
/// clips.
class VideoSource : public ClipSource {
 public:
  /// @throws DataError where the list is empty
  VideoSource(const std::vector<MediaEntry>& videos, const ClipOptions& options);

  int64_t size() const override;
  using ClipSource::read;
  RawClip read(int64_t index, Random& random, const CropChooser& crop) const override;
  std::vector<std::string> columns() const override { return {"label", "video"}; }
  torch::Tensor column(const std::string& name) const override;

  /// Names of the classes 0, 1, ...; empty: not known.
  const std::vector<std::string>& class_names() const { return class_names_; }
  const VideoLibrary& library() const { return library_; }
  /// The file, and which of its clips.
  std::string name(int64_t index) const override;
  /// How many frames of its clips make a second, of all videos that can be read; 0: unknown, or not
  /// the same of all (see rates()). Opens those that were not read yet.
  double frames_a_second() const;
  /// The lowest and the highest of them.
  std::pair<double, double> rates() const;

 private:
  ClipOptions options_;
  std::vector<int64_t> labels_;
  std::vector<std::string> class_names_;
  VideoLibrary library_;
};

}  // namespace jepa

// Clips cut from video files.
#pragma once

#include <jepa/data/media_list.hpp>
#include <jepa/data/video_library.hpp>

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
  /// How many frames of its clips make a second of the first video that can be read; 0: unknown.
  double frames_a_second() const;

 private:
  ClipOptions options_;
  std::vector<int64_t> labels_;
  std::vector<std::string> class_names_;
  VideoLibrary library_;
};

}  // namespace jepa

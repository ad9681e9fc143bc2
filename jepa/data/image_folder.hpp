// Folders of pictures, as clips of one frame.
#pragma once

#include <jepa/data/clip_source.hpp>

namespace jepa {

/// The pictures below a folder, in the order of their paths, each a clip of one frame. Where they
/// lie in folders of the first level, each such folder is a class. Column: `label`.
class ImageFolder : public ClipSource {
 public:
  /// Uses `short_side` and `channels` of the options.
  /// @param folder or a single picture
  /// @throws DataError where there is no picture
  ImageFolder(const std::string& folder, const ClipOptions& options);

  int64_t size() const override { return static_cast<int64_t>(paths_.size()); }
  using ClipSource::read;
  RawClip read(int64_t index, Random& random, const CropChooser& crop) const override;
  std::string name(int64_t index) const override { return paths_[static_cast<size_t>(index)]; }
  std::vector<std::string> columns() const override { return {"label"}; }
  /// Names of the classes 0, 1, ...; empty: all pictures lie in one folder.
  const std::vector<std::string>& class_names() const { return class_names_; }
  torch::Tensor column(const std::string& name) const override;

 private:
  ClipOptions options_;
  std::vector<std::string> paths_;
  std::vector<int64_t> labels_;
  std::vector<std::string> class_names_;
};

}  // namespace jepa

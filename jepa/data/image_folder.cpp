#include <jepa/data/augment.hpp>
#include <jepa/data/image_folder.hpp>
#include <jepa/data/media_list.hpp>
#include <jepa/data/video_reader.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <filesystem>

namespace jepa {

ImageFolder::ImageFolder(const std::string& folder, const ClipOptions& options)
    : options_(options) {
  if (options_.channels == 2) throw ConfigError("channels: expected 1 or 3, found 2");
  std::error_code error;
  if (std::filesystem::is_regular_file(folder, error)) {
    paths_ = {folder};
    labels_ = {0};
    return;
  }
  auto pictures = list_images(folder);
  class_names_ = jepa::class_names(pictures);
  for (auto& entry : pictures) {
    paths_.push_back(std::move(entry.path));
    labels_.push_back(entry.label);
  }
  if (paths_.empty()) throw DataError(folder + ": no videos or pictures in it");
}

RawClip ImageFolder::read(int64_t index, Random& random, const CropChooser& crop) const {
  RawClip clip{1, 0, 0, options_.channels, {}};
  clip.pixels =
      read_image(paths_[static_cast<size_t>(index)], {}, clip.channels, clip.height, clip.width);
  // The long side is cut to whole pixels, as the published pipelines of pictures do.
  const int64_t side = std::min(clip.height, clip.width);
  if (options_.short_side > 0 && options_.short_side != side) {
    clip = resize_antialiased(clip, clip.height * options_.short_side / side,
                              clip.width * options_.short_side / side);
  }
  if (!crop) return clip;
  return cut_frames(clip.pixels.data(), 1, clip.height, clip.width, clip.channels,
                    crop(clip.height, clip.width, random));
}

torch::Tensor ImageFolder::column(const std::string& name) const {
  return name == "label" ? torch::tensor(labels_) : ClipSource::column(name);
}

}  // namespace jepa

#include <jepa/data/clip_source.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/data/image_folder.hpp>
#include <jepa/data/media_list.hpp>
#include <jepa/data/recipe.hpp>
#include <jepa/data/video_source.hpp>
#include <jepa/errors.hpp>

#include <algorithm>
#include <filesystem>

namespace jepa {
namespace {

/// Whether a folder is one of pictures: no videos in it, or pictures with only GIFs among them.
bool holds_pictures(const std::string& folder) {
  const auto videos = list_videos(folder);
  const bool only_gifs = std::all_of(videos.begin(), videos.end(), [](const MediaEntry& video) {
    return lower_extension(video.path) == ".gif";
  });
  return videos.empty() || (only_gifs && !list_images(folder).empty());
}

}  // namespace

std::shared_ptr<ClipSource> open_clip_source(const std::string& path, const ClipOptions& options) {
  const std::string extension = lower_extension(path);
  if (extension == ".h5" || extension == ".hdf5") return std::make_shared<ClipStore>(path, options);
  if (extension == ".ini") return open_recipe(path);
  if (!options.signal_names().empty()) {
    throw DataError(path + ": videos and images carry no signals (clip.signals " + options.signals +
                    ")");
  }
  std::error_code error;
  const bool folder = std::filesystem::is_directory(path, error);
  const bool picture = std::filesystem::is_regular_file(path, error) && is_picture(path);
  if (picture || (folder && holds_pictures(path))) {
    return std::make_shared<ImageFolder>(path, options);
  }
  return std::make_shared<VideoSource>(find_videos(path), options);
}

}  // namespace jepa

#include <jepa/data/clip_source.hpp>

#include <jepa/data/clip_store.hpp>
#include <jepa/data/image_folder.hpp>
#include <jepa/data/video_source.hpp>
#include <jepa/errors.hpp>

#include <filesystem>

namespace jepa {

std::shared_ptr<ClipSource> open_clip_source(const std::string& path, const ClipOptions& options) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (path.empty()) throw DataError("no data: a path is needed");
  if (!fs::exists(path, error)) throw DataError(path + ": no such file or folder");
  const std::string extension = lower_extension(path);
  if (fs::is_directory(path, error)) {
    if (const auto videos = list_videos(path); !videos.empty()) {
      return std::make_shared<VideoSource>(videos, options);
    }
    return std::make_shared<ImageFolder>(path, options);
  }
  if (extension == ".h5" || extension == ".hdf5") return std::make_shared<ClipStore>(path, options);
  if (extension == ".txt" || extension == ".csv") {
    return std::make_shared<VideoSource>(read_video_list(path), options);
  }
  return std::make_shared<VideoSource>(std::vector<MediaEntry>{{path, 0}}, options);
}

}  // namespace jepa

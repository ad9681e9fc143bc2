#include <jepa/data/media_list.hpp>
#include <jepa/errors.hpp>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

namespace jepa {
namespace {

namespace fs = std::filesystem;

using Extensions = std::set<std::string>;

/// The files below a folder that end in one of `extensions`.
std::vector<MediaEntry> list_files(const std::string& folder, const Extensions& extensions) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && extensions.contains(lower_extension(entry.path().string()))) {
      found.push_back(entry.path());
    }
  }
  std::sort(found.begin(), found.end());
  std::map<std::string, int64_t> classes;
  for (const auto& path : found) {
    const fs::path inside = path.lexically_relative(folder);
    if (inside.has_parent_path()) classes.emplace(inside.begin()->string(), 0);
  }
  int64_t next = 0;
  for (auto& [name, label] : classes) label = next++;
  std::vector<MediaEntry> entries;
  for (const auto& path : found) {
    const fs::path inside = path.lexically_relative(folder);
    entries.push_back(
        {path.string(), inside.has_parent_path() ? classes[inside.begin()->string()] : 0});
  }
  return entries;
}

}  // namespace

std::string lower_extension(const std::string& path) {
  std::string extension = fs::path(path).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension;
}

std::vector<MediaEntry> read_video_list(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw DataError(path + ": cannot be read");
  std::vector<MediaEntry> entries;
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    const std::string separator = line.find("::") != std::string::npos ? "::" : " ";
    const size_t at = line.rfind(separator);
    const std::string label = at == std::string::npos ? "" : line.substr(at + separator.size());
    MediaEntry entry;
    const auto parsed = std::from_chars(label.data(), label.data() + label.size(), entry.label);
    if (label.empty() || parsed.ec != std::errc() || parsed.ptr != label.data() + label.size()) {
      throw DataError(path + ": line " + std::to_string(number) +
                      ": expected 'path label', found '" + line + "'");
    }
    const fs::path video(line.substr(0, at));
    entry.path = (video.is_absolute() ? video : fs::path(path).parent_path() / video).string();
    entries.push_back(std::move(entry));
  }
  if (entries.empty()) throw DataError(path + ": lists no videos");
  return entries;
}

std::vector<MediaEntry> list_videos(const std::string& folder) {
  return list_files(folder, {".mp4", ".avi", ".mpg", ".mpeg", ".mkv", ".mov", ".webm", ".m4v",
                             ".ogv", ".wmv", ".ts"});
}

std::vector<MediaEntry> find_videos(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    throw DataError(path.empty() ? "no data: a path is needed" : path + ": no such file or folder");
  }
  if (fs::is_directory(path, error)) {
    auto videos = list_videos(path);
    if (videos.empty()) throw DataError(path + ": no videos in it");
    return videos;
  }
  const std::string extension = lower_extension(path);
  if (extension == ".txt" || extension == ".csv") return read_video_list(path);
  return {{path, 0}};
}

std::vector<MediaEntry> list_images(const std::string& folder) {
  return list_files(folder,
                    {".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp", ".tif", ".tiff"});
}

}  // namespace jepa

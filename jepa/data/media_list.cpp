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

/// Adds the files below `folder` that end in one of `extensions`. Links to folders are entered,
/// each folder once; hidden files, dead links and what may not be read are passed over.
void add_files(const fs::path& folder, const Extensions& extensions, std::set<fs::path>& entered,
               std::vector<fs::path>& found) {
  std::error_code error;
  const fs::path real = fs::canonical(folder, error);
  if (error || !entered.insert(real).second) return;
  std::vector<fs::path> inside;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    inside.push_back(entry->path());
  }
  // In the order of names: which of two links to one folder is entered must not be chance.
  std::sort(inside.begin(), inside.end());
  for (const auto& path : inside) {
    const std::string name = path.filename().string();
    if (name.starts_with(".")) continue;  // also the "._" files of other systems
    std::error_code unknown;
    if (fs::is_directory(path, unknown)) {
      add_files(path, extensions, entered, found);
    } else if (fs::is_regular_file(path, unknown) && extensions.contains(lower_extension(name))) {
      found.push_back(path);
    }
  }
}

/// The files below a folder that end in one of `extensions`.
std::vector<MediaEntry> list_files(const std::string& folder, const Extensions& extensions) {
  std::vector<fs::path> found;
  std::set<fs::path> entered;
  add_files(folder, extensions, entered, found);
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
    if (inside.has_parent_path()) {
      const std::string name = inside.begin()->string();
      entries.push_back({path.string(), classes[name], name});
    } else {
      entries.push_back({path.string(), 0, ""});
    }
  }
  return entries;
}

}  // namespace

std::vector<std::string> class_names(const std::vector<MediaEntry>& entries) {
  std::vector<std::string> names;
  for (const auto& entry : entries) {
    if (entry.class_name.empty()) return {};
    const auto label = static_cast<size_t>(entry.label);
    if (label >= names.size()) names.resize(label + 1);
    names[label] = entry.class_name;
  }
  return names;
}

std::string lower_extension(const std::string& path) {
  std::string extension = fs::path(path).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension;
}

namespace {

/// A line of a list: a path, in quotes or not, then `::`, commas or blanks, and a whole number.
bool parse_line(const std::string& line, std::string& path, int64_t& label) {
  constexpr const char* kBetween = " \t,;";
  std::string rest;
  if (line.front() == '"') {
    size_t at = 1;
    for (; at < line.size(); ++at) {
      if (line[at] != '"') {
        path += line[at];
      } else if (at + 1 < line.size() && line[at + 1] == '"') {
        path += line[++at];  // a doubled quote is one
      } else {
        break;
      }
    }
    if (at == line.size()) return false;
    rest = line.substr(at + 1);
    const size_t start = rest.find_first_not_of(" \t,;:");
    rest = start == std::string::npos ? "" : rest.substr(start);
  } else {
    const size_t colons = line.rfind("::");
    const size_t at = colons != std::string::npos ? colons : line.find_last_of(kBetween);
    if (at == std::string::npos) return false;
    rest = line.substr(at + (colons != std::string::npos ? 2 : 1));
    path = line.substr(0, at);
    path.erase(path.find_last_not_of(kBetween) + 1);
  }
  if (rest.size() > 1 && rest.front() == '"' && rest.back() == '"') {
    rest = rest.substr(1, rest.size() - 2);
  }
  const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), label);
  return !path.empty() && parsed.ec == std::errc() && parsed.ptr == rest.data() + rest.size();
}

}  // namespace

std::vector<MediaEntry> read_video_list(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw DataError(path + ": cannot be read");
  std::vector<MediaEntry> entries;
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (number == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    line.erase(line.find_last_not_of(" \t\r") + 1);
    line.erase(0, line.find_first_not_of(" \t"));
    if (line.empty() || line.front() == '#') continue;
    MediaEntry entry;
    std::string name;
    const std::string where = path + ": line " + std::to_string(number) + ": ";
    if (!parse_line(line, name, entry.label)) {
      throw DataError(where + "expected 'path label', found '" + line + "'");
    }
    constexpr int64_t kMost = 1'000'000'000;
    if (entry.label < 0 || entry.label >= kMost) {
      throw DataError(where + "labels are numbered from 0 on, found " +
                      std::to_string(entry.label));
    }
    const fs::path video(name);
    entry.path = (video.is_absolute() ? video : fs::path(path).parent_path() / video).string();
    entries.push_back(std::move(entry));
  }
  if (entries.empty()) throw DataError(path + ": lists no videos");
  return entries;
}

std::vector<MediaEntry> list_videos(const std::string& folder) {
  return list_files(folder, {".mp4", ".avi", ".mpg", ".mpeg", ".mkv", ".mov", ".webm", ".m4v",
                             ".ogv", ".wmv", ".ts", ".m2ts", ".mts", ".3gp", ".flv", ".gif"});
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
  return {{path, 0, ""}};
}

namespace {

const Extensions& picture_extensions() {
  static const Extensions extensions{".png",  ".jpg", ".jpeg", ".bmp",  ".pgm", ".ppm",
                                     ".webp", ".tif", ".tiff", ".heic", ".avif"};
  return extensions;
}

}  // namespace

bool is_picture(const std::string& path) {
  return picture_extensions().contains(lower_extension(path));
}

std::vector<MediaEntry> list_images(const std::string& folder) {
  return list_files(folder, picture_extensions());
}

}  // namespace jepa

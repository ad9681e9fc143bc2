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

/// A walk through folders.
struct Walk {
  const Extensions& extensions;
  std::set<fs::path> entered = {};
  std::vector<fs::path> links = {};  // to folders that are still to be entered
  std::vector<fs::path> found = {};
  std::vector<std::pair<fs::path, std::string>> closed = {};  // folders, and why
};

/// Adds the files below `folder` that end in one of the extensions, and the links to folders.
/// Hidden files and dead links are passed over.
void add_files(const fs::path& folder, Walk& walk) {
  std::error_code error;
  const fs::path real = fs::canonical(folder, error);
  if (error) return walk.closed.emplace_back(folder, error.message()), void();
  if (!walk.entered.insert(real).second) return;
  std::vector<fs::path> inside;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    inside.push_back(entry->path());
  }
  if (error) return walk.closed.emplace_back(folder, error.message()), void();
  std::sort(inside.begin(), inside.end());
  for (const auto& path : inside) {
    const std::string name = path.filename().string();
    if (name.starts_with(".")) continue;  // also the "._" files of other systems
    const fs::file_status status = fs::status(path, error);
    if (fs::is_directory(status)) {
      if (fs::is_symlink(fs::symlink_status(path, error))) {
        walk.links.push_back(path);
      } else {
        add_files(path, walk);
      }
    } else if (fs::is_regular_file(status)) {
      if (walk.extensions.contains(lower_extension(name))) walk.found.push_back(path);
    } else if (error == std::errc::permission_denied || error == std::errc::io_error) {
      walk.closed.emplace_back(path, error.message());  // it could be a folder
    }
  }
}

/// A folder that cannot be read is passed over, but for one that stands among classes: the others
/// would be numbered as if it were not there.
/// @throws DataError naming it
void require_open(const fs::path& folder, const Walk& walk) {
  const bool classes = std::all_of(walk.found.begin(), walk.found.end(), [&](const fs::path& file) {
    return file.parent_path() != folder;
  });
  for (const auto& [path, why] : walk.closed) {
    const bool among_classes =
        classes && path.parent_path() == folder && path.filename() != "lost+found";
    if (path == folder || among_classes) {
      throw DataError(path.string() + ": cannot be read (" + why + ")");
    }
  }
}

/// The files below a folder. Each folder is entered once: where it lies, and by a link (the first
/// one, in the order of names) only where it lies nowhere else below.
std::vector<fs::path> walk_folder(const fs::path& folder, const Extensions& extensions) {
  Walk walk{.extensions = extensions};
  const fs::path top = (folder / "").parent_path();  // without a slash at its end
  add_files(top, walk);
  while (!walk.links.empty()) {
    std::vector<fs::path> links;
    links.swap(walk.links);
    std::sort(links.begin(), links.end());
    for (const auto& link : links) add_files(link, walk);
  }
  require_open(top, walk);
  return std::move(walk.found);
}

/// The files below a folder that end in one of `extensions`.
std::vector<MediaEntry> list_files(const std::string& folder, const Extensions& extensions) {
  std::vector<fs::path> found = walk_folder(folder, extensions);
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

/// Whether a text is a whole number, in quotes or not.
bool is_number(std::string& text) {
  text.erase(0, std::min(text.find_first_not_of(" \t"), text.size()));
  if (text.size() > 1 && text.front() == '"' && text.back() == '"') {
    text = text.substr(1, text.size() - 2);
  }
  const size_t sign = text.starts_with("-") ? 1 : 0;
  return text.size() > sign && text.find_first_not_of("0123456789", sign) == std::string::npos;
}

/// Reads a path in quotes; what comes after it is left.
bool take_quoted(std::string& line, std::string& path) {
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
  line.erase(0, at + 1);
  return true;
}

/// A line of a list: a path, in quotes or not, then `::`, commas or blanks, and a whole number.
bool parse_line(std::string line, std::string& path, std::string& label) {
  constexpr const char* kBetween = " \t,;";
  line.erase(line.find_last_not_of(kBetween) + 1);  // an empty last column
  if (line.starts_with("\"")) {
    if (!take_quoted(line, path)) return false;
    label = line.substr(std::min(line.find_first_not_of(" \t,;:"), line.size()));
    return !path.empty() && is_number(label);
  }
  size_t end = line.rfind("::");
  if (end != std::string::npos) label = line.substr(end + 2);
  if (end == std::string::npos || !is_number(label)) {  // names may hold `::` too
    end = line.find_last_of(kBetween);
    if (end == std::string::npos) return false;
    label = line.substr(end + 1);
  }
  path = line.substr(0, end);
  path.erase(path.find_last_not_of(kBetween) + 1);
  return !path.empty() && is_number(label);
}

/// @param where the list and line, for messages
int64_t class_of(const std::string& label, const std::string& where) {
  constexpr int64_t kMost = 1'000'000'000;
  int64_t number = 0;
  const auto parsed = std::from_chars(label.data(), label.data() + label.size(), number);
  if (parsed.ec == std::errc() && number >= 0 && number < kMost) return number;
  throw DataError(where +
                  (label.starts_with("-") ? "labels are numbered from 0 on, found "
                                          : "labels end at 999999999, found ") +
                  label.substr(0, 40));
}

}  // namespace

void require_file(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) throw DataError(path + ": no such file");
  if (!fs::is_regular_file(path, error)) throw DataError(path + ": not a regular file");
}

std::vector<MediaEntry> read_video_list(const std::string& path) {
  require_file(path);
  std::ifstream file(path);
  if (!file) throw DataError(path + ": cannot be read");
  std::vector<MediaEntry> entries;
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (number == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
    if (line.find('\0') != std::string::npos) {
      const bool utf16 = line.starts_with("\xFF\xFE") || line.starts_with("\xFE\xFF");
      throw DataError(path + (utf16 ? ": text in UTF-16, expected UTF-8" : ": not a text file"));
    }
    line.erase(line.find_last_not_of(" \t\r") + 1);
    line.erase(0, line.find_first_not_of(" \t"));
    if (line.empty() || line.front() == '#') continue;
    MediaEntry entry;
    std::string name, label;
    const std::string where = path + ": line " + std::to_string(number) + ": ";
    if (!parse_line(line, name, label)) {
      const bool is_long = line.size() > 200;
      throw DataError(where + "expected 'path label', found '" + line.substr(0, 200) +
                      (is_long ? "...'" : "'"));
    }
    entry.label = class_of(label, where);
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

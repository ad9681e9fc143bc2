// The folder layouts, and films read from them.
#include <eval/physics/benchmarks.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/data/clip_source.hpp>
#include <jepa/data/media_list.hpp>
#include <jepa/data/video_reader.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <tuple>

namespace jepa::eval::physics {
namespace {

namespace fs = std::filesystem;

/// What lies in a folder, by name.
std::vector<fs::path> sorted_entries(const fs::path& folder, bool folders) {
  std::vector<fs::path> entries;
  if (!fs::is_directory(folder)) throw DataError(folder.string() + ": no such folder");
  for (const auto& entry : fs::directory_iterator(folder)) {
    const bool hidden = entry.path().filename().string().starts_with(".");
    if (!hidden && entry.is_directory() == folders) entries.push_back(entry.path());
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool is_possible(const fs::path& movie) {
  const fs::path path = movie / "status.json";
  try {
    std::ifstream file(path);
    return nlohmann::json::parse(file).at("header").at("is_possible").get<bool>();
  } catch (const nlohmann::json::exception& error) {
    throw DataError(path.string() + ": expected header.is_possible (" + error.what() + ")");
  }
}

/// The number that a file's name ends with; -1: none.
int64_t number_of(const fs::path& file) {
  const std::string stem = file.stem();
  const size_t last = stem.find_last_not_of("0123456789");
  const std::string digits = last == std::string::npos ? stem : stem.substr(last + 1);
  return digits.empty() || digits.size() > 9 ? -1 : std::stoll(digits);
}

/// @throws DataError where a frame is missing among the numbered ones, or they are not in order
void require_frames(const fs::path& folder) {
  std::vector<int64_t> numbers;
  for (const auto& file : sorted_entries(folder, false)) {
    if (is_picture(file) && number_of(file) >= 0) numbers.push_back(number_of(file));
  }
  if (numbers.empty()) throw DataError(folder.string() + ": no numbered pictures in it");
  auto sorted = numbers;
  std::sort(sorted.begin(), sorted.end());
  int64_t expected = sorted.front() == 0 ? 0 : 1;
  for (const int64_t number : sorted) {
    if (number != expected) {
      throw DataError(c10::str(folder.string(), ": frame ", number > expected ? expected : number,
                               number > expected ? " is missing" : " is there twice"));
    }
    ++expected;
  }
  if (sorted != numbers) {
    throw DataError(folder.string() +
                    ": the names of its frames are not in the order of their numbers; expected as "
                    "many digits in each");
  }
}

std::string file_bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Frames that two folders of pictures have in common from the start.
int64_t common_frames(const fs::path& a, const fs::path& b) {
  const auto first = sorted_entries(a, false), second = sorted_entries(b, false);
  int64_t common = 0;
  for (size_t t = 0; t < std::min(first.size(), second.size()); ++t) {
    if (file_bytes(first[t]) != file_bytes(second[t])) break;
    ++common;
  }
  return common;
}

std::vector<FilmPair> intphys_pairs(const fs::path& root) {
  std::vector<FilmPair> pairs;
  for (const auto& block : sorted_entries(root, true)) {
    for (const auto& scene : sorted_entries(block, true)) {
      std::vector<fs::path> possible, impossible;
      for (const auto& movie : sorted_entries(scene, true)) {
        require_frames(movie / "scene");
        (is_possible(movie) ? possible : impossible).push_back(movie / "scene");
      }
      if (possible.size() != 2 || impossible.size() != 2) {
        throw DataError(c10::str(scene.string(), ": expected two possible and two impossible ",
                                 "films, found ", possible.size(), " and ", impossible.size()));
      }
      const int64_t straight =
          common_frames(possible[0], impossible[0]) + common_frames(possible[1], impossible[1]);
      const int64_t crossed =
          common_frames(possible[0], impossible[1]) + common_frames(possible[1], impossible[0]);
      if (crossed > straight) std::swap(impossible[0], impossible[1]);
      for (size_t i = 0; i < 2; ++i) {
        pairs.push_back({block.filename(), scene.filename(), possible[i], impossible[i]});
      }
    }
  }
  return pairs;
}

std::vector<FilmPair> grasp_pairs(const fs::path& root) {
  std::vector<FilmPair> pairs;
  for (const auto& folder : sorted_entries(root, true)) {
    const std::string name = folder.filename();
    if (!name.starts_with("P_")) continue;
    const fs::path other = root / ("I" + name);
    for (const auto& film : sorted_entries(folder, false)) {
      const fs::path impossible = other / film.filename();
      if (!fs::exists(impossible)) {
        throw DataError(film.string() + ": has no impossible film " + impossible.string());
      }
      pairs.push_back({name.substr(2), film.stem(), film, impossible});
    }
  }
  return pairs;
}

std::vector<FilmPair> inflevel_pairs(const fs::path& root, const std::string& possible_types) {
  const auto listed = probes::split_names(possible_types);
  const std::set<std::string> can(listed.begin(), listed.end());
  std::vector<FilmPair> pairs;
  for (const auto& folder : sorted_entries(root, true)) {
    // Name without the type, and its first letter -> impossible and possible film.
    std::map<std::pair<std::string, char>, std::array<fs::path, 2>> found;
    for (const auto& film : sorted_entries(folder, false)) {
      if (film.extension() != ".mp4") continue;
      std::vector<std::string> parts;
      std::string rest = film.stem();
      for (size_t at; (at = rest.find("__")) != std::string::npos; rest = rest.substr(at + 2)) {
        parts.push_back(rest.substr(0, at));
      }
      parts.push_back(rest);
      if (parts.size() < 5 || parts[4].size() != 2) {
        throw DataError(film.string() +
                        ": expected CAMERA__PROPERTY__OBJECT__OBJECT__TYPE with a "
                        "type of two letters");
      }
      std::string type = parts[4];
      std::transform(type.begin(), type.end(), type.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      parts.erase(parts.begin() + 4);
      auto& place = found[{c10::Join("__", parts), type[0]}][can.contains(type) ? 1 : 0];
      if (!place.empty()) {
        throw DataError(film.string() + ": as possible as " + place.string() +
                        "; see the option inflevel_possible");
      }
      place = film;
    }
    for (const auto& [name, films] : found) {
      if (films[0].empty() || films[1].empty()) continue;  // not every event was filmed both ways
      // Several cameras see one event, and its films of either type are of the same things.
      const std::string scene = name.first.substr(name.first.find("__") + 2);
      pairs.push_back({folder.filename(), scene, films[1], films[0]});
    }
  }
  return pairs;
}

/// One clip of a source as uint8 [C, T, side, side], cropped about the middle.
torch::Tensor cropped(const RawClip& clip, int64_t side, const std::string& path) {
  if (clip.height < side || clip.width < side) {
    throw DataError(
        c10::str(path, ": frames of ", clip.height, " x ", clip.width, " are smaller than ", side));
  }
  const auto frames = torch::tensor(at::ArrayRef<uint8_t>(clip.pixels), torch::kUInt8)
                          .view({clip.frames, clip.height, clip.width, clip.channels});
  return frames.permute({3, 0, 1, 2})
      .narrow(2, (clip.height - side) / 2, side)
      .narrow(3, (clip.width - side) / 2, side)
      .contiguous();
}

}  // namespace

std::vector<FilmPair> find_film_pairs(const BenchmarkOptions& options) {
  std::vector<FilmPair> pairs;
  if (options.benchmark == "intphys") {
    pairs = intphys_pairs(options.data);
  } else if (options.benchmark == "grasp") {
    pairs = grasp_pairs(options.data);
  } else if (options.benchmark == "inflevel") {
    pairs = inflevel_pairs(options.data, options.inflevel_possible);
  } else {
    throw ConfigError("option benchmark: expected intphys, grasp or inflevel, found " +
                      options.benchmark);
  }
  if (pairs.empty()) {
    throw DataError(options.data + ": no pairs of films in the layout of " + options.benchmark);
  }
  std::stable_sort(pairs.begin(), pairs.end(), [](const FilmPair& a, const FilmPair& b) {
    return std::tie(a.property, a.scene) < std::tie(b.property, b.scene);
  });
  return pairs;
}

torch::Tensor read_film(const std::string& path, int64_t step, int64_t side, int64_t channels) {
  ClipOptions options{.short_side = side, .channels = channels};
  Random random(0);
  if (!fs::is_directory(path)) {
    const int64_t frames = VideoReader(path, {}, true).info().frames;
    options.frames = (frames + step - 1) / step;
    options.frame_step = step;
    options.random_window = false;
    // From the first frame on, whatever the film's length: no room is left on either side.
    options.to = static_cast<double>((options.frames - 1) * step + 1) / static_cast<double>(frames);
    return cropped(open_clip_source(path, options)->read(0, random), side, path);
  }
  const auto pictures = open_clip_source(path, options);
  std::vector<torch::Tensor> frames;
  for (int64_t i = 0; i < pictures->size(); i += step) {
    frames.push_back(cropped(pictures->read(i, random), side, path));
  }
  return torch::cat(frames, 1);
}

}  // namespace jepa::eval::physics

#include <jepa/data/clip_store.hpp>
#include <jepa/data/image_folder.hpp>
#include <jepa/data/label_names.hpp>
#include <jepa/data/video_source.hpp>
#include <jepa/errors.hpp>

#include <algorithm>
#include <sstream>

namespace jepa {

std::vector<std::string> label_names(const ClipSource& source) {
  if (const auto* videos = dynamic_cast<const VideoSource*>(&source)) return videos->class_names();
  if (const auto* images = dynamic_cast<const ImageFolder*>(&source)) return images->class_names();
  const auto* store = dynamic_cast<const ClipStore*>(&source);
  if (store == nullptr) return {};
  const auto found = store->info().attributes.find("label_names");
  if (found == store->info().attributes.end()) return {};
  return read_names(found->second);
}

std::string join_names(const std::vector<std::string>& names) {
  std::string text;
  for (std::string name : names) {
    std::replace(name.begin(), name.end(), '\n', ' ');
    text += (text.empty() ? "" : "\n") + name;
  }
  return text;
}

std::vector<std::string> read_names(const std::string& text) {
  std::vector<std::string> names;
  std::istringstream lines(text);
  for (std::string name; std::getline(lines, name);) names.push_back(name);
  return names;
}

void require_same_labels(const ClipSource& a, const std::string& a_path, const ClipSource& b,
                         const std::string& b_path) {
  const auto left = label_names(a);
  const auto right = label_names(b);
  if (left.empty() || right.empty()) return;
  const auto name = [](const std::vector<std::string>& names, size_t i) {
    return i < names.size() ? "'" + names[i] + "'" : std::string("no class");
  };
  for (size_t i = 0; i < std::max(left.size(), right.size()); ++i) {
    if (name(left, i) == name(right, i)) continue;
    throw DataError("label " + std::to_string(i) + " is " + name(left, i) + " in " + a_path +
                    " but " + name(right, i) + " in " + b_path +
                    ": both need the same class folders (or a `path label` list)");
  }
}

}  // namespace jepa

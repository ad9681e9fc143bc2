// The shipped recipes cut down for tests: width, depth, clip and batch; all else stays as written.
#pragma once

#include <jepa/options.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

namespace jepa {

/// The recipes of examples/configs that `pretrain` reads.
inline std::vector<std::string> pretraining_recipes() {
  std::vector<std::string> found;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(JEPA_SOURCE_DIR) + "/examples/configs")) {
    const std::string file = entry.path().filename();
    if (!file.ends_with(".ini") || file.starts_with("compare") || file.starts_with("surprise") ||
        file.starts_with("scale")) {
      continue;
    }
    // What other programs read has no masks.
    const OptionValues recipe = read_ini(entry.path());
    if (std::none_of(recipe.begin(), recipe.end(),
                     [](const auto& option) { return option.first.starts_with("mask."); })) {
      continue;
    }
    found.push_back(entry.path());
  }
  return found;
}

/// Whether clips are cut out of films, which takes larger ones (published recipes).
inline bool crops_clips(const OptionValues& recipe) { return recipe.contains("augment.size"); }

/// What is cut down of `recipe`, as options.
inline std::vector<std::string> cut_down(const OptionValues& recipe) {
  const auto has = [&](const std::string& key) { return recipe.contains(key); };
  const auto value = [&](const std::string& key) {
    return has(key) ? recipe.at(key) : std::string();
  };
  std::vector<std::string> options{"--loader.threads",  "1",  "--encoder.preset", "custom",
                                   "--encoder.dim",     "48", "--encoder.depth",  "4",
                                   "--encoder.heads",   "2",  "--predictor.dim",  "48",
                                   "--predictor.depth", "2"};
  const auto add = [&](const std::string& key, const std::string& text) {
    options.push_back("--" + key);
    options.push_back(text);
  };
  if (value("predictor.heads") != "0") add("predictor.heads", "2");
  if (has("encoder.output_levels")) add("encoder.output_levels", "0,1,2,3");
  if (has("predictor.embed_hidden")) add("predictor.embed_hidden", "64");
  if (has("optimisation.accumulate")) add("optimisation.accumulate", "2");
  if (has("clip.frames") && value("clip.frames") != "1") {
    add("clip.frames", "4");
    add("encoder.frames", "4");
  }
  if (has("clip.fps")) add("clip.fps", "0");
  if (has("augment.size")) {
    const std::string size = value("encoder.patch") == "14" ? "84" : "96";
    add("augment.size", size);
    add("encoder.height", size);
    add("encoder.width", size);
  }
  if (has("encoder.pixel_mean") && value("encoder.pixel_mean").find(',') != std::string::npos) {
    add("encoder.pixel_mean", "127.5");  // the digits have one channel
    add("encoder.pixel_std", "63.75");
  }
  if (has("probe.labels")) add("probe.labels", "");  // those of other data
  return options;
}

}  // namespace jepa

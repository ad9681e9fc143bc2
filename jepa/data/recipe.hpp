// A data set in words: what to generate or to cut from which files. The same description makes a
// clip store (program make_data) or is trained on directly, where a path to such an ini file is
// given.
#pragma once

#include <jepa/data/clip_source.hpp>
#include <jepa/data/creatures.hpp>
#include <jepa/data/footage.hpp>
#include <jepa/data/generated.hpp>

namespace jepa {

/// A data set in words.
struct DataRecipe {
  /// digits, shapes, creatures (generated); footage (labelled crops); files
  std::string kind = "digits";
  std::string data;             ///< footage: videos; files: what open_clip_source() takes
  std::string split = "train";  ///< of generated clips and footage
  int64_t clips = 10000;        ///< of generated clips and footage
  GeneratedOptions generated;
  CreatureOptions creatures;
  FootageOptions footage;
  ClipOptions clip;

  /// Its options: its own ones without a section, `[generated]`, `[creatures]`,
  /// `[footage]`, `[clip]`.
  std::vector<OptionSection> sections();
  /// Licence of generated clips; empty: that of the files they are cut from.
  std::string licence() const;
  /// The source it describes.
  /// @throws DataError, ConfigError
  std::shared_ptr<ClipSource> open(uint64_t seed) const;
};

/// Reads a recipe from an ini file (with its `seed`) and opens it.
/// @throws ConfigError naming the key
std::shared_ptr<ClipSource> open_recipe(const std::string& path);

}  // namespace jepa

// Whose cells a folder holds, where several programs keep theirs under the same names.
#pragma once

#include <jepa/errors.hpp>
#include <jepa/options.hpp>

#include <filesystem>
#include <string>

namespace jepa::eval::comparison {

/// A folder without cells, or with those of a run that was asked for by option `asked` (a switch or
/// a name), may be gone on with.
/// @param option that named the folder @param asked empty: no cells are its own
/// @throws ConfigError where the cells are another experiment's
inline void require_own_cells(const std::string& option, const std::string& folder,
                              const std::string& asked = "") {
  if (!std::filesystem::exists(folder + "/cells")) return;
  const std::string config = folder + "/config.ini";
  const auto values = std::filesystem::exists(config) ? read_ini(config) : OptionValues();
  const auto own = values.find(asked);
  if (own != values.end() && !own->second.empty() && own->second != "false") return;
  throw ConfigError("option " + option + ": " + folder +
                    " holds the cells of another experiment; name a folder of its own");
}

}  // namespace jepa::eval::comparison

// Whose cells a folder holds, where several programs keep theirs under the same names.
#pragma once

#include <jepa/errors.hpp>
#include <jepa/options.hpp>

#include <filesystem>
#include <string>

namespace jepa::eval::comparison {

/// A folder without cells, or with those of a run that was asked for by option `asked` (a switch, a
/// name, or an option that its program alone has), may be gone on with.
/// @param option that named the folder
/// @param asked empty: no cells are its own
/// @param not_asked another switch or name, with which the same program keeps other cells
/// @throws ConfigError where the cells are another experiment's
inline void require_own_cells(const std::string& option, const std::string& folder,
                              const std::string& asked = "", const std::string& not_asked = "") {
  if (!std::filesystem::exists(folder + "/cells")) return;
  const std::string config = folder + "/config.ini";
  const auto values = std::filesystem::exists(config) ? read_ini(config) : OptionValues();
  const auto is_on = [&](const std::string& name) {
    const auto found = values.find(name);
    return found != values.end() && !found->second.empty() && found->second != "false";
  };
  if (is_on(asked) && !is_on(not_asked)) return;
  throw ConfigError("option " + option + ": " + folder +
                    " holds the cells of another experiment; name a folder of its own");
}

}  // namespace jepa::eval::comparison

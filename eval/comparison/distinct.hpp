// Lists of which every entry is a cell of its own.
#pragma once

#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>

#include <set>
#include <string>
#include <vector>

namespace jepa::eval::comparison {

/// An entry that is there twice would be one cell that counts as two.
/// @param option that the list is of @param note follows "is there twice"
/// @throws ConfigError naming option and entry, as names of cells have it
template <class Value>
void require_distinct(const std::string& option, const std::vector<Value>& values,
                      const std::string& note = "") {
  std::set<std::string> known;
  for (const auto& value : values) {
    const std::string text = c10::str(value);
    if (known.insert(text).second) continue;
    throw ConfigError("option " + option + ": " + text + " is there twice" + note);
  }
}

}  // namespace jepa::eval::comparison

// Text by name: attributes of a store, options of a run.
#pragma once

#include <map>
#include <string>

namespace jepa {

/// The value of `name`; empty where there is none.
inline std::string value_or_empty(const std::map<std::string, std::string>& values,
                                  const std::string& name) {
  const auto found = values.find(name);
  return found == values.end() ? std::string() : found->second;
}

}  // namespace jepa

// JSON as text.
#pragma once

#include <string>

namespace jepa {

/// Bytes that are no UTF-8 (in names of files) become U+FFFD: a report is not lost over a name.
/// @param indent blanks a level; -1: on one line
template <class Json>
std::string json_text(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace jepa

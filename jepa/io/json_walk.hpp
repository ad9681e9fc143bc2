// JSON from files that are not trusted: walked value by value, never built as a tree.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace jepa {

/// A leaf of a JSON text. Whole numbers that are not negative come as uint64_t.
using JsonScalar = std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string_view>;

/// Receives the values of a JSON text in order. `path` holds the keys from the root down; an array
/// element stands under an empty key.
class JsonVisitor {
 public:
  virtual ~JsonVisitor() = default;
  virtual void object(const std::vector<std::string>& path) = 0;
  virtual void array(const std::vector<std::string>& path) = 0;
  virtual void scalar(const std::vector<std::string>& path, const JsonScalar& value) = 0;
};

/// Walks `text`; `name` is the file in messages. Memory stays under three quarters of the text's
/// length plus 300 kB: nesting is limited to 8 levels and a single token to 64 KiB plus an eighth
/// of the text.
/// @throws CheckpointError naming the file: not JSON, too deep, a token too long.
void walk_json(std::string_view text, const std::string& name, JsonVisitor& visitor);

}  // namespace jepa

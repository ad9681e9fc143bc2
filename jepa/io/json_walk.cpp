#include <jepa/errors.hpp>
#include <jepa/io/json_walk.hpp>

#include <nlohmann/json.hpp>

namespace jepa {
namespace {

constexpr size_t kMaxDepth = 8;

// The parser keeps the token it is reading, blanks before it included, in growing buffers: the
// longest token bounds its memory.
void check_token_lengths(std::string_view text, const std::string& name) {
  const size_t limit = 65536 + text.size() / 8;
  size_t start = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (i - start > limit) throw CheckpointError(name + ": a JSON token is too long");
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
      start = i;
    } else if (std::string_view(",:{}[]").find(c) != std::string_view::npos) {
      start = i;
    }
  }
}

class Walker : public nlohmann::json_sax<nlohmann::json> {
 public:
  Walker(const std::string& name, JsonVisitor& visitor) : name_(name), visitor_(visitor) {}

  bool null() override { return scalar(nullptr); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_integer(number_integer_t value) override { return scalar(int64_t{value}); }
  bool number_unsigned(number_unsigned_t value) override { return scalar(uint64_t{value}); }
  bool number_float(number_float_t value, const string_t&) override { return scalar(value); }
  bool string(string_t& value) override { return scalar(std::string_view(value)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override {
    enter();
    visitor_.object(path_);
    path_.emplace_back();
    return true;
  }
  bool key(string_t& value) override {
    path_.back() = value;
    return true;
  }
  bool end_object() override {
    path_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override {
    enter();
    visitor_.array(path_);
    path_.emplace_back();
    return true;
  }
  bool end_array() override {
    path_.pop_back();
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    throw CheckpointError(name_ + ": not valid JSON at byte " + std::to_string(position));
  }

 private:
  bool scalar(const JsonScalar& value) {
    visitor_.scalar(path_, value);
    return true;
  }
  void enter() {
    if (path_.size() >= kMaxDepth) {
      throw CheckpointError(name_ + ": JSON nested deeper than " + std::to_string(kMaxDepth));
    }
  }

  const std::string& name_;
  JsonVisitor& visitor_;
  std::vector<std::string> path_;
};

}  // namespace

void walk_json(std::string_view text, const std::string& name, JsonVisitor& visitor) {
  check_token_lengths(text, name);
  Walker walker(name, visitor);
  nlohmann::json::sax_parse(text.begin(), text.end(), &walker);
}

}  // namespace jepa

#include <jepa/errors.hpp>
#include <jepa/options.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <set>
#include <sstream>

namespace jepa {
namespace {

template <class Number>
std::string number_text(Number value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;  // shortest exact
  return std::string(buffer, end);
}

template <class Number>
std::string list_text(const std::vector<Number>& values) {
  std::string text;
  for (const Number value : values) text += (text.empty() ? "" : ",") + number_text(value);
  return text;
}

std::string trim(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::string range_text(const OptionInfo& info) {
  const bool low = std::isfinite(info.min);
  const bool high = std::isfinite(info.max);
  if (low && high) return number_text(info.min) + " to " + number_text(info.max);
  if (low) return "at least " + number_text(info.min);
  if (high) return "at most " + number_text(info.max);
  return "";
}

std::string choices_text(const OptionInfo& info) {
  std::string text;
  for (const auto& choice : info.choices) text += (text.empty() ? "" : "|") + choice;
  return text;
}

/// Gives every option as text; subclasses decide what to do with it.
class TextVisitor : public OptionVisitor {
 public:
  void operator()(std::string_view name, bool& value, const OptionInfo& info) override {
    text(name, value ? "true" : "false", info);
  }
  void operator()(std::string_view name, int64_t& value, const OptionInfo& info) override {
    text(name, number_text(value), info);
  }
  void operator()(std::string_view name, double& value, const OptionInfo& info) override {
    text(name, number_text(value), info);
  }
  void operator()(std::string_view name, std::string& value, const OptionInfo& info) override {
    text(name, value, info);
  }
  void operator()(std::string_view name, std::vector<double>& value,
                  const OptionInfo& info) override {
    text(name, list_text(value), info);
  }
  void operator()(std::string_view name, std::vector<int64_t>& value,
                  const OptionInfo& info) override {
    text(name, list_text(value), info);
  }

 protected:
  virtual void text(std::string_view name, const std::string& value, const OptionInfo& info) = 0;
};

class Collector : public TextVisitor {
 public:
  std::vector<std::pair<std::string, std::string>> items;

 protected:
  void text(std::string_view name, const std::string& value, const OptionInfo&) override {
    items.emplace_back(name, value);
  }
};

class HelpPrinter : public TextVisitor {
 public:
  HelpPrinter(std::string prefix, std::ostream& out) : prefix_(std::move(prefix)), out_(out) {}

 protected:
  void text(std::string_view name, const std::string& value, const OptionInfo& info) override {
    std::string left = "  --" + prefix_ + std::string(name);
    left.resize(std::max<size_t>(left.size() + 2, 36), ' ');
    out_ << left << info.help;
    if (!info.unit.empty()) out_ << " [" << info.unit << "]";
    const std::string allowed = info.choices.empty() ? range_text(info) : choices_text(info);
    if (!allowed.empty()) out_ << "; " << allowed;
    out_ << " (default " << (value.empty() ? "none" : value) << ")\n";
  }

 private:
  std::string prefix_;
  std::ostream& out_;
};

/// Writes given values into the options and remembers which keys exist.
class Applier : public OptionVisitor {
 public:
  Applier(std::string prefix, const OptionValues& values, std::set<std::string>& known)
      : prefix_(std::move(prefix)), values_(values), known_(known) {}

  void operator()(std::string_view name, bool& value, const OptionInfo&) override {
    if (const std::string* text = find(name)) {
      if (*text == "true" || *text == "1" || *text == "yes" || *text == "on") {
        value = true;
      } else if (*text == "false" || *text == "0" || *text == "no" || *text == "off") {
        value = false;
      } else {
        fail(name, *text, "true or false");
      }
    }
  }
  void operator()(std::string_view name, int64_t& value, const OptionInfo& info) override {
    if (const std::string* text = find(name)) value = parse<int64_t>(name, *text, info);
  }
  void operator()(std::string_view name, double& value, const OptionInfo& info) override {
    if (const std::string* text = find(name)) value = parse<double>(name, *text, info);
  }
  void operator()(std::string_view name, std::string& value, const OptionInfo& info) override {
    if (const std::string* text = find(name)) {
      if (!info.choices.empty() &&
          std::find(info.choices.begin(), info.choices.end(), *text) == info.choices.end()) {
        fail(name, *text, "one of " + choices_text(info));
      }
      value = *text;
    }
  }
  void operator()(std::string_view name, std::vector<double>& value,
                  const OptionInfo& info) override {
    if (const std::string* text = find(name)) value = parse_list<double>(name, *text, info);
  }
  void operator()(std::string_view name, std::vector<int64_t>& value,
                  const OptionInfo& info) override {
    if (const std::string* text = find(name)) value = parse_list<int64_t>(name, *text, info);
  }

 private:
  const std::string* find(std::string_view name) {
    const std::string key = prefix_ + std::string(name);
    known_.insert(key);
    const auto found = values_.find(key);
    return found == values_.end() ? nullptr : &found->second;
  }
  [[noreturn]] void fail(std::string_view name, const std::string& text,
                         const std::string& expected) const {
    throw ConfigError("option " + prefix_ + std::string(name) + ": expected " + expected +
                      ", found '" + text + "'");
  }
  template <class Number>
  Number parse(std::string_view name, const std::string& text, const OptionInfo& info) const {
    const bool integer = std::is_same_v<Number, int64_t>;
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || text.empty()) {
      fail(name, text, integer ? "a whole number" : "a number");
    }
    const double number = static_cast<double>(value);
    if (!std::isfinite(number)) fail(name, text, "a finite number");
    if (number < info.min || number > info.max) fail(name, text, range_text(info));
    return value;
  }
  template <class Number>
  std::vector<Number> parse_list(std::string_view name, const std::string& text,
                                 const OptionInfo& info) const {
    std::vector<Number> values;
    std::istringstream stream(text);
    for (std::string item; std::getline(stream, item, ',');) {
      values.push_back(parse<Number>(name, trim(item), info));
    }
    return values;
  }

  std::string prefix_;
  const OptionValues& values_;
  std::set<std::string>& known_;
};

std::string prefix_of(const OptionSection& section) {
  return section.name.empty() ? "" : section.name + ".";
}

/// Names that options once had: older runs and ini files stay readable.
const std::pair<std::string, std::string> kRenamed[] = {{"diffusion.says", "diffusion.prediction"},
                                                        {"diffusion.compared", "diffusion.loss"}};

}  // namespace

OptionValues parse_ini(const std::string& text, const std::string& name) {
  std::istringstream stream(text);
  OptionValues values;
  std::string section;
  int64_t number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    const auto fail = [&](const std::string& what) {
      throw ConfigError(name + ": line " + std::to_string(number) + ": " + what);
    };
    line = trim(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    if (line.front() == '[') {
      if (line.back() != ']') fail("a section ends with ], found '" + line + "'");
      section = trim(line.substr(1, line.size() - 2)) + ".";
      continue;
    }
    const auto equals = line.find('=');
    if (equals == std::string::npos) fail("expected key = value, found '" + line + "'");
    const std::string key = section + trim(line.substr(0, equals));
    if (!values.emplace(key, trim(line.substr(equals + 1))).second) {
      fail("key " + key + " is given twice");
    }
  }
  return values;
}

OptionValues read_ini(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ConfigError(path + ": cannot be opened");
  std::ostringstream text;
  text << file.rdbuf();
  if (file.bad()) throw ConfigError(path + ": cannot be read");
  return parse_ini(text.str(), path);
}

void apply_options(const std::vector<OptionSection>& sections, const OptionValues& given) {
  OptionValues values = given;
  for (const auto& [old, now] : kRenamed) {
    if (auto node = values.extract(old)) {
      node.key() = now;
      if (!values.insert(std::move(node)).inserted) {
        throw ConfigError("options " + old + " and " + now + " are the same: give one");
      }
    }
  }
  std::set<std::string> known;
  for (const auto& section : sections) {
    Applier applier(prefix_of(section), values, known);
    section.describe(applier);
  }
  for (const auto& [key, value] : values) {
    if (!known.contains(key)) throw ConfigError("unknown option " + key);
  }
}

std::string dump_ini(const std::vector<OptionSection>& sections) {
  std::ostringstream out;
  const auto dump = [&](const OptionSection& section) {
    Collector collector;
    section.describe(collector);
    if (!section.name.empty()) out << "[" << section.name << "]\n";
    for (const auto& [name, value] : collector.items) out << name << " = " << value << "\n";
    out << "\n";
  };
  // Options without a section come first: below a [section] they would be read as its own.
  for (const auto& section : sections) {
    if (section.name.empty()) dump(section);
  }
  for (const auto& section : sections) {
    if (!section.name.empty()) dump(section);
  }
  return out.str();
}

OptionValues dump_options(const std::vector<OptionSection>& sections) {
  OptionValues values;
  for (const auto& section : sections) {
    Collector collector;
    section.describe(collector);
    for (const auto& [name, value] : collector.items) values[prefix_of(section) + name] = value;
  }
  return values;
}

std::string describe_options(const std::vector<OptionSection>& sections) {
  std::ostringstream out;
  for (const auto& section : sections) {
    out << "\n" << (section.name.empty() ? "options" : section.name);
    if (!section.help.empty()) out << ": " << section.help;
    out << "\n";
    HelpPrinter printer(prefix_of(section), out);
    section.describe(printer);
  }
  return out.str();
}

int64_t count_numbered(const OptionValues& given, const std::string& section) {
  const std::string prefix = section + ".";
  int64_t largest = 0;
  std::vector<bool> seen(100, false);
  for (const auto& [key, value] : given) {
    if (!key.starts_with(prefix)) continue;
    const std::string number =
        key.substr(prefix.size(), key.find('.', prefix.size()) - prefix.size());
    if (number.empty() || number.size() > 2 ||
        number.find_first_not_of("0123456789") != std::string::npos || number == "0") {
      throw ConfigError("option " + key + ": sections of this kind are [" + section + ".1], [" +
                        section + ".2], ...");
    }
    const int64_t index = std::stoll(number);
    seen[static_cast<size_t>(index)] = true;
    largest = std::max(largest, index);
  }
  for (int64_t i = 1; i <= largest; ++i) {
    if (!seen[static_cast<size_t>(i)]) {
      throw ConfigError("[" + section + "." + std::to_string(largest) + "] is given but [" +
                        section + "." + std::to_string(i) + "] is not");
    }
  }
  return largest;
}

}  // namespace jepa

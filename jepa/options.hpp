// Options as plain structs, each with one `describe(visitor)`. That single list drives the command
// line, the ini file, the resolved dump, the checkpoint and validation.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace jepa {

/// What an option is, beside its name and value.
struct OptionInfo {
  std::string_view help = {};
  std::string_view unit = {};
  double min = -std::numeric_limits<double>::infinity();  ///< inclusive
  double max = std::numeric_limits<double>::infinity();   ///< inclusive
  std::vector<std::string> choices = {};                  ///< for strings; empty: any
};

/// Walks the members of an options struct. An ordinary virtual interface, so that describing an
/// option costs nothing at compile time.
class OptionVisitor {
 public:
  virtual ~OptionVisitor() = default;
  virtual void operator()(std::string_view name, bool& value, const OptionInfo& info) = 0;
  virtual void operator()(std::string_view name, int64_t& value, const OptionInfo& info) = 0;
  virtual void operator()(std::string_view name, double& value, const OptionInfo& info) = 0;
  virtual void operator()(std::string_view name, std::string& value, const OptionInfo& info) = 0;
  /// Lists are comma-separated: `0.15,0.2`.
  virtual void operator()(std::string_view name, std::vector<double>& value,
                          const OptionInfo& info) = 0;
  virtual void operator()(std::string_view name, std::vector<int64_t>& value,
                          const OptionInfo& info) = 0;
};

/// A named part of a program's options: `[name]` in the ini file, `--name.key` on the command line.
struct OptionSection {
  std::string name;
  std::string help;
  std::function<void(OptionVisitor&)> describe;
};

/// `section.key` -> text, in the order given. Later settings of a key replace earlier ones.
using OptionValues = std::map<std::string, std::string>;

/// Reads an ini file into `section.key` -> value.
/// @throws ConfigError naming the file and line.
OptionValues read_ini(const std::string& path);

/// Parses ini text; `name` is used in messages.
OptionValues parse_ini(const std::string& text, const std::string& name);

/// Parses `--section.key value`, `--section.key=value` and `--flag` arguments (no abbreviations,
/// no positional arguments). A flag alone, when followed by another option or nothing, is "true".
/// @throws ConfigError naming the argument.
OptionValues parse_command_line(int argc, const char* const* argv);

/// The largest N of the sections [section.N] that keys name; 0: there is none.
/// @throws ConfigError where a number below it is left out.
int64_t count_numbered(const OptionValues& given, const std::string& section);

/// Writes `values` into the sections.
/// @throws ConfigError naming the key: unknown, wrong type, out of range or not among the choices.
void apply_options(const std::vector<OptionSection>& sections, const OptionValues& values);

/// The sections as ini text; reading it back gives the same values bit for bit.
std::string dump_ini(const std::vector<OptionSection>& sections);

/// The sections as `section.key` -> value, the form stored in checkpoints.
OptionValues dump_options(const std::vector<OptionSection>& sections);

/// The sections as help text, one line an option with its default, unit and range.
std::string describe_options(const std::vector<OptionSection>& sections);

}  // namespace jepa

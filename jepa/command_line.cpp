// Command lines. Boost stays in this file: it is dear to compile, and the core does without it.
#include <jepa/errors.hpp>
#include <jepa/options.hpp>

#include <boost/program_options.hpp>

namespace jepa {
namespace po = boost::program_options;

OptionValues parse_command_line(int argc, const char* const* argv) {
  namespace style = po::command_line_style;
  po::options_description none;
  OptionValues values;
  try {
    // Nothing is registered: names are checked against the sections later, with the ini file's.
    const auto parsed = po::command_line_parser(argc, argv)
                            .options(none)
                            .style(style::allow_long | style::long_allow_adjacent)
                            .allow_unregistered()
                            .run();
    std::string* open = nullptr;  // the option that a following bare word belongs to
    for (const auto& option : parsed.options) {
      if (option.position_key >= 0 || option.string_key.empty()) {
        const std::string word =
            option.value.empty() ? option.original_tokens.front() : option.value.front();
        if (open == nullptr) throw ConfigError("argument '" + word + "' belongs to no option");
        *open = word;
        open = nullptr;
      } else if (option.value.empty()) {
        open = &(values[option.string_key] = "true");
      } else {
        values[option.string_key] = option.value.front();
        open = nullptr;
      }
    }
  } catch (const po::error& error) {
    throw ConfigError(std::string("command line: ") + error.what());
  }
  return values;
}

}  // namespace jepa

#include <jepa/io/foreign_file.hpp>
#include <jepa/printable.hpp>

#include <algorithm>
#include <cctype>

namespace jepa {

namespace {

// Printed characters and white space alone; ASCII where a binary header would be.
bool all_text(std::string_view bytes) {
  const auto printed = [](unsigned char c) {
    return (c >= 0x20 && c != 0x7f) || (c >= '\t' && c <= '\r');
  };
  const auto ascii = [](unsigned char c) { return c < 0x80; };
  const std::string_view header = bytes.substr(0, 8);
  return std::all_of(bytes.begin(), bytes.end(), printed) &&
         std::all_of(header.begin(), header.end(), ascii);
}

}  // namespace

std::string foreign_file(std::string_view bytes) {
  using namespace std::string_view_literals;
  if (bytes.empty()) return "an empty file (0 bytes)";
  if (bytes.starts_with("\x89HDF\r\n")) return "an HDF5 file, not a weight file";
  if (bytes.starts_with("GGUF")) return "a GGUF file, which is not read here";
  if (bytes.starts_with("\x1f\x8b")) return "compressed with gzip; unpack it first";
  if (bytes.starts_with("version https://git-lfs")) {
    return "a Git LFS pointer, not the weights; fetch them with `git lfs pull`";
  }
  if (bytes.starts_with("\xef\xbb\xbf")) bytes.remove_prefix(3);
  const size_t start = bytes.find_first_not_of(" \t\r\n"sv);
  if (start == std::string_view::npos) return "";
  std::string text(bytes.substr(start, 16));
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (text.starts_with("<!doctype html") || text.starts_with("<html") ||
      text.starts_with("<head")) {
    return "a web page (HTML), not the weights; the download needs another address or a login";
  }
  if (text.starts_with("<?xml") || text.starts_with("<error")) {
    return "an XML document (often a server's refusal), not the weights";
  }
  // A safetensors file starts with a length, of which text would make more than 2^56 bytes.
  const std::string_view beginning = bytes.substr(0, 64);
  if (!all_text(beginning)) return "";
  if (text[0] == '{' || text[0] == '[') {
    return "JSON text, not weights; name the weight file, or the folder that holds it";
  }
  const std::string_view line = bytes.substr(start, 40);
  return "a text file, not weights; it begins '" +
         printable(line.substr(0, line.find_first_of("\r\n"sv))) + "'";
}

}  // namespace jepa

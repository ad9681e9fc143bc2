#include <jepa/io/foreign_file.hpp>

#include <algorithm>
#include <cctype>

namespace jepa {

std::string foreign_file(std::string_view bytes) {
  using namespace std::string_view_literals;
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
  return "";
}

}  // namespace jepa

#include <jepa/printable.hpp>

namespace jepa {

std::string printable(std::string_view text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string result;
  const auto escape = [&](unsigned char byte) {
    result += "\\x";
    result += kDigits[byte >> 4];
    result += kDigits[byte & 15];
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const unsigned char next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    if (byte == '\n') {
      result += "\\n";
    } else if (byte == '\t') {
      result += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      escape(byte);
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {  // U+0080 to U+009F
      escape(byte);
      escape(next);
      ++i;
    } else {
      result += text[i];
    }
  }
  return result;
}

}  // namespace jepa

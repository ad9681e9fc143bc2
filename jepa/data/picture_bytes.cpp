#include <jepa/data/picture_bytes.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

namespace jepa {
namespace {

constexpr size_t kTagCompression = 259;
constexpr size_t kTagOrientation = 274;
constexpr size_t kTagSampleFormat = 339;
constexpr size_t kTagDngVersion = 50706;

/// A number of `length` bytes; what lies past the end counts as 0.
size_t number_at(std::string_view bytes, size_t at, size_t length, bool little) {
  size_t value = 0;
  for (size_t i = 0; i < length; ++i) {
    const size_t place = at + (little ? length - 1 - i : i);
    value = value * 256 + (place < bytes.size() ? static_cast<unsigned char>(bytes[place]) : 0);
  }
  return value;
}

/// The first directory of a TIFF, which EXIF data is as well.
class TiffDirectory {
 public:
  static constexpr size_t kEntry = 12;  // bytes: tag, type, count, value or where it is

  explicit TiffDirectory(std::string_view bytes) : bytes_(bytes) {
    little_ = bytes.starts_with(std::string_view("II*\0", 4));
    if (!little_ && !bytes.starts_with(std::string_view("MM\0*", 4))) return;
    start_ = number(4, 4);
    if (start_ < 8 || start_ + 2 > bytes.size()) return;
    entries_ = std::min(number(start_, 2), (bytes.size() - start_ - 2) / kEntry);
  }

  size_t number(size_t at, size_t length) const { return number_at(bytes_, at, length, little_); }
  bool little() const { return little_; }
  size_t start() const { return start_; }
  size_t entries() const { return entries_; }
  size_t entry(size_t i) const { return start_ + 2 + kEntry * i; }
  size_t tag(size_t i) const { return number(entry(i), 2); }

  /// Where a tag's entry is; 0: it has none.
  size_t find(size_t wanted) const {
    for (size_t i = 0; i < entries_; ++i) {
      if (tag(i) == wanted) return entry(i);
    }
    return 0;
  }
  /// The first of a tag's numbers of two bytes.
  size_t short_of(size_t wanted, size_t otherwise) const {
    const size_t at = find(wanted);
    if (at == 0) return otherwise;
    const bool inside = number(at + 4, 4) <= 2;
    return number(inside ? at + 8 : number(at + 8, 4), 2);
  }

 private:
  std::string_view bytes_;
  bool little_ = false;
  size_t start_ = 0;
  size_t entries_ = 0;
};

Turn turn_of_orientation(size_t orientation) {
  switch (orientation) {
    case 2:
      return {.mirror_x = true};
    case 3:
      return {.mirror_x = true, .mirror_y = true};
    case 4:
      return {.mirror_y = true};
    case 5:
      return {.transpose = true};
    case 6:
      return {.transpose = true, .mirror_x = true};
    case 7:
      return {.transpose = true, .mirror_x = true, .mirror_y = true};
    case 8:
      return {.transpose = true, .mirror_y = true};
    default:
      return {};
  }
}

/// The EXIF data of a PNG or WebP, from its TIFF header on; empty: it has none.
std::string_view exif_of(std::string_view bytes) {
  const bool png = bytes.starts_with("\x89PNG\r\n\x1a\n");
  const bool webp = bytes.starts_with("RIFF") && bytes.substr(0, 12).ends_with("WEBP");
  if (!png && !webp) return {};
  // PNG: length, name, data, checksum; WebP: name, length, data up to an even length.
  for (size_t at = png ? 8 : 12; at + 8 <= bytes.size();) {
    const size_t length = number_at(bytes, png ? at : at + 4, 4, webp);
    const std::string_view name = bytes.substr(png ? at + 4 : at, 4);
    if (name == (png ? "eXIf" : "EXIF")) {
      std::string_view data = bytes.substr(at + 8, length);
      if (data.starts_with(std::string_view("Exif\0\0", 6))) data.remove_prefix(6);
      return data;
    }
    at += 8 + length + (png ? 4 : length % 2);
  }
  return {};
}

}  // namespace

size_t jpeg_length(std::string_view bytes) {
  const auto byte = [bytes](size_t at) { return static_cast<unsigned char>(bytes[at]); };
  if (!bytes.starts_with("\xFF\xD8")) return 0;
  bool scanned = false;
  for (size_t at = 2; at + 1 < bytes.size();) {
    const unsigned char marker = byte(at + 1);
    // What is no marker: a scan's pixels, with restart markers among them, and fill bytes.
    const bool pixels = byte(at) != 0xFF || marker == 0 || (marker >= 0xD0 && marker <= 0xD7);
    if (pixels || marker == 0xFF || marker == 0x01) {
      const size_t next = bytes.find('\xFF', at + 1);
      at = next == std::string_view::npos ? bytes.size() : next;
    } else if (marker == 0xD9) {
      return scanned ? at + 2 : 0;
    } else if (marker == 0xD8) {
      return 0;  // another one starts before this one's end
    } else {
      scanned = scanned || marker == 0xDA;
      at += 2 + std::max<size_t>(2, number_at(bytes, at + 2, 2, false));
    }
  }
  return 0;
}

bool gif_is_whole(std::istream& file) {
  const auto byte = [&file] { return file.get(); };  // -1 at the end
  const auto skip = [&file](int64_t count) { file.ignore(count); };
  const auto skip_table = [&](int packed) {
    if (packed >= 0 && (packed & 0x80) != 0) skip(int64_t{3} << ((packed & 7) + 1));
  };
  const auto skip_blocks = [&] {
    for (int length = byte(); length > 0; length = byte()) skip(length);
  };
  skip(10);
  const int packed = byte();
  skip(2);
  skip_table(packed);
  while (file) {
    const int kind = byte();
    if (kind == 0x3B) return true;
    if (kind == 0x21) {  // an extension: its label, then blocks
      skip(1);
    } else if (kind == 0x2C) {  // a picture: its place, its colours, the length of its codes
      skip(8);
      skip_table(byte());
      skip(1);
    } else if (kind == 0) {
      continue;  // some writers end with more than one empty block
    } else {
      return false;
    }
    skip_blocks();
  }
  return false;
}

std::string_view tiff_fault(std::string_view bytes) {
  const TiffDirectory directory(bytes);
  const size_t compression = directory.short_of(kTagCompression, 1);
  if (compression == 6 || compression == 7) return "a JPEG inside a TIFF cannot be read";
  const size_t format = directory.short_of(kTagSampleFormat, 1);
  if (format != 1 && format != 4) {  // 4: not said
    return "a TIFF of signed or floating-point samples cannot be read";
  }
  return "";
}

void drop_tiff_tags(uint8_t* bytes, size_t size) {
  const TiffDirectory directory({reinterpret_cast<const char*>(bytes), size});
  if (directory.entries() == 0 || directory.find(kTagDngVersion) != 0) return;
  // Kind of picture, sizes, bits, compression, colours, bit order, strips, samples a pixel, planes,
  // fax options, differences, palette, tiles, subsampling of colours.
  static constexpr std::array<size_t, 20> kKept = {254, 256, 257, 258, 259, 262, 266,
                                                   273, 277, 278, 279, 284, 292, 293,
                                                   317, 320, 322, 323, 324, 325};
  constexpr size_t kSubsampling = 530;
  size_t kept = 0;
  for (size_t i = 0; i < directory.entries(); ++i) {
    const size_t tag = directory.tag(i);
    if (tag != kSubsampling && std::find(kKept.begin(), kKept.end(), tag) == kKept.end()) continue;
    std::memmove(bytes + directory.entry(kept), bytes + directory.entry(i), TiffDirectory::kEntry);
    ++kept;
  }
  const size_t low = directory.start() + (directory.little() ? 0 : 1);
  const size_t high = directory.start() + (directory.little() ? 1 : 0);
  bytes[low] = static_cast<uint8_t>(kept & 0xFF);
  bytes[high] = static_cast<uint8_t>(kept >> 8);
}

Turn picture_turn(std::string_view bytes) {
  const std::string_view exif = exif_of(bytes);
  return turn_of_orientation(
      TiffDirectory(exif.empty() ? bytes : exif).short_of(kTagOrientation, 1));
}

}  // namespace jepa

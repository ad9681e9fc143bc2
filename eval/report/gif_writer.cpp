#include <eval/report/gif_writer.hpp>
#include <jepa/io/atomic_file.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace jepa::eval::report {
namespace {

constexpr int64_t kColours = 256;

void put_word(std::string& out, int64_t value) {  // 16 bits, low byte first
  out += static_cast<char>(value & 0xFF);
  out += static_cast<char>(value >> 8 & 0xFF);
}

/// At most 256 colours and which of them each pixel has.
struct Palette {
  std::string colours;           ///< [256 * 3] bytes
  std::vector<uint8_t> indices;  ///< one a pixel
};

/// The colours of `count` RGB pixels cut down to `bits` bits each; false: more than 256.
bool make_palette(const uint8_t* pixels, int64_t count, int bits, Palette& palette) {
  std::vector<int16_t> number(size_t{1} << (3 * bits), -1);
  palette.colours.clear();
  palette.indices.resize(static_cast<size_t>(count));
  const int most = (1 << bits) - 1;
  int16_t used = 0;
  for (int64_t i = 0; i < count; ++i, pixels += 3) {
    size_t key = 0;
    for (int c = 0; c < 3; ++c) key = key << bits | static_cast<size_t>(pixels[c] >> (8 - bits));
    if (number[key] < 0) {
      if (used == kColours) return false;
      number[key] = used++;
      for (int c = 0; c < 3; ++c) {
        palette.colours += static_cast<char>((pixels[c] >> (8 - bits)) * 255 / most);
      }
    }
    palette.indices[static_cast<size_t>(i)] = static_cast<uint8_t>(number[key]);
  }
  palette.colours.resize(3 * kColours);
  return true;
}

/// Collects codes of varying width into bytes, and these into blocks of at most 255.
class CodeWriter {
 public:
  explicit CodeWriter(std::string& out) : out_(out) {}

  void put(int code, int width) {
    bits_ |= static_cast<uint32_t>(code) << held_;
    for (held_ += width; held_ >= 8; held_ -= 8, bits_ >>= 8) put_byte(bits_ & 0xFF);
  }
  void finish() {
    if (held_ > 0) put_byte(bits_ & 0xFF);
    flush();
    out_ += '\0';
  }

 private:
  void put_byte(uint32_t byte) {
    block_ += static_cast<char>(byte);
    if (block_.size() == 255) flush();
  }
  void flush() {
    if (block_.empty()) return;
    out_ += static_cast<char>(block_.size());
    out_ += block_;
    block_.clear();
  }

  std::string& out_;
  std::string block_;
  uint32_t bits_ = 0;
  int held_ = 0;
};

/// One frame's pixels by Lempel, Ziv and Welch, as GIF89a asks (appendix F).
void compress(const uint8_t* pixels, int64_t count, std::string& out) {
  constexpr int kClear = 256, kEnd = 257, kFirst = 258, kMost = 4096;
  out += '\x08';  // bits of a pixel
  CodeWriter writer(out);
  std::vector<int16_t> longer(size_t{kMost} * kColours, 0);  // [code][pixel] -> code; 0: none
  int next = kFirst, width = 9;
  writer.put(kClear, width);
  int code = pixels[0];
  for (int64_t i = 1; i < count; ++i) {
    int16_t& found = longer[static_cast<size_t>(code) * kColours + pixels[i]];
    if (found != 0) {
      code = found;
      continue;
    }
    writer.put(code, width);
    if (next < kMost) {
      found = static_cast<int16_t>(next);
      // The reader is one code behind, so the width grows one code late.
      if (next++ == 1 << width) ++width;
    } else {
      writer.put(kClear, width);
      std::fill(longer.begin(), longer.end(), int16_t{0});
      next = kFirst;
      width = 9;
    }
    code = pixels[i];
  }
  writer.put(code, width);
  if (next == 1 << width && width < 12) ++width;  // the reader has added its entry by now
  writer.put(kEnd, width);
  writer.finish();
}

}  // namespace

std::string encode_gif(const torch::Tensor& frames, double fps) {
  TORCH_CHECK(frames.dim() == 4 && frames.size(3) == 3 && frames.scalar_type() == torch::kUInt8 &&
                  frames.numel() > 0 && frames.size(1) < 65536 && frames.size(2) < 65536,
              "a film is uint8 [T, H, W, 3], got ", frames.scalar_type(), " ", frames.sizes());
  TORCH_CHECK(std::isfinite(fps) && fps > 0, "frames per second must be positive, got ", fps);
  const auto pixels = frames.cpu().contiguous();
  const int64_t height = frames.size(1), width = frames.size(2);
  Palette palette;
  for (int bits = 8; bits > 0; --bits) {
    if (make_palette(pixels.data_ptr<uint8_t>(), pixels.numel() / 3, bits, palette)) break;
  }

  std::string out = "GIF89a";
  put_word(out, width);
  put_word(out, height);
  out += std::string("\xF7\0\0", 3) + palette.colours;  // one table of 256 colours for all frames
  out += std::string("\x21\xFF\x0BNETSCAPE2.0\x03\x01\0\0\0", 19);  // play for ever
  const auto delay = std::max<int64_t>(2, std::llround(100 / fps));
  for (int64_t t = 0; t < frames.size(0); ++t) {
    out += std::string("\x21\xF9\x04\x04", 4);  // leave the frame when the next one comes
    put_word(out, std::min<int64_t>(delay, 65535));
    out += std::string("\0\0\x2C\0\0\0\0", 7);  // no transparency; picture at (0, 0)
    put_word(out, width);
    put_word(out, height);
    out += '\0';
    compress(palette.indices.data() + t * height * width, height * width, out);
  }
  return out + ';';
}

void write_gif(const std::string& path, const torch::Tensor& frames, double fps) {
  write_file_atomic(path, encode_gif(frames, fps));
}

}  // namespace jepa::eval::report

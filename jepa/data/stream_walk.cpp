#include <jepa/data/framed_walk.hpp>

#include <algorithm>
#include <cstring>

namespace jepa {
namespace {

constexpr int64_t kLargest = int64_t{1} << 50;  // what claims more is damage

/// Matroska and WebM: EBML elements (RFC 8794, 4 to 6; RFC 9559, 5.1). Segments and clusters are
/// entered, everything else is passed over by its size.
class MatroskaWalk : public FramedWalk {
 public:
  StreamEnd end() const override {
    const StreamEnd here = FramedWalk::end();
    return here == StreamEnd::kRegular && missing() > 0 ? StreamEnd::kPart : here;
  }
  int64_t missing() const override {
    return lost() ? 0 : std::max<int64_t>(FramedWalk::missing(), promised_ - taken());
  }

 private:
  static constexpr uint64_t kEbml = 0x1A45DFA3, kSegment = 0x18538067, kCluster = 0x1F43B675;
  static constexpr uint64_t kSimpleBlock = 0xA3, kBlockGroup = 0xA0;

  /// Bytes of a number by its first one; 9: none.
  static size_t length_of(char first) {
    size_t length = 1;
    while (length <= 8 && (static_cast<uint8_t>(first) & (0x80 >> (length - 1))) == 0) ++length;
    return length;
  }

  std::optional<Part> header(const std::string& head) override {
    const size_t id_length = length_of(head[0]);
    if (id_length > 4) return lose();
    if (head.size() <= id_length) return std::nullopt;
    const size_t size_length = length_of(head[id_length]);
    if (size_length > 8) return lose();
    if (head.size() < id_length + size_length) return std::nullopt;
    const uint64_t id = big_endian(head, 0, id_length);
    if (head.size() == static_cast<size_t>(taken()) && id != kEbml) return lose();
    const uint64_t unknown = (uint64_t{1} << (7 * size_length)) - 1;
    const uint64_t size = big_endian(head, id_length, size_length) & unknown;
    const bool entered = id == kSegment || id == kCluster;
    if (size == unknown) return entered ? std::optional(Part{}) : lose();
    if (size > kLargest) return lose();
    const auto bytes = static_cast<int64_t>(size);
    if (!entered) return Part{bytes, id == kSimpleBlock || id == kBlockGroup};
    promised_ = std::max(promised_, taken() + bytes);
    return Part{};
  }

  int64_t promised_ = 0;  // where what was entered ends
};

/// MP4 and QuickTime: boxes (ISO/IEC 14496-12, 4.2).
class BoxWalk : public FramedWalk {
  std::optional<Part> header(const std::string& head) override {
    if (head.size() < 8) return std::nullopt;
    const bool named = std::all_of(head.begin() + 4, head.begin() + 8,
                                   [](char c) { return (c >= ' ' && c <= '~') || c == '\xa9'; });
    uint64_t size = big_endian(head, 0, 4);
    if (size == 1 && head.size() < 16) return std::nullopt;
    if (size == 1) size = big_endian(head, 8, 8);
    // Size 0: up to the end, wherever that is.
    if (!named || size < head.size() || size > kLargest) return lose();
    return Part{static_cast<int64_t>(size - head.size()), head.compare(4, 4, "mdat") == 0};
  }
};

/// FLV: tags, each followed by its length.
class FlvWalk : public FramedWalk {
 public:
  /// The last tag's length is not always there.
  StreamEnd end() const override {
    return began_ && FramedWalk::missing() <= 4 && FramedWalk::missing() > 0 ? StreamEnd::kRegular
                                                                             : FramedWalk::end();
  }

 private:
  std::optional<Part> header(const std::string& head) override {
    if (!began_) {
      if (head.size() < 9) return std::nullopt;
      const auto length = static_cast<int64_t>(big_endian(head, 5, 4));
      if (!head.starts_with("FLV") || length < 9) return lose();
      began_ = true;
      return Part{length - 9 + 4};
    }
    if (head.size() < 11) return std::nullopt;
    const int type = head[0] & 0x1f;
    if (type != 8 && type != 9 && type != 18) return lose();
    return Part{static_cast<int64_t>(big_endian(head, 1, 3)) + 4, type != 18};
  }

  bool began_ = false;
};

/// Ogg: pages (RFC 3533, 6).
class OggWalk : public FramedWalk {
  std::optional<Part> header(const std::string& head) override {
    if (!std::string_view("OggS").starts_with(std::string_view(head).substr(0, 4))) return lose();
    if (head.size() < 27) return std::nullopt;
    const auto segments = static_cast<size_t>(static_cast<uint8_t>(head[26]));
    if (head.size() < 27 + segments) return std::nullopt;
    int64_t bytes = 0;
    for (size_t i = 27; i < head.size(); ++i) bytes += static_cast<uint8_t>(head[i]);
    return Part{bytes, true};
  }
};

/// MPEG program streams: packs and PES packets (ISO/IEC 13818-1, 2.5.3).
class ProgramWalk : public FramedWalk {
  std::optional<Part> header(const std::string& head) override {
    constexpr std::string_view kPrefix("\0\0\1", 3);
    if (!kPrefix.starts_with(std::string_view(head).substr(0, 3))) return lose();
    if (head.size() < 4) return std::nullopt;
    const auto code = static_cast<uint8_t>(head[3]);
    if (code == 0xB9) return Part{};
    if (code < 0xBA) return lose();
    if (code > 0xBA) {
      if (head.size() < 6) return std::nullopt;
      return Part{static_cast<int64_t>(big_endian(head, 4, 2)), code == 0xBD || code >= 0xC0};
    }
    if (head.size() < 5) return std::nullopt;
    if ((head[4] & 0xC0) != 0x40) return Part{7};  // MPEG-1
    if (head.size() < 14) return std::nullopt;
    return Part{head[13] & 7};
  }
};

/// JPEGs one after the other.
class JpegWalk : public StreamWalk {
 public:
  void take(const uint8_t* bytes, size_t count) override {
    for (size_t i = 0; i < count; ++i) {
      if (last_ == 0xFF && bytes[i] == 0xD8) within_ = true;
      if (last_ == 0xFF && bytes[i] == 0xD9) within_ = false;
      last_ = bytes[i];
    }
  }
  StreamEnd end() const override { return within_ ? StreamEnd::kFrame : StreamEnd::kRegular; }

 private:
  uint8_t last_ = 0;
  bool within_ = false;
};

/// Frames of no known length: the decoder alone can tell that the last one is not whole.
class BareWalk : public StreamWalk {
 public:
  void take(const uint8_t*, size_t) override {}
  StreamEnd end() const override { return StreamEnd::kMaybe; }
};

/// The length that an FLV file's header claims for the whole file; 0: it does not say.
int64_t flv_size(const std::string& head) {
  static constexpr std::string_view kKey{
      "\0\x08"
      "filesize"
      "\0",
      11};
  const size_t found = head.find(kKey);
  if (found == std::string::npos || found + kKey.size() + 8 > head.size()) return 0;
  uint64_t bits = 0;
  for (size_t i = 0; i < 8; ++i) {
    bits = bits << 8 | static_cast<uint8_t>(head[found + kKey.size() + i]);
  }
  double size = 0;
  std::memcpy(&size, &bits, sizeof size);
  return size > 0 && size < 1e15 ? static_cast<int64_t>(size) : 0;
}

}  // namespace

std::unique_ptr<StreamWalk> make_stream_walk(std::string_view formats) {
  const size_t comma = std::min(formats.find(','), formats.size());
  const std::string_view name = formats.substr(0, comma);
  if (name == "matroska" || name == "webm") return std::make_unique<MatroskaWalk>();
  if (name == "mov" || name == "mp4") return std::make_unique<BoxWalk>();
  if (name == "flv" || name == "live_flv") return std::make_unique<FlvWalk>();
  if (name == "ogg") return std::make_unique<OggWalk>();
  if (name == "mpeg") return std::make_unique<ProgramWalk>();
  if (name == "mpegts") return make_transport_walk();
  if (name == "nut") return make_nut_walk();
  if (name == "mjpeg" || name == "jpeg_pipe") return std::make_unique<JpegWalk>();
  for (const char* bare : {"h264", "hevc", "m4v", "mpegvideo", "h263", "h261", "vc1"}) {
    if (name == bare) return std::make_unique<BareWalk>();
  }
  return nullptr;
}

int64_t promised_size(std::string_view formats, const std::string& head) {
  if (formats.starts_with("flv")) return flv_size(head);
  if (!formats.starts_with("matroska")) return 0;
  MatroskaWalk walk;
  walk.take(reinterpret_cast<const uint8_t*>(head.data()), head.size());
  return walk.missing() > 0 ? static_cast<int64_t>(head.size()) + walk.missing() : 0;
}

}  // namespace jepa

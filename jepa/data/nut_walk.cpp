#include <jepa/data/framed_walk.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace jepa {
namespace {

/// Numbers of a header, one after the other.
class Numbers {
 public:
  Numbers(const std::string& bytes, size_t at) : bytes_(bytes), at_(at) {}
  /// 7 bits a byte, the highest says that more follow. Beyond the end: 0, and whole() is false.
  uint64_t next() {
    uint64_t value = 0;
    while (at_ < bytes_.size()) {
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      value = value << 7 | (byte & 0x7f);
      if ((byte & 0x80) == 0) return value;
    }
    whole_ = false;
    return 0;
  }
  void skip(uint64_t bytes) {
    whole_ = whole_ && bytes <= bytes_.size() - at_;
    if (whole_) at_ += static_cast<size_t>(bytes);
  }
  bool whole() const { return whole_; }
  size_t at() const { return at_; }

 private:
  const std::string& bytes_;
  size_t at_;
  bool whole_ = true;
};

class NutWalk : public FramedWalk {
  enum Flag : uint64_t {
    kCodedTime = 8,
    kStreamId = 16,
    kSizeMsb = 32,
    kChecksum = 64,
    kReserved = 128,
    kHeaderIndex = 1024,
    kMatchTime = 2048,
    kCoded = 4096,
    kInvalid = 8192
  };
  /// What a frame's first byte says.
  struct Code {
    uint64_t flags = kInvalid, multiple = 1, size = 0, reserved = 0, elided = 0;
  };
  static constexpr std::string_view kFileId{"nut/multimedia container", 25};
  static constexpr std::string_view kMain{"NM\x7a\x56\x1f\x5f\x04\xad", 8};
  static constexpr uint64_t kShort = 4096;  // longer packets have a checksum of their header
  static constexpr uint64_t kLargest = uint64_t{1} << 40;

  std::optional<Part> header(const std::string& head) override {
    if (!began_) {
      if (!kFileId.starts_with(head)) return lose();
      began_ = head.size() == kFileId.size();
      return began_ ? std::optional(Part{}) : std::nullopt;
    }
    return head[0] == 'N' ? packet(head) : frame(head);
  }

  std::optional<Part> packet(const std::string& head) {
    if (head.size() < 9) return std::nullopt;
    Numbers numbers(head, 8);
    const uint64_t size = numbers.next();
    if (!numbers.whole()) return std::nullopt;
    if (size > kLargest) return lose();
    const uint64_t whole = size + (size > kShort ? 4 : 0);
    if (!head.starts_with(kMain)) return Part{static_cast<int64_t>(whole)};
    if (head.size() < numbers.at() + whole) return std::nullopt;  // it is read
    if (!read_codes(head, numbers.at() + (size > kShort ? 4 : 0))) return lose();
    return Part{};
  }

  bool read_codes(const std::string& head, size_t at) {
    Numbers numbers(head, at);
    if (numbers.next() > 3) numbers.next();      // version
    for (int i = 0; i < 2; ++i) numbers.next();  // streams, distance
    const uint64_t bases = std::min<uint64_t>(numbers.next(), head.size());
    for (uint64_t i = 0; i < 2 * bases; ++i) numbers.next();
    uint64_t multiple = 1, elided = 0;
    for (size_t i = 0; i < codes_.size() && numbers.whole();) {
      const uint64_t flags = numbers.next();
      const uint64_t fields = std::min<uint64_t>(numbers.next(), head.size());
      if (fields > 0) numbers.next();  // time
      if (fields > 1) multiple = numbers.next();
      if (fields > 2) numbers.next();  // stream
      const uint64_t size = fields > 3 ? numbers.next() : 0;
      const uint64_t reserved = fields > 4 ? numbers.next() : 0;
      const uint64_t count = fields > 5 ? numbers.next() : multiple - size;
      if (fields > 6) numbers.next();  // match
      if (fields > 7) elided = numbers.next();
      for (uint64_t k = 8; k < fields; ++k) numbers.next();
      if (count == 0 || count > codes_.size()) return false;
      for (uint64_t j = 0; j < count && i < codes_.size(); ++i) {
        if (i == 'N') continue;
        codes_[i] = {flags, multiple, size + j++, reserved, elided};
      }
    }
    elided_ = {0};
    if (head.size() <= numbers.at() + 4) return numbers.whole();  // the checksum alone
    const uint64_t headers = std::min<uint64_t>(numbers.next(), 128);
    for (uint64_t i = 0; i < headers; ++i) {
      elided_.push_back(numbers.next());
      numbers.skip(elided_.back());
    }
    return numbers.whole();
  }

  std::optional<Part> frame(const std::string& head) {
    const Code& code = codes_[static_cast<uint8_t>(head[0])];
    if ((code.flags & kInvalid) != 0) return lose();
    Numbers numbers(head, 1);
    uint64_t flags = code.flags, size = code.size, index = code.elided, reserved = code.reserved;
    if ((flags & kCoded) != 0) flags ^= numbers.next();
    if ((flags & kStreamId) != 0) numbers.next();
    if ((flags & kCodedTime) != 0) numbers.next();
    if ((flags & kSizeMsb) != 0) size += code.multiple * numbers.next();
    if ((flags & kMatchTime) != 0) numbers.next();
    if ((flags & kHeaderIndex) != 0) index = numbers.next();
    if ((flags & kReserved) != 0) reserved = numbers.next();
    for (uint64_t i = 0; i < std::min<uint64_t>(reserved, head.size()); ++i) numbers.next();
    if ((flags & kChecksum) != 0) numbers.skip(4);
    if (!numbers.whole()) return std::nullopt;
    if (size > kShort) index = 0;
    if (size > kLargest || index >= elided_.size() || elided_[index] > size) return lose();
    return Part{static_cast<int64_t>(size - elided_[index]), true};
  }

  bool began_ = false;
  std::array<Code, 256> codes_{};
  std::vector<uint64_t> elided_ = {0};  // bytes that frames leave out, of each header
};

}  // namespace

std::unique_ptr<StreamWalk> make_nut_walk() { return std::make_unique<NutWalk>(); }

}  // namespace jepa

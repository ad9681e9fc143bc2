#include <jepa/data/stream_walk.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <string>

namespace jepa {
namespace {

constexpr size_t kPacket = 188;
constexpr uint8_t kSync = 0x47;

class TransportWalk : public StreamWalk {
 public:
  void take(const uint8_t* bytes, size_t count) override {
    waiting_.append(reinterpret_cast<const char*>(bytes), count);
    while (step()) {
    }
    waiting_.erase(0, at_);
    at_ = 0;
  }

  StreamEnd end() const override {
    if (stride_ == 0) return StreamEnd::kRegular;
    if (!waiting_.empty()) return StreamEnd::kFrame;
    bool maybe = false;
    for (const auto& [pid, unit] : units_) {
      if (unit.left > 0) return StreamEnd::kFrame;
      maybe = maybe || unit.open;
    }
    return maybe ? StreamEnd::kMaybe : StreamEnd::kRegular;
  }

 private:
  /// The PES packet that a stream is in.
  struct Unit {
    int64_t left = 0;        // bytes of it to come
    bool unbounded = false;  // it does not say its length
    bool open = false;       // and has not been seen to end
    int counter = -1;        // of the last packet
  };

  uint8_t byte(size_t i) const { return static_cast<uint8_t>(waiting_[at_ + i]); }

  /// Takes one packet, or passes a byte that begins none. @returns false where more are needed
  bool step() {
    const size_t there = waiting_.size() - at_;
    if (stride_ == 0) return find_stride(there);
    if (there == 0) return false;
    if (between_ > 0 || byte(0) != kSync) {
      between_ -= std::min<size_t>(between_, 1);
      ++at_;
      return true;
    }
    if (there < kPacket) return false;
    packet();
    at_ += kPacket;
    between_ = stride_ - kPacket;
    return true;
  }

  /// The distance of packets: that at which four sync bytes stand.
  bool find_stride(size_t there) {
    constexpr size_t kLongest = 204, kAlike = 4;
    if (there < kLongest * kAlike) return false;
    for (const size_t stride : std::array<size_t, 3>{188, 192, kLongest}) {
      size_t alike = 0;
      while (alike < kAlike && byte(alike * stride) == kSync) ++alike;
      if (alike == kAlike) {
        stride_ = stride;
        return true;
      }
    }
    ++at_;
    return true;
  }

  /// Where a packet's payload begins, and whether stuffing before it says that it is a unit's last.
  size_t payload(bool& stuffed) const {
    const int control = byte(3) >> 4 & 3;
    stuffed = false;
    if ((control & 2) == 0) return 4;
    const size_t length = byte(4);
    if (length == 0 || length > kPacket - 5) {
      stuffed = true;
      return length == 0 ? 5 : kPacket;
    }
    const uint8_t flags = byte(5);
    size_t used = 1;
    if ((flags & 0x10) != 0) used += 6;  // clocks
    if ((flags & 0x08) != 0) used += 6;
    if ((flags & 0x04) != 0) used += 1;
    for (const int field : {0x02, 0x01}) {  // private data, extension
      if ((flags & field) != 0 && 5 + used < kPacket) used += 1 + size_t{byte(5 + used)};
    }
    stuffed = length > used;
    return 5 + length;
  }

  void packet() {
    const bool begins = (byte(1) & 0x40) != 0, faulty = (byte(1) & 0x80) != 0;
    const int pid = (byte(1) & 0x1f) << 8 | byte(2);
    const bool scrambled = (byte(3) & 0xc0) != 0, carries = (byte(3) & 0x10) != 0;
    if (pid == 0x1fff || !carries) return;
    bool stuffed = false;
    const size_t from = payload(stuffed);
    Unit& unit = units_[pid];
    const int counter = byte(3) & 0xf;
    const bool repeated = counter == unit.counter && !begins;
    if (repeated) return;
    const bool follows = unit.counter < 0 || counter == ((unit.counter + 1) & 0xf);
    unit.counter = counter;
    const auto bytes = static_cast<int64_t>(kPacket - from);
    if (begins) {
      unit.left = 0;
      unit.unbounded = false;
      if (bytes >= 6 && !scrambled && byte(from) == 0 && byte(from + 1) == 0 &&
          byte(from + 2) == 1) {
        const int64_t length = byte(from + 4) << 8 | byte(from + 5);
        unit.unbounded = length == 0;
        unit.left = unit.unbounded ? 0 : std::max<int64_t>(0, length + 6 - bytes);
      }
    } else if (!follows || faulty) {  // what was lost may have been its end
      unit.left = 0;
      unit.unbounded = false;
    } else {
      unit.left = std::max<int64_t>(0, unit.left - bytes);
    }
    unit.open = unit.unbounded && !stuffed;
  }

  std::string waiting_;
  size_t at_ = 0;
  size_t stride_ = 0;   // 0: not known yet
  size_t between_ = 0;  // bytes to the next packet: a clock, parity
  std::map<int, Unit> units_;
};

}  // namespace

std::unique_ptr<StreamWalk> make_transport_walk() { return std::make_unique<TransportWalk>(); }

}  // namespace jepa

// What containers have in common whose parts begin with their length.
#pragma once

#include <jepa/data/stream_walk.hpp>

#include <algorithm>
#include <optional>
#include <string>

namespace jepa {

/// Parts of a header and so many bytes.
class FramedWalk : public StreamWalk {
 public:
  void take(const uint8_t* bytes, size_t count) final {
    while (count > 0 && !lost_) {
      if (left_ > 0) {
        const auto some = static_cast<size_t>(std::min(left_, static_cast<int64_t>(count)));
        left_ -= static_cast<int64_t>(some);
        taken_ += static_cast<int64_t>(some);
        bytes += some;
        count -= some;
        continue;
      }
      head_ += static_cast<char>(*bytes);
      ++bytes;
      --count;
      ++taken_;
      const auto part = header(head_);
      if (!part) {
        lost_ = lost_ || head_.size() > kLongestHeader;
        continue;
      }
      left_ = part->bytes;
      frame_ = part->frame;
      head_.clear();
    }
  }
  StreamEnd end() const override {
    if (lost_) return StreamEnd::kRegular;
    if (left_ > 0) return frame_ ? StreamEnd::kFrame : StreamEnd::kPart;
    return head_.empty() ? StreamEnd::kRegular : StreamEnd::kPart;
  }
  int64_t missing() const override { return lost_ ? 0 : left_; }

 protected:
  struct Part {
    int64_t bytes = 0;   ///< that follow its header
    bool frame = false;  ///< they hold frames
  };
  /// A part's header so far; none: it is not complete.
  virtual std::optional<Part> header(const std::string& head) = 0;
  /// What comes is not followed.
  std::optional<Part> lose() {
    lost_ = true;
    return std::nullopt;
  }
  bool lost() const { return lost_; }
  int64_t taken() const { return taken_; }

  static uint64_t big_endian(const std::string& head, size_t at, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = at; i < at + bytes; ++i) value = value << 8 | static_cast<uint8_t>(head[i]);
    return value;
  }

 private:
  static constexpr size_t kLongestHeader = 1 << 16;

  std::string head_;
  int64_t left_ = 0;   // of the part
  int64_t taken_ = 0;  // in all
  bool frame_ = false, lost_ = false;
};

}  // namespace jepa

// A container's own framing, followed through its bytes as they come, to tell a stream that ended
// from one that was cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace jepa {

/// Where bytes end in a container's framing.
enum class StreamEnd {
  kRegular,  ///< between its parts, or the framing does not say
  kMaybe,    ///< in a frame that does not say how long it is, and whose end was not seen
  kPart,     ///< in a part that holds no frame (index, header), or before the end it promised
  kFrame,    ///< in a frame
};

/// Follows a container. Bytes that are no framing that it knows end its judgement: kRegular.
class StreamWalk {
 public:
  virtual ~StreamWalk() = default;
  virtual void take(const uint8_t* bytes, size_t count) = 0;
  /// Of all bytes so far.
  virtual StreamEnd end() const = 0;
  /// Bytes of the framing that are known to be missing at kPart and kFrame; 0: it does not say.
  virtual int64_t missing() const { return 0; }
};

/// @param formats FFmpeg's name of the container, or names with commas between them
/// @return null for those whose framing is not followed
std::unique_ptr<StreamWalk> make_stream_walk(std::string_view formats);

/// Where the beginning of a Matroska or FLV file says that the whole of it ends; 0: it does not
/// say.
int64_t promised_size(std::string_view formats, const std::string& head);

/// Of an MPEG transport stream (ISO/IEC 13818-1, 2.4.3): packets of 188, 192 or 204 bytes.
std::unique_ptr<StreamWalk> make_transport_walk();
/// Of NUT (its specification, "High-level structure" on).
std::unique_ptr<StreamWalk> make_nut_walk();

}  // namespace jepa

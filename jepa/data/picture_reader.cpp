#include <jepa/data/picture_bytes.hpp>
#include <jepa/data/video_decoder.hpp>
#include <jepa/data/video_reader.hpp>
#include <jepa/errors.hpp>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavutil/frame.h>
}

#include <fstream>
#include <iterator>
#include <string_view>

namespace jepa {
namespace {

/// The bytes of a picture file; of kinds that decoders tell all of, none.
std::string picture_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes(12, '\0');
  file.read(bytes.data(), 12);
  const std::string_view head(bytes);
  if (!head.starts_with("\xFF\xD8\xFF") && !head.starts_with("II*") &&
      !head.starts_with(std::string_view("MM\0*", 4)) && !head.starts_with("\x89PNG") &&
      !head.ends_with("WEBP")) {
    return "";
  }
  file.clear();
  file.seekg(0);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// @throws DataError for a picture that decoders get wrong without a word
void check_picture(const std::string& path, std::string_view bytes) {
  // Of a JPEG they fill what is missing with grey or green.
  if (bytes.starts_with("\xFF\xD8\xFF") && jpeg_length(bytes) == 0) {
    throw DataError(path + ": the picture is cut off");
  }
  const std::string_view fault = tiff_fault(bytes);
  if (!fault.empty()) throw DataError(path + ": " + std::string(fault));
}

}  // namespace

std::vector<uint8_t> read_image(const std::string& path, const FrameScale& scale, int64_t channels,
                                int64_t& height, int64_t& width) {
  Decoder decoder(path);
  const std::string bytes = picture_bytes(path);
  check_picture(path, bytes);
  decoder.codec().err_recognition |= AV_EF_EXPLODE;  // where a decoder could also guess
  std::string error = "it holds no picture";
  const AVFrame* frame = decoder.frame([&](int64_t, const std::string& why) { error = why; });
  if (frame == nullptr) throw DataError(path + ": " + error);
  if ((frame->flags & AV_FRAME_FLAG_CORRUPT) != 0 || frame->decode_error_flags != 0) {
    throw DataError(path + ": the picture is corrupt");
  }
  height = frame->height;
  width = frame->width;
  scaled_size(scale, height, width);
  Turn turn = decoder.turn().none() ? frame_turn(*frame) : decoder.turn();
  if (turn.none()) turn = picture_turn(bytes);
  Scaler scaler;
  try {
    auto pixels = scaler.convert(*frame, channels == 1 ? AV_PIX_FMT_GRAY8 : AV_PIX_FMT_RGB24,
                                 height, width, turn);
    if (turn.transpose) std::swap(height, width);
    return pixels;
  } catch (const DataError& failure) {
    throw DataError(path + ": " + failure.what());
  }
}

}  // namespace jepa

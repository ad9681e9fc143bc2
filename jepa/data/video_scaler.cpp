#include <jepa/data/video_decoder.hpp>
#include <jepa/errors.hpp>

extern "C" {
#include <libavutil/frame.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

#include <cstring>

namespace jepa {
namespace {

/// swscale writes whole vectors: rows are this much longer than what is kept of them.
constexpr int kMargin = 64;

int padded(int bytes) { return (bytes + kMargin - 1) / kMargin * kMargin + kMargin; }

}  // namespace

LumaWeights luma_weights(const AVFrame& frame) {
  const AVPixFmtDescriptor* pixels = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  if (pixels != nullptr && (pixels->flags & (AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL)) != 0) {
    return {};  // converted by BT.601 and back
  }
  switch (frame.colorspace) {
    case AVCOL_SPC_BT709:
      return {.red = 0.2126, .blue = 0.0722};
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
      return {.red = 0.2627, .blue = 0.0593};
    case AVCOL_SPC_SMPTE240M:
      return {.red = 0.212, .blue = 0.087};
    case AVCOL_SPC_FCC:
      return {.red = 0.30, .blue = 0.11};
    default:
      return {};
  }
}

void turn_plane(const uint8_t* from, int64_t stride, int64_t height, int64_t width, int64_t bytes,
                const Turn& turn, uint8_t* to) {
  if (turn.none()) {
    for (int64_t y = 0; y < height; ++y) {
      std::memcpy(to + y * width * bytes, from + y * stride, static_cast<size_t>(width * bytes));
    }
    return;
  }
  const int64_t rows = turn.transpose ? width : height;
  const int64_t columns = turn.transpose ? height : width;
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t x = 0; x < columns; ++x, to += bytes) {
      const int64_t v = turn.mirror_y ? rows - 1 - y : y;
      const int64_t u = turn.mirror_x ? columns - 1 - x : x;
      const uint8_t* pixel =
          turn.transpose ? from + u * stride + v * bytes : from + v * stride + u * bytes;
      std::memcpy(to, pixel, static_cast<size_t>(bytes));
    }
  }
}

void Scaler::reset() {
  sws_freeContext(context_);
  context_ = nullptr;
  key_ = {};
  room_ = {};
}

void Scaler::prepare(const Key& key) {
  if (context_ != nullptr && key == key_) return;
  reset();
  const auto format = static_cast<AVPixelFormat>(key.format);
  if (sws_isSupportedInput(format) == 0) throw DataError("its pixel format cannot be converted");
  context_ = sws_alloc_context();
  const auto set = [&](const char* name, int64_t value) {
    av_opt_set_int(context_, name, value, 0);
  };
  set("srcw", key.width);
  set("srch", key.height);
  set("src_format", key.format);
  set("src_range", key.full);
  set("dstw", key.to_width);
  set("dsth", key.to_height);
  set("dst_format", key.to_format);
  set("sws_flags", SWS_AREA | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT);
  if (context_ == nullptr || sws_init_context(context_, nullptr, nullptr) < 0) {
    reset();
    throw DataError("its pixel format cannot be converted");
  }
  if (key.to_format == AV_PIX_FMT_RGB24) {
    int* from = nullptr;
    int* to = nullptr;
    int full = 0, to_full = 0, bright = 0, contrast = 0, saturation = 0;
    sws_getColorspaceDetails(context_, &from, &full, &to, &to_full, &bright, &contrast,
                             &saturation);
    sws_setColorspaceDetails(context_, sws_getCoefficients(key.colours), full, to, to_full, bright,
                             contrast, saturation);
  }
  key_ = key;
}

std::vector<uint8_t> Scaler::convert(const AVFrame& frame, int format, int64_t height,
                                     int64_t width, const Turn& turn) {
  const auto to_format = static_cast<AVPixelFormat>(format);
  prepare({.width = frame.width,
           .height = frame.height,
           .format = frame.format,
           .full = frame.color_range == AVCOL_RANGE_JPEG ? 1 : 0,
           .colours = frame.colorspace,
           .to_format = format,
           .to_width = static_cast<int>(width),
           .to_height = static_cast<int>(height)});
  // Planes: of all three formats the first has the picture's size, the others (4:2:0) half of it.
  const int count = av_pix_fmt_count_planes(to_format);
  const int bytes = to_format == AV_PIX_FMT_RGB24 ? 3 : 1;
  int64_t heights[4] = {height, (height + 1) / 2, (height + 1) / 2, 0};
  int64_t widths[4] = {width, (width + 1) / 2, (width + 1) / 2, 0};
  int strides[4] = {};
  size_t offsets[4] = {};
  size_t total = 0, kept = 0;
  for (int i = 0; i < count; ++i) {
    strides[i] = padded(static_cast<int>(widths[i]) * bytes);
    offsets[i] = total;
    total += static_cast<size_t>(strides[i]) * static_cast<size_t>(heights[i] + 2);
    kept += static_cast<size_t>(widths[i] * heights[i] * bytes);
  }
  room_.resize(total + kMargin);
  uint8_t* planes[4] = {};
  for (int i = 0; i < count; ++i) planes[i] = room_.data() + offsets[i];
  const int lines =
      sws_scale(context_, frame.data, frame.linesize, 0, frame.height, planes, strides);
  if (lines != height) throw DataError("its pixels cannot be converted");
  std::vector<uint8_t> pixels(kept);
  uint8_t* to = pixels.data();
  for (int i = 0; i < count; ++i) {
    turn_plane(planes[i], strides[i], heights[i], widths[i], bytes, turn, to);
    to += widths[i] * heights[i] * bytes;
  }
  return pixels;
}

}  // namespace jepa

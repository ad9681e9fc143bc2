#include <eval/report/image.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>

#include <torch/types.h>

extern "C" {
#include <libavcodec/avcodec.h>
}

#include <cstring>
#include <memory>

namespace jepa::eval::report {
namespace {

void check_frames(const torch::Tensor& frames, int64_t dims, const char* what) {
  TORCH_CHECK(frames.dim() == dims && frames.size(-1) == 3 && frames.scalar_type() == torch::kUInt8,
              what, " takes uint8 with three channels last and ", dims, " dimensions, got ",
              frames.scalar_type(), " ", frames.sizes());
}

}  // namespace

std::string encode_png(const torch::Tensor& image) {
  check_frames(image, 3, "encode_png");
  const auto pixels = image.cpu().contiguous();
  const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
  if (!codec) throw DataError("this FFmpeg has no PNG encoder");
  const auto free_context = [](AVCodecContext* context) { avcodec_free_context(&context); };
  const auto free_frame = [](AVFrame* frame) { av_frame_free(&frame); };
  const auto free_packet = [](AVPacket* packet) { av_packet_free(&packet); };
  const std::unique_ptr<AVCodecContext, decltype(free_context)> context(
      avcodec_alloc_context3(codec), free_context);
  const std::unique_ptr<AVFrame, decltype(free_frame)> frame(av_frame_alloc(), free_frame);
  const std::unique_ptr<AVPacket, decltype(free_packet)> packet(av_packet_alloc(), free_packet);

  context->width = frame->width = static_cast<int>(pixels.size(1));
  context->height = frame->height = static_cast<int>(pixels.size(0));
  context->pix_fmt = AV_PIX_FMT_RGB24;
  context->time_base = {1, 25};  // FFmpeg asks for one, also of a picture
  context->thread_count = 1;
  frame->format = context->pix_fmt;
  bool good =
      avcodec_open2(context.get(), codec, nullptr) >= 0 && av_frame_get_buffer(frame.get(), 0) >= 0;
  if (good) {
    for (int64_t row = 0; row < pixels.size(0); ++row) {
      std::memcpy(frame->data[0] + row * frame->linesize[0],
                  pixels.data_ptr<uint8_t>() + row * pixels.size(1) * 3,
                  static_cast<size_t>(pixels.size(1)) * 3);
    }
    good = avcodec_send_frame(context.get(), frame.get()) >= 0 &&
           avcodec_send_frame(context.get(), nullptr) >= 0 &&
           avcodec_receive_packet(context.get(), packet.get()) >= 0;
  }
  if (!good) {
    throw DataError("cannot encode a PNG of " + std::to_string(pixels.size(1)) + " x " +
                    std::to_string(pixels.size(0)) + " pixels");
  }
  return {reinterpret_cast<const char*>(packet->data), static_cast<size_t>(packet->size)};
}

void write_png(const std::string& path, const torch::Tensor& image) {
  write_file_atomic(path, encode_png(image));
}

torch::Tensor clip_frames(const torch::Tensor& clip) {
  TORCH_CHECK(clip.dim() == 4 && clip.scalar_type() == torch::kUInt8,
              "clip_frames takes uint8 [C, T, H, W], got ", clip.scalar_type(), " ", clip.sizes());
  torch::Tensor colour = clip;
  if (clip.size(0) == 1) colour = clip.expand({3, -1, -1, -1});
  if (clip.size(0) == 2) colour = torch::cat({clip, torch::zeros_like(clip.slice(0, 0, 1))});
  return colour.slice(0, 0, 3).permute({1, 2, 3, 0}).contiguous();
}

torch::Tensor upscale(const torch::Tensor& frames, int64_t factor) {
  TORCH_CHECK(factor >= 1 && frames.dim() >= 3,
              "upscale takes [..., H, W, 3] and a factor of 1 or "
              "more, got ",
              frames.sizes(), " and ", factor);
  return frames.repeat_interleave(factor, -3).repeat_interleave(factor, -2);
}

torch::Tensor frame_grid(const torch::Tensor& frames, int64_t columns, int64_t gap) {
  check_frames(frames, 4, "frame_grid");
  TORCH_CHECK(columns >= 1 && gap >= 0, "frame_grid takes one column or more, got ", columns);
  const int64_t count = frames.size(0), height = frames.size(1), width = frames.size(2);
  const int64_t rows = (count + columns - 1) / columns;
  auto out = torch::full({rows * (height + gap) - gap, columns * (width + gap) - gap, 3}, 255,
                         torch::kUInt8);
  for (int64_t i = 0; i < count; ++i) {
    out.narrow(0, i / columns * (height + gap), height)
        .narrow(1, i % columns * (width + gap), width)
        .copy_(frames[i]);
  }
  return out;
}

torch::Tensor draw_mask(const torch::Tensor& frames, const Mask& mask, int64_t row,
                        const TokenGrid& grid) {
  check_frames(frames, 4, "draw_mask");
  TORCH_CHECK(
      frames.size(0) % grid.t == 0 && frames.size(1) % grid.h == 0 && frames.size(2) % grid.w == 0,
      "frames ", frames.sizes(), " do not divide into a grid of ", grid.t, " x ", grid.h, " x ",
      grid.w, " tokens");
  // 0: neither, 1: context, 2: target.
  auto role = torch::zeros({grid.size()}, torch::kInt64);
  role.index_fill_(0, mask.context[row].cpu(), 1);
  const int64_t batch = mask.context.size(0);
  for (int64_t set = 0; set < mask.targets_per_context(); ++set) {
    role.index_fill_(0, mask.target[set * batch + row].cpu(), 2);
  }
  role = role.view({grid.t, grid.h, grid.w})
             .repeat_interleave(frames.size(0) / grid.t, 0)
             .repeat_interleave(frames.size(1) / grid.h, 1)
             .repeat_interleave(frames.size(2) / grid.w, 2)
             .unsqueeze(-1);
  const auto shown = frames.cpu().to(torch::kFloat32);
  const auto target = 0.32 * shown + 0.68 * torch::tensor({236.0f, 130.0f, 22.0f});
  const auto hidden = 0.15 * shown + 0.85 * torch::tensor({78.0f, 92.0f, 128.0f});
  return torch::where(role == 1, shown, torch::where(role == 2, target, hidden))
      .round()
      .clamp(0, 255)
      .to(torch::kUInt8);
}

}  // namespace jepa::eval::report

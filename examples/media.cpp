#include <eval/report/gif_writer.hpp>
#include <eval/report/image.hpp>
#include <eval/report/video_writer.hpp>
#include <examples/media.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>

namespace jepa::examples {
namespace {

/// All clips as one film: [T, rows * H, columns * W, 3], nearly square.
torch::Tensor tile(const torch::Tensor& clips, int64_t scale) {
  const int64_t count = clips.size(0);
  const auto columns = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(count))));
  std::vector<torch::Tensor> frames;
  for (int64_t t = 0; t < clips.size(2); ++t) {
    std::vector<torch::Tensor> cells;
    for (int64_t i = 0; i < count; ++i) {
      cells.push_back(eval::report::clip_frames(clips[i].narrow(1, t, 1))[0]);
    }
    frames.push_back(
        eval::report::frame_grid(eval::report::upscale(torch::stack(cells), scale), columns));
  }
  return torch::stack(frames);
}

torch::Tensor lines(const torch::Tensor& clips, int64_t scale) {
  std::vector<torch::Tensor> frames;
  for (int64_t i = 0; i < clips.size(0); ++i) {
    frames.push_back(eval::report::clip_frames(clips[i]));
  }
  return eval::report::frame_grid(eval::report::upscale(torch::cat(frames), scale), clips.size(2));
}

void write_store(const std::string& path, const torch::Tensor& clips, double fps) {
  ClipStoreWriter writer(path, {.fps = fps, .attributes = {{"generator", "jepa sample"}}});
  for (int64_t i = 0; i < clips.size(0); ++i) {
    const auto frames = clips[i].permute({1, 2, 3, 0}).contiguous();  // [T, H, W, C]
    RawClip raw{frames.size(0), frames.size(1), frames.size(2), frames.size(3), {}};
    raw.pixels.assign(frames.data_ptr<uint8_t>(), frames.data_ptr<uint8_t>() + frames.numel());
    writer.append(raw);
  }
  writer.finish({});
}

}  // namespace

torch::Tensor read_clips(const ClipSource& source, int64_t first, int64_t count) {
  if (first + count > source.size()) {
    throw DataError(
        c10::str("clips ", first, " to ", first + count - 1, " asked of ", source.size()));
  }
  std::vector<torch::Tensor> clips;
  for (int64_t i = first; i < first + count; ++i) {
    Random random(0, "clip", static_cast<uint64_t>(i));
    const RawClip raw = source.read(i, random);
    auto clip = torch::empty({raw.frames, raw.height, raw.width, raw.channels}, torch::kUInt8);
    std::memcpy(clip.data_ptr(), raw.pixels.data(), raw.pixels.size());
    if (!clips.empty() && clip.sizes() != clips.front().sizes()) {
      throw DataError(c10::str("clip ", i, " is ", clip.sizes(), ", others ", clips.front().sizes(),
                               " [T, H, W, C]"));
    }
    clips.push_back(clip);
  }
  return torch::stack(clips).permute({0, 4, 1, 2, 3}).contiguous();
}

void require_media_file(const std::string& path) {
  constexpr std::array kEndings{".mp4", ".gif", ".png", ".h5"};
  if (std::none_of(kEndings.begin(), kEndings.end(),
                   [&](const char* ending) { return path.ends_with(ending); })) {
    throw ConfigError("option out: " + path + " ends in none of " + c10::Join(", ", kEndings));
  }
  std::error_code error;
  if (std::filesystem::is_fifo(path, error)) return;  // opened twice, its reader would see an end
  const AtomicFile tried(path);                       // leaves nothing
}

void write_clips(const std::string& path, const torch::Tensor& clips, int64_t scale, double fps) {
  require_media_file(path);
  if (path.ends_with(".mp4")) {
    eval::report::write_video(path, tile(clips, scale), fps);
  } else if (path.ends_with(".gif")) {
    write_file_atomic(path, eval::report::encode_gif(tile(clips, scale), fps));
  } else if (path.ends_with(".png")) {
    eval::report::write_png(path, lines(clips, scale));
  } else {
    write_store(path, clips, fps);
  }
}

}  // namespace jepa::examples

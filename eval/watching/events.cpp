// Stretches of footage, and what is spliced into them.
#include <eval/watching/events.hpp>
#include <jepa/data/media_list.hpp>
#include <jepa/data/video_library.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::watching {
namespace {

int64_t film_frames(int64_t window, int64_t past) { return 2 * window - 1 - past; }

/// Frames of a video by number, uint8 [C, frames, H, W].
torch::Tensor pick(const torch::Tensor& video, const std::vector<int64_t>& frames) {
  return video.index_select(1, torch::tensor(frames)).contiguous();
}

/// Where a square of `side` changes most over frames [C, T, H, W]: top and left, on a grid of half
/// its side.
std::pair<int64_t, int64_t> liveliest(const torch::Tensor& frames, int64_t side) {
  const auto values = frames.to(torch::kFloat32);
  const auto change =
      (values.slice(1, 1) - values.slice(1, 0, -1)).abs().mean(at::IntArrayRef{0, 1});
  const int64_t step = std::max<int64_t>(side / 2, 1);
  const auto sums = at::avg_pool2d(change.unsqueeze(0).unsqueeze(0), side, step)[0][0];
  const int64_t best = sums.argmax().item<int64_t>();
  return {best / sums.size(1) * step, best % sums.size(1) * step};
}

}  // namespace

const std::vector<std::string>& event_kinds() {
  static const std::vector<std::string> kinds{"freeze", "reversal",    "jump",        "other_video",
                                              "patch",  "upside_down", "double_speed"};
  return kinds;
}

Footage read_footage(const std::string& videos, double from, const WatchedModel& model,
                     int64_t short_side) {
  std::vector<std::string> paths;
  for (const auto& entry : find_videos(videos)) paths.push_back(entry.path);
  const VideoLibrary library(paths, {.short_side = scaled_side(model, short_side)}, model.channels,
                             64);
  Footage footage;
  for (int64_t video = 0; video < library.size(); ++video) {
    const VideoInfo info = library.info(video);
    const int64_t step = model.fps > 0 && info.fps > 0
                             ? std::max<int64_t>(1, std::llround(info.fps / model.fps))
                             : model.frame_step;
    const PixelRect part{(info.height - model.height) / 2, (info.width - model.width) / 2,
                         model.height, model.width};
    if (part.top < 0 || part.left < 0) {
      throw DataError(library.path(video) + ": its frames are smaller than the model's");
    }
    std::vector<torch::Tensor> frames;
    const auto first = static_cast<int64_t>(std::ceil(from * static_cast<double>(info.frames)));
    for (int64_t frame = first; frame < info.frames; frame += step) {
      auto picture = torch::empty({model.height, model.width, model.channels}, torch::kUInt8);
      library.read(video, frame, part, picture.data_ptr<uint8_t>());
      frames.push_back(picture.permute({2, 0, 1}));
    }
    if (frames.empty()) continue;
    footage.videos.push_back(torch::stack(frames, 1).contiguous());
    footage.fps.push_back((info.fps > 0 ? info.fps : 25) / static_cast<double>(step));
  }
  return footage;
}

std::vector<Stretch> find_stretches(const Footage& footage, int64_t window, int64_t past,
                                    int64_t most) {
  const int64_t length = film_frames(window, past);
  std::vector<Stretch> all;
  for (size_t video = 0; video < footage.videos.size(); ++video) {
    for (int64_t start = 0; start + length <= footage.videos[video].size(1); start += length) {
      all.push_back({video, start});
    }
  }
  if (most <= 0 || static_cast<int64_t>(all.size()) <= most) return all;
  // Some of each video.
  std::vector<Stretch> some;
  for (int64_t i = 0; i < most; ++i) {
    some.push_back(all[static_cast<size_t>(i * static_cast<int64_t>(all.size()) / most)]);
  }
  return some;
}

torch::Tensor lawful_film(const Footage& footage, const Stretch& stretch, int64_t window,
                          int64_t past) {
  return footage.videos[stretch.video]
      .slice(1, stretch.start, stretch.start + film_frames(window, past))
      .contiguous();
}

std::optional<torch::Tensor> spliced_film(const std::string& kind, const Footage& footage,
                                          const Stretch& stretch, int64_t window, int64_t past) {
  const auto& video = footage.videos[stretch.video];
  const int64_t length = film_frames(window, past), onset = window - 1;
  auto film = lawful_film(footage, stretch, window, past);
  auto after = film.slice(1, onset);
  if (kind == "freeze") {
    after.copy_(film.slice(1, onset - 1, onset).expand_as(after).clone());
    return film;
  }
  if (kind == "upside_down") {
    after.copy_(after.flip(2).clone());
    return film;
  }
  if (kind == "patch") {
    const int64_t side = std::max<int64_t>(3 * film.size(2) / 8, 1);
    const auto [top, left] = liveliest(film.slice(1, onset - 1), side);
    auto patch = after.narrow(2, top, side).narrow(3, left, side);
    patch.copy_(film.slice(1, onset - 1, onset)
                    .narrow(2, top, side)
                    .narrow(3, left, side)
                    .expand_as(patch)
                    .clone());
    return film;
  }
  std::vector<int64_t> frames;
  torch::Tensor from = video;
  const auto second = std::max<int64_t>(1, std::llround(footage.fps[stretch.video]));
  int64_t shift = second;
  if (kind == "jump" && stretch.start + length - 1 + shift >= video.size(1)) shift = -second;
  if (kind == "other_video") {
    // The next one that has frames enough.
    size_t other = stretch.video;
    for (size_t i = 1; i < footage.videos.size() && other == stretch.video; ++i) {
      const size_t at = (stretch.video + i) % footage.videos.size();
      if (footage.videos[at].size(1) >= length) other = at;
    }
    if (other == stretch.video) return std::nullopt;
    from = footage.videos[other];
    shift = stretch.start % (from.size(1) - length + 1) - stretch.start;
  }
  for (int64_t i = onset; i < length; ++i) {
    const int64_t now = stretch.start + i, last = stretch.start + onset - 1;
    const int64_t since = i - onset + 1;
    frames.push_back(kind == "reversal"       ? last - since
                     : kind == "double_speed" ? last + 2 * since
                                              : now + shift);
    if (frames.back() < 0 || frames.back() >= from.size(1)) return std::nullopt;
  }
  after.copy_(pick(from, frames));
  return film;
}

physics::SurpriseModel change_of_difference(int64_t window, int64_t tubelet, int64_t patch) {
  const auto tokens = [tubelet, patch](const torch::Tensor& windows, int64_t past) {
    const auto pixels = windows.to(torch::kFloat32) / 255;
    const auto change = (pixels.slice(2, 1) - pixels.slice(2, 0, -1)).abs();  // from frame 1 on
    const auto known = past > 1 ? change.slice(2, 0, past - 1).mean(2, true)
                                : torch::zeros_like(change.slice(2, 0, 1));
    const auto error = (change.slice(2, past - 1) - known).abs().mean(1, true);
    return at::avg_pool3d(error, {tubelet, patch, patch}).squeeze(1);
  };
  return {"change_of_difference", window, tubelet, tokens};
}

}  // namespace jepa::eval::watching

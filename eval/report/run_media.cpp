#include <eval/report/features_pca.hpp>
#include <eval/report/html.hpp>
#include <eval/report/image.hpp>
#include <eval/report/run_media.hpp>
#include <eval/report/video_writer.hpp>

#include <torch/types.h>

#include <algorithm>

namespace jepa::eval::report {
namespace {

/// Frame times of a film: slow enough to follow eight of them.
constexpr double kFilmFps = 6;

/// The integer factor that brings `side` pixels near `wanted`.
int64_t scale_to(int64_t side, int64_t wanted) {
  return std::max<int64_t>(1, (wanted + side / 2) / side);
}

std::string share_text(const torch::Tensor& ids, const TokenGrid& grid, int64_t sets) {
  return std::to_string(ids.size(1)) + (sets > 1 ? " x " + std::to_string(sets) : "") + " of " +
         std::to_string(grid.size());
}

}  // namespace

std::vector<Picture> draw_masks_over_clip(const torch::Tensor& clips, const TokenGrid& grid,
                                          const std::vector<NamedMask>& masks) {
  TORCH_CHECK(clips.dim() == 5, "expected clips [B, C, T, H, W], got ", clips.sizes());
  const auto frames = clip_frames(clips[0].cpu());
  const int64_t tubelet = frames.size(0) / grid.t;
  const int64_t columns = std::min<int64_t>(grid.t, 8);
  // One frame a tubelet, evenly over the clip.
  auto times = torch::empty({columns}, torch::kInt64);
  for (int64_t i = 0; i < columns; ++i) times[i] = i * grid.t / columns * tubelet;
  const int64_t factor = scale_to(frames.size(2), 128);
  std::vector<Picture> pictures;
  for (const auto& [name, mask] : masks) {
    const auto seen = draw_mask(frames, mask, 0, grid);
    const auto rows = torch::cat({frames.index_select(0, times), seen.index_select(0, times)});
    const auto picture = frame_grid(upscale(rows, factor), columns, 3);
    pictures.push_back({.caption = name + ": context " + share_text(mask.context, grid, 1) +
                                   " tokens, target " +
                                   share_text(mask.target, grid, mask.targets_per_context()) + ".",
                        .png = encode_png(picture),
                        .width = static_cast<int>(picture.size(1))});
  }
  return pictures;
}

std::vector<Picture> draw_features(const torch::Tensor& clips, const torch::Tensor& tokens,
                                   const TokenGrid& grid, int64_t shown) {
  TORCH_CHECK(clips.dim() == 5 && tokens.dim() == 3 && clips.size(0) == tokens.size(0),
              "expected clips [B, C, T, H, W] and their tokens [B, N, D], got ", clips.sizes(),
              " and ", tokens.sizes());
  shown = std::min(shown, clips.size(0));
  const int64_t columns = std::min<int64_t>(shown, 3);
  const int64_t factor = scale_to(clips.size(4), 96);
  std::vector<Picture> films;
  for (const bool residual : {false, true}) {
    const FeaturePca pca = fit_pca(tokens, {.remove_position_mean = residual});
    const auto colours = pca.colours(tokens.slice(0, 0, shown));  // [shown, N, 3]
    std::vector<torch::Tensor> painted;                           // each [T, H, W', 3]
    for (int64_t i = 0; i < shown; ++i) {
      painted.push_back(pca_frames(upscale(clip_frames(clips[i].cpu()), factor), colours[i], grid));
    }
    const auto all = torch::stack(painted, 1);  // [T, shown, H, W', 3]
    std::vector<torch::Tensor> frames;
    for (int64_t t = 0; t < all.size(0); ++t) frames.push_back(frame_grid(all[t], columns, 8));
    const auto film = torch::stack(frames);
    const auto explained = pca.explained.sum().item<double>();
    films.push_back({.caption = std::string(residual ? "Tokens less the mean of their position"
                                                     : "Tokens as they are") +
                                "; the three components hold " + short_number(100 * explained, 2) +
                                " % of the variance.",
                     .mp4 = encode_video(film, kFilmFps),
                     .width = static_cast<int>(film.size(2))});
  }
  return films;
}

}  // namespace jepa::eval::report

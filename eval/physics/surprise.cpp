#include <eval/physics/surprise.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <limits>

namespace jepa::eval::physics {

void FrameOverlap::add(int64_t first, const torch::Tensor& tokens) {
  for (int64_t t = 0; t < tokens.size(0) * tubelet_; ++t) {
    const auto map = tokens[t / tubelet_];
    auto& [sum, count] = sums_[first + t];
    sum = count == 0 ? map.clone() : sum.add_(map);
    ++count;
  }
}

torch::Tensor FrameOverlap::take(int64_t frame) {
  torch::Tensor map;
  const auto found = sums_.find(frame);
  if (found != sums_.end()) map = found->second.first / static_cast<double>(found->second.second);
  sums_.erase(sums_.begin(), sums_.upper_bound(frame));
  return map;
}

torch::Tensor FilmSurprise::frame_map(int64_t film, int64_t frames) const {
  const auto all = tokens[film];  // [W, t, h, w]
  FrameOverlap overlap(tubelet);
  for (int64_t window = 0; window < all.size(0); ++window) {
    overlap.add(window * asked.stride + asked.past, all[window]);
  }
  auto maps =
      torch::full({frames, all.size(2), all.size(3)}, std::numeric_limits<float>::quiet_NaN());
  for (int64_t frame = 0; frame < frames; ++frame) {
    if (const auto map = overlap.take(frame); map.defined()) maps[frame].copy_(map);
  }
  return maps;
}

void require_past(const SurpriseModel& model, int64_t past) {
  if (past >= 1 && past < model.window && past % model.tubelet == 0) return;
  throw ConfigError(c10::str("surprise of ", model.name, ": a past of ", past,
                             " frames; expected a multiple of ", model.tubelet, " below ",
                             model.window));
}

FilmSurprise surprise_of(const SurpriseModel& model, const torch::Tensor& films,
                         const WindowOptions& options) {
  TORCH_CHECK(films.dim() == 5 && films.scalar_type() == torch::kUInt8,
              "surprise: films uint8 [F, C, T, H, W] expected, got ", films.scalar_type(), " ",
              films.sizes());
  if (films.size(2) < model.window) {
    throw DataError(c10::str("surprise of ", model.name, ": films of ", films.size(2),
                             " frames are shorter than its window of ", model.window));
  }
  require_past(model, options.past);
  const torch::NoGradGuard no_grad;
  const auto rows = films
                        .unfold(2, model.window, options.stride)  // [F, C, W, H, W', window]
                        .permute({0, 2, 1, 5, 3, 4});
  const int64_t count = rows.size(1);
  std::vector<torch::Tensor> parts;
  const int64_t total = films.size(0) * count;
  for (int64_t start = 0; start < total; start += options.batch) {
    std::vector<torch::Tensor> windows;
    for (int64_t i = start; i < std::min(start + options.batch, total); ++i) {
      windows.push_back(rows[i / count][i % count]);
    }
    parts.push_back(model.tokens(torch::stack(windows).contiguous(), options.past));
  }
  FilmSurprise made;
  made.tokens = torch::cat(parts).unflatten(0, {films.size(0), count});
  made.windows = made.tokens.flatten(2).mean(2);
  if (!made.windows.isfinite().all().item<bool>()) {
    throw DataError("surprise of " + model.name + " is not finite: its weights are not sound");
  }
  made.tubelet = model.tubelet;
  made.asked = options;
  return made;
}

}  // namespace jepa::eval::physics

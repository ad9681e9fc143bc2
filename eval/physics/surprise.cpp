#include <eval/physics/surprise.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <limits>

namespace jepa::eval::physics {

torch::Tensor FilmSurprise::frame_map(int64_t film, int64_t frames) const {
  const auto all = tokens[film];  // [W, t, h, w]
  auto sum = torch::zeros({frames, all.size(2), all.size(3)});
  auto count = torch::zeros({frames, 1, 1});
  for (int64_t window = 0; window < all.size(0); ++window) {
    const int64_t first = window * asked.stride + asked.past;
    for (int64_t t = 0; t < all.size(1); ++t) {
      const int64_t from = first + t * tubelet;
      sum.narrow(0, from, tubelet).add_(all[window][t]);
      count.narrow(0, from, tubelet).add_(1);
    }
  }
  return torch::where(count > 0, sum / count.clamp_min(1),
                      torch::full({}, std::numeric_limits<float>::quiet_NaN()));
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
  if (options.past < 1 || options.past >= model.window || options.past % model.tubelet != 0) {
    throw ConfigError(c10::str("surprise of ", model.name, ": a past of ", options.past,
                               " frames; expected a multiple of ", model.tubelet, " below ",
                               model.window));
  }
  const torch::NoGradGuard no_grad;
  const auto rows = films.unfold(2, model.window, options.stride)  // [F, C, W, H, W', window]
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
  made.tubelet = model.tubelet;
  made.asked = options;
  return made;
}

}  // namespace jepa::eval::physics

#include <eval/comparison/film.hpp>
#include <eval/dreaming/experiment.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace jepa::eval::dreaming {
namespace {

constexpr int64_t kEpisodes = 9;     // the one of median length is shown
constexpr int64_t kDecisions = 150;  // of it at most

/// [T, C, H, W] held at its last frame up to `length` -> [C, length, H, W].
torch::Tensor as_clip(torch::Tensor frames, int64_t length) {
  const int64_t missing = length - frames.size(0);
  if (missing > 0) {
    frames =
        torch::cat({frames, frames.narrow(0, frames.size(0) - 1, 1).expand({missing, -1, -1, -1})});
  }
  return frames.narrow(0, 0, length).transpose(0, 1).contiguous();
}

}  // namespace

torch::Tensor Experiment::film() {
  const torch::NoGradGuard no_grad;
  const int64_t rounds = options_.play.rounds;
  const double temperature = options_.controller.temperature;
  load_parts(rounds);
  const auto controller = load_controller(controller_stage(rounds, temperature), kEpisodes);
  Agent agent(*vision_, model_, *controller, info_);
  Scores scores;
  const Episodes real =
      collect_episodes(make_, agent, seed_of("film"), kEpisodes, scores, kEpisodes);
  const int64_t chosen = scores.lived.argsort()[kEpisodes / 2].item<int64_t>();
  const auto frames = real.frames.slice(0, real.offsets[chosen], real.offsets[chosen + 1]);
  std::vector<comparison::FilmRow> rows;
  int64_t length = std::min(frames.size(0), kDecisions);
  if (vision_->decodes()) {
    std::vector<torch::Tensor> dreamed;
    dream_lives(model_, *controller, 1, vision_->encode(frames.narrow(0, 0, 1)),
                {.episodes = 1,
                 .limit = kDecisions,
                 .temperature = temperature,
                 .seed = seed_of("film"),
                 .three_way = info_.three_way},
                [&](const torch::Tensor&, const torch::Tensor& latents) {
                  dreamed.push_back(vision_->decode(latents));
                });
    const auto dream = torch::cat(dreamed);
    length = std::min(std::max(length, dream.size(0)), kDecisions);
    rows.push_back({"seen by V", {as_clip(vision_->decode(vision_->encode(frames)), length)}});
    rows.push_back({"dreamed", {as_clip(dream, length)}});
  }
  rows.insert(rows.begin(), {"real", {as_clip(frames, length)}});
  return comparison::render_film(rows);
}

}  // namespace jepa::eval::dreaming

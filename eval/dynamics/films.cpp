#include <eval/dynamics/films.hpp>
#include <eval/report/image.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <array>
#include <cmath>

namespace jepa::eval::dynamics {
namespace {

constexpr int64_t kScale = 4, kGap = 8, kLarger = 2;
using Colour = std::array<uint8_t, 3>;
constexpr Colour kDot{31, 89, 178}, kGoal{46, 139, 61}, kImagined{230, 126, 34};

// A disc around (x, y) [frame px] on an upscaled picture [H, W, 3].
void draw_disc(torch::Tensor& picture, double x, double y, double radius, const Colour& colour) {
  const int64_t height = picture.size(0), width = picture.size(1);
  const double cx = (x + 0.5) * kScale, cy = (y + 0.5) * kScale, r = radius * kScale;
  uint8_t* pixels = picture.mutable_data_ptr<uint8_t>();
  for (auto row = static_cast<int64_t>(cy - r); row <= static_cast<int64_t>(cy + r); ++row) {
    for (auto col = static_cast<int64_t>(cx - r); col <= static_cast<int64_t>(cx + r); ++col) {
      if (row < 0 || col < 0 || row >= height || col >= width) continue;
      const double dx = static_cast<double>(col) + 0.5 - cx;
      const double dy = static_cast<double>(row) + 0.5 - cy;
      if (dx * dx + dy * dy > r * r) continue;
      std::copy(colour.begin(), colour.end(), pixels + (row * width + col) * 3);
    }
  }
}

// The walls of a frame [2, H, W], dark on white, upscaled.
torch::Tensor draw_walls(const torch::Tensor& frame) {
  const auto light = frame[1].eq(0).to(torch::kUInt8).mul(255 - 60).add(60);
  return report::upscale(light.unsqueeze(-1).expand({-1, -1, 3}).contiguous(), kScale).contiguous();
}

}  // namespace

void EpisodeFilm::watch(const worlds::World& world, int64_t, Controller& controller) {
  frames_.resize(static_cast<size_t>(world.batch()));
  succeeded_.resize(static_cast<size_t>(world.batch()));
  const auto pixels = world.pixels();
  const auto state = world.state(), goal = world.goal_state(), success = world.success();
  const auto latents = probe_.read ? controller.imagined() : torch::Tensor();
  torch::Tensor places;
  if (latents.defined()) {
    const torch::NoGradGuard no_grad;
    places = probe_.read(latents).to(torch::kFloat64).contiguous();
  }
  const bool rooms = world.info().name == "two_rooms";
  const auto aims = rooms ? torch::Tensor() : world.goal_pixels();
  for (int64_t i = 0; i < world.batch(); ++i) {
    succeeded_[static_cast<size_t>(i)] = success[i].item<bool>();
    if (!rooms) {
      const auto both = torch::stack({pixels[i], aims[i]}, 1);  // [C, 2, H, W]
      frames_[static_cast<size_t>(i)].push_back(
          report::upscale(report::frame_grid(report::clip_frames(both), 2), kLarger));
      continue;
    }
    auto left = draw_walls(pixels[i]);
    auto right = left.clone();
    const auto at = [&](const torch::Tensor& of, int64_t k) { return of[i][k].item<double>(); };
    for (auto* panel : {&left, &right}) draw_disc(*panel, at(goal, 0), at(goal, 1), 2, kGoal);
    draw_disc(left, at(state, 0), at(state, 1), 1.7, kDot);
    for (int64_t h = 0; places.defined() && h < places.size(1); ++h) {
      draw_disc(right, places[i][h][0].item<double>(), places[i][h][1].item<double>(), 0.9,
                kImagined);
    }
    const auto between = torch::full({left.size(0), kGap, 3}, 255, torch::kUInt8);
    frames_[static_cast<size_t>(i)].push_back(torch::cat({left, between, right}, 1));
  }
}

torch::Tensor EpisodeFilm::frames(int64_t i) const {
  return torch::stack(frames_.at(static_cast<size_t>(i)));
}

Rollouts roll_out(DynamicsModel& model, const HeldOutClips& clips, const StateProbe& probe) {
  const torch::NoGradGuard no_grad;
  const auto first = model.encode_clips(clips.clips.narrow(2, 0, 1));
  const auto later = model.rollout(first, {}, model.options.model_actions(clips.actions));
  Rollouts found;
  found.places = probe.read(torch::cat({first, later}, 1)).narrow(-1, 0, 2).contiguous();
  const auto off = (found.places - clips.states.narrow(-1, 0, 2)).norm(2, {-1}).mean(0);
  for (int64_t t = 0; t < off.size(0); ++t) found.error.push_back(off[t].item<double>());
  return found;
}

torch::Tensor draw_rollout(const HeldOutClips& clips, const Rollouts& rollouts, int64_t index) {
  constexpr double kDotRadius = 1.7, kPathRadius = 0.5;
  const auto place = [index](const torch::Tensor& of, int64_t t, int64_t k) {
    return of[index][t][k].item<double>();
  };
  std::vector<torch::Tensor> frames;
  for (int64_t t = 0; t < clips.clips.size(2); ++t) {
    auto picture = draw_walls(clips.clips[index].select(1, t));
    draw_disc(picture, place(clips.states, t, 0), place(clips.states, t, 1), kDotRadius, kDot);
    for (int64_t past = 0; past <= t; ++past) {
      draw_disc(picture, place(rollouts.places, past, 0), place(rollouts.places, past, 1),
                past == t ? kDotRadius : kPathRadius, kImagined);
    }
    frames.push_back(picture);
  }
  return torch::stack(frames);
}

}  // namespace jepa::eval::dynamics

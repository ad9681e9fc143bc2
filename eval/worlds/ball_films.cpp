#include <eval/worlds/ball_films.hpp>
#include <eval/worlds/balls.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

namespace jepa::eval::worlds {
namespace {

constexpr int64_t kRedraws = 1'000'000;  // episodes from one attempt at a film to the next
constexpr int kAttempts = 100;

/// One film of a world of one episode.
struct BallFilm {
  torch::Tensor pixels;         ///< uint8 [T, 3, 64, 64]
  std::vector<double> centres;  ///< of the first ball, x, y frame after frame
  double vx = 0, vy = 0;        ///< of the first ball at mid-clip
  torch::Tensor factors;        ///< double [factors]
};

/// Episode `number`, or nothing where a ball comes to rest.
std::optional<BallFilm> film_of(Balls& world, uint64_t seed, const FactorRanges& ranges,
                                int64_t number, int64_t frames) {
  BallFilm film;
  world.reset(seed, ranges, number);
  film.factors = world.factor_values()[0].clone();
  const auto still = torch::zeros({1, world.info().action_width});
  std::vector<torch::Tensor> pictures;
  try {
    for (int64_t t = 0; t < frames; ++t) {
      if (t > 0) world.step(still);
      const Disc& first = world.discs(0).front();
      film.centres.push_back(first.x);
      film.centres.push_back(first.y);
      if (t == frames / 2) {
        film.vx = first.vx;
        film.vy = first.vy;
      }
      pictures.push_back(world.pixels()[0]);
    }
  } catch (const DataError&) {
    return std::nullopt;
  }
  film.pixels = torch::stack(pictures);
  return film;
}

void visit_range(OptionVisitor& visit, const char* name, std::vector<double>& range,
                 const char* unit) {
  visit(name, range, {.help = "low, high; of a box of 64 px", .unit = unit, .min = 0});
}

}  // namespace

void BallFilmOptions::describe(OptionVisitor& visit) {
  visit("frames", frames, {.help = "frames a training clip", .min = 2, .max = 4096});
  visit("size", size, {.help = "side of a frame: 64 or 32", .unit = "px", .min = 32, .max = 64});
  visit("near_frames", near_frames,
        {.help = "frames of longer clips whose future is asked for", .min = 2, .max = 4096});
  visit("far_frames", far_frames,
        {.help = "frames of much longer clips whose future is asked for", .min = 2, .max = 4096});
  visit_range(visit, "count", count, "");
  visit_range(visit, "count_near", count_near, "");
  visit_range(visit, "count_far", count_far, "");
  visit_range(visit, "gravity", gravity, "px a frame squared");
  visit_range(visit, "gravity_near", gravity_near, "px a frame squared");
  visit_range(visit, "gravity_far", gravity_far, "px a frame squared");
  visit_range(visit, "restitution", restitution, "");
  visit_range(visit, "restitution_near", restitution_near, "");
  visit_range(visit, "restitution_far", restitution_far, "");
  visit_range(visit, "radius", radius, "px");
  visit_range(visit, "radius_near", radius_near, "px");
  visit_range(visit, "radius_far", radius_far, "px");
  visit_range(visit, "speed", speed, "px a frame");
  visit_range(visit, "speed_near", speed_near, "px a frame");
  visit_range(visit, "speed_far", speed_far, "px a frame");
}

const std::vector<std::string>& ball_factors() {
  static const std::vector<std::string> names{"count", "gravity", "restitution", "radius", "speed"};
  return names;
}

FactorRanges ball_ranges(const BallFilmOptions& options, const std::string& factor,
                         const std::string& level) {
  using Range = std::vector<double>;
  const std::map<std::string, std::array<const Range*, 3>> all{
      {"count", {&options.count, &options.count_near, &options.count_far}},
      {"gravity", {&options.gravity, &options.gravity_near, &options.gravity_far}},
      {"restitution", {&options.restitution, &options.restitution_near, &options.restitution_far}},
      {"radius", {&options.radius, &options.radius_near, &options.radius_far}},
      {"speed", {&options.speed, &options.speed_near, &options.speed_far}}};
  FactorRanges ranges{{"shelf", {}}, {"occluder", {}}};
  for (const auto& [name, levels] : all) {
    const size_t which = name != factor ? 0 : level == "near" ? 1 : 2;
    const Range& range = *levels[which];
    if (range.size() != 2 || range[0] > range[1]) {
      throw ConfigError("option balls." + name + (which == 0 ? "" : "_" + level) +
                        ": expected low, high");
    }
    ranges[name] = {.low = range[0], .high = range[1]};
  }
  return ranges;
}

std::shared_ptr<MemorySource> ball_films(const BallFilmOptions& options, const FactorRanges& ranges,
                                         int64_t clips, int64_t frames, uint64_t seed) {
  if (options.size != 32 && options.size != Balls::kSize) {
    throw ConfigError("option balls.size: expected 32 or 64, found " +
                      std::to_string(options.size));
  }
  const double scale = static_cast<double>(options.size) / Balls::kSize;
  Balls world(1, /*slowest=*/0);  // films in which a ball comes to rest are drawn anew
  auto pixels = torch::empty({clips, frames, options.size, options.size, 3}, torch::kUInt8);
  auto track = torch::empty({clips, 2 * frames}, torch::kFloat32);
  auto velocity = torch::empty({clips, 2}, torch::kFloat32);
  auto direction = torch::empty({clips}, torch::kInt64);
  const auto factor_count = static_cast<int64_t>(world.info().factors.size());
  auto factors = torch::empty({clips, factor_count}, torch::kFloat64);
  for (int64_t i = 0; i < clips; ++i) {
    std::optional<BallFilm> film;
    for (int attempt = 0; !film; ++attempt) {
      if (attempt == kAttempts) {
        throw ConfigError("options balls.restitution, balls.gravity: balls come to rest in " +
                          std::to_string(kAttempts) + " films of " + std::to_string(frames) +
                          " frames");
      }
      film = film_of(world, seed, ranges, i + attempt * kRedraws, frames);
    }
    auto pictures = film->pixels;
    if (options.size != Balls::kSize) {
      const auto quarters = pictures.view({frames, 3, options.size, 2, options.size, 2});
      pictures = quarters.to(torch::kFloat32).mean(at::IntArrayRef{3, 5}).round().to(torch::kUInt8);
    }
    pixels[i].copy_(pictures.permute({0, 2, 3, 1}));
    auto* row = track[i].data_ptr<float>();
    for (size_t v = 0; v < film->centres.size(); ++v) {
      row[v] = static_cast<float>(scale * film->centres[v]);
    }
    velocity[i][0] = scale * film->vx;
    velocity[i][1] = scale * film->vy;
    factors[i].copy_(film->factors);
    // The slope of the line through the centres, as a judge reads it.
    double x = 0, y = 0;
    for (int64_t t = 0; t < frames; ++t) {
      const double time = static_cast<double>(t) - 0.5 * static_cast<double>(frames - 1);
      x += time * film->centres[static_cast<size_t>(2 * t)];
      y += time * film->centres[static_cast<size_t>(2 * t + 1)];
    }
    const auto eighth = std::lround(std::atan2(y, x) * 4 / std::numbers::pi);
    direction[i] = (eighth + 8) % 8;
  }
  const auto middle = track.view({clips, frames, 2}).select(1, frames / 2).clone();
  std::map<std::string, torch::Tensor> columns{
      {"position", middle}, {"velocity", velocity}, {"track", track}, {"direction", direction}};
  for (int64_t f = 0; f < factor_count; ++f) {
    const std::string& name = world.info().factors[static_cast<size_t>(f)].name;
    const auto& asked = ball_factors();
    if (std::find(asked.begin(), asked.end(), name) == asked.end()) continue;
    const auto values = factors.select(1, f);
    columns[name] =
        name == "count" ? values.round().to(torch::kInt64) : values.to(torch::kFloat32).clone();
  }
  return std::make_shared<MemorySource>(pixels, columns);
}

}  // namespace jepa::eval::worlds

// Films of stories: the pairs, their matched changes, and lawful films to train on.
#include <eval/physics/violations.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace jepa::eval::physics {
namespace {

/// A light in as many pixels, and about as bright, as what differs between two films.
Light matching_light(const Film& lawful, const Film& broken, Random& random) {
  Light light{.x = random.uniform(8, 40), .y = random.uniform(8, 40)};
  light.pixels = changed_pixels(lawful, broken);
  int64_t sum = 0, changed = 0;
  for (size_t i = 0; i < lawful.pixels.size(); ++i) {
    sum += std::abs(static_cast<int>(lawful.pixels[i]) - static_cast<int>(broken.pixels[i]));
  }
  for (const int64_t count : light.pixels) changed += count;
  if (changed > 0) light.brighter = std::clamp<int64_t>(sum / (3 * changed), 20, 200);
  return light;
}

int64_t first_difference(const std::vector<int64_t>& changed) {
  const auto at = std::find_if(changed.begin(), changed.end(), [](int64_t n) { return n > 0; });
  return at - changed.begin();
}

/// A light for a film that nothing else happens in: on from a frame on, growing or not.
Light draw_light(int64_t frames, Random& random) {
  Light light{.x = random.uniform(8, 40), .y = random.uniform(8, 40)};
  light.brighter = static_cast<int64_t>(random.uniform(20, 200));
  const int64_t on = frames / 2 - 4 + random.below(8);
  const double start = random.uniform(5, 90), growth = random.uniform(-6, 12);
  for (int64_t t = 0; t < frames; ++t) {
    const double lit = start + growth * static_cast<double>(t - on);
    light.pixels.push_back(t < on ? 0 : static_cast<int64_t>(std::clamp(lit, 0.0, 140.0)));
  }
  return light;
}

}  // namespace

Scene make_scene(const std::string& rule, const WorldOptions& options, uint64_t seed,
                 const std::string& split, int64_t index) {
  Random random(seed, split + " " + rule, static_cast<uint64_t>(index));
  const Stories stories = tell_stories(rule, options, random);
  Scene scene;
  scene.rule = rule;
  for (size_t i = 0; i < 2; ++i) {
    scene.lawful[i] = draw_film(stories.stage[i], stories.lawful[i], options.side);
    scene.broken[i] = draw_film(stories.stage[i], stories.broken[i], options.side);
    const Light light = matching_light(scene.lawful[i], scene.broken[i], random);
    scene.changed[i] = draw_film(stories.stage[i], stories.lawful[i], options.side, &light);
    scene.first[i] = first_difference(light.pixels);
  }
  return scene;
}

LawfulFilms::LawfulFilms(const WorldOptions& options, int64_t size, int64_t clip_frames,
                         uint64_t seed, double light_share)
    : options_(options),
      size_(size),
      clip_frames_(clip_frames),
      seed_(seed),
      light_share_(light_share) {
  if (clip_frames > options.frames) {
    throw ConfigError("clips of " + std::to_string(clip_frames) + " frames from films of " +
                      std::to_string(options.frames));
  }
}

RawClip LawfulFilms::read(int64_t index, Random& random, const CropChooser& crop) const {
  Random own(seed_, "training film", static_cast<uint64_t>(index));
  const auto& rules = rule_names();
  const auto& rule = rules[static_cast<size_t>(index) % rules.size()];
  const Stories stories = tell_stories(rule, options_, own);
  const auto which = static_cast<size_t>(own.below(2));
  const bool lit = own.uniform() < light_share_;
  Light light = draw_light(options_.frames, own);
  // Of different films of one story only the light's own scale is: pixels of another size.
  const double area =
      static_cast<double>(options_.side * options_.side) / (kSceneSide * kSceneSide);
  for (auto& count : light.pixels) {
    count = static_cast<int64_t>(std::lround(area * static_cast<double>(count)));
  }
  const int64_t from = random.below(options_.frames - clip_frames_ + 1);
  const Film film = draw_film(stories.stage[which], stories.lawful[which], options_.side,
                              lit ? &light : nullptr, from, clip_frames_);
  const int64_t side = film.side, pixels = side * side;
  std::vector<uint8_t> interleaved(film.pixels.size());
  for (int64_t t = 0; t < clip_frames_; ++t) {
    for (int64_t c = 0; c < 3; ++c) {
      for (int64_t i = 0; i < pixels; ++i) {
        interleaved[static_cast<size_t>((t * pixels + i) * 3 + c)] =
            film.pixels[static_cast<size_t>((t * 3 + c) * pixels + i)];
      }
    }
  }
  const PixelRect part = crop ? crop(side, side, random) : PixelRect{0, 0, side, side};
  return cut_frames(interleaved.data(), clip_frames_, side, side, 3, part);
}

torch::Tensor LawfulFilms::column(const std::string& name) const {
  if (name != "rule") return ClipSource::column(name);
  return torch::arange(size_).remainder(static_cast<int64_t>(rule_names().size()));
}

}  // namespace jepa::eval::physics

#include <jepa/data/augment.hpp>
#include <jepa/errors.hpp>

#include <algorithm>
#include <cmath>

namespace jepa {
namespace {

/// A part of random area and aspect; where ten draws do not fit the frame, the largest centred part
/// of the nearest allowed aspect (Szegedy et al. 2015, as V-JEPA crops).
PixelRect random_resized(int64_t height, int64_t width, const AugmentOptions& options,
                         Random& random) {
  const auto area = static_cast<double>(height * width);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * random.uniform(options.area_min, options.area_max);
    const double aspect =
        std::exp(random.uniform(std::log(options.aspect_min), std::log(options.aspect_max)));
    const int64_t w = std::llround(std::sqrt(target * aspect));
    const int64_t h = std::llround(std::sqrt(target / aspect));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    return {random.below(height - h + 1), random.below(width - w + 1), h, w};
  }
  const double aspect = std::clamp(static_cast<double>(width) / static_cast<double>(height),
                                   options.aspect_min, options.aspect_max);
  const int64_t w =
      std::clamp<int64_t>(std::llround(static_cast<double>(height) * aspect), 1, width);
  const int64_t h =
      std::clamp<int64_t>(std::llround(static_cast<double>(width) / aspect), 1, height);
  return {(height - h) / 2, (width - w) / 2, h, w};
}

/// Where an output pixel lies in the input: two neighbours and the share of the second.
struct Tap {
  int64_t low;
  int64_t high;
  float share;
};

std::vector<Tap> bilinear_taps(int64_t in, int64_t out) {
  std::vector<Tap> taps(static_cast<size_t>(out));
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  for (int64_t i = 0; i < out; ++i) {
    const double at = std::max(0.0, (static_cast<double>(i) + 0.5) * scale - 0.5);
    const int64_t low = std::min(static_cast<int64_t>(at), in - 1);
    taps[static_cast<size_t>(i)] = {low, std::min(low + 1, in - 1),
                                    static_cast<float>(at - static_cast<double>(low))};
  }
  return taps;
}

/// The input pixels that make an output pixel of an antialiased resize, and their weights, which
/// add up to 1: a triangle as wide as two output pixels.
struct Average {
  int64_t first;
  std::vector<float> weights;
};

std::vector<Average> averages(int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double reach = std::max(1.0, scale);
  std::vector<Average> all;
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(centre - reach + 0.5));
    const auto end = std::min<int64_t>(in, static_cast<int64_t>(centre + reach + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int64_t x = first; x < end; ++x) {
      const double away = std::abs(static_cast<double>(x) + 0.5 - centre) / reach;
      weights.push_back(std::max(0.0, 1.0 - away));
      sum += weights.back();
    }
    Average average{first, {}};
    for (const double weight : weights) average.weights.push_back(static_cast<float>(weight / sum));
    all.push_back(std::move(average));
  }
  return all;
}

/// Resizes along the middle of [outer, in, inner].
std::vector<uint8_t> average_pass(const uint8_t* from, int64_t outer, int64_t in, int64_t inner,
                                  int64_t out) {
  const auto taps = averages(in, out);
  std::vector<uint8_t> to(static_cast<size_t>(outer * out * inner));
  std::vector<float> sums(static_cast<size_t>(inner));
  uint8_t* next = to.data();
  for (int64_t o = 0; o < outer; ++o) {
    for (const Average& tap : taps) {
      std::fill(sums.begin(), sums.end(), 0.5F);
      const uint8_t* row = from + (o * in + tap.first) * inner;
      for (const float weight : tap.weights) {
        for (float& sum : sums) sum += weight * static_cast<float>(*row++);
      }
      for (const float sum : sums) *next++ = static_cast<uint8_t>(std::min(sum, 255.0F));
    }
  }
  return to;
}

}  // namespace

RawClip resize_antialiased(const RawClip& clip, int64_t height, int64_t width) {
  const auto narrow =
      average_pass(clip.pixels.data(), clip.frames * clip.height, clip.width, clip.channels, width);
  return {clip.frames,
          height,
          width,
          clip.channels,
          average_pass(narrow.data(), clip.frames, clip.height, width * clip.channels, height),
          clip.signals};
}

void AugmentOptions::describe(OptionVisitor& visit) {
  visit("crop", crop,
        {.help = "which part of the frames is seen",
         .choices = {"none", "random_resized", "random", "centre"}});
  visit("size", size,
        {.help = "side of the clip made; 0: as the source gives it",
         .unit = "px",
         .min = 0,
         .max = 4096});
  visit("area_min", area_min,
        {.help = "random_resized: smallest share of the area", .min = 1e-4, .max = 1});
  visit("area_max", area_max,
        {.help = "random_resized: largest share of the area", .min = 1e-4, .max = 1});
  visit("aspect_min", aspect_min,
        {.help = "random_resized: smallest width / height", .min = 0.01, .max = 100});
  visit("aspect_max", aspect_max,
        {.help = "random_resized: largest width / height", .min = 0.01, .max = 100});
  visit("centre_share", centre_share,
        {.help = "centre: share of the short side seen", .min = 0.01, .max = 1});
  visit("antialias", antialias,
        {.help = "average over what an output pixel covers where clips are made smaller; images: "
                 "clips of one frame",
         .choices = {"images", "always", "never"}});
  visit("flip", flip, {.help = "chance of mirroring a clip left to right", .min = 0, .max = 1});
}

Augmentation::Augmentation(AugmentOptions options) : options_(std::move(options)) {
  if (options_.crop != "none" && options_.size == 0) {
    throw ConfigError("size: expected at least 1 with crop = " + options_.crop + ", found 0");
  }
  if (options_.area_min > options_.area_max) {
    throw ConfigError("area_min: expected at most area_max");
  }
  if (options_.aspect_min > options_.aspect_max) {
    throw ConfigError("aspect_min: expected at most aspect_max");
  }
}

PixelRect Augmentation::choose(int64_t height, int64_t width, Random& random) const {
  if (options_.crop == "random_resized") return random_resized(height, width, options_, random);
  if (options_.crop == "random") {
    const int64_t size = options_.size;
    if (height < size || width < size) {
      throw DataError("frames of " + std::to_string(height) + " x " + std::to_string(width) +
                      " are smaller than the crop of " + std::to_string(size));
    }
    return {random.below(height - size + 1), random.below(width - size + 1), size, size};
  }
  if (options_.crop == "centre") {
    const auto short_side = static_cast<double>(std::min(height, width));
    const int64_t side = std::max<int64_t>(1, std::llround(short_side * options_.centre_share));
    return {(height - side) / 2, (width - side) / 2, side, side};
  }
  return {0, 0, height, width};
}

int64_t Augmentation::out_height(const RawClip& clip) const {
  return options_.size > 0 ? options_.size : clip.height;
}

int64_t Augmentation::out_width(const RawClip& clip) const {
  return options_.size > 0 ? options_.size : clip.width;
}

bool Augmentation::antialiased(const RawClip& clip) const {
  if (out_height(clip) >= clip.height && out_width(clip) >= clip.width) return false;
  return options_.antialias == "always" || (options_.antialias == "images" && clip.frames == 1);
}

void Augmentation::write(const RawClip& clip, Random& random, uint8_t* out) const {
  if (antialiased(clip)) {
    write(resize_antialiased(clip, out_height(clip), out_width(clip)), random, out);
    return;
  }
  const int64_t height = out_height(clip);
  const int64_t width = out_width(clip);
  const bool mirror = random.uniform() < options_.flip;
  const bool same = height == clip.height && width == clip.width;
  const auto rows = bilinear_taps(clip.height, height);
  const auto columns = bilinear_taps(clip.width, width);
  const int64_t channels = clip.channels;
  for (int64_t t = 0; t < clip.frames; ++t) {
    const uint8_t* frame = clip.pixels.data() + t * clip.frame_bytes();
    for (int64_t y = 0; y < height; ++y) {
      const Tap& row = rows[static_cast<size_t>(y)];
      const uint8_t* upper = frame + row.low * clip.width * channels;
      const uint8_t* lower = frame + row.high * clip.width * channels;
      for (int64_t x = 0; x < width; ++x) {
        const Tap& column = columns[static_cast<size_t>(mirror ? width - 1 - x : x)];
        for (int64_t c = 0; c < channels; ++c) {
          uint8_t& to = out[((c * clip.frames + t) * height + y) * width + x];
          const int64_t left = column.low * channels + c;
          if (same) {
            to = upper[left];
            continue;
          }
          const int64_t right = column.high * channels + c;
          const float top = static_cast<float>(upper[left]) +
                            column.share * static_cast<float>(upper[right] - upper[left]);
          const float bottom = static_cast<float>(lower[left]) +
                               column.share * static_cast<float>(lower[right] - lower[left]);
          to = static_cast<uint8_t>(top + row.share * (bottom - top) + 0.5F);
        }
      }
    }
  }
}

}  // namespace jepa

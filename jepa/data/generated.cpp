#include <jepa/data/generated.hpp>
#include <jepa/data/mnist.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace jepa {
namespace {

constexpr int64_t kShapes = 5;

/// Share of an image's `in` pixels that lie under each of `out` pixels: exact averages by area.
std::vector<float> area_weights(int64_t in, int64_t out) {
  std::vector<float> weights(static_cast<size_t>(in * out));
  const double ratio = static_cast<double>(in) / static_cast<double>(out);
  for (int64_t o = 0; o < out; ++o) {
    const double low = static_cast<double>(o) * ratio;
    for (int64_t i = 0; i < in; ++i) {
      const double covered =
          std::min(low + ratio, static_cast<double>(i + 1)) - std::max(low, static_cast<double>(i));
      weights[static_cast<size_t>(o * in + i)] = static_cast<float>(std::max(0.0, covered) / ratio);
    }
  }
  return weights;
}

std::vector<float> digit_sprite(int64_t instance, int64_t side) {
  constexpr int64_t in = DigitSet::kSide;
  const auto weights = area_weights(in, side);
  const uint8_t* image = mnist_digits().image(instance);
  std::vector<float> rows(static_cast<size_t>(side * in), 0.0F);
  for (int64_t o = 0; o < side; ++o) {
    for (int64_t i = 0; i < in; ++i) {
      const float weight = weights[static_cast<size_t>(o * in + i)];
      if (weight == 0.0F) continue;
      for (int64_t x = 0; x < in; ++x) {
        rows[static_cast<size_t>(o * in + x)] += weight * static_cast<float>(image[i * in + x]);
      }
    }
  }
  std::vector<float> sprite(static_cast<size_t>(side * side), 0.0F);
  for (int64_t y = 0; y < side; ++y) {
    for (int64_t o = 0; o < side; ++o) {
      for (int64_t x = 0; x < in; ++x) {
        sprite[static_cast<size_t>(y * side + o)] +=
            weights[static_cast<size_t>(o * in + x)] * rows[static_cast<size_t>(y * in + x)];
      }
    }
  }
  return sprite;
}

/// Signed distance (negative inside) from a shape of radius 1 around (0, 0).
double shape_distance(int64_t shape, double x, double y) {
  const double radius = std::hypot(x, y);
  switch (shape) {
    case 0:
      return radius - 1.0;  // disc
    case 1:
      return std::max(std::abs(x), std::abs(y)) - 0.8;  // square
    case 2:
      return std::max(y - 0.75, std::abs(x) * 0.87 - y * 0.5 - 0.48);  // triangle
    case 3:                                                            // cross
      return std::max(std::min(std::abs(x), std::abs(y)) - 0.25,
                      std::max(std::abs(x), std::abs(y)) - 0.95);
    default:
      return std::abs(radius - 0.75) - 0.22;  // ring
  }
}

std::vector<float> shape_sprite(int64_t shape, int64_t side) {
  std::vector<float> sprite(static_cast<size_t>(side * side));
  const double half = static_cast<double>(side) / 2.0;
  const double scale = half - 1.0;  // one pixel of room for the soft edge
  for (int64_t y = 0; y < side; ++y) {
    for (int64_t x = 0; x < side; ++x) {
      const double distance =
          scale * shape_distance(shape, (static_cast<double>(x) + 0.5 - half) / scale,
                                 (static_cast<double>(y) + 0.5 - half) / scale);
      sprite[static_cast<size_t>(y * side + x)] =
          static_cast<float>(255.0 * std::clamp(0.5 - distance, 0.0, 1.0));
    }
  }
  return sprite;
}

/// How far an object comes from where it starts, at its least and its most over the frames.
struct Reach {
  double low = 0, high = 0;
};

double moved(double velocity, double acceleration, int64_t frame) {
  const auto time = static_cast<double>(frame);
  return velocity * time + 0.5 * acceleration * time * time;
}

Reach reach(double velocity, double acceleration, int64_t frames) {
  Reach reach;
  for (int64_t t = 1; t < frames; ++t) {
    reach.low = std::min(reach.low, moved(velocity, acceleration, t));
    reach.high = std::max(reach.high, moved(velocity, acceleration, t));
  }
  return reach;
}

}  // namespace

void GeneratedOptions::describe(OptionVisitor& visit) {
  visit("frames", frames, {.help = "frames a clip", .min = 1, .max = 4096});
  visit("size", size, {.help = "side of a frame", .unit = "px", .min = 4, .max = 1024});
  visit("object_size", object_size,
        {.help = "side of the square an object fills", .unit = "px", .min = 4, .max = 1024});
  visit("speed_min", speed_min, {.help = "slowest object", .unit = "px a frame", .min = 0});
  visit("speed_max", speed_max, {.help = "fastest object", .unit = "px a frame", .min = 0});
  visit("gravity", gravity,
        {.help = "downward pull on every object", .unit = "px a frame squared", .min = 0});
  visit("count", count, {.help = "objects a clip: 1 to this many", .min = 1, .max = 16});
  visit("noise", noise, {.help = "brightest background pixel, 1 is white", .min = 0, .max = 1});
  visit("channels", channels, {.help = "1, or 3 for shapes of random colour", .min = 1, .max = 3});
  visit("signals", signals, {.help = "what clips carry of each frame: position,velocity"});
}

GeneratedSource::GeneratedSource(GeneratedOptions options, uint64_t seed)
    : options_(std::move(options)), seed_(seed) {
  if (options_.kind != "digits" && options_.kind != "shapes") {
    throw ConfigError("kind: expected digits or shapes, found '" + options_.kind + "'");
  }
  if (options_.channels == 2) throw ConfigError("channels: expected 1 or 3, found 2");
  if (options_.speed_min > options_.speed_max) {
    throw ConfigError("speed_min: expected at most speed_max");
  }
  const auto room = static_cast<double>(options_.size - options_.object_size);
  const Reach fall =
      reach(options_.speed_max - options_.gravity * middle(), options_.gravity, options_.frames);
  if (options_.speed_max * static_cast<double>(options_.frames - 1) > room ||
      fall.high - fall.low > room) {
    throw ConfigError("speed_max, gravity: an object of " + std::to_string(options_.object_size) +
                      " px would leave a frame of " + std::to_string(options_.size) +
                      " px within " + std::to_string(options_.frames) + " frames");
  }
  for (const auto& name : ClipOptions{.signals = options_.signals}.signal_names()) {
    if (name != "position" && name != "velocity") {
      throw ConfigError("signals: expected position or velocity, found '" + name + "'");
    }
  }
  instances_ = mnist_split(options_.split);
}

MovingObject GeneratedSource::draw_object(int64_t index, Random& random) const {
  MovingObject object;
  if (digits()) {
    object.instance =
        instances_[static_cast<size_t>(random.below(static_cast<int64_t>(instances_.size())))];
    object.kind = mnist_digits().labels[static_cast<size_t>(object.instance)];
  } else {
    object.instance = index;
    object.kind = random.below(kShapes);
  }
  object.direction = random.below(8);
  const double angle = static_cast<double>(object.direction) * std::numbers::pi / 4.0;
  const double speed = random.uniform(options_.speed_min, options_.speed_max);
  object.velocity_x = speed * std::cos(angle);
  object.velocity_y = speed * std::sin(angle) - options_.gravity * middle();
  // The upper left corner stays in [0, room] over the whole clip.
  const auto room = static_cast<double>(options_.size - options_.object_size);
  const auto start = [&](double velocity, double acceleration) {
    const Reach path = reach(velocity, acceleration, options_.frames);
    return random.uniform(-path.low, room - path.high) +
           static_cast<double>(options_.object_size) / 2.0;
  };
  object.x = start(object.velocity_x, 0);
  object.y = start(object.velocity_y, options_.gravity);
  if (options_.channels == 3) {
    for (float& part : object.colour) part = static_cast<float>(random.uniform(0.3, 1.0));
  }
  return object;
}

std::vector<MovingObject> GeneratedSource::objects(int64_t index) const {
  Random random(seed_, options_.kind + "/" + options_.split, static_cast<uint64_t>(index));
  const int64_t count = 1 + random.below(options_.count);
  std::vector<MovingObject> objects;
  for (int64_t i = 0; i < count; ++i) objects.push_back(draw_object(index, random));
  return objects;
}

void GeneratedSource::add_object(const MovingObject& object, const std::vector<float>& sprite,
                                 int64_t frame, float brightness,
                                 std::vector<float>& canvas) const {
  const int64_t side = options_.object_size;
  const int64_t size = options_.size;
  const auto corner = [&](double start, double velocity, double acceleration) {
    const double at =
        start + moved(velocity, acceleration, frame) - static_cast<double>(side) / 2.0;
    return std::clamp(at, 0.0, static_cast<double>(size - side));
  };
  const double left = corner(object.x, object.velocity_x, 0);
  const double top = corner(object.y, object.velocity_y, options_.gravity);
  const auto x0 = static_cast<int64_t>(left);
  const auto y0 = static_cast<int64_t>(top);
  const auto share_x = static_cast<float>(left - static_cast<double>(x0));
  const auto share_y = static_cast<float>(top - static_cast<double>(y0));
  const auto at = [&](int64_t y, int64_t x) {
    return y < 0 || x < 0 || y >= side || x >= side ? 0.0F
                                                    : sprite[static_cast<size_t>(y * side + x)];
  };
  for (int64_t y = 0; y <= side && y0 + y < size; ++y) {
    for (int64_t x = 0; x <= side && x0 + x < size; ++x) {
      const float value = (1 - share_y) * ((1 - share_x) * at(y, x) + share_x * at(y, x - 1)) +
                          share_y * ((1 - share_x) * at(y - 1, x) + share_x * at(y - 1, x - 1));
      float* pixel = canvas.data() + ((y0 + y) * size + x0 + x) * options_.channels;
      for (int64_t c = 0; c < options_.channels; ++c) {
        pixel[c] = std::max(pixel[c], brightness * object.colour[c] * value);
      }
    }
  }
}

Signals GeneratedSource::signals_of(const MovingObject& object) const {
  Signals signals;
  for (const auto& name : ClipOptions{.signals = options_.signals}.signal_names()) {
    Signal& signal = signals[name] = {2, {}};
    for (int64_t t = 0; t < options_.frames; ++t) {
      double x = object.velocity_x;
      double y = object.velocity_y + options_.gravity * static_cast<double>(t);
      if (name == "position") {
        x = object.x + moved(object.velocity_x, 0, t);
        y = object.y + moved(object.velocity_y, options_.gravity, t);
      }
      signal.values.push_back(static_cast<float>(x));
      signal.values.push_back(static_cast<float>(y));
    }
  }
  return signals;
}

RawClip GeneratedSource::read(int64_t index, Random& random, const CropChooser& crop) const {
  const auto moving = objects(index);
  Random noise(seed_, options_.kind + "/" + options_.split + "/noise",
               static_cast<uint64_t>(index));
  std::vector<std::vector<float>> sprites;
  for (const auto& object : moving) {
    sprites.push_back(digits() ? digit_sprite(object.instance, options_.object_size)
                               : shape_sprite(object.kind, options_.object_size));
  }
  RawClip clip{options_.frames, options_.size, options_.size, options_.channels, {}};
  clip.pixels.reserve(static_cast<size_t>(clip.frames * clip.frame_bytes()));
  std::vector<float> canvas(static_cast<size_t>(clip.frame_bytes()));
  for (int64_t t = 0; t < clip.frames; ++t) {
    std::fill(canvas.begin(), canvas.end(), 0.0F);
    for (size_t i = 0; i < moving.size(); ++i) {
      add_object(moving[i], sprites[i], t, i == 0 ? 1.0F : 0.5F, canvas);
    }
    for (float value : canvas) {
      if (options_.noise > 0) {
        value += (1 - value / 255.0F) * static_cast<float>(noise.uniform(0, 255 * options_.noise));
      }
      clip.pixels.push_back(static_cast<uint8_t>(std::min(255.0F, value + 0.5F)));
    }
  }
  if (crop) {
    clip = cut_frames(clip.pixels.data(), clip.frames, clip.height, clip.width, clip.channels,
                      crop(clip.height, clip.width, random));
  }
  clip.signals = signals_of(moving.front());
  return clip;
}

std::vector<std::string> GeneratedSource::columns() const {
  return {digits() ? "digit" : "shape",
          "direction",
          "position",
          "velocity",
          "acceleration",
          "count",
          "instance"};
}

torch::Tensor GeneratedSource::column(const std::string& name) const {
  const auto known = columns();
  if (std::find(known.begin(), known.end(), name) == known.end()) return ClipSource::column(name);
  const bool pair = name == "position" || name == "velocity" || name == "acceleration";
  torch::Tensor values = pair ? torch::empty({options_.clips, 2}, torch::kFloat32)
                              : torch::empty({options_.clips}, torch::kInt64);
  for (int64_t i = 0; i < options_.clips; ++i) {
    const auto moving = objects(i);
    const MovingObject& first = moving.front();
    if (pair) {
      float* row = values.mutable_data_ptr<float>() + 2 * i;
      const double fall = options_.gravity * middle();
      double x = 0, y = options_.gravity;
      if (name == "velocity") {
        x = first.velocity_x;
        y = first.velocity_y + fall;
      } else if (name == "position") {
        x = first.x + middle() * first.velocity_x;
        y = first.y + middle() * (first.velocity_y + 0.5 * fall);
      }
      row[0] = static_cast<float>(x);
      row[1] = static_cast<float>(y);
      continue;
    }
    int64_t& value = values.mutable_data_ptr<int64_t>()[i];
    if (name == "direction") {
      value = first.direction;
    } else if (name == "instance") {
      value = first.instance;
    } else if (name == "count") {
      value = static_cast<int64_t>(moving.size());
    } else {
      value = first.kind;
    }
  }
  return values;
}

}  // namespace jepa

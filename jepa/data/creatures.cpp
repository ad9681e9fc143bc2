#include <jepa/data/creatures.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace jepa {
namespace {

constexpr double kUnitSide = 32;     // px of a frame that lengths are given for
constexpr double kSpread = 52;       // degrees that the outer legs stand forwards and backwards
constexpr double kBend = 14;         // degrees that a leg bends outwards at its knee
constexpr double kSwing = 9;         // degrees that a leg swings to either side
constexpr double kLegRadius = 0.55;  // half a leg's width
constexpr double kMargin = 0.5;      // kept free at the frame's rim
constexpr double kLegShade = 0.85, kHeadShade = 0.6;

constexpr std::array<std::array<double, 3>, 6> kColours = {{{255, 70, 60},
                                                            {250, 220, 70},
                                                            {90, 230, 90},
                                                            {80, 220, 230},
                                                            {90, 120, 255},
                                                            {235, 235, 235}}};

/// Half length and half width of each body.
constexpr std::array<std::array<double, 2>, 4> kBodies = {
    {{3.2, 3.2}, {4.2, 2.6}, {4.8, 1.8}, {3.0, 3.0}}};

struct Point {
  double x = 0, y = 0;
};

Point turned(const Point& p, double angle) {
  return {p.x * std::cos(angle) - p.y * std::sin(angle),
          p.x * std::sin(angle) + p.y * std::cos(angle)};
}

double distance_to_segment(const Point& p, const Point& a, const Point& b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double along =
      std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / (dx * dx + dy * dy), 0.0, 1.0);
  return std::hypot(p.x - a.x - along * dx, p.y - a.y - along * dy);
}

/// Signed distance from a body of the given half length and width around (0, 0), negative inside.
double body_distance(int64_t body, const Point& p, double length, double width) {
  if (body == kSpiderBody) return std::max(std::abs(p.x) - length, std::abs(p.y) - width);
  return (std::hypot(p.x / length, p.y / width) - 1) * std::min(length, width);
}

/// A leg from the body's side over its knee to its foot; the creature faces along x.
struct Leg {
  Point root, knee, foot;
};

std::vector<Leg> legs_at(const Creature& creature, double time) {
  const int64_t pairs = (creature.legs + 1) / 2;
  const auto& body = kBodies[static_cast<size_t>(creature.body)];
  const double degree = std::numbers::pi / 180;
  std::vector<Leg> legs;
  for (int64_t leg = 0; leg < 2 * pairs; ++leg) {
    if (leg == creature.lost) continue;
    const int64_t pair = leg / 2;
    const double side = leg % 2 == 0 ? 1 : -1;
    // 1 in front, -1 behind.
    const double forward =
        pairs == 1 ? 0 : 1 - 2 * static_cast<double>(pair) / static_cast<double>(pairs - 1);
    // Neighbours and opposites are half a step apart.
    const double step =
        creature.stride * time + creature.phase + 0.5 * static_cast<double>(pair + leg % 2);
    const double swing = kSwing * std::sin(2 * std::numbers::pi * step);
    const double angle = (90 - kSpread * forward + swing) * degree;
    const double bent = angle - kBend * forward * degree;
    const double half = 0.5 * creature.leg_length;
    Leg made;
    made.root = {0.62 * body[0] * creature.size * forward,
                 (1 - 0.35 * forward * forward) * body[1] * creature.size};
    made.knee = {made.root.x + half * std::cos(angle), made.root.y + half * std::sin(angle)};
    made.foot = {made.knee.x + half * std::cos(bent), made.knee.y + half * std::sin(bent)};
    for (Point* point : {&made.root, &made.knee, &made.foot}) point->y *= side;
    legs.push_back(made);
  }
  return legs;
}

/// How far a creature reaches from its body's centre, whatever its gait.
double reach(const Creature& creature) {
  const auto& body = kBodies[static_cast<size_t>(creature.body)];
  const double sideways = body[1] * creature.size + creature.leg_length + kLegRadius;
  const double ahead = 0.62 * body[0] * creature.size + 0.96 * creature.leg_length + kLegRadius;
  return std::max({sideways, ahead, body[0] * creature.size + 2.6}) + kMargin;
}

void blend(double& value, double share, double paint) { value += share * (paint - value); }

/// Adds a creature to a canvas [side, side, 3] of 0..255.
void draw_creature(const Creature& creature, double time, int64_t side,
                   std::vector<double>& canvas) {
  const double unit = static_cast<double>(side) / kUnitSide;
  const double heading = static_cast<double>(creature.direction) * std::numbers::pi / 4;
  const Point centre{creature.x + creature.speed * time * std::cos(heading),
                     creature.y + creature.speed * time * std::sin(heading)};
  const auto legs = legs_at(creature, time);
  const auto& body = kBodies[static_cast<size_t>(creature.body)];
  const auto& colour = kColours[static_cast<size_t>(creature.colour)];
  const double length = body[0] * creature.size, width = body[1] * creature.size;
  const auto cover = [unit](double distance) {
    return std::clamp(0.5 - unit * distance, 0.0, 1.0);
  };
  for (int64_t y = 0; y < side; ++y) {
    for (int64_t x = 0; x < side; ++x) {
      const Point p = turned({(static_cast<double>(x) + 0.5 - centre.x) / unit,
                              (static_cast<double>(y) + 0.5 - centre.y) / unit},
                             -heading);
      double nearest = 1e9;
      for (const Leg& leg : legs) {
        nearest = std::min({nearest, distance_to_segment(p, leg.root, leg.knee),
                            distance_to_segment(p, leg.knee, leg.foot)});
      }
      const double of_legs = cover(nearest - kLegRadius);
      const double of_body = cover(body_distance(creature.body, p, length, width));
      const double of_head = cover(std::hypot(p.x - length - 0.6, p.y) - 1.5);
      double* pixel = canvas.data() + (y * side + x) * 3;
      for (size_t c = 0; c < 3; ++c) {
        blend(pixel[c], of_legs, kLegShade * colour[c]);
        blend(pixel[c], of_head, kHeadShade * colour[c]);
        blend(pixel[c], of_body, colour[c]);
      }
    }
  }
}

/// One of `count` looks; of those that the other kind has alone, none.
int64_t draw_look(int64_t count, int64_t others_own, Random& random) {
  int64_t look = random.below(others_own < 0 ? count : count - 1);
  if (others_own >= 0 && look >= others_own) ++look;
  return look;
}

}  // namespace

const std::vector<std::string>& creature_bodies() {
  static const std::vector<std::string> names{"round", "oval", "slim", "square"};
  return names;
}

const std::vector<std::string>& creature_colours() {
  static const std::vector<std::string> names{"red", "yellow", "green", "cyan", "blue", "white"};
  return names;
}

void CreatureOptions::describe(OptionVisitor& visit) {
  visit("frames", frames, {.help = "frames a clip", .min = 1, .max = 4096});
  visit("size", size, {.help = "side of a frame", .unit = "px", .min = 16, .max = 1024});
  visit("channels", channels, {.help = "3, or 1: grey", .min = 1, .max = 3});
  visit("combinations", combinations,
        {.help = "seen: only insects are round or red, only spiders square or blue; held_out: "
                 "round red spiders, square blue insects",
         .choices = {"seen", "held_out", "all"}});
  visit("legs", legs, {.help = "their number, each as often", .min = 3, .max = 12});
  visit("length_min", length_min,
        {.help = "shortest legs, of a frame of 32", .unit = "px", .min = 1});
  visit("length_max", length_max,
        {.help = "longest legs, of a frame of 32", .unit = "px", .min = 1});
  visit("speed_min", speed_min,
        {.help = "slowest, of a frame of 32", .unit = "px a frame", .min = 0});
  visit("speed_max", speed_max,
        {.help = "fastest, of a frame of 32", .unit = "px a frame", .min = 0});
  visit("headings", headings, {.help = "directions: 1, 2, 4 or 8", .min = 1, .max = 8});
}

CreatureSource::CreatureSource(CreatureOptions options, uint64_t seed)
    : options_(std::move(options)), seed_(seed) {
  if (options_.channels == 2) throw ConfigError("channels: expected 1 or 3, found 2");
  if (8 % options_.headings != 0) {
    throw ConfigError("headings: expected 1, 2, 4 or 8, found " +
                      std::to_string(options_.headings));
  }
  if (options_.legs.empty()) throw ConfigError("legs: expected at least one number");
  if (options_.length_min > options_.length_max) {
    throw ConfigError("length_min: expected at most length_max");
  }
  if (options_.speed_min > options_.speed_max) {
    throw ConfigError("speed_min: expected at most speed_max");
  }
  Creature largest{.size = 1.1, .leg_length = options_.length_max};
  const double way = options_.speed_max * static_cast<double>(options_.frames - 1);
  if (2 * reach(largest) + way > kUnitSide) {
    throw ConfigError(
        "length_max, speed_max: a creature with legs of " + std::to_string(options_.length_max) +
        " px would leave a frame of 32 px within " + std::to_string(options_.frames) + " frames");
  }
}

Creature CreatureSource::creature(int64_t index) const {
  Random random(seed_, "creatures/" + options_.split, static_cast<uint64_t>(index));
  Creature made;
  made.legs =
      options_.legs[static_cast<size_t>(random.below(static_cast<int64_t>(options_.legs.size())))];
  const bool spider = made.kind() == 1;
  const auto bodies = static_cast<int64_t>(kBodies.size());
  const auto colours = static_cast<int64_t>(kColours.size());
  if (options_.combinations == "held_out") {
    made.body = spider ? kInsectBody : kSpiderBody;
    made.colour = spider ? kInsectColour : kSpiderColour;
  } else {
    const bool seen = options_.combinations == "seen";
    made.body = draw_look(bodies, !seen ? -1 : spider ? kInsectBody : kSpiderBody, random);
    made.colour = draw_look(colours, !seen ? -1 : spider ? kInsectColour : kSpiderColour, random);
  }
  if (made.legs % 2 == 1) made.lost = random.below(made.legs + 1);
  const double unit = static_cast<double>(options_.size) / kUnitSide;
  made.size = random.uniform(0.85, 1.1);
  made.leg_length = random.uniform(options_.length_min, options_.length_max);
  made.direction = random.below(options_.headings) * (8 / options_.headings);
  made.speed = unit * random.uniform(options_.speed_min, options_.speed_max);
  made.stride = random.uniform(0.12, 0.22);
  made.phase = random.uniform();
  // The whole of it stays inside over the clip.
  const double heading = static_cast<double>(made.direction) * std::numbers::pi / 4;
  const double way = made.speed * static_cast<double>(options_.frames - 1);
  const double room = unit * reach(made);
  const auto start = [&](double moved) {
    const auto side = static_cast<double>(options_.size);
    return random.uniform(room - std::min(moved, 0.0), side - room - std::max(moved, 0.0));
  };
  made.x = start(way * std::cos(heading));
  made.y = start(way * std::sin(heading));
  return made;
}

RawClip CreatureSource::read(int64_t index, Random& random, const CropChooser& crop) const {
  const Creature walking = creature(index);
  RawClip clip{options_.frames, options_.size, options_.size, options_.channels, {}};
  clip.pixels.reserve(static_cast<size_t>(clip.frames * clip.frame_bytes()));
  std::vector<double> canvas(static_cast<size_t>(options_.size * options_.size * 3));
  for (int64_t t = 0; t < clip.frames; ++t) {
    std::fill(canvas.begin(), canvas.end(), 0.0);
    draw_creature(walking, static_cast<double>(t), options_.size, canvas);
    for (size_t i = 0; i < canvas.size(); i += 3) {
      if (options_.channels == 3) {
        for (size_t c = 0; c < 3; ++c) {
          clip.pixels.push_back(static_cast<uint8_t>(canvas[i + c] + 0.5));
        }
      } else {
        clip.pixels.push_back(static_cast<uint8_t>(0.299 * canvas[i] + 0.587 * canvas[i + 1] +
                                                   0.114 * canvas[i + 2] + 0.5));
      }
    }
  }
  if (!crop) return clip;
  return cut_frames(clip.pixels.data(), clip.frames, clip.height, clip.width, clip.channels,
                    crop(clip.height, clip.width, random));
}

std::vector<std::string> CreatureSource::columns() const {
  return {"legs", "class",      "body",     "colour",  "direction",
          "size", "leg_length", "position", "velocity"};
}

torch::Tensor CreatureSource::column(const std::string& name) const {
  const auto known = columns();
  if (std::find(known.begin(), known.end(), name) == known.end()) return ClipSource::column(name);
  const bool pair = name == "position" || name == "velocity";
  const bool quantity = pair || name == "size" || name == "leg_length";
  const int64_t width = pair ? 2 : 1;
  std::vector<float> quantities;
  std::vector<int64_t> classes;
  for (int64_t i = 0; i < options_.clips; ++i) {
    const Creature made = creature(i);
    const double heading = static_cast<double>(made.direction) * std::numbers::pi / 4;
    const double vx = made.speed * std::cos(heading), vy = made.speed * std::sin(heading);
    const double middle = 0.5 * static_cast<double>(options_.frames - 1);
    if (pair) {
      const bool place = name == "position";
      quantities.push_back(static_cast<float>(place ? made.x + middle * vx : vx));
      quantities.push_back(static_cast<float>(place ? made.y + middle * vy : vy));
    } else if (quantity) {
      quantities.push_back(static_cast<float>(name == "size" ? made.size : made.leg_length));
    } else {
      classes.push_back(name == "legs"     ? made.legs
                        : name == "class"  ? made.kind()
                        : name == "body"   ? made.body
                        : name == "colour" ? made.colour
                                           : made.direction);
    }
  }
  if (!quantity) return torch::tensor(classes, torch::kInt64);
  auto values = torch::tensor(quantities, torch::kFloat32);
  return pair ? values.view({options_.clips, width}) : values;
}

}  // namespace jepa

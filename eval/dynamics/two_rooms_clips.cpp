#include <eval/dynamics/two_rooms_clips.hpp>
#include <jepa/errors.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace jepa::eval::dynamics {
namespace {

using worlds::Point;
using worlds::RoomLayout;

constexpr double kPi = std::numbers::pi;
// The published walk: turns of von Mises kappa 5 (a normal of that variance here), steps
// N(1, 0.4) cut to [0.2, longest].
const double kTurn = 1 / std::sqrt(5.0);
constexpr double kMeanStep = 1.0, kStepSpread = 0.4, kShortest = 0.2;
constexpr double kMargin = 1.0;      // of starts from any wall [px]
constexpr double kNear = 12.0;       // where wall-seeking clips start [px from the wall]
constexpr double kAroundDoor = 14;   // half of them start at heights so far from the door [px]
constexpr double kAim = 0.6;         // spread of a push around the wall's normal [rad]
constexpr double kReach = 4;         // from where a step can hit the middle wall [px]
constexpr double kPushShare = 0.75;  // of a wall-seeking clip's blocks push, the others go anywhere

double step_length(double longest, Random& random) {
  for (;;) {
    const double length = kMeanStep + kStepSpread * random.normal();
    if (length >= kShortest && length <= longest) return length;
  }
}

Point polar(double angle, double length) {
  return {length * std::cos(angle), length * std::sin(angle)};
}

// A value of a factor that is seen in training, or any.
double draw(const worlds::Factor& factor, bool unseen, Random& random) {
  const auto& range = factor.training;
  const auto values = static_cast<int64_t>(range.high - range.low) + 1;
  for (;;) {
    const double value = range.low + static_cast<double>(random.below(values));
    const bool kept_out = value >= range.gap_low && value <= range.gap_high;
    if (unseen || !kept_out) return value;
  }
}

}  // namespace

// One clip before it is drawn.
struct TwoRoomsClips::Walk {
  RoomLayout layout;
  Point start{};
  std::vector<Point> actions;
  std::vector<Point> positions;  // at frames
  std::vector<char> contact;     // of blocks
  bool held = false;
};

void TwoRoomsClipOptions::describe(OptionVisitor& visit) {
  visit("crossing", crossing, {.help = "share of clips made to pass the door", .min = 0, .max = 1});
  visit("wall_seeking", wall_seeking,
        {.help = "share of the others that push at the wall", .min = 0, .max = 1});
  visit("held", held,
        {.help = "share of clips that hold an action through each block", .min = 0, .max = 1});
  visit("longest", longest, {.help = "longest step", .unit = "px", .min = 0.5});
  visit("physics", physics,
        {.help = "what walls do: as the environment's, or refuse the step as the published data",
         .choices = {"environment", "published"}});
  visit("unseen", unseen, {.help = "also walls and doors that are kept out of training"});
}

TwoRoomsClips::TwoRoomsClips(TwoRoomsClipOptions options) : options_(std::move(options)) {
  const auto& o = options_;
  if (o.clips < 1 || o.frames < 2 || o.block < 1) {
    throw ConfigError("two rooms clips: clips and block must be 1 or more, frames 2 or more");
  }
  if (o.physics != "environment" && o.physics != "published") {
    throw ConfigError("two rooms clips: physics is environment or published, not '" + o.physics +
                      "'");
  }
  const worlds::TwoRooms world(1, geometry_);
  for (const auto& factor : world.info().factors) {
    if (factor.name == "wall") wall_ = factor;
    if (factor.name == "door") door_ = factor;
  }
}

std::string TwoRoomsClips::name(int64_t index) const {
  return "two rooms, clip " + std::to_string(index);
}

Point TwoRoomsClips::step(const RoomLayout& layout, const Point& from, const Point& action,
                          Random& random) const {
  if (options_.physics == "environment") {
    return worlds::push_back_step(geometry_, layout, from, action, [&] {
      const double x = random.normal();
      return Point{x, random.normal()};
    });
  }
  const auto single = [](const Point& p) {
    return std::array<float, 2>{static_cast<float>(p[0]), static_cast<float>(p[1])};
  };
  const auto to = worlds::refusing_step(geometry_, single({layout.wall, layout.door}), single(from),
                                        single(action));
  return {to[0], to[1]};
}

// Anywhere in a room, or near the middle wall.
void TwoRoomsClips::choose_start(Walk& walk, Random& random) const {
  const double low = geometry_.low() + kMargin, high = geometry_.high() - kMargin;
  const double face = static_cast<double>(geometry_.wall_width / 2) + kMargin;
  const bool left = random.uniform() < (walk.layout.wall - low) / (high - low);
  const double near = walk.layout.wall + (left ? -face : face);
  walk.start = {left ? random.uniform(low, near) : random.uniform(near, high),
                random.uniform(low, high)};
}

// The published walk: the heading turns a little with each step (or with each block that is held,
// then more, since blocks are fewer).
void TwoRoomsClips::free_actions(Walk& walk, Random& random) const {
  double angle = random.uniform(-kPi, kPi);
  Point action{};
  for (size_t i = 0; i < walk.actions.size(); ++i) {
    const bool fresh = !walk.held || i % static_cast<size_t>(options_.block) == 0;
    if (fresh) {
      if (i > 0) angle += kTurn * (walk.held ? 2 : 1) * random.normal();
      action = polar(angle, step_length(options_.longest, random));
    }
    walk.actions[i] = action;
  }
}

// Starts near the wall, half of the time at heights around the door, and walks at it.
void TwoRoomsClips::pushing_actions(Walk& walk, Random& random) const {
  const double low = geometry_.low() + kMargin, high = geometry_.high() - kMargin;
  const double face = static_cast<double>(geometry_.wall_width / 2) + 0.3;
  const bool left = random.uniform() < 0.5;
  const double away = face + random.uniform(0, kNear);
  walk.start[0] = std::clamp(walk.layout.wall + (left ? -away : away), low, high);
  walk.start[1] =
      random.uniform() < 0.5
          ? std::clamp(walk.layout.door + random.uniform(-kAroundDoor, kAroundDoor), low, high)
          : random.uniform(low, high);
  const double toward = left ? 0 : kPi;
  double aim = 0;
  Point action{};
  for (size_t i = 0; i < walk.actions.size(); ++i) {
    if (i % static_cast<size_t>(options_.block) == 0) {
      aim = random.uniform() < kPushShare ? toward + kAim * random.normal()
                                          : random.uniform(-kPi, kPi);
      action = polar(aim, step_length(options_.longest, random));
    } else if (!walk.held) {
      action = polar(aim + 0.5 * kTurn * random.normal(), step_length(options_.longest, random));
    }
    walk.actions[i] = action;
  }
}

// A walk put together from its two halves on both sides of a point in the door, as published.
void TwoRoomsClips::choose_crossing(Walk& walk, Random& random) const {
  const auto steps = static_cast<int64_t>(walk.actions.size());
  const auto space = static_cast<double>(geometry_.door_space) - 1;
  const Point door{walk.layout.wall, walk.layout.door + random.uniform(-space, space)};
  int64_t through = random.below(steps + 1);
  if (walk.held) through = through / options_.block * options_.block;
  const double direction =
      (random.uniform() < 0.5 ? 0 : kPi) + random.uniform(-0.25 * kPi, 0.25 * kPi);
  double angle = direction;
  Point action{};
  const auto next = [&](int64_t i, bool first) {
    if (walk.held && !first && i % options_.block != 0) return;
    if (!first) angle += kTurn * random.normal();
    action = polar(angle, step_length(options_.longest, random));
  };
  for (int64_t i = through; i < steps; ++i) {
    next(i, i == through);
    walk.actions[static_cast<size_t>(i)] = action;
  }
  // Backwards from the door: a held block is chosen at its last step.
  angle = direction;
  for (int64_t i = through - 1; i >= 0; --i) {
    next(i + 1, i == through - 1);
    walk.actions[static_cast<size_t>(i)] = action;
  }
  Point start = door;
  for (int64_t i = 0; i < through; ++i) {
    start[0] -= walk.actions[static_cast<size_t>(i)][0];
    start[1] -= walk.actions[static_cast<size_t>(i)][1];
  }
  const double low = geometry_.low() + 0.5, high = geometry_.high() - 0.5;
  walk.start = {std::clamp(start[0], low, high), std::clamp(start[1], low, high)};
}

TwoRoomsClips::Walk TwoRoomsClips::walk(Random& random) const {
  const auto& o = options_;
  Walk walk;
  walk.layout = {draw(wall_, o.unseen, random), draw(door_, o.unseen, random)};
  walk.actions.resize(static_cast<size_t>((o.frames - 1) * o.block));
  walk.held = random.uniform() < o.held;
  if (random.uniform() < o.crossing) {
    choose_crossing(walk, random);
  } else if (random.uniform() < o.wall_seeking) {
    pushing_actions(walk, random);
  } else {
    choose_start(walk, random);
    free_actions(walk, random);
  }
  Point position = walk.start;
  walk.positions = {position};
  walk.contact.assign(static_cast<size_t>(o.frames - 1), 0);
  for (size_t i = 0; i < walk.actions.size(); ++i) {
    const Point to = step(walk.layout, position, walk.actions[i], random);
    const bool free = std::abs(to[0] - position[0] - walk.actions[i][0]) < 1e-3 &&
                      std::abs(to[1] - position[1] - walk.actions[i][1]) < 1e-3;
    const size_t block = i / static_cast<size_t>(o.block);
    if (!free && std::abs(position[0] - walk.layout.wall) < kReach) walk.contact[block] = 1;
    position = to;
    if ((i + 1) % static_cast<size_t>(o.block) == 0) walk.positions.push_back(position);
  }
  return walk;
}

RawClip TwoRoomsClips::read(int64_t, Random& random, const CropChooser& crop) const {
  const auto& o = options_;
  const Walk walk = this->walk(random);
  const int64_t size = geometry_.size, plane = size * size;
  std::vector<uint8_t> frame(static_cast<size_t>(2 * plane));
  std::vector<uint8_t> pixels(static_cast<size_t>(o.frames * 2 * plane));
  Signal state{4, {}}, action{2 * o.block, {}};
  for (int64_t t = 0; t < o.frames; ++t) {
    const Point& p = walk.positions[static_cast<size_t>(t)];
    if (o.physics == "environment") {
      worlds::draw_two_rooms<double>(geometry_, walk.layout, p, frame.data());
    } else {
      worlds::draw_two_rooms<float>(geometry_, walk.layout,
                                    {static_cast<float>(p[0]), static_cast<float>(p[1])},
                                    frame.data());
    }
    uint8_t* out = pixels.data() + t * 2 * plane;
    for (int64_t i = 0; i < plane; ++i) {
      out[2 * i] = frame[static_cast<size_t>(i)];
      out[2 * i + 1] = frame[static_cast<size_t>(plane + i)];
    }
    for (const double value : {p[0], p[1], walk.layout.wall, walk.layout.door}) {
      state.values.push_back(static_cast<float>(value));
    }
    for (int64_t s = 0; s < o.block; ++s) {
      const auto at = static_cast<size_t>(t * o.block + s);
      const Point done = at < walk.actions.size() ? walk.actions[at] : Point{};
      for (const double value : done) action.values.push_back(static_cast<float>(value));
    }
  }
  const PixelRect whole{0, 0, size, size};
  const PixelRect part = crop ? crop(size, size, random) : whole;
  RawClip clip;
  if (part == whole) {
    clip = {.frames = o.frames,
            .height = size,
            .width = size,
            .channels = 2,
            .pixels = std::move(pixels)};
  } else {
    clip = cut_frames(pixels.data(), o.frames, size, size, 2, part);
  }
  clip.signals = {{kActionSignal, std::move(action)}, {"state", std::move(state)}};
  return clip;
}

TwoRoomsCoverage TwoRoomsClips::coverage(uint64_t seed, int64_t clips) const {
  TwoRoomsCoverage found;
  for (int64_t c = 0; c < clips; ++c) {
    Random random(seed, "coverage", static_cast<uint64_t>(c));
    const Walk walk = this->walk(random);
    const double share = 1.0 / static_cast<double>(clips);
    for (const char contact : walk.contact) {
      found.contact += contact * share / static_cast<double>(walk.contact.size());
    }
    for (const Point& p : walk.positions) {
      found.near_wall += (std::abs(p[0] - walk.layout.wall) < 5 ? share : 0) /
                         static_cast<double>(walk.positions.size());
    }
    const bool left = walk.positions.front()[0] < walk.layout.wall;
    if (left != (walk.positions.back()[0] < walk.layout.wall)) found.crossings += share;
  }
  return found;
}

}  // namespace jepa::eval::dynamics

#include <eval/physics/motion.hpp>
#include <eval/physics/violations.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

namespace jepa::eval::physics {
namespace {

using worlds::Colour;
using Velocity = std::array<double, 2>;

constexpr double kMiddle = kSceneSide / 2;
constexpr double kGravity = 0.16;  // units a frame squared
constexpr int kFragments = 6;
constexpr std::array<Colour, 6> kColours{Colour{255, 80, 80}, {80, 160, 255},  {255, 220, 80},
                                         {120, 230, 120},     {220, 120, 255}, {255, 150, 60}};
constexpr Colour kGust{120, 140, 170};
constexpr Colour kFlame{255, 190, 70};

double sign(Random& random) { return random.below(2) == 0 ? -1.0 : 1.0; }

Body draw_body(Random& random) {
  Body body;
  body.shape = static_cast<Shape>(random.below(3));
  body.colour = kColours[static_cast<size_t>(random.below(kColours.size()))];
  body.disc.radius = random.uniform(3, 4);
  return body;
}

Body placed(Body body, double x, double y, const Velocity& v) {
  body.disc.x = x;
  body.disc.y = y;
  body.disc.vx = v[0];
  body.disc.vy = v[1];
  return body;
}

Velocity heading(double speed, double angle) {
  return {speed * std::cos(angle), speed * std::sin(angle)};
}

Track gone(Track track) {
  for (auto& bodies : track) {
    for (Body& body : bodies) body.present = false;
  }
  return track;
}

/// What a rule's stories are drawn from.
struct Draw {
  Random& random;
  int64_t frames;
  int64_t cut;

  double uniform(double low, double high) const { return random.uniform(low, high); }
  /// One body's whole way through a point at the cut.
  Track fly(const Body& body, const Chamber& before, const Chamber& after) const {
    return through({body}, {}, before, after, cut, frames);
  }
  Track fly(const Body& body, const Chamber& chamber) const { return fly(body, chamber, chamber); }
  /// A point well inside.
  double inside() const { return uniform(15, 33); }
};

/// Two lawful stories on one stage; each breaks the rule with the other's ending.
Stories crossed(const Stage& stage, const Track& first, const Track& second, int64_t cut) {
  return {{stage, stage},
          {first, second},
          {splice(first, second, cut), splice(second, first, cut)},
          cut};
}

/// Two stages with a beginning each and two endings: the first lawful on the first stage alone.
Stories two_by_two(const std::array<Stage, 2>& stage, const std::array<Track, 2>& first_ending,
                   const std::array<Track, 2>& second_ending, int64_t cut) {
  return {stage,
          {first_ending[0], second_ending[1]},
          {splice(first_ending[0], second_ending[0], cut),
           splice(second_ending[1], first_ending[1], cut)},
          cut};
}

/// A body on its way behind an occluder, hidden at the cut.
Track hidden_pass(const Draw& draw, const Body& body, Stage& stage, double y, const Velocity& v) {
  const double half = body.disc.radius + 3;
  stage.occluder = Rectangle{kMiddle - half, 0, kMiddle + half, kSceneSide};
  return draw.fly(placed(body, kMiddle, y, v), table());
}

Velocity across(const Draw& draw) {
  const double side = sign(draw.random);
  return {side * draw.uniform(2, 2.8), 0};
}

Stories permanence(const Draw& draw) {
  Stage stage;
  const auto track =
      hidden_pass(draw, draw_body(draw.random), stage, draw.uniform(6, 42), across(draw));
  return crossed(stage, track, gone(track), draw.cut);
}

Stories continuity(const Draw& draw) {
  Stage stage;
  stage.ground = draw.random.below(2) == 0;
  const Chamber chamber = stage.ground ? room(kGravity) : table();
  const Body body = draw_body(draw.random);
  const Velocity v = heading(draw.uniform(1.2, 2.2), draw.uniform(0, 2 * std::numbers::pi));
  const double x = draw.uniform(8, 20), y = draw.inside();
  const Body near = placed(body, x, y, v);
  const Body far = placed(body, x + draw.uniform(16, 22), y + draw.uniform(-8, 8), v);
  return crossed(stage, draw.fly(near, chamber), draw.fly(far, chamber), draw.cut);
}

/// The same way of two bodies of which one is `changed`.
Stories appearance(const Draw& draw, const Body& body, const Body& changed) {
  Stage stage;
  if (draw.random.below(2) == 0) {
    const double y = draw.uniform(6, 42);
    const Velocity v = across(draw);
    const auto first = hidden_pass(draw, body, stage, y, v);
    return crossed(stage, first, hidden_pass(draw, changed, stage, y, v), draw.cut);
  }
  const Velocity v = heading(draw.uniform(1.2, 2.2), draw.uniform(0, 2 * std::numbers::pi));
  const double x = draw.inside(), y = draw.inside();
  return crossed(stage, draw.fly(placed(body, x, y, v), table()),
                 draw.fly(placed(changed, x, y, v), table()), draw.cut);
}

Stories shape(const Draw& draw) {
  const Body body = draw_body(draw.random);
  Body other = body;
  other.shape =
      static_cast<Shape>((static_cast<int64_t>(body.shape) + 1 + draw.random.below(2)) % 3);
  return appearance(draw, body, other);
}

Stories colour(const Draw& draw) {
  const Body body = draw_body(draw.random);
  Body other = body;
  while (other.colour == body.colour) other.colour = draw_body(draw.random).colour;
  return appearance(draw, body, other);
}

Stories solidity(const Draw& draw) {
  const Body body = draw_body(draw.random);
  const double r = body.disc.radius, side = sign(draw.random), speed = draw.uniform(2, 2.8);
  const double left = kMiddle - 1, right = kMiddle + 1;
  Stage open;
  double y = draw.uniform(6, 42);
  if (draw.random.below(2) == 0) {  // a wall looks out above the occluder
    const double half = 2 * r + 3;
    open.occluder = Rectangle{kMiddle - half, 12, kMiddle + half, kSceneSide};
    y = draw.uniform(13 + r, 47 - r);
  }
  Stage walled = open;
  walled.wall = Rectangle{left, 0, right, kSceneSide};
  const Chamber before_wall =
      side > 0 ? Chamber{.box = {.width = left, .height = kSceneSide}}
               : Chamber{.box = {.width = kSceneSide - right, .height = kSceneSide}, .left = right};
  // At the cut the body touches the wall, or stands where it would.
  const double x = kMiddle - side * (1 + r);
  const auto bounces = through({placed(body, x, y, {-side * speed, 0})}, {{side * speed, 0}},
                               before_wall, before_wall, draw.cut, draw.frames);
  const auto passes = draw.fly(placed(body, x, y, {side * speed, 0}), table());
  return two_by_two({walled, open}, {bounces, bounces}, {passes, passes}, draw.cut);
}

Stories gravity(const Draw& draw) {
  const Body body = draw_body(draw.random);
  const double x = draw.inside(), y = draw.uniform(14, 26);
  Stage side_view{.ground = true};
  if (draw.random.below(2) == 0) {  // falls up
    const double across = sign(draw.random) * draw.uniform(0.3, 1.2);
    const double speed = draw.uniform(1.1, 1.9);
    const Chamber chamber = room(kGravity);
    return crossed(side_view, draw.fly(placed(body, x, y, {across, speed}), chamber),
                   draw.fly(placed(body, x, y, {across, -speed}), chamber), draw.cut);
  }
  const Velocity v{sign(draw.random) * draw.uniform(1, 1.8), draw.uniform(-0.6, 0.6)};
  const Body at = placed(body, x, y, v);
  const Chamber heavy = room(kGravity), weightless = room(0), above = table();
  Chamber heavy_above = table();
  heavy_above.box.gravity = kGravity;
  return two_by_two({side_view, Stage{}},
                    {draw.fly(at, heavy, heavy), draw.fly(at, above, heavy_above)},
                    {draw.fly(at, heavy, weightless), draw.fly(at, above, above)}, draw.cut);
}

Stories inertia(const Draw& draw) {
  const Body body = draw_body(draw.random);
  const double x = draw.inside(), y = draw.inside(), speed = draw.uniform(1.4, 2.2);
  const double angle = draw.uniform(0, 2 * std::numbers::pi);
  const double turn = sign(draw.random) * draw.uniform(1.2, 2.6);
  return crossed(Stage{}, draw.fly(placed(body, x, y, heading(speed, angle)), table()),
                 draw.fly(placed(body, x, y, heading(speed, angle + turn)), table()), draw.cut);
}

Stories collision(const Draw& draw) {
  Body one = draw_body(draw.random), other = draw_body(draw.random);
  one.shape = other.shape = Shape::kDisc;
  other.disc.radius = one.disc.radius;
  while (other.colour == one.colour) other.colour = draw_body(draw.random).colour;
  const double angle = draw.uniform(0, 2 * std::numbers::pi), r = one.disc.radius;
  const Velocity v = heading(draw.uniform(1.4, 2.2), angle), back{-v[0], -v[1]};
  const double x = draw.uniform(18, 30), y = draw.uniform(18, 30);
  const double dx = r * std::cos(angle), dy = r * std::sin(angle);
  const auto meet = [&](const Velocity& one_in, const Velocity& other_in) {
    // Equal masses that meet head on change their velocities for one another's.
    return through({placed(one, x - dx, y - dy, other_in), placed(other, x + dx, y + dy, one_in)},
                   {one_in, other_in}, table(), table(), draw.cut, draw.frames);
  };
  return crossed(Stage{}, meet(v, {0, 0}), meet({0, 0}, back), draw.cut);
}

Stories support(const Draw& draw) {
  const Body body = draw_body(draw.random);
  const double edge = draw.uniform(22, 28), height = draw.uniform(14, 24);
  const bool mirrored = draw.random.below(2) == 0;
  Stage brief{.ground = true}, whole{.ground = true};
  brief.shelf = mirrored ? worlds::Shelf{kSceneSide - edge, kSceneSide, height}
                         : worlds::Shelf{0, edge, height};
  whole.shelf = worlds::Shelf{0, kSceneSide, height};
  const double x = mirrored ? kSceneSide - edge : edge;
  const Body at =
      placed(body, x, height - body.disc.radius, {(mirrored ? -1 : 1) * draw.uniform(1.4, 2.2), 0});
  const auto falls = draw.fly(at, room(0), room(kGravity));
  const auto rolls = draw.fly(at, room(0), room(0));
  return two_by_two({brief, whole}, {falls, falls}, {rolls, rolls}, draw.cut);
}

/// The body's way up to the cut, and fragments from there.
Track bursting(const Draw& draw, const Track& whole, const Chamber& chamber) {
  const Body body = whole[static_cast<size_t>(draw.cut)].front();
  std::vector<Body> pieces;
  for (int i = 0; i < kFragments; ++i) {
    const double angle = 2 * std::numbers::pi * (i + 0.5) / kFragments;
    const Velocity v = heading(1.6, angle);
    Body piece = placed(body, body.disc.x, body.disc.y,
                        {0.4 * body.disc.vx + v[0], 0.4 * body.disc.vy + v[1]});
    piece.shape = Shape::kDisc;
    piece.disc.radius = 0.4 * body.disc.radius;
    pieces.push_back(piece);
  }
  return splice(whole, through(pieces, {}, chamber, chamber, draw.cut, draw.frames, true),
                draw.cut);
}

Stories burst(const Draw& draw) {
  const Body body = draw_body(draw.random);
  const double x = draw.uniform(18, 30), y = draw.uniform(8, 40), side = sign(draw.random);
  Stage pinned;
  pinned.pin = {x + side * body.disc.radius, y};
  const auto whole = draw.fly(placed(body, x, y, {side * draw.uniform(1.4, 2.2), 0}), table());
  const auto burst = bursting(draw, whole, table());
  return two_by_two({pinned, Stage{}}, {burst, burst}, {whole, whole}, draw.cut);
}

Stories hoop(const Draw& draw) {
  const Body body = draw_body(draw.random);
  const double r = body.disc.radius, x = draw.uniform(16, 32), top = draw.uniform(15, 19);
  Stage plain{.ground = true};
  plain.net = Rectangle{x - r - 2.5, top, x + r + 2.5, top + 2 * r + 3};
  Stage spiked = plain;
  spiked.spiked = true;
  const Chamber chamber = room(0.1);
  const auto whole = draw.fly(placed(body, x, top + r + 1.5, {0, draw.uniform(1.7, 2)}), chamber);
  const auto burst = bursting(draw, whole, chamber);
  return two_by_two({plain, spiked}, {whole, whole}, {burst, burst}, draw.cut);
}

Stories candle(const Draw& draw) {
  const double x = draw.uniform(18, 30), top = draw.uniform(26, 32), side = sign(draw.random);
  Stage stage{.ground = true};
  stage.candle = Rectangle{x - 2.5, top, x + 2.5, kGround};
  std::vector<double> flicker;
  for (int64_t t = 0; t < draw.frames; ++t) flicker.push_back(draw.uniform(-0.5, 0.5));
  std::vector<std::array<double, 2>> streaks;  // how far behind the gust's front, and how high
  for (int i = 0; i < 6; ++i) streaks.push_back({draw.uniform(0, 14), top - draw.uniform(0, 14)});
  const auto tell = [&](bool gust, bool goes_out) {
    Track track;
    for (int64_t t = 0; t < draw.frames; ++t) {
      const auto since = static_cast<double>(t - draw.cut);
      const auto noise = flicker[static_cast<size_t>(t)];
      Body flame{.shape = Shape::kFlame, .colour = kFlame};
      flame.disc = {.x = x, .y = top, .radius = 9 + 2 * noise};
      flame.lean = noise;
      if (goes_out && since >= 0) {
        flame.lean = side * std::min(3.0 + 2 * since, 6.0);
        flame.disc.radius = 8 - 2 * since;
        flame.present = since < 3;
      }
      std::vector<Body> bodies{flame};
      for (const auto& [behind, y] : streaks) {
        Body streak{.shape = Shape::kStreak, .colour = kGust, .present = gust};
        const double front = x - side * 6 + side * (4 * since - behind);
        streak.disc = {.x = front, .y = y, .vx = 4 * side};
        bodies.push_back(streak);
      }
      track.push_back(bodies);
    }
    return track;
  };
  return two_by_two({stage, stage}, {tell(true, true), tell(false, true)},
                    {tell(true, false), tell(false, false)}, draw.cut);
}

using Tell = Stories (*)(const Draw&);
const std::vector<std::pair<std::string, Tell>>& rules() {
  static const std::vector<std::pair<std::string, Tell>> all{{"permanence", permanence},
                                                             {"continuity", continuity},
                                                             {"shape", shape},
                                                             {"colour", colour},
                                                             {"solidity", solidity},
                                                             {"gravity", gravity},
                                                             {"inertia", inertia},
                                                             {"collision", collision},
                                                             {"support", support},
                                                             {"burst", burst},
                                                             {"hoop", hoop},
                                                             {"candle", candle}};
  return all;
}

}  // namespace

const std::vector<std::string>& rule_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> made;
    for (const auto& [name, tell] : rules()) made.push_back(name);
    return made;
  }();
  return names;
}

void WorldOptions::describe(OptionVisitor& visit) {
  visit("side", side, {.help = "of the pictures", .unit = "px", .min = 16, .max = 512});
  visit("frames", frames, {.help = "of a film", .min = 12, .max = 200});
}

Stories tell_stories(const std::string& rule, const WorldOptions& options, Random& random) {
  for (const auto& [name, tell] : rules()) {
    if (name != rule) continue;
    const int64_t middle = options.frames / 2;
    return tell({random, options.frames, middle - 2 + random.below(4)});
  }
  throw ConfigError("rule " + rule + " is not one of " + c10::Join(", ", rule_names()));
}

}  // namespace jepa::eval::physics

#include "case.hpp"

#include <eval/worlds/swm_two_rooms.hpp>
#include <eval/worlds/two_rooms.hpp>

#include <torch/types.h>

#include <cstdio>

namespace parity {
namespace {

namespace worlds = jepa::eval::worlds;
using worlds::Point;
using worlds::PointF;

// The last bits of cosines and exponentials are the machine's.
constexpr double kBits = 1e-12;
constexpr double kFloatBits = 5e-5;  // of float32 positions up to 224 px

torch::Tensor values(const Case& test, const std::string& key) {
  return test.tensor(key).to(torch::kFloat64).contiguous();
}

Point point(const torch::Tensor& row) { return {row[0].item<double>(), row[1].item<double>()}; }

PointF point_f(const torch::Tensor& row) { return {row[0].item<float>(), row[1].item<float>()}; }

worlds::RoomLayout layout(const torch::Tensor& row) {
  return {row[0].item<double>(), row[1].item<double>()};
}

worlds::TwoRoomsGeometry geometry(const Case& test) {
  return {.size = test.size("img_size"),
          .border = test.size("border_wall_loc"),
          .wall_width = test.size("wall_width"),
          .door_space = test.size("door_space"),
          .wall_padding = test.size("wall_padding"),
          .door_padding = test.size("door_padding"),
          .dot_std = test.config().at("dot_std").get<double>()};
}

// "30-34", or one number.
std::pair<int64_t, int64_t> span(const Case& test, const char* key) {
  const auto text = test.config().at(key).get<std::string>();
  int64_t low = 0, high = 0;
  const int found = std::sscanf(text.c_str(), "%ld-%ld", &low, &high);
  return {low, found == 2 ? high : low};
}

struct Stepped {
  Point position;
  int64_t draws;
};

Stepped step(const worlds::TwoRoomsGeometry& g, const worlds::RoomLayout& at, const Point& from,
             const torch::Tensor& action, const torch::Tensor& draws) {
  int64_t used = 0;
  const Point to =
      worlds::push_back_step(g, at, from, point(action), [&] { return point(draws[used++]); });
  return {to, used};
}

void transitions(Case& test, const worlds::TwoRoomsGeometry& g) {
  const auto layouts = values(test, "in/transition.layout");
  const auto positions = values(test, "in/transition.position");
  const auto actions = values(test, "in/transition.action");
  const auto draws = values(test, "in/transition.draws");
  const auto ours = torch::zeros_like(positions);
  const auto used = torch::zeros({positions.size(0)}, torch::kInt32);
  for (int64_t i = 0; i < positions.size(0); ++i) {
    const auto to = step(g, layout(layouts[i]), point(positions[i]), actions[i], draws[i]);
    ours[i] = torch::tensor({to.position[0], to.position[1]}, torch::kFloat64);
    used[i] = to.draws;
  }
  test.forward("transition.position", ours, kBits);
  test.equal("transition.draws_used", used);
}

torch::Tensor frame(const worlds::TwoRoomsGeometry& g, const worlds::RoomLayout& at,
                    const Point& position) {
  auto picture = torch::zeros({2, g.size, g.size}, torch::kUInt8);
  worlds::draw_two_rooms<double>(g, at, position, picture.mutable_data_ptr<uint8_t>());
  return picture;
}

void episodes(Case& test, const worlds::TwoRoomsGeometry& g) {
  const auto layouts = values(test, "in/episode.layout"), starts = values(test, "in/episode.start");
  const auto targets = values(test, "in/episode.target");
  const auto actions = values(test, "in/episode.actions"), draws = values(test, "in/episode.draws");
  const auto shown = test.tensor("in/episode.frame_steps");
  const int64_t count = actions.size(0), steps = actions.size(1);
  const auto positions = torch::zeros({count, steps, 2}, torch::kFloat64);
  const auto used = torch::zeros({count, steps}, torch::kInt32);
  std::vector<torch::Tensor> frames, target_frames;
  for (int64_t e = 0; e < count; ++e) {
    Point at = point(starts[e]);
    for (int64_t s = 0; s < steps; ++s) {
      const auto to = step(g, layout(layouts[e]), at, actions[e][s], draws[e][s]);
      at = to.position;
      positions[e][s] = torch::tensor({at[0], at[1]}, torch::kFloat64);
      used[e][s] = to.draws;
    }
    for (int64_t f = 0; f < shown.numel(); ++f) {
      frames.push_back(frame(g, layout(layouts[e]), point(positions[e][shown[f].item<int64_t>()])));
    }
    target_frames.push_back(frame(g, layout(layouts[e]), point(targets[e])));
  }
  test.forward("episode.positions", positions, kBits);
  test.equal("episode.draws_used", used);
  const auto squares = (positions - targets.unsqueeze(1)).square();
  const auto distance = squares.sum(-1).sqrt();
  test.forward("episode.distance", distance, kBits);
  test.equal("episode.success", distance.lt(worlds::kTwoRoomsSuccess).to(torch::kUInt8));
  test.equal("episode.done", squares.mean(-1).lt(1).to(torch::kUInt8));
  // Reset and zero step are positions too: after step s there are s + 3.
  const auto made = torch::arange(steps).add(3).ge(test.size("allowed_steps"));
  test.equal("episode.truncated", made.to(torch::kUInt8).unsqueeze(0).repeat({count, 1}));
  const auto pictures = torch::stack(frames).view({count, -1, 2, g.size, g.size});
  test.equal("episode.frames", pictures);
  test.equal("episode.target_frame", torch::stack(target_frames));
  const auto& theirs = test.tensor("out/episode.normalised");
  test.forward("episode.normalised",
               worlds::normalise_two_rooms(
                   pictures.narrow(0, 0, theirs.size(0)).narrow(1, 1, theirs.size(1))));
}

void starts(Case& test, const worlds::TwoRoomsGeometry& g) {
  const auto layouts = values(test, "in/start.layout");
  const auto uniforms = values(test, "in/start.uniforms");
  auto start = torch::zeros({uniforms.size(0), 2}, torch::kFloat64);
  auto goal = torch::zeros_like(start);
  for (int64_t i = 0; i < uniforms.size(0); ++i) {
    std::array<double, 5> u;
    for (int64_t k = 0; k < 5; ++k) u[k] = uniforms[i][k].item<double>();
    const auto ends = worlds::start_and_goal(g, layout(layouts[i]), u);
    start[i] = torch::tensor({ends.start[0], ends.start[1]}, torch::kFloat64);
    goal[i] = torch::tensor({ends.goal[0], ends.goal[1]}, torch::kFloat64);
  }
  test.forward("start.position", start);
  test.forward("start.target", goal);
}

void data_set(Case& test, const worlds::TwoRoomsGeometry& g) {
  const auto& layouts = test.tensor("in/dataset.layout");
  const auto& starts = test.tensor("in/dataset.start");
  const auto& actions = test.tensor("in/dataset.actions");
  const auto& first = test.tensor("in/dataset.first_frame");
  const int64_t length = test.size("sample_length");
  std::vector<torch::Tensor> positions, locations, states;
  for (int64_t e = 0; e < actions.size(0); ++e) {
    const PointF room = point_f(layouts[e]);
    PointF at = point_f(starts[e]);
    std::vector<float> path = {at[0], at[1]};
    for (int64_t s = 0; s < actions.size(1); ++s) {
      at = worlds::refusing_step(g, room, at, point_f(actions[e][s]));
      path.insert(path.end(), at.begin(), at.end());
    }
    positions.push_back(torch::tensor(path).view({-1, 2}));
    const auto window = positions.back().narrow(0, first[e].item<int64_t>(), length);
    locations.push_back(worlds::normalise_locations(window).t());
    auto pictures = torch::zeros({length, 2, g.size, g.size}, torch::kUInt8);
    for (int64_t f = 0; f < length; ++f) {
      worlds::draw_two_rooms<float>(g, {room[0], room[1]}, point_f(window[f]),
                                    pictures[f].mutable_data_ptr<uint8_t>());
    }
    states.push_back(worlds::normalise_two_rooms(pictures).transpose(0, 1));
  }
  test.equal("dataset.positions", torch::stack(positions));
  test.forward("dataset.locations", torch::stack(locations));
  test.forward("dataset.states", torch::stack(states));
}

void walks(Case& test, const worlds::TwoRoomsGeometry& g) {
  const auto& uniform = test.tensor("in/heading.uniform");
  std::vector<torch::Tensor> headings, crossings, begins;
  for (int64_t h = 0; h < uniform.numel(); ++h) {
    headings.push_back(worlds::heading_walk(2 * static_cast<float>(M_PI) * uniform[h].item<float>(),
                                            test.tensor("in/heading.turns")[h],
                                            test.tensor("in/heading.lengths")[h]));
  }
  test.forward("heading.actions", torch::stack(headings), kFloatBits);
  const auto& step = test.tensor("in/crossing.step");
  for (int64_t i = 0; i < step.numel(); ++i) {
    const auto walk = worlds::crossing_walk(
        g, test.tensor("in/crossing.door_point")[i],
        test.tensor("in/crossing.uniform")[i].item<float>(), test.tensor("in/crossing.turns")[i],
        test.tensor("in/crossing.lengths")[i], step[i].item<int64_t>(),
        test.tensor("in/crossing.flip")[i].item<float>() < 0.5F);
    crossings.push_back(walk.actions);
    begins.push_back(torch::tensor({walk.start[0], walk.start[1]}));
  }
  test.forward("crossing.actions", torch::stack(crossings), kFloatBits);
  test.forward("crossing.start", torch::stack(begins), 2e-5);
}

worlds::SwmRoom swm_room(const nlohmann::json& config) {
  worlds::SwmRoom room;
  room.vertical = config.at("axis").get<int64_t>() == 1;
  room.thickness = config.at("thickness").get<int64_t>();
  room.radius = config.at("radius").get<float>();
  room.speed = config.at("speed").get<float>();
  room.doors = config.at("door_number").get<int64_t>();
  config.at("door_position").get_to(room.door_position);
  config.at("door_size").get_to(room.door_size);
  room.target_radius = config.at("target_radius").get<float>();
  room.render_target = config.at("render_target").get<int64_t>() != 0;
  const auto& colours = config.at("colours");
  colours.at("background").get_to(room.background);
  colours.at("wall").get_to(room.wall);
  colours.at("door").get_to(room.door);
  colours.at("agent").get_to(room.agent);
  colours.at("target").get_to(room.target);
  return room;
}

}  // namespace

/// eb_jepa's environment and data set.
void ebjepa_two_rooms(Case& test) {
  const auto g = geometry(test);
  transitions(test, g);
  episodes(test, g);
  starts(test, g);
  data_set(test, g);
  walks(test, g);
  test.equal("layouts.all", worlds::all_layouts(g));
  const auto wall = span(test, "exclude_wall_train"), door = span(test, "exclude_door_train");
  test.equal("layouts.train",
             worlds::layouts_outside(g, {wall.first, wall.second, door.first, door.second}));
  const auto only_wall = span(test, "only_wall_val"), only_door = span(test, "only_door_val");
  test.equal("layouts.validation", worlds::layouts_inside(g, {only_wall.first, only_wall.second,
                                                              only_door.first, only_door.second}));
}

/// stable-worldmodel's room.
void swm_two_rooms(Case& test) {
  std::vector<worlds::SwmRoom> rooms;
  for (const auto& room : test.config().at("rooms")) rooms.push_back(swm_room(room));
  const auto& configuration = test.tensor("in/transition.configuration");
  const auto position = test.tensor("in/transition.position").clone();
  auto distance = torch::zeros({position.size(0)}, torch::kFloat64);
  for (int64_t i = 0; i < position.size(0); ++i) {
    const auto& room = rooms.at(configuration[i].item<int64_t>());
    const auto to = worlds::swm_room_step(room, point_f(position[i]),
                                          point_f(test.tensor("in/transition.action")[i]));
    position[i] = torch::tensor({to[0], to[1]});
    distance[i] = worlds::swm_room_distance(to, point_f(test.tensor("in/transition.target")[i]));
  }
  test.forward("transition.position", position, 0);
  test.forward("transition.distance", distance, kFloatBits);
  test.equal("transition.terminated", distance.lt(worlds::kSwmRoomSuccess).to(torch::kUInt8));

  const auto& actions = test.tensor("in/episode.actions");
  auto path = torch::zeros_like(actions);
  auto away = torch::zeros({actions.size(0), actions.size(1)}, torch::kFloat64);
  std::vector<torch::Tensor> observations;
  for (int64_t e = 0; e < actions.size(0); ++e) {
    PointF at = point_f(test.tensor("in/episode.start")[e]);
    const PointF target = point_f(test.tensor("in/episode.target")[e]);
    const auto seen = worlds::swm_room_observation(rooms.at(0), at, target);
    observations.push_back(torch::tensor(std::vector<float>(seen.begin(), seen.end())));
    for (int64_t s = 0; s < actions.size(1); ++s) {
      at = worlds::swm_room_step(rooms.at(0), at, point_f(actions[e][s]));
      path[e][s] = torch::tensor({at[0], at[1]});
      away[e][s] = worlds::swm_room_distance(at, target);
    }
  }
  test.forward("episode.positions", path, 0);
  test.forward("episode.distance", away, kFloatBits);
  test.equal("episode.terminated", away.lt(worlds::kSwmRoomSuccess).to(torch::kUInt8));
  test.forward("episode.observation", torch::stack(observations), 0);

  const auto& frames = test.tensor("out/frame.pixels");
  auto ours = torch::zeros_like(frames);
  for (int64_t i = 0; i < frames.size(0); ++i) {
    const auto& room = rooms.at(test.tensor("in/frame.configuration")[i].item<int64_t>());
    worlds::draw_swm_room(room, point_f(test.tensor("in/frame.position")[i]),
                          point_f(test.tensor("in/frame.target")[i]),
                          ours[i].mutable_data_ptr<uint8_t>());
  }
  test.forward("frame.pixels", ours, 1);  // one level: the last bit of the exponential
}

}  // namespace parity

#include <examples/dynamics_data.hpp>
#include <examples/train_dynamics_options.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

namespace jepa::examples {

using namespace eval::dynamics;
namespace worlds = eval::worlds;

namespace {

constexpr std::array kActionStatistics = {"model.action_mean", "model.action_std"};

}  // namespace

std::vector<OptionSection> TrainDynamicsOptions::sections() {
  auto sections = input.sections([this](OptionVisitor& visit) {
    visit("validation", validation,
          {.help = "held-out clips; two rooms makes its own, where none are named"});
    visit("validation_clips", validation_clips, {.help = "how many of them", .min = 8});
    visit("wall_cases", wall_cases,
          {.help = "two rooms: pushes at the wall an evaluation; 0: none", .min = 0});
    visit("encoder", encoder,
          {.help = "run whose encoder is taken and stays as it is: the second phase alone"});
  });
  sections.push_back({"two_rooms", "with --data two_rooms: what the dot does",
                      [this](OptionVisitor& visit) { rooms.describe(visit); }});
  for (auto& section : shape.sections()) sections.push_back(std::move(section));
  const auto section = [&](const char* name, const char* help, auto& of) {
    sections.push_back({name, help, [&of](OptionVisitor& visit) { of.describe(visit); }});
  };
  section("objective", "weights of the loss's terms", training.weights);
  section("optimisation", "of the first phase", training.optimisation);
  section("second_optimisation", "of the second, in updates", training.second_optimisation);
  section("training", "", loop);
  return sections;
}

void take_measured(OptionValues& given) {
  for (const char* key : kActionStatistics) {
    const auto found = given.find(key);
    if (found != given.end() && found->second == "measured") found->second.clear();
  }
}

void keep_measured(OptionValues& given) {
  for (const char* key : kActionStatistics) {
    const auto found = given.find(key);
    if (found != given.end() && found->second.empty()) given.erase(found);
  }
}

std::shared_ptr<ClipSource> open_clips(const TrainDynamicsOptions& options, const std::string& data,
                                       ClipOptions& clip) {
  const bool states = options.shape.patches.given() && options.shape.patches.states;
  if (states && clip.signals.empty()) clip.signals = std::string(kActionSignal) + ",state";
  if (data != worlds::kTwoRooms) {
    const int64_t block = options.shape.model.block;
    auto source = open_dynamics_store(data, block, clip);
    if (clip.frame_step > 1 && clip.action_mode != "concat") {
      throw ConfigError(c10::str("option clip.action_mode is ", clip.action_mode,
                                 ": a block of the model has the actions of its ", block,
                                 " steps side by side, concat"));
    }
    return source;
  }
  if (clip.frames == 0) clip.frames = 9;
  TwoRoomsClipOptions rooms = options.rooms;
  rooms.frames = clip.frames;
  rooms.block = options.shape.model.block;
  return std::make_shared<TwoRoomsClips>(rooms);
}

void complete_protocol(TrainDynamicsOptions& options, const OptionValues& given, bool goes_on) {
  auto& protocol = options.shape.protocol;
  StoreNotes notes{worlds::kTwoRooms, options.rooms.unseen ? "standard" : "training"};
  if (!options.native()) notes = store_notes(options.input.data);
  if (notes.world.empty()) {
    if (!given.contains("protocol.world")) {
      std::printf("world              %s (protocol.world): %s does not tell\n",
                  protocol.world.c_str(), options.input.data.c_str());
    }
  } else if (protocol.world != notes.world) {
    if (given.contains("protocol.world") && !goes_on) {
      throw ConfigError("option protocol.world is " + protocol.world + ", but " +
                        options.input.data + " is of " + notes.world);
    }
    protocol.world = notes.world;
    std::printf("world              %s, as the data say\n", protocol.world.c_str());
  }
  if (protocol.factors.empty()) protocol.factors = notes.factors;
  if (protocol.frame_skip == 0) protocol.frame_skip = notes.frame_skip;
  if (protocol.gym_make.empty()) protocol.gym_make = notes.make;
  if (!given.contains("protocol.longest_step") && protocol.world != worlds::kTwoRooms) {
    protocol.longest_step = 0;  // the default is two rooms'
  }
  if (!protocol.world.starts_with("gym:")) worlds::make_world(protocol.world, 1);
}

void take_encoder_shape(TrainDynamicsOptions& options, const OptionValues& given) {
  const std::string folder = encoder_folder(options.encoder);
  const RunShape from = read_run_shape(folder);
  static const std::set<std::string> kSizes{"model.channels", "model.height", "model.width",
                                            "model.action_width"};  // 0: the data's
  OptionValues asked;
  for (const auto& [key, value] : given) {
    if (value.empty() || (value == "0" && kSizes.contains(key))) continue;
    if (key.starts_with("model.")) asked[key] = value;
  }
  require_same(from, folder, asked);
  options.shape.model = from.model;
  auto& factors = options.shape.protocol.factors;
  if (factors == "training") factors = from.protocol.factors;  // both parts have seen
}

void complete_schedules(TrainDynamicsOptions& options) {
  auto& training = options.training;
  const int64_t steps = options.loop.steps;
  int64_t joint = std::min(options.shape.second.from_step, steps);
  if (!options.encoder.empty()) {
    joint = 0;
  } else if (joint == 0) {
    joint = steps;
  }
  if (training.optimisation.total_steps == 0) training.optimisation.total_steps = joint;
  if (training.second_optimisation.total_steps == 0) {
    training.second_optimisation.total_steps = (steps - joint) * options.shape.second.updates;
  }
}

}  // namespace jepa::examples

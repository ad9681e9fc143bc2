#include <eval/worlds/balls.hpp>
#include <eval/worlds/dodge.hpp>
#include <eval/worlds/push.hpp>
#include <eval/worlds/registry.hpp>
#include <eval/worlds/swm_two_rooms.hpp>
#include <eval/worlds/two_rooms.hpp>
#include <jepa/errors.hpp>

namespace jepa::eval::worlds {

std::vector<std::string> world_names() {
  return {kTwoRooms, "swm_two_rooms", "dodge", "balls", "push"};
}

std::unique_ptr<World> make_world(const std::string& name, int64_t batch) {
  if (name == kTwoRooms) return std::make_unique<TwoRooms>(batch);
  if (name == "swm_two_rooms") return std::make_unique<SwmTwoRooms>(batch);
  if (name == "dodge") return std::make_unique<Dodge>(batch);
  if (name == "balls") return std::make_unique<Balls>(batch);
  if (name == "push") return std::make_unique<Push>(batch);
  throw ConfigError("world: two_rooms, swm_two_rooms, dodge, balls or push, not '" + name + "'");
}

}  // namespace jepa::eval::worlds

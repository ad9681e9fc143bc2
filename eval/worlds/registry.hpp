// Worlds by name.
#pragma once

#include <eval/worlds/world.hpp>

#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::worlds {

/// The world whose clips are drawn while training runs, and whose layouts wall tests know.
inline constexpr const char* kTwoRooms = "two_rooms";

/// two_rooms, swm_two_rooms, dodge, balls, push.
std::vector<std::string> world_names();

/// `batch` episodes of the world `name`, not yet reset.
/// @throws ConfigError for an unknown name
std::unique_ptr<World> make_world(const std::string& name, int64_t batch);

}  // namespace jepa::eval::worlds

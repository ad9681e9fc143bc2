// Clips of two rooms, made as they are read: what the dot is made to do is chosen by shares.
#pragma once

#include <eval/worlds/two_rooms.hpp>
#include <jepa/data/clip_source.hpp>

#include <torch/types.h>

#include <string>

namespace jepa::eval::dynamics {

/// How the dot walks in the clips. Frames are `block` steps apart; a clip's signal `action` holds
/// the steps from one frame to the next side by side, [T, block * 2] (of the last frame: zeros),
/// `state` is x, y, wall, door [px].
struct TwoRoomsClipOptions {
  int64_t clips = 1 << 20;  ///< one pass
  int64_t frames = 9;
  int64_t block = 5;          ///< steps between frames
  double crossing = 0.35;     ///< share of clips that are made to pass the door
  double wall_seeking = 0.6;  ///< share of the others that start near the wall and push at it
  double held = 0.5;          ///< share of clips whose action is held through each block
  double longest = 1.8;       ///< longest step [px]
  std::string physics = "environment";  ///< or "published": a step that hits anything is refused
  bool unseen = false;                  ///< also the walls and doors that are kept out of training

  void describe(OptionVisitor& visit);
};

/// What the clips touch: of a model that plans around walls, what its data must show.
struct TwoRoomsCoverage {
  double contact = 0;    ///< share of blocks in which a step hit the middle wall or its door
  double crossings = 0;  ///< share of clips that end in the other room
  double near_wall = 0;  ///< share of frames within 5 px of the middle wall
};

/// Clip `i` is a function of the random numbers given, so each reading makes another.
class TwoRoomsClips : public ClipSource {
 public:
  /// @throws ConfigError for an unknown `physics`
  explicit TwoRoomsClips(TwoRoomsClipOptions options);

  int64_t size() const override { return options_.clips; }
  RawClip read(int64_t index, Random& random, const CropChooser& crop) const override;
  std::string name(int64_t index) const override;
  const TwoRoomsClipOptions& options() const { return options_; }

  /// Of `clips` clips that `seed` gives; nothing is drawn.
  TwoRoomsCoverage coverage(uint64_t seed, int64_t clips) const;

 private:
  struct Walk;
  Walk walk(Random& random) const;
  void choose_start(Walk& walk, Random& random) const;
  void choose_crossing(Walk& walk, Random& random) const;
  void free_actions(Walk& walk, Random& random) const;
  void pushing_actions(Walk& walk, Random& random) const;
  worlds::Point step(const worlds::RoomLayout& layout, const worlds::Point& from,
                     const worlds::Point& action, Random& random) const;

  TwoRoomsClipOptions options_;
  worlds::TwoRoomsGeometry geometry_;
  worlds::Factor wall_, door_;
};

}  // namespace jepa::eval::dynamics

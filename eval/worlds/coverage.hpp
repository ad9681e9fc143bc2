// What collected data touches: how much of it shows a wall, a door, a block that moves.
#pragma once

#include <eval/worlds/world.hpp>

#include <map>
#include <string>

namespace jepa::eval::worlds {

/// Counts over episodes what a model can only learn where the data shows it.
class Coverage {
 public:
  explicit Coverage(std::string world) : world_(std::move(world)) {}

  /// @param states float64 [T, S] @param actions float64 [T, K * A], row t leaving state t; the
  /// last is not looked at
  void add(const torch::Tensor& states, const torch::Tensor& actions);

  /// two_rooms: `contact`, share of steps that did not go where the action says; `crossing`, share
  /// of episodes that are on both sides of the wall. push: `contact`, share of steps in which the
  /// block moves. swm_two_rooms: `crossing`. Empty for other worlds.
  std::map<std::string, double> shares() const;

 private:
  std::string world_;
  int64_t episodes_ = 0, steps_ = 0, contacts_ = 0, crossings_ = 0;
};

}  // namespace jepa::eval::worlds

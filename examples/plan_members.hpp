// Further runs that plan together with the first of `plan`.
#pragma once

#include <eval/dynamics/protocol.hpp>
#include <eval/planning/ensemble.hpp>

#include <memory>
#include <string>
#include <vector>

namespace jepa::examples {

/// An ensemble and what it needs to live.
struct PlanMembers {
  std::vector<std::unique_ptr<eval::dynamics::SavedDynamics>> others;
  std::unique_ptr<eval::planning::Ensemble> ensemble;  ///< null: the first alone
};

/// @param first which is the ensemble's first member, and must outlive it
/// @param runs further ones, separated by commas
/// @throws CheckpointError naming the run and the key in which it differs from the first
PlanMembers open_members(eval::dynamics::SavedDynamics& first, const std::string& runs,
                         torch::ScalarType precision);

}  // namespace jepa::examples

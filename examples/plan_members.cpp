#include <eval/probes/protocol.hpp>
#include <examples/plan_members.hpp>
#include <jepa/options.hpp>

namespace jepa::examples {

using eval::dynamics::RunShape;
using eval::dynamics::SavedDynamics;

namespace {

/// What members have in common: frames, blocks, actions, protocol. Their latents are their own.
OptionValues shared_options(RunShape shape) {
  OptionValues shared;
  for (const auto& [key, value] : dump_options(shape.sections())) {
    const bool data = key == "model.channels" || key == "model.height" || key == "model.width" ||
                      key == "model.block" || key.starts_with("model.action_");
    if (data || key.starts_with("protocol.")) shared[key] = value;
  }
  return shared;
}

}  // namespace

PlanMembers open_members(SavedDynamics& first, const std::string& runs,
                         torch::ScalarType precision) {
  PlanMembers members;
  const auto names = eval::probes::split_names(runs);
  if (names.empty()) return members;
  const auto width = [](const SavedDynamics& of) { return of.shape.model.encoder.dim; };
  std::vector<eval::planning::Ensemble::Member> all = {{first.model, width(first)}};
  for (const auto& name : names) {
    members.others.push_back(std::make_unique<SavedDynamics>(eval::dynamics::open_dynamics(name)));
    auto& other = *members.others.back();
    eval::dynamics::require_same(other.shape, other.checkpoint, shared_options(first.shape));
    other.model.precision = precision;
    all.push_back({other.model, width(other)});
  }
  members.ensemble = std::make_unique<eval::planning::Ensemble>(all);
  return members;
}

}  // namespace jepa::examples

#include <eval/worlds/goals_ahead.hpp>
#include <eval/worlds/push.hpp>
#include <eval/worlds/swm_two_rooms.hpp>
#include <eval/worlds/two_rooms.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

namespace jepa::eval::worlds {
namespace {

enum class StateRule { pose, rooms, swm_rooms };

StateRule state_rule(const WorldInfo& info) {
  // gym-pusht observes what `push` does: agent, block, angle.
  if (info.name == "push" || (info.name.ends_with("PushT-v0") && info.state.size() == 5)) {
    return StateRule::pose;
  }
  if (info.name == "two_rooms") return StateRule::rooms;
  if (info.name == "swm_two_rooms") return StateRule::swm_rooms;
  throw ConfigError(info.name +
                    ": no rule says when a state is a goal's; push, two_rooms, "
                    "swm_two_rooms and gym:gym_pusht/PushT-v0 with --gym.make "
                    "obs_type=state have one");
}

WorldInfo with_goal(const World& world) {
  WorldInfo info = world.info();
  state_rule(info);
  info.has_goal = true;
  info.success_rule = "state of a later frame";
  return info;
}

// Row `i` of what all episodes look like.
template <class T>
void copy_row(const torch::Tensor& all, int64_t i, T* to) {
  const auto row = all[i].contiguous();
  std::copy_n(row.const_data_ptr<T>(), row.numel(), to);
}

}  // namespace

double state_distance(const WorldInfo& info, const double* state, const double* goal) {
  const int64_t numbers = state_rule(info) == StateRule::pose ? 4 : 2;
  double sum = 0;
  for (int64_t k = 0; k < numbers; ++k) sum += (state[k] - goal[k]) * (state[k] - goal[k]);
  return std::sqrt(sum);
}

bool state_reached(const WorldInfo& info, const double* state, const double* goal) {
  const double distance = state_distance(info, state, goal);
  switch (state_rule(info)) {
    case StateRule::rooms:
      return distance < kTwoRoomsSuccess;
    case StateRule::swm_rooms:
      return distance < kSwmRoomSuccess;
    case StateRule::pose:
      break;
  }
  const double turn = std::remainder(state[4] - goal[4], 2 * std::numbers::pi);
  return distance < 20 && std::abs(turn) < std::numbers::pi / 9;
}

GoalsAhead::GoalsAhead(std::unique_ptr<World> world, std::unique_ptr<Policy> policy, int64_t ahead,
                       int64_t most_lead)
    : World(with_goal(*world), world->batch()),
      world_(std::move(world)),
      policy_(std::move(policy)),
      ahead_(ahead),
      most_lead_(most_lead) {
  if (ahead < 1 || most_lead < 0) throw ConfigError("goals ahead: 1 step or more");
  if (auto* rooms = dynamic_cast<SwmTwoRooms*>(world_.get())) rooms->pass_targets();
}

void GoalsAhead::begin(uint64_t seed, const FactorRanges& ranges, int64_t first) {
  const int64_t lead = Random(seed, "lead", static_cast<uint64_t>(first)).below(most_lead_ + 1);
  world_->reset(seed, ranges, first);
  policy_->begin(*world_, seed, first);
  std::vector<torch::Tensor> actions;
  for (int64_t t = 0; t < lead + ahead_; ++t) {
    const auto action = policy_->act(*world_);
    world_->step(action);
    if (t < lead) actions.push_back(action);
  }
  goal_pixels_ = world_->pixels();
  goal_state_ = world_->state();
  world_->reset(seed, ranges, first);
  for (const auto& action : actions) world_->step(action);
  look();
  reset(seed, ranges, first);  // draws the factors that the world drew
}

void GoalsAhead::look() {
  pixels_ = world_->pixels();
  state_ = world_->state();
}

std::vector<World::Outcome> GoalsAhead::advance_all(const double* actions) {
  const auto all = torch::from_blob(const_cast<double*>(actions), {batch(), info().action_width},
                                    torch::kFloat64);
  const auto given = world_->step(all);
  look();
  std::vector<Outcome> outcomes(static_cast<size_t>(batch()));
  for (int64_t i = 0; i < batch(); ++i) {
    outcomes[static_cast<size_t>(i)] = {.reward = given.reward[i].item<double>(),
                                        .done = given.done[i].item<bool>(),
                                        .truncated = given.truncated[i].item<bool>()};
  }
  return outcomes;
}

void GoalsAhead::draw(int64_t i, uint8_t* frame) const { copy_row(pixels_, i, frame); }
void GoalsAhead::draw_goal(int64_t i, uint8_t* frame) const { copy_row(goal_pixels_, i, frame); }
void GoalsAhead::write_state(int64_t i, double* state) const { copy_row(state_, i, state); }
void GoalsAhead::write_goal_state(int64_t i, double* state) const {
  copy_row(goal_state_, i, state);
}

bool GoalsAhead::succeeds(int64_t i) const {
  const auto state = state_[i].contiguous(), goal = goal_state_[i].contiguous();
  return state_reached(info(), state.const_data_ptr<double>(), goal.const_data_ptr<double>());
}

double GoalsAhead::goal_distance(int64_t i) const {
  const auto state = state_[i].contiguous(), goal = goal_state_[i].contiguous();
  return state_distance(info(), state.const_data_ptr<double>(), goal.const_data_ptr<double>());
}

}  // namespace jepa::eval::worlds

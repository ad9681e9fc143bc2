#include <eval/worlds/world.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::worlds {
namespace {

bool in_gap(const Factor& factor, const FactorRange& range, double value) {
  if (!range.has_gap()) return false;
  if (factor.whole) return value >= range.gap_low && value <= range.gap_high;
  return value > range.gap_low && value < range.gap_high;
}

void check_range(const std::string& world, const Factor& factor, const FactorRange& range) {
  bool possible = range.low <= range.high && std::isfinite(range.low) && std::isfinite(range.high);
  if (possible && range.has_gap()) {
    possible = !in_gap(factor, range, range.low) || !in_gap(factor, range, range.high);
  }
  if (!possible) {
    throw ConfigError(c10::str(
        world, ": no value of ", factor.name, " lies in [", range.low, ", ", range.high, "]",
        range.has_gap() ? c10::str(" without ", range.gap_low, " to ", range.gap_high) : ""));
  }
}

double draw_factor(const Factor& factor, const FactorRange& range, Random& random) {
  // The check has seen to it that an end lies outside the gap, so this comes to an end.
  while (true) {
    double value = random.uniform(range.low, range.high);
    if (factor.whole) {
      const auto low = static_cast<int64_t>(std::ceil(range.low));
      const auto high = static_cast<int64_t>(std::floor(range.high));
      value = static_cast<double>(low + random.below(std::max<int64_t>(high - low + 1, 1)));
    }
    if (!in_gap(factor, range, value)) return value;
  }
}

const Factor& find_factor(const World& world, const std::string& name) {
  std::string known;
  for (const auto& factor : world.info().factors) {
    if (factor.name == name) return factor;
    known += (known.empty() ? "" : ", ") + factor.name;
  }
  throw ConfigError(world.info().name + ": has no factor '" + name + "', only " + known);
}

}  // namespace

World::World(WorldInfo info, int64_t batch) : info_(std::move(info)), batch_(batch) {
  if (batch < 1) throw ConfigError(c10::str(info_.name, ": a batch of ", batch, " episodes"));
}

void World::reset(uint64_t seed, const FactorRanges& ranges, int64_t first, int64_t different) {
  for (const auto& [name, range] : ranges) check_range(info_.name, find_factor(*this, name), range);
  random_.clear();
  factors_.clear();
  done_.assign(batch_, 0);
  truncated_.assign(batch_, 0);
  for (int64_t i = 0; i < batch_; ++i) {
    const int64_t number = first + (different > 0 ? i % different : i);
    random_.emplace_back(seed, info_.name, static_cast<uint64_t>(number));
    std::vector<double> values;
    for (const auto& factor : info_.factors) {
      const auto asked = ranges.find(factor.name);
      if (asked != ranges.end()) {
        values.push_back(draw_factor(factor, asked->second, random_[i]));
      } else {
        // Nothing is held out where nobody asks for it.
        const FactorRange whole{factor.training.low, factor.training.high};
        values.push_back(factor.varies ? draw_factor(factor, whole, random_[i]) : factor.standard);
      }
    }
    start(i, values, random_[i]);
    factors_.push_back(std::move(values));
  }
  all_started();
  steps_ = 0;
  started_ = true;
}

Transition World::step(const torch::Tensor& actions) {
  TORCH_CHECK(started_, info_.name, ": step before reset");
  if (actions.dim() != 2 || actions.size(0) != batch_ || actions.size(1) != info_.action_width) {
    throw DataError(c10::str(info_.name, ": actions [", batch_, ", ", info_.action_width,
                             "] expected, found ", actions.sizes()));
  }
  const auto values = actions.detach().to(torch::kCPU, torch::kFloat64).contiguous();
  const double* row = values.const_data_ptr<double>();
  for (int64_t i = 0; i < values.numel(); ++i) {
    const bool fits = info_.action_choices == 0
                          ? std::isfinite(row[i])
                          : row[i] >= 0 && row[i] < static_cast<double>(info_.action_choices) &&
                                row[i] == std::floor(row[i]);
    if (!fits) {
      throw DataError(c10::str(
          info_.name, ": action ", row[i], " of episode ", i / info_.action_width, " is not ",
          info_.action_choices == 0 ? std::string("finite")
                                    : c10::str("one of 0 to ", info_.action_choices - 1)));
    }
  }
  Transition result{torch::zeros({batch_}), torch::zeros({batch_}, torch::kBool),
                    torch::zeros({batch_}, torch::kBool)};
  const std::vector<Outcome> outcomes = advance_all(row);
  for (int64_t i = 0; i < batch_; ++i) {
    const Outcome& outcome = outcomes[i];
    if (!done_[i]) truncated_[i] = outcome.done && outcome.truncated;
    done_[i] = done_[i] || outcome.done;
    result.reward.mutable_data_ptr<float>()[i] = static_cast<float>(outcome.reward);
    result.done.mutable_data_ptr<bool>()[i] = done_[i] != 0;
    result.truncated.mutable_data_ptr<bool>()[i] = truncated_[i] != 0;
  }
  ++steps_;
  return result;
}

std::vector<World::Outcome> World::advance_all(const double* actions) {
  std::vector<Outcome> outcomes;
  for (int64_t i = 0; i < batch_; ++i) {
    outcomes.push_back(advance(i, actions + i * info_.action_width, random_[i]));
  }
  return outcomes;
}

template <class Draw>
torch::Tensor World::frames(Draw draw) const {
  TORCH_CHECK(started_, info_.name, ": looked at before reset");
  auto result =
      torch::zeros({batch_, info_.frame[0], info_.frame[1], info_.frame[2]}, torch::kUInt8);
  const int64_t size = info_.frame[0] * info_.frame[1] * info_.frame[2];
  for (int64_t i = 0; i < batch_; ++i) draw(i, result.mutable_data_ptr<uint8_t>() + i * size);
  return result;
}

torch::Tensor World::pixels() const {
  return frames([this](int64_t i, uint8_t* frame) { draw(i, frame); });
}

torch::Tensor World::goal_pixels() const {
  return frames([this](int64_t i, uint8_t* frame) { draw_goal(i, frame); });
}

torch::Tensor World::state() const {
  const auto width = static_cast<int64_t>(info_.state.size());
  auto result = torch::zeros({batch_, width}, torch::kFloat64);
  for (int64_t i = 0; i < batch_; ++i) {
    write_state(i, result.mutable_data_ptr<double>() + i * width);
  }
  return result;
}

torch::Tensor World::goal_state() const {
  const auto width = static_cast<int64_t>(info_.state.size());
  auto result = torch::zeros({batch_, width}, torch::kFloat64);
  for (int64_t i = 0; i < batch_; ++i) {
    write_goal_state(i, result.mutable_data_ptr<double>() + i * width);
  }
  return result;
}

torch::Tensor World::success() const {
  auto result = torch::zeros({batch_}, torch::kBool);
  for (int64_t i = 0; i < batch_; ++i) result.mutable_data_ptr<bool>()[i] = succeeds(i);
  return result;
}

torch::Tensor World::distance() const {
  auto result = torch::zeros({batch_}, torch::kFloat64);
  for (int64_t i = 0; i < batch_; ++i) result.mutable_data_ptr<double>()[i] = goal_distance(i);
  return result;
}

torch::Tensor World::factor_values() const {
  const auto width = static_cast<int64_t>(info_.factors.size());
  auto result = torch::zeros({batch_, width}, torch::kFloat64);
  for (int64_t i = 0; i < batch_; ++i) {
    std::copy(factors_[i].begin(), factors_[i].end(),
              result.mutable_data_ptr<double>() + i * width);
  }
  return result;
}

void World::draw_goal(int64_t, uint8_t*) const {
  throw ConfigError(info_.name + ": has no goal to draw");
}

void World::write_goal_state(int64_t, double*) const {
  throw ConfigError(info_.name + ": has no goal state");
}

FactorRanges training_ranges(const World& world) {
  FactorRanges ranges;
  for (const auto& factor : world.info().factors) ranges[factor.name] = factor.training;
  return ranges;
}

FactorRanges unseen_ranges(const World& world, const std::string& name) {
  const Factor& factor = find_factor(world, name);
  if (factor.unseen.high < factor.unseen.low ||
      (factor.unseen.high == 0 && factor.unseen.low == 0)) {
    throw ConfigError(world.info().name + ": " + name + " has no unseen values");
  }
  FactorRanges ranges = training_ranges(world);
  ranges[name] = factor.unseen;
  return ranges;
}

}  // namespace jepa::eval::worlds

#include <eval/worlds/policies.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>

namespace jepa::eval::worlds {
namespace {

// What a random action is at most where a world states no bounds.
double usual_bound(const std::string& world) {
  if (world == "two_rooms") return 1.8;  // px: the longest step of the published walks
  if (world == "balls") return 0.1;      // px a step: a kick each step
  return 1;
}

class RandomPolicy : public EpisodePolicy {
 public:
  // Keeps an action for as long as `keep` says.
  enum class Kind { fresh, held, sticky };

  RandomPolicy(Kind kind, const PolicyOptions& options, const World& world)
      : kind_(kind), options_(options), draw_(world.info()) {
    if (options.held_min > options.held_max) {
      throw ConfigError(
          c10::str("policy: held_min ", options.held_min, " is above held_max ", options.held_max));
    }
  }

 protected:
  void start(World& world, int64_t i, Random&) override {
    kept_.resize(static_cast<size_t>(world.batch()));
    kept_[static_cast<size_t>(i)] = {};
  }

  void choose(const World&, int64_t i, const double*, Random& random, double* action) override {
    Kept& kept = kept_[static_cast<size_t>(i)];
    bool again = false;
    if (kind_ == Kind::sticky) {
      // One number a step, whatever it leads to.
      again = random.uniform() < options_.sticky && !kept.action.empty();
    } else if (kind_ == Kind::held) {
      again = kept.left > 0;
      if (!again) {
        kept.left = options_.held_min + random.below(options_.held_max - options_.held_min + 1);
      }
      --kept.left;
    }
    if (!again) {
      kept.action.resize(static_cast<size_t>(draw_.width()));
      draw_.draw(random, kept.action.data());
    }
    std::copy(kept.action.begin(), kept.action.end(), action);
  }

 private:
  struct Kept {
    int64_t left = 0;
    std::vector<double> action = {};
  };
  Kind kind_;
  PolicyOptions options_;
  ActionDraw draw_;
  std::vector<Kept> kept_;
};

// The same for all episodes at all times, or from side to side.
class FixedPolicy : public EpisodePolicy {
 public:
  FixedPolicy(bool swap, const PolicyOptions& options, const World& world)
      : swap_(swap), options_(options), draw_(world.info()) {
    if (!swap && draw_.choices() > 0 && options.constant >= draw_.choices()) {
      throw ConfigError(
          c10::str("policy: constant ", options.constant, " of ", draw_.choices(), " choices"));
    }
  }

 protected:
  void choose(const World& world, int64_t, const double*, Random&, double* action) override {
    const bool second = swap_ && (world.steps() / options_.held_max) % 2 == 1;
    for (int64_t k = 0; k < draw_.width(); ++k) {
      if (!swap_) {
        action[k] = draw_.choices() > 0 ? static_cast<double>(options_.constant) : 0;
      } else if (draw_.choices() > 0) {
        // Choice 0 is to do nothing by custom.
        action[k] = static_cast<double>(second ? draw_.choices() - 1
                                               : std::max<int64_t>(draw_.choices() - 2, 0));
      } else {
        action[k] = second ? draw_.high(k) : draw_.low(k);
      }
    }
  }

 private:
  bool swap_;
  PolicyOptions options_;
  ActionDraw draw_;
};

}  // namespace

void PolicyOptions::describe(OptionVisitor& visit) {
  visit("held_min", held_min, {.help = "held: fewest steps of one action", .min = 1});
  visit("held_max", held_max,
        {.help = "held: most steps of one action; swap: steps to a side", .min = 1});
  visit("sticky", sticky,
        {.help = "sticky: chance that the last action is repeated", .min = 0, .max = 1});
  visit("noise", noise, {.help = "scripted: share of actions that are random", .min = 0, .max = 1});
  visit("constant", constant,
        {.help = "constant: the choice; 0 of continuous actions: no motion", .min = 0});
  visit("wall_share", wall_share,
        {.help = "walk in two_rooms: share of episodes that push at the wall", .min = 0, .max = 1});
  visit("crossing_share", crossing_share,
        {.help = "walk in two_rooms: share of episodes that pass the door", .min = 0, .max = 1});
  visit("walk_steps", walk_steps,
        {.help = "steps that a walk through the door is planned for", .min = 2});
}

void EpisodePolicy::begin(World& world, uint64_t seed, int64_t first) {
  random_.clear();
  for (int64_t i = 0; i < world.batch(); ++i) {
    random_.emplace_back(seed, "policy", static_cast<uint64_t>(first + i));
    start(world, i, random_.back());
  }
}

torch::Tensor EpisodePolicy::act(const World& world) {
  const int64_t width = world.info().action_width;
  const auto states = static_cast<int64_t>(world.info().state.size());
  auto actions = torch::zeros({world.batch(), width}, torch::kFloat64);
  const torch::Tensor state = states > 0 ? world.state() : torch::Tensor();
  for (int64_t i = 0; i < world.batch(); ++i) {
    choose(world, i, states > 0 ? state.const_data_ptr<double>() + i * states : nullptr,
           random_[static_cast<size_t>(i)], actions.mutable_data_ptr<double>() + i * width);
  }
  return actions;
}

ActionDraw::ActionDraw(const WorldInfo& info)
    : width_(info.action_width),
      choices_(info.action_choices),
      thirds_(info.name == "dodge"),
      low_(info.action_low),
      high_(info.action_high) {
  const double bound = usual_bound(info.name);
  if (low_.empty()) low_.assign(static_cast<size_t>(width_), -bound);
  if (high_.empty()) high_.assign(static_cast<size_t>(width_), bound);
}

void ActionDraw::draw(Random& random, double* action) const {
  for (int64_t k = 0; k < width_; ++k) {
    if (choices_ > 0) {
      action[k] = static_cast<double>(random.below(choices_));
    } else if (thirds_) {
      action[k] = static_cast<double>(random.below(3) - 1);
    } else {
      action[k] = random.uniform(low(k), high(k));
    }
  }
}

std::vector<std::string> policy_names() {
  return {"random", "held", "sticky", "walk", "swap", "constant", "scripted"};
}

std::unique_ptr<Policy> make_policy(const std::string& name, const PolicyOptions& options,
                                    const World& world) {
  using Kind = RandomPolicy::Kind;
  if (name == "random") return std::make_unique<RandomPolicy>(Kind::fresh, options, world);
  if (name == "held") return std::make_unique<RandomPolicy>(Kind::held, options, world);
  if (name == "sticky") return std::make_unique<RandomPolicy>(Kind::sticky, options, world);
  if (name == "walk") return make_walk(options, world);
  if (name == "swap") return std::make_unique<FixedPolicy>(true, options, world);
  if (name == "constant") return std::make_unique<FixedPolicy>(false, options, world);
  if (name == "scripted") return make_scripted(options, world);
  throw ConfigError("policy: expected one of " + c10::Join(", ", policy_names()) + ", found '" +
                    name + "'");
}

}  // namespace jepa::eval::worlds

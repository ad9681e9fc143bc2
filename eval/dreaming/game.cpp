#include <eval/dreaming/game.hpp>
#include <eval/worlds/registry.hpp>
#include <jepa/errors.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <cstdlib>
#include <sstream>

namespace jepa::eval::dreaming {
namespace {

constexpr double kThreshold = 1.0 / 3;

worlds::FactorRanges parse_factors(const std::string& text) {
  worlds::FactorRanges ranges;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    if (part.empty()) continue;
    const size_t equals = part.find('=');
    char* end = nullptr;
    const std::string number = equals == std::string::npos ? "" : part.substr(equals + 1);
    const double value = std::strtod(number.c_str(), &end);
    if (number.empty() || *end != '\0') {
      throw ConfigError("option world.factors: '" + part + "' is not NAME=NUMBER");
    }
    ranges[part.substr(0, equals)] = {.low = value, .high = value};
  }
  return ranges;
}

/// A World whose actions are held for some frames.
class NativeGame : public Game {
 public:
  NativeGame(const GameOptions& options, int64_t batch)
      : world_(worlds::make_world(options.world, batch)), ranges_(parse_factors(options.factors)) {
    const auto& world = world_->info();
    if (world.name != "dodge") {
      throw ConfigError("option world.name: " + world.name + " has no end to stay clear of");
    }
    info_ = {.name = world.name,
             .frame = world.frame,
             .action_width = world.action_width,
             .three_way = world.name == "dodge",
             .frame_limit = world.step_limit,
             .repeat = options.repeat};
  }

  const GameInfo& info() const override { return info_; }
  int64_t batch() const override { return world_->batch(); }

  void reset(uint64_t seed, int64_t first) override {
    world_->reset(seed, ranges_, first);
    done_ = torch::zeros({batch()}, torch::kBool);
    dead_ = done_.clone();
  }

  Decision step(const torch::Tensor& actions) override {
    Decision decision{.reward = torch::zeros({batch()}), .done = {}, .dead = {}};
    for (int64_t i = 0; i < info_.repeat; ++i) {
      const auto before = done_;
      decision.frames += batch() - before.sum().item<int64_t>();
      const auto next = world_->step(at::where(before.unsqueeze(1), 0.0, actions));
      decision.reward += next.reward * before.logical_not();
      done_ = next.done.clone();
      // An episode that the limit ends is alive: its last frame is rewarded.
      const bool limited = world_->steps() >= info_.frame_limit;
      const auto now = done_.logical_and(before.logical_not());
      dead_ = dead_.logical_or(limited ? now.logical_and(next.reward.le(0)) : now);
      if (done_.all().item<bool>()) break;
    }
    decision.done = done_;
    decision.dead = dead_;
    return decision;
  }

  torch::Tensor pixels(const torch::Tensor& rows) const override {
    return world_->pixels().index_select(0, rows);
  }

 private:
  std::unique_ptr<worlds::World> world_;
  worlds::FactorRanges ranges_;
  GameInfo info_;
  torch::Tensor done_, dead_;
};

}  // namespace

void GameOptions::describe(OptionVisitor& visit) {
  visit("name", world, {.help = "the world: dodge"});
  visit("repeat", repeat, {.help = "frames that each action is held", .min = 1, .max = 100});
  visit("factors", factors,
        {.help = "factors of the world at other values: speed=1.2,rate=0.03; empty: its standard"});
}

torch::Tensor game_actions(const GameInfo& info, const torch::Tensor& actions) {
  if (!info.three_way) return actions.clamp(-1, 1);
  return actions.gt(kThreshold).to(torch::kFloat32) - actions.lt(-kThreshold).to(torch::kFloat32);
}

MakeGame native_game(const GameOptions& options) {
  return [options](int64_t batch) -> std::unique_ptr<Game> {
    return std::make_unique<NativeGame>(options, batch);
  };
}

}  // namespace jepa::eval::dreaming

#include <eval/dreaming/game.hpp>
#include <jepa/errors.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>
#include <cstdlib>
#include <map>
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

/// What the game that `world` makes is like. @throws ConfigError
GameInfo game_info(const GameOptions& options, const worlds::WorldInfo& world) {
  const bool gym = world.name.starts_with("gym:");
  if (!gym && world.name != "dodge") {
    throw ConfigError("option world.name: " + world.name + " has no end to stay clear of");
  }
  GameInfo info{.name = world.name,
                .frame = world.frame,
                .action_width = world.action_width,
                .three_way = !gym || world.action_choices > 0,
                .choices = options.choices,
                .side_by_side = options.side_by_side > 0 ? options.side_by_side
                                : gym                    ? 16
                                                         : 256,
                .frame_limit = gym ? options.gym.max_steps : world.step_limit,
                .repeat = options.repeat};
  if (info.frame_limit < 1) throw ConfigError("option gym.max_steps: a game has a limit");
  const auto missing = [&](int64_t choice) { return choice < 0 || choice >= world.action_choices; };
  const size_t wanted = world.action_choices > 0 ? 3 : 0;
  if (info.choices.size() != wanted ||
      std::any_of(info.choices.begin(), info.choices.end(), missing)) {
    throw ConfigError(c10::str("option world.choices: ", wanted, " expected, of the ",
                               world.action_choices, " choices of ", world.name));
  }
  return info;
}

/// A World whose actions are held for some frames: by its own frame skip, or here.
class WorldGame : public Game {
 public:
  WorldGame(const GameOptions& options, std::shared_ptr<worlds::World> world)
      : world_(std::move(world)),
        ranges_(parse_factors(options.factors)),
        info_(game_info(options, world_->info())),
        skips_(info_.name.starts_with("gym:")) {}

  const GameInfo& info() const override { return info_; }
  int64_t batch() const override { return world_->batch(); }

  using Game::reset;
  void reset(uint64_t seed, int64_t first, int64_t different) override {
    world_->reset(seed, ranges_, first, different);
    done_ = torch::zeros({batch()}, torch::kBool);
    dead_ = done_.clone();
  }

  Decision step(const torch::Tensor& actions) override {
    Decision decision{.reward = torch::zeros({batch()}),
                      .done = {},
                      .dead = {},
                      .lived = torch::zeros({batch()})};
    const auto sent = sent_actions(info_, actions);
    for (int64_t i = 0; i < (skips_ ? 1 : info_.repeat); ++i) {
      const auto before = done_;
      // Where the world skips frames by itself, an episode's last decision is counted whole.
      decision.lived += before.logical_not() * (skips_ ? info_.repeat : 1);
      const auto next = world_->step(sent);
      decision.reward += next.reward * before.logical_not();
      done_ = next.done.clone();
      const auto now = done_.logical_and(before.logical_not());
      dead_ = dead_.logical_or(now.logical_and(next.truncated.logical_not()));
      if (done_.all().item<bool>()) break;
    }
    decision.frames = decision.lived.sum().item<int64_t>();
    decision.done = done_;
    decision.dead = dead_;
    return decision;
  }

  torch::Tensor pixels(const torch::Tensor& rows) const override {
    return world_->pixels().index_select(0, rows);
  }

 private:
  std::shared_ptr<worlds::World> world_;
  worlds::FactorRanges ranges_;
  GameInfo info_;
  bool skips_;
  torch::Tensor done_, dead_;
};

class StoppableGame : public Game {
 public:
  StoppableGame(std::unique_ptr<Game> game, StopRequest stop)
      : game_(std::move(game)), stop_(std::move(stop)) {}
  const GameInfo& info() const override { return game_->info(); }
  int64_t batch() const override { return game_->batch(); }
  using Game::reset;
  void reset(uint64_t seed, int64_t first, int64_t different) override {
    stop_if_asked(stop_, info().name);
    game_->reset(seed, first, different);
  }
  Decision step(const torch::Tensor& actions) override {
    stop_if_asked(stop_, info().name);
    return game_->step(actions);
  }
  torch::Tensor pixels(const torch::Tensor& rows) const override { return game_->pixels(rows); }

 private:
  std::unique_ptr<Game> game_;
  StopRequest stop_;
};

}  // namespace

worlds::GymnasiumOptions small_frames() {
  worlds::GymnasiumOptions options;
  options.height = options.width = 64;
  options.max_steps = 2100;
  return options;
}

std::vector<OptionSection> GameOptions::sections() {
  return {{"world", "the game",
           [this](OptionVisitor& visit) {
             visit("name", world, {.help = "dodge, or gym:ID"});
             visit("repeat", repeat,
                   {.help = "frames that each action is held", .min = 1, .max = 100});
             visit("factors", factors,
                   {.help = "of dodge at other values: speed=1.2,rate=0.03; empty: its standard"});
             visit("choices", choices,
                   {.help = "of discrete actions: which is left, stay, right", .min = 0});
             visit("side_by_side", side_by_side,
                   {.help = "episodes that run side by side; 0: 256, of Gymnasium's 16", .min = 0});
           }},
          {"gym", "of Gymnasium environments; frame_skip is world.repeat",
           [this](OptionVisitor& visit) { gym.describe(visit); }}};
}

torch::Tensor game_actions(const GameInfo& info, const torch::Tensor& actions) {
  if (!info.three_way) return actions.clamp(-1, 1);
  return actions.gt(kThreshold).to(torch::kFloat32) - actions.lt(-kThreshold).to(torch::kFloat32);
}

torch::Tensor sent_actions(const GameInfo& info, const torch::Tensor& actions) {
  if (info.choices.empty()) return actions;
  return torch::tensor(info.choices).take(actions.round().to(torch::kInt64) + 1);
}

torch::Tensor received_actions(const GameInfo& info, const torch::Tensor& sent,
                               const std::string& path) {
  if (info.choices.empty()) return game_actions(info, sent);
  auto actions = torch::zeros_like(sent);
  auto known = torch::zeros_like(sent, torch::kBool);
  for (int64_t i = 0; i < 3; ++i) {
    const auto chosen = sent.eq(info.choices[static_cast<size_t>(i)]);
    actions.masked_fill_(chosen, static_cast<double>(i - 1));
    known.logical_or_(chosen);
  }
  if (!known.all().item<bool>()) {
    throw DataError(c10::str(path, ": action ",
                             sent.masked_select(known.logical_not())[0].item<double>(),
                             " is none of world.choices ", at::IntArrayRef(info.choices)));
  }
  return actions;
}

MakeGame make_game(const GameOptions& options) {
  const auto kept = std::make_shared<std::map<int64_t, std::shared_ptr<worlds::World>>>();
  return [options, kept](int64_t batch) -> std::unique_ptr<Game> {
    worlds::GymnasiumOptions gym = options.gym;
    gym.frame_skip = options.repeat;
    const bool native = !options.world.starts_with("gym:");
    auto& world = (*kept)[batch];
    if (world == nullptr || native) world = worlds::open_world(options.world, batch, gym);
    return std::make_unique<WorldGame>(options, world);
  };
}

MakeGame stoppable(MakeGame make, StopRequest stop) {
  if (!stop) return make;
  return [make = std::move(make), stop = std::move(stop)](int64_t batch) -> std::unique_ptr<Game> {
    return std::make_unique<StoppableGame>(make(batch), stop);
  };
}

}  // namespace jepa::eval::dreaming

// What is played for its score: controls, and controllers in the dream and in the real game.
#include <eval/dreaming/experiment.hpp>
#include <jepa/generator.hpp>

#include <ATen/ATen.h>
#include <torch/types.h>

#include <algorithm>
#include <limits>

namespace jepa::eval::dreaming {

std::string lived_name(const std::string& score) { return score + "_lived"; }

void keep(StageRecord& record, const std::string& name, const Scores& scores) {
  record.frames += scores.frames;
  record.decisions += scores.decisions;
  record.scores[name] = score_interval(scores.scores);
  record.scores[lived_name(name)] = score_interval(scores.lived);
}

void Experiment::play_controls() {
  const auto& o = options_.play;
  const auto played = [&](const std::string& stage, Policy& policy, const char* seed,
                          int64_t episodes, StageRecord& record) {
    keep(record, stage, play_episodes(make_, policy, seed_of(seed), episodes));
    return record.scores[stage].mean;
  };
  stages_.run("play-controls", [&](StageRecord& record) {
    const auto random = held_random(info_, o.hold);
    played("held_random", *random, "play", o.episodes, record);
    const auto fresh = held_random(info_, 1);
    played("uniform_random", *fresh, "play", o.episodes, record);
    double best_action = 0, best = -std::numeric_limits<double>::infinity();
    for (const double action : {-1.0, 0.0, 1.0}) {
      StageRecord tuning;
      const auto policy = constant_action(info_, action);
      const double mean = played("", *policy, "tune", o.tuning_episodes, tuning);
      if (mean > best) best = mean, best_action = action;
    }
    record.numbers["best_constant"] = best_action;
    played("best_constant", *constant_action(info_, best_action), "play", o.episodes, record);
    int64_t best_period = 0;
    best = -std::numeric_limits<double>::infinity();
    for (const int64_t period : o.swap_periods) {
      StageRecord tuning;
      const auto policy = side_swapping(info_, period);
      const double mean = played("", *policy, "tune", o.tuning_episodes, tuning);
      if (mean > best) best = mean, best_period = period;
    }
    if (best_period < 1) return;
    record.numbers["swap_period"] = static_cast<double>(best_period);
    played("swap_sides", *side_swapping(info_, best_period), "play", o.episodes, record);
  });
}

void Experiment::score(StageRecord& record, const std::string& name, double temperature) {
  const int64_t episodes = options_.play.episodes;
  const auto controller = load_controller(name, episodes);
  Agent agent(*vision_, model_, *controller, info_);
  keep(record, "real", play_episodes(make_, agent, seed_of("play"), episodes));
  // The dream that it was trained in; of one that was not, what it would dream at the usual one.
  const bool trained = temperature > 0;
  const double heat = trained ? temperature : options_.controller.temperature;
  const auto dreamed = dream_lives(model_, *controller, episodes, first_latents(latents().training),
                                   {.episodes = episodes,
                                    .limit = info_.limit(),
                                    .temperature = heat,
                                    .seed = seed_of("dreamed"),
                                    .death_weight = death_weight(),
                                    .three_way = info_.three_way,
                                    .stop = hooks_.stop});
  record.imagined = dreamed.steps;
  record.scores["dream"] = score_interval(dreamed.lives * static_cast<double>(info_.repeat));
  const auto known = dreamed_recall(model_, latents().held_out, options_.model.recall_window, heat,
                                    death_weight(), seed_of("recall"));
  record.numbers = {{"temperature", heat},
                    {"dreamed_recall", known.recall},
                    {"dreamed_false_share", known.false_share},
                    {"dreamed_deaths", static_cast<double>(known.deaths)}};
}

void Experiment::play_untrained() {
  // Several, since one drawn at random may be anything.
  constexpr int64_t kDraws = 10;
  stages_.run("play-untrained", [&](StageRecord& record) {
    const int64_t each = std::max<int64_t>(1, options_.play.episodes / kDraws);
    auto generator = seeded_generator(seed_of("untrained"));
    const auto weights = options_.controller.step *
                         at::randn({kDraws, shape().parameters()}, generator, torch::kFloat32);
    Scores all;
    std::vector<torch::Tensor> means, lives;
    for (int64_t draw = 0; draw < kDraws; ++draw) {
      LinearControllers controllers(shape(), weights.narrow(0, draw, 1), each);
      Agent agent(*vision_, model_, controllers, info_);
      const Scores some = play_episodes(make_, agent, seed_of("play"), each);
      all.add(some);
      means.push_back(some.scores.mean());
      lives.push_back(some.lived.mean());
    }
    keep(record, "untrained", all);
    // Episodes of one controller are alike: the draws are what is independent.
    const auto over_draws = [&](const std::string& name, const std::vector<torch::Tensor>& of) {
      ScoreInterval& interval = record.scores.at(name);
      const ScoreInterval drawn = score_interval(torch::stack(of));
      interval.low = drawn.low;
      interval.high = drawn.high;
    };
    over_draws("untrained", means);
    over_draws(lived_name("untrained"), lives);
    record.numbers["draws"] = kDraws;
  });
}

}  // namespace jepa::eval::dreaming

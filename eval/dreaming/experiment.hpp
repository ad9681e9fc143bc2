// The whole of dreaming: collect, train V and M, train C in the dream alone, play the real game,
// beside controls and the same C trained in the real game.
#pragma once

#include <eval/dreaming/agent.hpp>
#include <eval/dreaming/stage.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace jepa::eval::dreaming {

/// What is collected and played.
struct PlayOptions {
  int64_t collected = 600;  ///< episodes in each round
  int64_t hold = 5;         ///< of the held random policy, decisions at most
  int64_t rounds = 1;       ///< collect, train, dream; from the second on with what was learned
  int64_t episodes = 200;   ///< real ones that everything is scored on
  std::vector<int64_t> swap_periods = {5,  10, 15, 20,
                                       26, 32, 40};  ///< decisions; the best one is kept
  int64_t tuning_episodes = 100;  ///< other ones, that the best constant and period are found on
  bool real = true;               ///< train the same controller in the real game too
  bool film = true;

  void describe(OptionVisitor& visit);
};

/// Everything that decides a run.
struct ExperimentOptions {
  std::string run = "runs/dream";
  std::string data;  ///< clip store to take the first round's episodes from; empty: collect them
  GameOptions game;
  PlayOptions play;
  VisionOptions vision;
  ModelOptions model;
  SearchOptions controller;
  ActorCriticOptions actor_critic;
  std::vector<double> temperatures = {0.5, 1.0, 1.15, 1.3};  ///< of the table
  int64_t seed = 0;

  std::vector<OptionSection> sections();
};

/// How a run is told of; each may be empty.
struct ExperimentHooks {
  std::function<void(const std::string& stage)> say;
  /// May throw to stop: what stages left behind stays.
  std::function<void(const std::string& stage, int64_t step, int64_t steps, double value)> progress;
  /// Asked every moment, in games and dreams too; ends the run with Stopped.
  StopRequest stop = {};
};

/// What was trained, and its parts.
class Experiment {
 public:
  /// @param make the game that is played; `options.game` only describes it
  Experiment(ExperimentOptions options, MakeGame make, ExperimentHooks hooks);

  /// All stages that have not been done.
  /// @throws DataError, ConfigError; Stopped where the hooks stop it
  void run();
  const std::vector<StageRecord>& records() const { return stages_.records(); }
  const ExperimentOptions& options() const { return options_; }
  const GameInfo& info() const { return info_; }
  /// `run`'s film: a real episode beside the dream of the same controller, uint8 [T, H, W, 3].
  torch::Tensor film();

 private:
  TrainingProgress progress(const std::string& stage) const;
  uint64_t seed_of(const std::string& stage, int64_t index = 0) const;
  void play_controls();
  void collect(int64_t round);
  void train_vision_of(int64_t round);
  void train_model_of(int64_t round);
  /// Trains a controller in the dream, and scores it there and in the real game.
  void train_controller(const std::string& name, double temperature);
  void train_real_controller();
  void play_untrained();
  void load_parts(int64_t round);
  std::unique_ptr<Controller> load_controller(const std::string& name, int64_t episodes);
  /// Scores what a stage kept in the dream (where `temperature` is above 0) and the real game.
  void score(StageRecord& record, const std::string& name, double temperature);
  const Episodes& episodes();
  const LatentSplit& latents();
  LinearController shape() const;
  /// As `dream_lives` takes it.
  double death_weight() const {
    return options_.controller.ending == "chance" ? options_.model.done_weight : 0;
  }

  ExperimentOptions options_;
  MakeGame make_;
  ExperimentHooks hooks_;
  Stages stages_;
  GameInfo info_;
  int64_t round_ = 0;  ///< that V, M and the episodes are of
  Vision vision_;
  predictors::MixtureDensityRnn model_{nullptr};
  std::unique_ptr<ActorCritic> actor_;
  std::optional<Episodes> episodes_;
  std::optional<LatentSplit> latents_;
};

/// What was played becomes part of a stage: `record.scores` has the sums of rewards under `name`,
/// the frames lived under `lived_name(name)`.
void keep(StageRecord& record, const std::string& name, const Scores& scores);
/// See keep(). Stages of before have none.
std::string lived_name(const std::string& score);

/// Names of the stages: "controller" of the last round at a temperature.
std::string controller_stage(int64_t round, double temperature);

/// What the arm that learned in the dream cost at the usual temperature, and the one that learned
/// in the real game, with V and M that both rest on. Scoring counts for neither.
Cost dream_cost(const Experiment& experiment);
/// Of the one that learned in the real game; see dream_cost().
Cost real_cost(const Experiment& experiment);

/// The run's `summary.json`.
std::string experiment_summary(const Experiment& experiment);
/// Tables as plain text.
std::string experiment_text(const Experiment& experiment);
/// As markup for a report.
std::string experiment_section(const Experiment& experiment);

}  // namespace jepa::eval::dreaming

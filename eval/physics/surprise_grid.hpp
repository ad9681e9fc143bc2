// The surprise experiment: every arm and seed trained on lawful films, asked about pairs, cell by
// cell, so that what was cut off goes on.
#pragma once

#include <eval/comparison/grid.hpp>
#include <eval/physics/scores.hpp>
#include <eval/physics/surprise.hpp>
#include <eval/physics/violations.hpp>

#include <map>
#include <string>
#include <vector>

namespace jepa::eval::physics {

/// Of the films that every cell and picture is about.
inline constexpr uint64_t kWorldSeed = 1;

/// What is trained and asked.
struct SurpriseOptions {
  std::string run = "runs/surprise";
  std::string arms = "jepa,masked_pixels,pixels,latents";  ///< comma-separated
  std::vector<int64_t> seeds = {0, 1, 2};
  double tera = 20;               ///< training budget of an arm and seed, TFLOP
  std::vector<double> scale;      ///< other budgets, asked of all arms for errors over compute
  int64_t untrained = 20;         ///< networks with an arm's own initialisation, for each arm
  int64_t untrained_latents = 3;  ///< the same of latents, which take longer to ask
  WorldOptions world;
  int64_t clip_frames = 10;  ///< of training clips and of windows
  int64_t train_films = 20000;
  double light_share = 0.25;      ///< of training films, in which a light comes on
  int64_t validation_scenes = 6;  ///< of each rule
  int64_t test_scenes = 16;
  std::vector<int64_t> contexts = {4, 6};  ///< pasts that validation chooses from
  int64_t stride = 2;                      ///< frames from window to window
  int64_t resamples = 2000;                ///< of the bootstrap over scenes
  /// Arms are built as in a comparison; of it only `arm` is used.
  comparison::ComparisonOptions training;

  std::vector<OptionSection> sections();
  /// Sizes as small as they can be, which show that everything runs.
  static OptionValues quick();
};

/// An arm and seed, and how much its films surprised it.
struct SurpriseCell {
  std::string arm;
  int64_t seed = 0;
  double tera = 0;                       ///< one of the other budgets; 0: the run's own
  int64_t past = 0;                      ///< as validation chose it for the arm, at the own budget
  double threshold = 0;                  ///< as validation sets it, for the max over windows
  std::vector<torch::Tensor> test = {};  ///< [scenes, 2, kinds, 2] of each rule; see scores.hpp
};

/// Arms in the order of tables: trained, then untrained_ARM for each, copy_last, pixel_difference.
std::vector<std::string> surprise_arms(const SurpriseOptions& options);

/// Whether an arm is one of those trained, not a control.
bool is_trained(const SurpriseOptions& options, const std::string& arm);

/// What would else be told only when it is reached, after the training before it.
/// @throws ConfigError for an arm that is none, a past that an arm can not be told, or an arm, seed
/// or budget that is there twice
void require_askable(const SurpriseOptions& options);

/// The model of a cell: trained now, or as its run left it.
/// @param tera 0: the run's own budget
/// @throws Stopped where the hooks asked to stop
SurpriseModel cell_model(const SurpriseOptions& options, const std::string& arm, int64_t seed,
                         const comparison::ComparisonHooks& hooks, double tera = 0);

/// Surprises of the scenes of one rule, double [scenes, 2, kinds, 2].
/// @param kinds 2: lawful and broken; 3: the matched change too
torch::Tensor rule_surprises(const SurpriseModel& model, const SurpriseOptions& options,
                             const std::string& rule, const std::string& split, int64_t past,
                             int64_t kinds);

/// Trains, chooses pasts on validation and scores the test scenes. What a cell has left on disk is
/// not done again: its training goes on from a checkpoint, its scores rule by rule.
std::vector<SurpriseCell> run_surprise(const SurpriseOptions& options,
                                       const comparison::ComparisonHooks& hooks);

/// One arm's estimates: of each rule, and last their mean.
struct SurpriseRow {
  std::string arm;
  int64_t draws = 0;   ///< seeds, or untrained networks
  int64_t scenes = 0;  ///< of each rule that were tested
  int64_t past = 0;
  std::map<std::string, std::vector<probes::Estimate>> metrics = {};  ///< by metric_name()
  /// Of "relative" and "sets", less the arm's own untrained networks; empty for controls.
  std::map<std::string, std::vector<probes::Estimate>> less_untrained = {};
};

/// A row for each arm of `cells` at the run's own budget, with intervals over scenes and draws.
std::vector<SurpriseRow> summarise_surprise(const SurpriseOptions& options,
                                            const std::vector<SurpriseCell>& cells);
/// Shares of pairs and of sets told wrong over training compute, of trained arms; empty without
/// other budgets.
std::vector<comparison::ScaleCurve> surprise_scale(const SurpriseOptions& options,
                                                   const std::vector<SurpriseCell>& cells);
/// The run's `summary.json`: options, rows, scale and seconds.
std::string surprise_json(SurpriseOptions options, const std::vector<SurpriseRow>& rows,
                          const std::vector<comparison::ScaleCurve>& scale, double seconds);
/// The tables as text, for a terminal.
std::string surprise_table(const std::vector<SurpriseRow>& rows);
/// The tables of the report.
std::string surprise_section(const SurpriseOptions& options, const std::vector<SurpriseRow>& rows);

/// Curves with t*, and heat maps of the first test scene of every rule, for the report; writes
/// `surprise.mp4`, `surprise.png` and `curves.csv` into the run's folder.
std::string surprise_media(const SurpriseOptions& options, const std::vector<SurpriseCell>& cells,
                           const comparison::ComparisonHooks& hooks);

}  // namespace jepa::eval::physics

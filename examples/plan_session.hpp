// An evaluation of `plan`: the worlds and controllers at hand, and the rows they make.
#pragma once

#include <examples/plan_options.hpp>
#include <examples/plan_report.hpp>
#include <examples/program.hpp>

#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <vector>

namespace jepa::examples {

/// What an evaluation has at hand.
struct PlanSession {
  const PlanOptions& options;
  eval::dynamics::EvaluationProtocol protocol;
  uint64_t seed;
  std::shared_ptr<const eval::planning::Planner> planner;
  eval::dynamics::ActingModel acting;
  /// Null: published weights, or a run over patches.
  eval::dynamics::SavedDynamics* run = nullptr;
  const eval::dynamics::SavedPatchDynamics* patches = nullptr;
  std::vector<PlanRow> rows = {};
  std::vector<std::string> films = {};  ///< files that were written

  std::unique_ptr<eval::worlds::World> world(int64_t batch) const;
  eval::dynamics::EpisodeOptions episodes(int64_t count,
                                          const eval::worlds::FactorRanges& ranges) const;
  /// Towards what the script reached.
  eval::dynamics::EpisodeOptions ahead(int64_t count,
                                       const eval::worlds::FactorRanges& ranges) const;
  std::unique_ptr<eval::dynamics::Controller> plans() const;
  /// Runs a row, prints it and keeps it.
  void add(const std::string& name, const std::string& what, eval::dynamics::Controller& controller,
           const eval::dynamics::EpisodeOptions& episodes, bool ever = false);
};

/// @throws ConfigError for what can be refused before anything is run
void check_choices(const PlanSession& session);

/// The rows of the model and its controls on one kind of episodes.
void run_rows(PlanSession& session, const eval::dynamics::EpisodeOptions& episodes,
              const std::string& suffix, bool ever);

/// Rows of values that training did not show; where it did, a line says so.
void run_unseen(PlanSession& session, const eval::worlds::World& world);

/// All that the rows say, and how they were made.
nlohmann::json summary_of(const Program& program, const PlanSession& session);

}  // namespace jepa::examples

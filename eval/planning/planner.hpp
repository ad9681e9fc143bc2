// Planners: they search the actions that a CostFunction makes cheapest.
#pragma once

#include <eval/planning/world_model.hpp>
#include <jepa/options.hpp>

#include <ATen/core/Generator.h>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::planning {

/// Where a planner's random numbers come from; published draws can be put in their place.
struct Draws {
  std::function<torch::Tensor(at::IntArrayRef sizes)> normal;   ///< N(0, 1), float
  std::function<torch::Tensor(at::IntArrayRef sizes)> uniform;  ///< [0, 1), float
  /// One index for each row of non-negative weights [B, K] -> int64 [B].
  std::function<torch::Tensor(const torch::Tensor& weights)> choose;

  /// All from one generator, which is drawn on.
  static Draws from(at::Generator generator);
};

/// What is to be planned.
struct PlanRequest {
  int64_t episodes = 1;           ///< B
  int64_t horizon = 1;            ///< H, actions (or blocks) of a plan
  int64_t action_width = 1;       ///< A; discrete actions: how many there are
  torch::Tensor warm_start = {};  ///< a plan to begin from [B, H, A]; undefined: from zero
  /// Of all episodes together: stop after the iteration in which this has passed; 0: never.
  double seconds = 0;
};

/// What an iteration looked at and concluded, for tests and pictures.
struct Iteration {
  torch::Tensor candidates;  ///< [B, S, H, A], as costed
  torch::Tensor costs;       ///< [B, S]
  torch::Tensor elites;      ///< int64 [B, K], best first
  torch::Tensor mean, std;   ///< [B, H, A], after the update
  torch::Tensor weights;     ///< MPPI: [B, K]
};

/// What came of it.
struct Plan {
  torch::Tensor actions;    ///< [B, H, A]; of discrete actions int64 [B, H, 1]
  torch::Tensor cost;       ///< [B], lowest that was seen
  int64_t iterations = 0;   ///< that were run
  int64_t evaluations = 0;  ///< candidates costed for each episode
};

/// Any of them.
class Planner {
 public:
  virtual ~Planner() = default;
  /// @param trace receives every iteration where it is not null
  /// @throws DataError where costs have another shape or none of an episode's is a number
  virtual Plan plan(const CostFunction& costs, const PlanRequest& request, const Draws& draws,
                    std::vector<Iteration>* trace = nullptr) const = 0;
};

/// Cross-entropy method. Lists have one value, or one for each number of an action.
struct CemOptions {
  int64_t samples = 128;
  int64_t elites = 16;
  int64_t iterations = 6;
  std::vector<double> std = {1};  ///< of the first candidates around the start
  double min_std = 0;
  double mean_momentum = 0;  ///< share of the old mean that stays
  double std_momentum = 0;
  std::vector<double> low = {};  ///< candidates are cut to [low, high]; empty: not
  std::vector<double> high = {};
  double max_norm = 0;                 ///< length of each step's action; 0: any. eb_jepa's rule:
                                       ///< a min(|a|, max) / (|a| + 1e-6), so all shrink a little
  int64_t step_width = 0;              ///< numbers of a step, where an action is several steps
                                       ///< side by side; 0: an action is one step
  bool mean_is_candidate = false;      ///< candidate 0 is the mean; its draw is not used
  bool return_best = false;            ///< the plan is the best candidate seen, not the mean
  std::vector<double> dead_zone = {};  ///< smaller numbers of the plan become 0; empty: none
  double correlation = 0;              ///< of the noise from one step to the next
  double noise_power = 0;              ///< iCEM's beta: spectrum of the noise falls as f^-beta
  double fresh_share = 0;              ///< share of the first candidates around zero, not the start
  double keep_share = 0;  ///< share of the elites that stand again in the next iteration
  double shrink = 1;      ///< population divided by this after each iteration

  void describe(OptionVisitor& visit);
};

/// Published variants: "eb_jepa", "lewm" (also stable-worldmodel's), "vjepa2_ac" (7 numbers: x, y,
/// z, three angles, gripper), "icem".
/// @throws ConfigError for another name
CemOptions cem_variant(const std::string& name);

class Cem : public Planner {
 public:
  /// @throws ConfigError where options contradict each other
  explicit Cem(CemOptions options);
  Plan plan(const CostFunction& costs, const PlanRequest& request, const Draws& draws,
            std::vector<Iteration>* trace = nullptr) const override;
  const CemOptions& options() const { return options_; }

 private:
  struct Search;
  torch::Tensor propose(const Search& search, const Draws& draws, int64_t iteration) const;
  torch::Tensor noise(at::IntArrayRef sizes, const Draws& draws) const;

  CemOptions options_;
};

/// Model-predictive path integral control. The defaults are eb_jepa's.
struct MppiOptions {
  int64_t samples = 200;
  int64_t elites = 20;  ///< that are weighted
  int64_t iterations = 20;
  std::vector<double> std = {2};
  double min_std = 0;
  double temperature = 0.005;  ///< weights exp(temperature * (lowest cost - cost)), normalised
  bool return_elite = true;    ///< one elite drawn by weight; else the weighted mean
  bool refit_std = true;       ///< deviation of the weighted elites; else `std` stays

  void describe(OptionVisitor& visit);
};

class Mppi : public Planner {
 public:
  explicit Mppi(MppiOptions options);
  Plan plan(const CostFunction& costs, const PlanRequest& request, const Draws& draws,
            std::vector<Iteration>* trace = nullptr) const override;

 private:
  MppiOptions options_;
};

/// Adam on the actions through a differentiable cost, from several starts; the best is taken.
struct GradientOptions {
  int64_t starts = 8;
  int64_t iterations = 100;
  double lr = 0.1;
  std::vector<double> std = {1};  ///< of the starts around the warm start, which is one of them
  double noise = 0;               ///< deviation of what is added to the actions after each step
  std::vector<double> low = {};
  std::vector<double> high = {};

  void describe(OptionVisitor& visit);
};

class GradientPlanner : public Planner {
 public:
  explicit GradientPlanner(GradientOptions options);
  Plan plan(const CostFunction& costs, const PlanRequest& request, const Draws& draws,
            std::vector<Iteration>* trace = nullptr) const override;

 private:
  GradientOptions options_;
};

/// The best of `samples` random sequences.
struct RandomShootingOptions {
  int64_t samples = 1024;
  std::vector<double> std = {1};
  std::vector<double> low = {};
  std::vector<double> high = {};

  void describe(OptionVisitor& visit);
};

class RandomShooting : public Planner {
 public:
  explicit RandomShooting(RandomShootingOptions options);
  Plan plan(const CostFunction& costs, const PlanRequest& request, const Draws& draws,
            std::vector<Iteration>* trace = nullptr) const override;

 private:
  RandomShootingOptions options_;
};

/// Cross-entropy method over discrete actions: candidates are one-hot [B, S, H, choices], the plan
/// the likeliest action of each step.
struct CategoricalCemOptions {
  int64_t samples = 128;
  int64_t elites = 16;
  int64_t iterations = 6;
  double momentum = 0.1;  ///< share of the old probabilities that stays
  double floor = 0.01;    ///< least probability of an action

  void describe(OptionVisitor& visit);
};

class CategoricalCem : public Planner {
 public:
  explicit CategoricalCem(CategoricalCemOptions options);
  Plan plan(const CostFunction& costs, const PlanRequest& request, const Draws& draws,
            std::vector<Iteration>* trace = nullptr) const override;

 private:
  CategoricalCemOptions options_;
};

/// A planner by name, with its options.
struct PlannerOptions {
  std::string type = "cem";      ///< cem, mppi, gradient, random, categorical
  std::string variant = "none";  ///< of cem: replaces its options by a published variant's
  CemOptions cem = {};
  MppiOptions mppi = {};
  GradientOptions gradient = {};
  RandomShootingOptions random = {};
  CategoricalCemOptions categorical = {};

  void describe(OptionVisitor& visit);  ///< `type` and `variant`; each planner has its own section
};

/// @throws ConfigError for an unknown type or options that contradict each other
std::unique_ptr<Planner> make_planner(const PlannerOptions& options);

}  // namespace jepa::eval::planning

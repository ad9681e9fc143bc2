#include <eval/probes/protocol.hpp>
#include <eval/worlds/goals_ahead.hpp>
#include <examples/plan_session.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cstdio>
#include <functional>

namespace jepa::examples {

using namespace eval::dynamics;
namespace worlds = eval::worlds;

namespace {

constexpr const char* kControls =
    "random,straight,simulator,simulator_path,inverse,untrained,scripted";
constexpr uint64_t kEpisodeSeed = 20260101;  // with --seed 0; other seeds are other episodes

}  // namespace

std::unique_ptr<worlds::World> PlanSession::world(int64_t batch) const {
  return worlds::open_world(protocol.world, batch, options.gym);
}

EpisodeOptions PlanSession::episodes(int64_t count, const worlds::FactorRanges& ranges) const {
  return {.episodes = count,
          .at_once = options.at_once,
          .steps = protocol.steps,
          .seed = seed + kEpisodeSeed,
          .ranges = ranges,
          .world = [this](int64_t batch) { return world(batch); },
          .longest_step = protocol.longest_step};
}

EpisodeOptions PlanSession::ahead(int64_t count, const worlds::FactorRanges& ranges) const {
  auto all = episodes(count, ranges);
  all.steps = options.ahead_steps;
  all.world = [this](int64_t batch) -> std::unique_ptr<worlds::World> {
    auto inner = world(batch);
    auto script = worlds::make_policy("scripted", {}, *inner);
    return std::make_unique<worlds::GoalsAhead>(std::move(inner), std::move(script), options.ahead);
  };
  return all;
}

std::unique_ptr<Controller> PlanSession::plans() const {
  return model_planner(acting, planner, options.horizon, options.cost, seed);
}

void PlanSession::add(const std::string& name, const std::string& what, Controller& controller,
                      const EpisodeOptions& episodes, bool ever) {
  rows.push_back({name, what, run_episodes(controller, episodes), ever});
  std::printf("%s\n", plan_line(rows.back()).c_str());
  std::fflush(stdout);
}

namespace {

/// A control, and what it is made by.
struct Control {
  std::string name;
  std::string what;
  std::function<std::unique_ptr<Controller>()> make;
};

/// Those that the world and the model have.
std::vector<Control> available_controls(const PlanSession& session,
                                        std::shared_ptr<eval::planning::WorldModel> untrained) {
  const auto& o = session.options;
  const double longest = session.protocol.longest_step;
  const auto policy = [&session](const char* name) {
    return policy_controller(name, {.noise = 0}, *session.world(1));
  };
  const auto simulator = [&session, &o](bool path) {
    return simulator_planner(session.planner, o.horizon, path, o.cost.over_time, session.seed,
                             session.acting.scale);
  };
  std::vector<Control> all;
  if (session.protocol.world == worlds::kTwoRooms) {
    all = {{"random", "a walk whose heading turns", [&] { return random_walk(session.seed); }},
           {"straight", "straight to the goal", [longest] { return straight_line(longest); }},
           {"simulator", "the same planner in the true simulator, squared distance",
            [simulator] { return simulator(false); }},
           {"simulator_path", "the same, length of the way through the door",
            [simulator] { return simulator(true); }}};
  } else {
    all = {{"random", "actions drawn evenly", [policy] { return policy("random"); }}};
  }
  if (session.run != nullptr && !session.run->model.inverse.is_empty()) {
    all.push_back({"inverse", "the model's inverse dynamics, no planner",
                   [&session, longest] { return inverse_policy(session.run->model, longest); }});
  }
  if (session.run != nullptr || session.patches != nullptr) {
    const char* what = session.run != nullptr
                           ? "the same planner, a model before training"
                           : "the same planner and encoder, a predictor before training";
    all.push_back({"untrained", what, [&session, &o, untrained] {
                     auto cost = o.cost;
                     cost.members.clear();
                     const auto& as = session.acting;
                     return model_planner(ActingModel{.model = *untrained,
                                                      .block = as.block,
                                                      .step_width = as.step_width,
                                                      .history = as.history,
                                                      .scale = as.scale},
                                          session.planner, o.horizon, cost, session.seed);
                   }});
  }
  all.push_back({"scripted", "the world's script, which sees the true state",
                 [policy] { return policy("scripted"); }});
  return all;
}

/// Null where there is nothing that training has made.
std::shared_ptr<eval::planning::WorldModel> untrained_model(const PlanSession& session) {
  const uint64_t seed = session.seed + 1;
  if (session.patches != nullptr) return session.patches->model->untrained(seed);
  if (session.run == nullptr) return nullptr;
  const auto& trained = session.run->model;
  auto model = std::make_shared<DynamicsModel>(session.run->shape.model, trained.predictor_shape);
  model->precision = trained.precision;
  model->initialise(seed);
  return model;
}

void run_controls(PlanSession& session, const EpisodeOptions& episodes, const std::string& suffix,
                  bool ever) {
  const auto untrained = untrained_model(session);
  const bool every = session.options.controls == "all";
  const auto names = eval::probes::split_names(every ? "" : session.options.controls);
  for (const auto& control : available_controls(session, untrained)) {
    if (!every && std::find(names.begin(), names.end(), control.name) == names.end()) continue;
    const auto controller = control.make();
    session.add(control.name + suffix, control.what, *controller, episodes, ever);
  }
}

}  // namespace

void check_choices(const PlanSession& session) {
  const auto& o = session.options;
  if (o.map.side == 1) throw ConfigError("option landscape_side: 0, or 2 and more");
  if (o.map.side == 0 && !o.landscape.empty()) {
    throw ConfigError("option landscape_side: 0 draws no picture, but landscape names " +
                      o.landscape);
  }
  if (o.controls == "all") return;
  const auto all = available_controls(session, nullptr);
  const auto known = eval::probes::split_names(kControls);
  for (const auto& name : eval::probes::split_names(o.controls)) {
    const bool there =
        std::any_of(all.begin(), all.end(), [&](const Control& c) { return c.name == name; });
    if (there) continue;
    const bool exists = std::find(known.begin(), known.end(), name) != known.end();
    throw ConfigError("option controls: '" + name + "' is none of " + kControls +
                      (exists ? " that this world and model have" : ""));
  }
}

void run_rows(PlanSession& session, const EpisodeOptions& episodes, const std::string& suffix,
              bool ever) {
  const auto controller = session.plans();
  session.add("model" + suffix, "planned with the model", *controller, episodes, ever);
  run_controls(session, episodes, suffix, ever);
}

void run_unseen(PlanSession& session, const worlds::World& world) {
  const auto& o = session.options;
  if (o.unseen_episodes == 0) return;
  for (const auto& factor : world.info().factors) {
    if (factor.unseen.high <= factor.unseen.low) continue;
    const std::string name = "unseen_" + factor.name;
    const Seen seen = unseen_values_seen(factor, session.protocol.factors);
    if (seen == Seen::yes) {
      std::printf("%-16s left out: the training data had these values\n", name.c_str());
      continue;
    }
    const auto controller = session.plans();
    session.add(name,
                seen == Seen::no ? "the model, values kept out of training"
                                 : "the model, rare values; whether training had them is not known",
                *controller,
                session.episodes(o.unseen_episodes, worlds::unseen_ranges(world, factor.name)));
  }
}

nlohmann::json summary_of(const Program& program, const PlanSession& session) {
  const auto& o = session.options;
  nlohmann::json results = plan_numbers(session.rows.front());
  results.update(plan_settings(o, session.protocol));
  results["precision"] = program.common.precision;
  results["seeds"] = {program.common.seed};
  results["world"] = session.protocol.world;
  if (session.run != nullptr) {
    results["run"] = o.run;
    results["checkpoint"] = session.run->checkpoint;
    if (!o.members.empty()) results["members"] = eval::probes::split_names(o.members);
  } else if (session.patches != nullptr) {
    results["run"] = o.run;
    results["checkpoint"] = session.patches->checkpoint;
  } else {
    results["weights"] = o.weights;
  }
  for (size_t i = 1; i < session.rows.size(); ++i) {
    results["controls"][session.rows[i].name] = plan_numbers(session.rows[i]);
  }
  return results;
}

}  // namespace jepa::examples

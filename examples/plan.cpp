// Plans with a trained world model in the world of its protocol: success rates with intervals
// beside those of controllers that need no model; in two rooms a wall test; films.
#include <eval/dynamics/films.hpp>
#include <eval/dynamics/two_rooms_clips.hpp>
#include <eval/planning/published.hpp>
#include <eval/probes/protocol.hpp>
#include <eval/report/html.hpp>
#include <eval/report/image.hpp>
#include <eval/report/video_writer.hpp>
#include <eval/worlds/goals_ahead.hpp>
#include <examples/plan_options.hpp>
#include <examples/plan_report.hpp>
#include <examples/program.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/json_text.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>

namespace {

using namespace jepa;
using namespace jepa::eval;
using namespace jepa::eval::dynamics;
using examples::PlanOptions;
using examples::PlanRow;

constexpr const char* kControls =
    "random,straight,simulator,simulator_path,inverse,untrained,scripted";
constexpr const char* kRooms = "two_rooms";
constexpr uint64_t kEpisodeSeed = 20260101;  // with --seed 0; other seeds are other episodes

/// What an evaluation has at hand.
struct Session {
  const PlanOptions& options;
  EvaluationProtocol protocol;
  uint64_t seed;
  std::shared_ptr<const planning::Planner> planner;
  ActingModel acting;
  SavedDynamics* run = nullptr;  ///< null: published weights
  std::vector<PlanRow> rows = {};

  std::unique_ptr<worlds::World> world(int64_t batch) const {
    return worlds::open_world(protocol.world, batch, options.gym);
  }
  EpisodeOptions episodes(int64_t count, const worlds::FactorRanges& ranges) const {
    return {.episodes = count,
            .at_once = options.at_once,
            .steps = protocol.steps,
            .seed = seed + kEpisodeSeed,
            .ranges = ranges,
            .world = [this](int64_t batch) { return world(batch); }};
  }
  /// Towards what the script reached.
  EpisodeOptions ahead(int64_t count, const worlds::FactorRanges& ranges) const {
    auto all = episodes(count, ranges);
    all.steps = options.ahead_steps;
    all.world = [this](int64_t batch) -> std::unique_ptr<worlds::World> {
      auto inner = world(batch);
      auto script = worlds::make_policy("scripted", {}, *inner);
      return std::make_unique<worlds::GoalsAhead>(std::move(inner), std::move(script),
                                                  options.ahead);
    };
    return all;
  }
  std::unique_ptr<Controller> plans() const {
    return model_planner(acting, planner, options.horizon, options.cost, seed);
  }
  void add(const std::string& name, const std::string& what, Controller& controller,
           const EpisodeOptions& episodes, bool ever = false) {
    rows.push_back({name, what, run_episodes(controller, episodes), ever});
    std::printf("%s\n", examples::plan_line(rows.back()).c_str());
    std::fflush(stdout);
  }
};

/// A control, and what it is made by.
struct Control {
  std::string name;
  std::string what;
  std::function<std::unique_ptr<Controller>()> make;
};

/// Those that the world and the model have.
std::vector<Control> available_controls(const Session& session,
                                        std::shared_ptr<DynamicsModel> untrained) {
  const auto& o = session.options;
  const double longest = session.protocol.longest_step;
  const auto policy = [&session](const char* name) {
    return policy_controller(name, {.noise = 0}, *session.world(1));
  };
  const auto simulator = [&session, &o](bool path) {
    return simulator_planner(session.planner, o.horizon, path, o.cost.over_time, session.seed);
  };
  std::vector<Control> all;
  if (session.protocol.world == kRooms) {
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
  if (session.run != nullptr) {
    all.push_back(
        {"untrained", "the same planner, a model before training", [&session, &o, untrained] {
           return model_planner(*untrained, session.planner, o.horizon, o.cost, session.seed);
         }});
  }
  all.push_back({"scripted", "the world's script, which sees the true state",
                 [policy] { return policy("scripted"); }});
  return all;
}

void run_controls(Session& session, const EpisodeOptions& episodes, const std::string& suffix,
                  bool ever) {
  std::shared_ptr<DynamicsModel> untrained;
  if (session.run != nullptr) {
    untrained = std::make_shared<DynamicsModel>(session.run->shape.model,
                                                session.run->model.predictor_shape);
    untrained->precision = session.run->model.precision;
    untrained->initialise(session.seed + 1);
  }
  const auto all = available_controls(session, untrained);
  const bool every = session.options.controls == "all";
  const auto names = probes::split_names(every ? "" : session.options.controls);
  const auto known = probes::split_names(kControls);
  for (const auto& name : names) {
    const bool there =
        std::any_of(all.begin(), all.end(), [&](const Control& c) { return c.name == name; });
    if (there) continue;
    const bool exists = std::find(known.begin(), known.end(), name) != known.end();
    throw ConfigError("option controls: '" + name + "' is none of " + kControls +
                      (exists ? " that this world and model have" : ""));
  }
  for (const auto& control : all) {
    if (!every && std::find(names.begin(), names.end(), control.name) == names.end()) continue;
    const auto controller = control.make();
    session.add(control.name + suffix, control.what, *controller, episodes, ever);
  }
}

HeldOutClips probe_clips(const PlanOptions& options, const SavedDynamics& run, uint64_t seed) {
  const auto source = std::make_shared<TwoRoomsClips>(
      TwoRoomsClipOptions{.frames = 9, .block = run.shape.model.block});
  LoaderOptions loader{.batch = options.probe_clips, .threads = 0, .shuffle = false};
  return held_out(ClipLoader(source, loader, stream_seed(seed, "probe", 0)).next());
}

void make_films(Session& session, const StateProbe& probe, EpisodeOptions episodes,
                const std::string& folder) {
  const auto& o = session.options;
  if (o.films == 0) return;
  EpisodeFilm film(probe);
  const auto controller = session.plans();
  episodes.episodes = episodes.at_once = o.films;
  run_episodes(*controller, episodes,
               [&](const worlds::World& world, int64_t step, Controller& by) {
                 film.watch(world, step, by);
               });
  for (int64_t i = 0; i < o.films; ++i) {
    const std::string name = folder + "/episode_" + std::to_string(i) +
                             (film.succeeded(i) ? "_success" : "_failure") + ".mp4";
    report::write_video(name, film.frames(i), 20);
    std::printf("film               %s\n", name.c_str());
  }
}

/// Costs of plans from an episode's start, the planner's choice marked. @returns its markup
std::string draw_map(Session& session, const EpisodeOptions& episodes, nlohmann::json& results) {
  const auto& o = session.options;
  if (o.map.side == 0) return "";
  const torch::NoGradGuard no_grad;
  const auto world = episodes.world(1);
  if (auto* ahead = dynamic_cast<worlds::GoalsAhead*>(world.get())) {
    ahead->begin(episodes.seed, episodes.ranges, 0);
  } else {
    world->reset(episodes.seed, episodes.ranges);
  }
  auto& model = session.acting.model;
  const auto costs = planning::goal_costs(model, model.encode(world->pixels()).unsqueeze(1), {},
                                          model.encode(world->goal_pixels()), o.cost);
  planning::RecedingHorizon horizon(session.planner, o.horizon, session.acting.step_width,
                                    planning::Draws::from(seeded_generator(session.seed)));
  horizon.begin(1);
  horizon.act(costs, episodes.steps);
  const auto& plan = horizon.last_plan().actions;
  auto map = o.map;
  const double longest = session.protocol.longest_step;
  map.high = std::max(longest > 0 ? longest : 1.0, plan.abs().max().item<double>());
  map.low = -map.high;
  const auto found = planning::landscape(
      [&](const torch::Tensor& c) { return costs(horizon.expand(c)); }, plan, map);
  const auto picture = planning::draw_landscape(found, map);
  if (!o.landscape.empty()) report::write_png(o.landscape, picture);
  results["landscape"] = {{"best", found.best},     {"lowest", found.lowest},
                          {"chosen", found.chosen}, {"chosen_cost", found.chosen_cost},
                          {"low", map.low},         {"high", map.high}};
  char text[480];
  std::snprintf(text, sizeof text,
                "Costs of one action held through the plan, from the first episode's start; "
                "across and down its numbers from %.3g to %.3g. Cross: cheapest; ring: first "
                "action of the planner's plan, which costs %.3g (cheapest held action %.3g).",
                map.low, map.high, found.chosen_cost, found.lowest);
  return report::figure(report::image(report::encode_png(picture), "energy landscape", 328), text);
}

/// Whether the model walks through walls; fits `probe`.
WallTest test_walls(Session& session, const worlds::World& world, const HeldOutClips& clips,
                    StateProbe& probe, nlohmann::json& results) {
  auto& model = session.run->model;
  const StepMetrics measured = measure(model, clips, world.info().state, &probe);
  const WallTest wall = wall_test(model, probe, session.options.wall_cases, session.seed);
  std::printf("%s\n", examples::wall_line(wall).c_str());
  for (const auto& [name, value] : measured) results[name] = value;
  for (const auto& [name, value] : named(wall)) results[name] = value;
  return wall;
}

/// The rows of the model and its controls on one kind of episodes.
void run_rows(Session& session, const EpisodeOptions& episodes, const std::string& suffix,
              bool ever) {
  const auto controller = session.plans();
  session.add("model" + suffix, "planned with the model", *controller, episodes, ever);
  run_controls(session, episodes, suffix, ever);
}

void evaluate(examples::Program& program, Session& session, const std::string& folder,
              const std::string& title) {
  const auto& o = session.options;
  const auto world = session.world(1);
  const bool goals = world->info().has_goal;
  const bool rooms = session.protocol.world == kRooms;
  worlds::FactorRanges ranges;
  if (o.factors == "training") ranges = worlds::training_ranges(*world);
  const auto first =
      goals ? session.episodes(o.episodes, ranges)
            : session.ahead(o.ahead_episodes > 0 ? o.ahead_episodes : o.episodes, ranges);
  std::printf("%s\n", examples::plan_head().c_str());
  run_rows(session, first, "", !goals);
  for (const auto& factor : world->info().factors) {
    if (!goals || o.unseen_episodes == 0 || factor.unseen.high <= factor.unseen.low) continue;
    const auto controller = session.plans();
    session.add("unseen_" + factor.name, "the model, values kept out of training", *controller,
                session.episodes(o.unseen_episodes, worlds::unseen_ranges(*world, factor.name)));
  }
  if (goals && o.ahead_episodes > 0) {
    run_rows(session, session.ahead(o.ahead_episodes, ranges), "_ahead", true);
  }

  auto& results = program.results;
  results = examples::plan_numbers(session.rows.front());
  StateProbe probe;
  std::optional<WallTest> wall;
  std::string rollouts;
  if (rooms && session.run != nullptr) {
    const auto clips = probe_clips(o, *session.run, session.seed);
    wall = test_walls(session, *world, clips, probe, results);
    const auto found = roll_out(session.run->model, clips, probe);
    results["rollout_error"] = found.error;
    rollouts = examples::draw_rollouts(clips, found, o.films, folder);
  }
  make_films(session, probe, first, folder);
  const std::string map = draw_map(session, first, results);

  results["seeds"] = {program.common.seed};
  results["world"] = session.protocol.world;
  if (session.run != nullptr) {
    results["run"] = o.run;
    results["checkpoint"] = session.run->checkpoint;
  } else {
    results["weights"] = o.weights;
  }
  for (size_t i = 1; i < session.rows.size(); ++i) {
    results["controls"][session.rows[i].name] = examples::plan_numbers(session.rows[i]);
  }
  write_file_atomic(folder + "/summary.json", json_text(results, 2) + "\n");
  examples::write_plan_page(title, session.run != nullptr ? o.run : "", folder,
                            examples::plan_markup(session.rows, "px", wall) + rollouts + map);
  std::printf("results            %s\n", folder.c_str());
}

void run_saved(examples::Program& program, PlanOptions& options, const OptionValues& given) {
  SavedDynamics saved = open_dynamics(options.run);
  require_same(saved, given);
  const auto& protocol = saved.shape.protocol;
  if (protocol.history != 1) {
    throw CheckpointError(saved.checkpoint + ": its protocol has a history of " +
                          std::to_string(protocol.history) + ", its model sees one frame");
  }
  const auto& shape = saved.shape.model;
  const auto world = worlds::open_world(protocol.world, 1, options.gym);
  const auto& info = world->info();
  const std::vector<int64_t> frame = {shape.encoder.channels, shape.encoder.height,
                                      shape.encoder.width};
  if (info.frame != frame || info.action_width != shape.action_width || info.action_choices > 0) {
    throw CheckpointError(c10::str(saved.checkpoint, ": takes frames ", frame, " and actions of ",
                                   shape.action_width, " numbers; ", info.name, " has ", info.frame,
                                   " and ", info.action_width));
  }
  require_block(saved.checkpoint, shape.block, options, given);
  saved.model.precision = program.precision;
  const ActingModel acting{.model = saved.model,
                           .block = shape.block,
                           .step_width = shape.action_width,
                           .action_mean = shape.action_mean,
                           .action_std = shape.action_std};
  bound_actions(options, given, info, protocol, acting);
  Session session{options,
                  protocol,
                  static_cast<uint64_t>(program.common.seed),
                  planning::make_planner(options.planner),
                  acting,
                  &saved};
  const std::string folder = options.out.empty() ? options.run + "/plan" : options.out;
  std::filesystem::create_directories(folder);
  evaluate(program, session, folder, "Planning in " + protocol.world);
}

void run_published(examples::Program& program, PlanOptions& options, const OptionValues& given) {
  if (given.contains("run")) throw ConfigError("options run and weights: one of them");
  const auto& protocol = options.asked.protocol;
  const auto world = worlds::open_world(protocol.world, 1, options.gym);
  const auto& info = world->info();
  if (info.action_choices > 0) {
    throw ConfigError(info.name + ": its actions are choices; published models take numbers");
  }
  const auto published =
      planning::open_published(options.weights, {info.name, info.frame, info.action_width});
  if (protocol.history > published.longest_history) {
    throw CheckpointError(
        options.weights + ": sees " + std::to_string(published.longest_history) +
        " frames at most, asked for protocol.history = " + std::to_string(protocol.history));
  }
  require_block(options.weights, published.block, options, given);
  auto& horizon = options.horizon;
  if (!given.contains("horizon.horizon")) horizon.horizon = published.horizon.horizon;
  if (!given.contains("horizon.hold")) horizon.hold = published.horizon.hold;
  if (!given.contains("horizon.execute")) {
    horizon.execute = std::min(published.horizon.execute, horizon.horizon);
  }
  if (!given.contains("horizon.warm_start")) horizon.warm_start = published.horizon.warm_start;
  const std::string over_time = options.cost.over_time;
  options.cost = published.cost;
  if (given.contains("cost.over_time")) options.cost.over_time = over_time;
  const bool own = std::any_of(given.begin(), given.end(), [](const auto& one) {
    return one.first.starts_with("cem.") || one.first.starts_with("planner.");
  });
  if (!own) options.planner.variant = published.variant;
  const ActingModel acting{.model = *published.model,
                           .block = published.block,
                           .step_width = info.action_width,
                           .history = protocol.history,
                           .action_mean = options.action_mean,
                           .action_std = options.action_std};
  if (own) bound_actions(options, given, info, protocol, acting);
  Session session{options, protocol, static_cast<uint64_t>(program.common.seed),
                  planning::make_planner(options.planner), acting};
  const std::string folder = options.out.empty() ? "runs/plan" : options.out;
  std::filesystem::create_directories(folder);
  std::printf("weights            %s: %s, blocks of %lld steps\n", options.weights.c_str(),
              published.kind.c_str(), static_cast<long long>(published.block));
  evaluate(program, session, folder, "Planning in " + protocol.world);
}

}  // namespace

int main(int argc, char** argv) {
  PlanOptions options;
  OptionValues given;
  return examples::program_main(
      argc, argv,
      {.name = "plan",
       .summary = "plans with a run of train_dynamics or published weights, beside controls",
       .bfloat16 = true,
       .sections =
           [&](const OptionValues& values) {
             given = values;
             return options.sections();
           },
       .run =
           [&](examples::Program& program) {
             options.weights.empty() ? run_saved(program, options, given)
                                     : run_published(program, options, given);
           }});
}

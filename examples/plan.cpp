// Plans with a trained world model in the world of its protocol: success rates with intervals
// beside those of controllers that need no model; in two rooms a wall test; films.
#include <eval/dynamics/films.hpp>
#include <eval/dynamics/two_rooms_clips.hpp>
#include <eval/planning/published.hpp>
#include <eval/report/html.hpp>
#include <eval/report/image.hpp>
#include <eval/report/video_writer.hpp>
#include <eval/worlds/goals_ahead.hpp>
#include <examples/plan_members.hpp>
#include <examples/plan_session.hpp>
#include <examples/training_run.hpp>
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
#include <optional>

namespace {

using namespace jepa;
using namespace jepa::eval;
using namespace jepa::eval::dynamics;
using examples::PlanOptions;
using Session = examples::PlanSession;

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
  StateProbe first = probe;  // of an ensemble's first member
  if (probe.read && !o.cost.members.empty()) {
    first.read = [read = probe.read, width = o.cost.members.front()](const torch::Tensor& latents) {
      return read(latents.narrow(-1, 0, width));
    };
  }
  EpisodeFilm film(first);
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
    session.films.push_back(name);
    std::printf("film               %s\n", name.c_str());
  }
}

/// Costs of plans from an episode's start, the planner's choice marked. @returns its markup
std::string draw_map(Session& session, const EpisodeOptions& episodes, nlohmann::json& results) {
  const auto& o = session.options;
  if (o.map.side == 0) return "";
  const auto& acting = session.acting;
  if (acting.step_width * (o.horizon.hold ? 1 : acting.block) < 2) {
    std::printf("landscape          left out: an action is one number\n");
    return "";
  }
  const torch::NoGradGuard no_grad;
  const auto world = episodes.world(1);
  if (auto* ahead = dynamic_cast<worlds::GoalsAhead*>(world.get())) {
    ahead->begin(episodes.seed, episodes.ranges, 0);
  } else {
    world->reset(episodes.seed, episodes.ranges);
  }
  auto& model = acting.model;
  const auto cut = [&](const torch::Tensor& x) { return acting.scale.cut(x, acting.step_width); };
  const auto costs = [cut,
                      all = planning::goal_costs(model, model.encode(world->pixels()).unsqueeze(1),
                                                 {}, model.encode(world->goal_pixels()), o.cost)](
                         const torch::Tensor& candidates) { return all(cut(candidates)); };
  planning::RecedingHorizon horizon(session.planner, o.horizon, acting.step_width,
                                    planning::Draws::from(seeded_generator(session.seed)));
  horizon.begin(1);
  horizon.act(costs, episodes.steps);
  const auto plan = cut(horizon.last_plan().actions);
  auto map = o.map;
  const double longest = examples::planner_length(acting.scale);
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

/// Whether the model walks through walls, where its blocks can be asked; fits `probe`.
std::optional<WallTest> test_walls(Session& session, const worlds::World& world,
                                   const HeldOutClips& clips, StateProbe& probe,
                                   nlohmann::json& results) {
  auto& model = session.run->model;
  const StepMetrics measured = measure(model, clips, world.info().state, &probe);
  for (const auto& [name, value] : measured) results[name] = value;
  if (!wall_test_takes(model.options.block)) {
    std::printf("wall test          left out: blocks of %lld steps do not divide its 10\n",
                static_cast<long long>(model.options.block));
    return {};
  }
  const WallTest wall = wall_test(model, probe, session.options.wall_cases, session.seed);
  std::printf("%s\n", examples::wall_line(wall).c_str());
  for (const auto& [name, value] : named(wall)) results[name] = value;
  return wall;
}

void evaluate(examples::Program& program, Session& session, const std::string& folder,
              const std::string& title) {
  check_choices(session);
  examples::make_folder(folder);
  const auto& o = session.options;
  const auto world = session.world(1);
  const bool goals = world->info().has_goal;
  worlds::FactorRanges ranges;
  if (o.factors == "training") ranges = worlds::training_ranges(*world);
  const auto first =
      goals ? session.episodes(o.episodes, ranges)
            : session.ahead(o.ahead_episodes > 0 ? o.ahead_episodes : o.episodes, ranges);
  std::printf("%s\n", examples::plan_head().c_str());
  run_rows(session, first, "", !goals);
  if (goals) run_unseen(session, *world);
  if (goals && o.ahead_episodes > 0) {
    run_rows(session, session.ahead(o.ahead_episodes, ranges), "_ahead", true);
  }

  auto& results = program.results;
  results = summary_of(program, session);
  const auto write_summary = [&] {
    write_file_atomic(folder + "/summary.json", json_text(results, 2) + "\n");
  };
  write_file_atomic(folder + "/config.ini", dump_ini(program.sections));
  write_summary();  // the rows are kept, whatever fails below
  StateProbe probe;
  std::optional<WallTest> wall;
  std::string rollouts;
  if (session.protocol.world == worlds::kTwoRooms && session.run != nullptr) {
    const auto clips = probe_clips(o, *session.run, session.seed);
    wall = test_walls(session, *world, clips, probe, results);
    const auto found = roll_out(session.run->model, clips, probe);
    results["rollout_error"] = found.error;
    rollouts = examples::draw_rollouts(clips, found, o.films, folder, session.films);
  }
  make_films(session, probe, first, folder);
  const std::string map = draw_map(session, first, results);
  write_summary();
  auto settings = examples::plan_settings(o, session.protocol);
  settings["precision"] = results.at("precision");
  examples::write_plan_page(title, o.run, folder,
                            examples::plan_markup(session.rows, "px", wall) +
                                examples::settings_markup(settings) + rollouts + map,
                            session.films);
  std::printf("results            %s\n", folder.c_str());
}

/// @throws CheckpointError where the world's frames or actions are not the model's
void require_world(const std::string& checkpoint, const ModelOptions& shape,
                   const worlds::WorldInfo& info) {
  const std::vector<int64_t> frame = {shape.encoder.channels, shape.encoder.height,
                                      shape.encoder.width};
  if (info.frame == frame && info.action_width == shape.action_width && info.action_choices == 0) {
    return;
  }
  if (info.action_choices > 0) {
    throw CheckpointError(checkpoint + ": takes actions that are numbers, those of " + info.name +
                          " are choices");
  }
  throw CheckpointError(c10::str(checkpoint, ": takes frames ", frame, " and actions of ",
                                 shape.action_width, " numbers; ", info.name, " has ", info.frame,
                                 " and ", info.action_width));
}

void run_patches(examples::Program& program, PlanOptions& options, const OptionValues& given) {
  const auto weights = given.find("patches.weights");
  const SavedPatchDynamics saved =
      open_patch_dynamics(options.run, weights == given.end() ? "" : weights->second);
  require_same(saved.shape, saved.checkpoint, given);
  if (!options.members.empty()) {
    throw ConfigError("option members: " + options.run +
                      " is a run over patches, which plans alone");
  }
  options.asked = saved.shape;
  const auto& protocol = saved.shape.protocol;
  const auto& shape = saved.shape.model;
  if (saved.shape.patches.states) {
    throw CheckpointError(saved.checkpoint +
                          ": its predictor takes states (patches.states), which no planner here "
                          "foresees");
  }
  take_environment(saved.checkpoint, saved.shape, options, given);
  const auto world = worlds::open_world(protocol.world, 1, options.gym);
  require_world(saved.checkpoint, shape, world->info());
  require_block(saved.checkpoint, shape.block, options, given);
  saved.model->precision = program.precision;
  saved.model->to(program.device);
  const ActingModel acting{.model = *saved.model,
                           .block = shape.block,
                           .step_width = shape.action_width,
                           .history = protocol.history,
                           .scale = {shape.action_mean, shape.action_std, protocol.longest_step}};
  take_variant(options, given);
  bound_actions(options, given, world->info(), acting, /*world_bounds=*/true);
  Session session{options, protocol, static_cast<uint64_t>(program.common.seed),
                  planning::make_planner(options.planner), acting};
  session.patches = &saved;
  const std::string folder = options.out.empty() ? options.run + "/plan" : options.out;
  std::printf("frozen encoder     %s\n", saved.model->summary.c_str());
  evaluate(program, session, folder, "Planning in " + protocol.world);
}

void run_saved(examples::Program& program, PlanOptions& options, const OptionValues& given) {
  SavedDynamics saved = open_dynamics(options.run);
  require_same(saved.shape, saved.checkpoint, given);
  options.asked = saved.shape;
  const auto& protocol = saved.shape.protocol;
  const auto& shape = saved.shape.model;
  take_environment(saved.checkpoint, saved.shape, options, given);
  const auto world = worlds::open_world(protocol.world, 1, options.gym);
  const auto& info = world->info();
  require_world(saved.checkpoint, shape, info);
  require_block(saved.checkpoint, shape.block, options, given);
  if (protocol.history > saved.model.history()) {
    throw CheckpointError(
        c10::str(saved.checkpoint, ": its protocol has a history of ", protocol.history,
                 ", its predictor (", saved.model.predictor_shape.kind, ") sees ",
                 saved.model.history(), saved.model.history() == 1 ? " frame" : " frames"));
  }
  saved.model.precision = program.precision;
  const auto members = examples::open_members(saved, options.members, program.precision);
  planning::WorldModel* model = &saved.model;
  if (members.ensemble != nullptr) {
    model = members.ensemble.get();
    options.cost.members = members.ensemble->widths();
  } else if (options.cost.disagreement != 0) {
    throw ConfigError("option cost.disagreement: needs members");
  }
  const ActingModel acting{.model = *model,
                           .block = shape.block,
                           .step_width = shape.action_width,
                           .history = protocol.history,
                           .scale = {shape.action_mean, shape.action_std, protocol.longest_step}};
  take_variant(options, given);
  bound_actions(options, given, info, acting, /*world_bounds=*/true);
  Session session{options,
                  protocol,
                  static_cast<uint64_t>(program.common.seed),
                  planning::make_planner(options.planner),
                  acting,
                  &saved};
  const std::string folder = options.out.empty() ? options.run + "/plan" : options.out;
  evaluate(program, session, folder, "Planning in " + protocol.world);
}

void run_published(examples::Program& program, PlanOptions& options, const OptionValues& given) {
  if (const auto run = given.find("run"); run != given.end() && !run->second.empty()) {
    throw ConfigError("options run and weights: one of them");
  }
  if (!options.members.empty()) throw ConfigError("option members: runs, which weights are not");
  if (program.precision != torch::kFloat32) {
    std::printf("precision          float32: published weights plan in it\n");
    program.precision = torch::kFloat32;
  }
  program.common.precision = "float32";
  options.run.clear();
  auto& protocol = options.asked.protocol;
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
  if (!given.contains("protocol.longest_step")) protocol.longest_step = published.longest_step;
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
  const bool own = std::any_of(given.begin(), given.end(),
                               [](const auto& one) { return one.first.starts_with("planner."); });
  if (!own) options.planner.variant = published.variant;  // what is given of cem goes on top
  take_variant(options, given);
  const ActingModel acting{
      .model = *published.model,
      .block = published.block,
      .step_width = info.action_width,
      .history = protocol.history,
      .scale = {options.action_mean, options.action_std, protocol.longest_step}};
  bound_actions(options, given, info, acting, /*world_bounds=*/own);
  Session session{options, protocol, static_cast<uint64_t>(program.common.seed),
                  planning::make_planner(options.planner), acting};
  const std::string folder = options.out.empty() ? "runs/plan" : options.out;
  std::printf("weights            %s: %s, blocks of %lld steps\n", options.weights.c_str(),
              published.kind.c_str(), static_cast<long long>(published.block));
  evaluate(program, session, folder, "Planning in " + protocol.world);
}

/// A run plans in the precision that it was trained in, unless another is asked for.
void take_precision(OptionValues& given) {
  if (given.contains("precision") || given.contains("weights")) return;
  const auto run = given.find("run");
  const std::string folder = run == given.end() ? PlanOptions().run : run->second;
  if (!std::filesystem::exists(folder + "/config.ini")) return;
  const auto kept = read_ini(folder + "/config.ini");
  const auto precision = kept.find("precision");
  if (precision != kept.end()) given["precision"] = precision->second;
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
       .complete = take_precision,
       .sections =
           [&](const OptionValues& values) {
             given = values;
             return options.sections();
           },
       .run =
           [&](examples::Program& program) {
             if (!options.weights.empty()) {
               run_published(program, options, given);
             } else if (is_patch_run(options.run)) {
               run_patches(program, options, given);
             } else {
               run_saved(program, options, given);
             }
           }});
}

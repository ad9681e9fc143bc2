// Plans with a trained world model in two rooms: success rates with intervals beside those of
// controllers that need no model, whether the model walks through walls, and films.
#include <eval/dynamics/films.hpp>
#include <eval/dynamics/protocol.hpp>
#include <eval/dynamics/two_rooms_clips.hpp>
#include <eval/probes/protocol.hpp>
#include <eval/report/html.hpp>
#include <eval/report/run_report.hpp>
#include <eval/report/video_writer.hpp>
#include <examples/program.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

namespace {

using namespace jepa;
using namespace jepa::eval;
using namespace jepa::eval::dynamics;

constexpr const char* kControls = "random,straight,simulator,simulator_path,inverse,untrained";
constexpr uint64_t kEpisodeSeed = 20260101;  // with --seed 0; other seeds are other episodes

/// Everything that decides an evaluation.
struct PlanOptions {
  std::string run = "runs/two_rooms";
  std::string out;
  int64_t episodes = 200;
  int64_t unseen_episodes = 100;
  int64_t at_once = 50;
  int64_t films = 3;
  std::string controls = kControls;
  int64_t probe_clips = 512;
  int64_t wall_cases = 512;
  planning::PlannerOptions planner;
  planning::RecedingHorizonOptions horizon;
  planning::GoalCost cost{.over_time = "min"};
  RunShape asked;  ///< what is asked for beside the run's own

  PlanOptions() {
    auto& cem = planner.cem;
    cem.samples = 96;
    cem.elites = 12;
    cem.iterations = 4;
    cem.correlation = 0.7;
    cem.fresh_share = 0.5;
  }
  std::vector<OptionSection> sections();
};

std::vector<OptionSection> PlanOptions::sections() {
  std::vector<OptionSection> sections = {
      {"", "",
       [this](OptionVisitor& visit) {
         visit("run", run, {.help = "run of train_dynamics, or one of its checkpoints"});
         visit("out", out, {.help = "folder of the results; empty: RUN/plan"});
         visit("episodes", episodes, {.help = "on walls and doors as in training", .min = 1});
         visit("unseen_episodes", unseen_episodes,
               {.help = "on walls, and on doors, kept out of training", .min = 0});
         visit("at_once", at_once, {.help = "episodes side by side", .min = 1});
         visit("films", films, {.help = "episodes shown", .min = 0});
         visit("controls", controls,
               {.help = "what runs beside the model, a list; empty: nothing"});
         visit("probe_clips", probe_clips,
               {.help = "that the position probe is fitted on", .min = 8});
         visit("wall_cases", wall_cases, {.help = "pushes at the wall of each kind", .min = 1});
       }},
      {"planner", "", [this](OptionVisitor& visit) { planner.describe(visit); }},
      {"cem", "", [this](OptionVisitor& visit) { planner.cem.describe(visit); }},
      {"mppi", "", [this](OptionVisitor& visit) { planner.mppi.describe(visit); }},
      {"gradient", "", [this](OptionVisitor& visit) { planner.gradient.describe(visit); }},
      {"shooting", "", [this](OptionVisitor& visit) { planner.random.describe(visit); }},
      {"horizon", "", [this](OptionVisitor& visit) { horizon.describe(visit); }},
      {"cost", "distance to the goal's latent",
       [this](OptionVisitor& visit) {
         visit("over_time", cost.over_time,
               {.help = "of the distances along the horizon", .choices = {"sum", "last", "min"}});
       }}};
  for (auto& section : asked.sections()) sections.push_back(std::move(section));
  return sections;
}

/// A line of the result.
struct Row {
  std::string name;
  std::string what;
  EpisodeResult result;
};

/// What an evaluation has at hand.
struct Session {
  const PlanOptions& options;
  const SavedDynamics& run;
  uint64_t seed;
  std::shared_ptr<const planning::Planner> planner;
  DynamicsModel& model;
  std::vector<Row> rows;

  EpisodeOptions episodes(int64_t count, const worlds::FactorRanges& ranges) const {
    return {.episodes = count,
            .at_once = options.at_once,
            .steps = run.shape.protocol.steps,
            .seed = seed + kEpisodeSeed,
            .ranges = ranges};
  }
  void add(const std::string& name, const std::string& what, Controller& controller,
           const EpisodeOptions& episodes) {
    rows.push_back({name, what, run_episodes(controller, episodes)});
    const auto& r = rows.back().result;
    const Rate rate = r.rate();
    std::printf("%-16s %5.1f [%5.1f, %5.1f]  %5.1f  %5.1f  %4lld  %8.4f\n", name.c_str(),
                100 * rate.rate, 100 * rate.low, 100 * rate.high,
                100 * wilson(r.ever, r.episodes).rate, r.distance,
                static_cast<long long>(r.episodes), r.seconds_per_decision);
    std::fflush(stdout);
  }
};

std::set<std::string> wanted_controls(const std::string& list) {
  const auto all = probes::split_names(kControls), names = probes::split_names(list);
  for (const auto& name : names) {
    if (std::find(all.begin(), all.end(), name) == all.end()) {
      throw ConfigError("option controls: '" + name + "' is none of " + kControls);
    }
  }
  return {names.begin(), names.end()};
}

void run_controls(Session& session, const worlds::FactorRanges& ranges) {
  const auto& o = session.options;
  const auto names = wanted_controls(o.controls);
  const auto episodes = session.episodes(o.episodes, ranges);
  const double longest = session.run.shape.protocol.longest_step;
  const auto add = [&](const std::string& name, const std::string& what, const auto& make) {
    if (!names.contains(name)) return;
    const auto controller = make();
    session.add(name, what, *controller, episodes);
  };
  add("random", "a walk whose heading turns", [&] { return random_walk(session.seed); });
  add("straight", "straight to the goal", [&] { return straight_line(longest); });
  add("simulator", "the same planner in the true simulator, squared distance", [&] {
    return simulator_planner(session.planner, o.horizon, false, o.cost.over_time, session.seed);
  });
  add("simulator_path", "the same, length of the way through the door", [&] {
    return simulator_planner(session.planner, o.horizon, true, o.cost.over_time, session.seed);
  });
  add("inverse", "the model's inverse dynamics, no planner",
      [&] { return inverse_policy(session.model, longest); });
  if (!names.contains("untrained")) return;
  DynamicsModel untrained(session.run.shape.model, session.model.predictor_shape);
  untrained.precision = session.model.precision;
  untrained.initialise(session.seed + 1);
  add("untrained", "the same planner, a model before training", [&] {
    return model_planner(untrained, session.planner, o.horizon, o.cost, session.seed);
  });
}

HeldOutClips probe_clips(const PlanOptions& options, const SavedDynamics& run, uint64_t seed) {
  const auto source = std::make_shared<TwoRoomsClips>(
      TwoRoomsClipOptions{.frames = 9, .block = run.shape.model.block});
  LoaderOptions loader{.batch = options.probe_clips, .threads = 0, .shuffle = false};
  return held_out(ClipLoader(source, loader, stream_seed(seed, "probe", 0)).next());
}

nlohmann::json numbers_of(const Row& row) {
  const auto& r = row.result;
  const Rate rate = r.rate(), ever = wilson(r.ever, r.episodes);
  return {{"what", row.what},
          {"success_rate", rate.rate},
          {"low", rate.low},
          {"high", rate.high},
          {"ever", ever.rate},
          {"episodes", r.episodes},
          {"dropped", r.dropped},
          {"distance", r.distance},
          {"seconds", r.seconds},
          {"seconds_per_decision", r.seconds_per_decision}};
}

std::string markup(const std::vector<Row>& rows, const WallTest& wall) {
  namespace html = eval::report;
  const auto percent = [](double share) { return html::short_number(100 * share); };
  html::Table table{.head = {"controller", "success at the last step [%]", "ever [%]",
                             "distance at the end [px]", "episodes", "s a decision"}};
  for (const auto& row : rows) {
    const auto& r = row.result;
    const Rate rate = r.rate();
    table.rows.push_back({{.text = row.name, .note = row.what},
                          {.text = percent(rate.rate),
                           .note = percent(rate.low) + " to " + percent(rate.high)},
                          {.text = percent(wilson(r.ever, r.episodes).rate)},
                          {.text = html::short_number(r.distance)},
                          {.text = std::to_string(r.episodes)},
                          {.text = html::short_number(r.seconds_per_decision)}});
  }
  html::Table walls{.head = {"pushed at the wall", "imagined beyond it [%]", "truly beyond it [%]"},
                    .rows = {{{.text = "door more than 10 px away"},
                              {.text = percent(wall.far)},
                              {.text = percent(wall.true_far)}},
                             {{.text = "door 6 to 10 px away"},
                              {.text = percent(wall.near)},
                              {.text = percent(wall.true_near)}},
                             {{.text = "through the door"},
                              {.text = percent(wall.door)},
                              {.text = percent(wall.true_door)}}}};
  const std::string depth = "Pushed for 20 steps far from the door, the dot is imagined " +
                            html::short_number(wall.depth) + " px beyond the wall's middle; " +
                            "truly " + html::short_number(wall.true_depth) + " px.";
  return html::heading(2, "Planning", "planning") + html::table(table) +
         html::paragraph("A model that walks through walls scores what the straight line scores:") +
         html::table(walls) + html::paragraph(depth);
}

void make_films(Session& session, const StateProbe& probe, const worlds::FactorRanges& ranges,
                const std::string& folder) {
  const auto& o = session.options;
  if (o.films == 0) return;
  EpisodeFilm film(probe);
  const auto controller =
      model_planner(session.model, session.planner, o.horizon, o.cost, session.seed);
  auto episodes = session.episodes(o.films, ranges);
  episodes.at_once = o.films;
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

void write_page(const PlanOptions& options, const std::string& folder, const std::string& section) {
  std::vector<report::RunReport> runs;
  if (std::filesystem::exists(options.run + "/metrics.jsonl")) {
    runs.push_back({report::read_run(options.run), {}});
  }
  std::string films;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".mp4") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    films += report::figure(report::video(bytes, entry.path().stem().string(), 528),
                            entry.path().stem().string() + ": the world, and what was imagined");
  }
  report::write_report(folder + "/report.html", "Planning in two rooms", runs, section + films);
}

void run(examples::Program& program, PlanOptions& options, const OptionValues& given) {
  SavedDynamics saved = open_dynamics(options.run);
  require_same(saved, given);
  const auto& protocol = saved.shape.protocol;
  if (protocol.world != "two_rooms" || protocol.history != 1) {
    throw CheckpointError(saved.checkpoint + ": its protocol is world " + protocol.world +
                          ", history " + std::to_string(protocol.history) +
                          "; this program plans in two_rooms from one frame");
  }
  const int64_t block = saved.shape.model.block;
  if (given.contains("horizon.block") && options.horizon.block != block) {
    throw CheckpointError(saved.checkpoint + ": trained with blocks of " + std::to_string(block) +
                          " steps, asked for horizon.block = " +
                          std::to_string(options.horizon.block));
  }
  options.horizon.block = block;
  if (!given.contains("cem.max_norm")) options.planner.cem.max_norm = protocol.longest_step;
  saved.model.precision = program.precision;
  Session session{options, saved, static_cast<uint64_t>(program.common.seed),
                  planning::make_planner(options.planner), saved.model, {}};
  const std::string folder = options.out.empty() ? options.run + "/plan" : options.out;
  std::filesystem::create_directories(folder);
  const worlds::TwoRooms world(1);
  const auto ranges = worlds::training_ranges(world);

  std::printf("%-16s %21s  %5s  %5s  %4s  %8s\n", "controller", "success % at the end", "ever",
              "px", "n", "s/plan");
  const auto model_on = [&](const std::string& name, const std::string& what, int64_t count,
                            const worlds::FactorRanges& where) {
    if (count == 0) return;
    const auto controller =
        model_planner(saved.model, session.planner, options.horizon, options.cost, session.seed);
    session.add(name, what, *controller, session.episodes(count, where));
  };
  model_on("model", "planned with the model", options.episodes, ranges);
  run_controls(session, ranges);
  model_on("unseen_wall", "the model, walls kept out of training", options.unseen_episodes,
           worlds::unseen_ranges(world, "wall"));
  model_on("unseen_door", "the model, doors kept out of training", options.unseen_episodes,
           worlds::unseen_ranges(world, "door"));

  StateProbe probe;
  const StepMetrics measured = measure(saved.model, probe_clips(options, saved, session.seed),
                                       world.info().state, &probe);
  const WallTest wall = wall_test(saved.model, probe, options.wall_cases, session.seed);
  std::printf("wall test          imagined beyond the wall %.2f (truly %.2f), near the door %.2f "
              "(%.2f); through the door %.2f (%.2f); depth after 20 steps %.1f px (%.1f)\n",
              wall.far, wall.true_far, wall.near, wall.true_near, wall.door, wall.true_door,
              wall.depth, wall.true_depth);
  make_films(session, probe, ranges, folder);

  auto& results = program.results;
  results = numbers_of(session.rows.front());
  results["seeds"] = {program.common.seed};
  results["run"] = options.run;
  results["checkpoint"] = saved.checkpoint;
  for (size_t i = 1; i < session.rows.size(); ++i) {
    results["controls"][session.rows[i].name] = numbers_of(session.rows[i]);
  }
  for (const auto& [name, value] : measured) results[name] = value;
  for (const auto& [name, value] : named(wall)) results[name] = value;
  write_file_atomic(folder + "/summary.json", results.dump(2) + "\n");
  write_page(options, folder, markup(session.rows, wall));
  std::printf("results            %s\n", folder.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  PlanOptions options;
  OptionValues given;
  return examples::program_main(
      argc, argv,
      {.name = "plan",
       .summary = "plans in two rooms with a run of train_dynamics, beside controls",
       .bfloat16 = true,
       .sections =
           [&](const OptionValues& values) {
             given = values;
             return options.sections();
           },
       .run = [&](examples::Program& program) { run(program, options, given); }});
}

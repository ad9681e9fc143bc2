// Watches video of any length, a file, a folder or a pipe, and says what surprised a model; or
// splices events into held-out footage and asks who finds them (--events); or looks into the model
// (--inspect).
#include <eval/comparison/own_cells.hpp>
#include <eval/watching/events.hpp>
#include <eval/watching/inspect.hpp>
#include <eval/watching/watch.hpp>
#include <examples/grid_run.hpp>
#include <examples/training_run.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>

#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <set>

namespace {

using namespace jepa;
namespace watching = jepa::eval::watching;

void watch(examples::Program& program, const watching::WatchOptions& options,
           const watching::WatchedModel& model) {
  watching::WatchHooks hooks;
  hooks.stop = examples::stop_requested;
  auto told = std::chrono::steady_clock::now();
  hooks.progress = [&told](int64_t frames, double seconds, double rate) {
    const auto now = std::chrono::steady_clock::now();
    if (now - told < std::chrono::seconds(10)) return;
    told = now;
    std::fprintf(stderr, "watch %lld frames, %.0f s of film, %.1f frames a second\n",
                 static_cast<long long>(frames), seconds, rate);
  };
  const auto result = watching::run_watch(options, model, program.device, hooks);
  std::printf("watched            %lld frames, %.1f s of film%s\n",
              static_cast<long long>(result.frames), result.seconds,
              result.stopped ? " (stopped)" : "");
  std::printf("frames a second    %.1f (the film's own: %.1f)\n", result.fps(), result.film_fps);
  std::printf("a frame            %.1f ms at first, %.1f ms at last\n", result.first_ms,
              result.last_ms);
  std::printf("peak memory        %.0f MB\n", result.peak_mb);
  for (const auto& [mark, count] : result.marks) {
    std::printf("mark               %s, %lld times\n", mark.c_str(), static_cast<long long>(count));
  }
  for (const auto& peak : result.peaks) {
    std::printf("peak               %.2f s, surprise %.4g\n", peak.at.row.seconds,
                peak.at.row.surprise);
  }
  std::printf("page               %s/index.html\n", options.out.c_str());
  program.results = {{"out", options.out},
                     {"frames", result.frames},
                     {"fps", result.fps()},
                     {"peak_mb", result.peak_mb}};
}

/// One job at a time, told only what it looks at.
/// @throws ConfigError naming an option of another job
void require_one_job(const OptionValues& given, const watching::WatchOptions& watch,
                     const watching::EventOptions& events,
                     const watching::InspectOptions& inspect) {
  if (events.events && inspect.inspect) throw ConfigError("options events, inspect: one of them");
  const std::string job = events.events ? "--events" : inspect.inspect ? "--inspect" : "";
  // At its default an option changes nothing: a run's own config.ini names all of them.
  const auto refuse = [&](auto of, const std::set<std::string>& taken, const std::string& where) {
    const std::vector<OptionSection> section{
        {"", "", [&](OptionVisitor& visit) { of.describe(visit); }}};
    for (const auto& [key, value] : dump_options(section)) {
      const auto found = given.find(key);
      if (found != given.end() && found->second != value && !taken.contains(key)) {
        throw ConfigError("option " + key + ": " + where);
      }
    }
  };
  if (!job.empty()) {
    refuse(watching::WatchOptions(),
           {"video", "weights", "out", "past", "frame_step", "fps", "short_side"},
           "not with " + job);
    if (watch.video == "-") throw ConfigError("option video: a pipe cannot be asked " + job);
  }
  if (!inspect.inspect) refuse(watching::InspectOptions(), {"inspect"}, "with --inspect alone");
  std::set<std::string> quick{"events"};  // --quick is for --events, and says so of everything
  for (const auto& [key, value] : watching::EventOptions::quick()) quick.insert(key);
  if (!events.events) refuse(watching::EventOptions(), quick, "with --events alone");
}

void ask_events(examples::Program& program, const watching::WatchOptions& options,
                watching::EventOptions& events, const watching::WatchedModel& model) {
  eval::comparison::require_own_cells("out", options.out, "events");
  examples::GridProgress progress(options.out);
  examples::require_cells_unchanged(options.out, program.sections,
                                    {"out", "untrained", "resamples"});
  examples::make_folder(options.out);
  write_file_atomic(options.out + "/config.ini", dump_ini(program.sections));
  const auto footage =
      watching::read_footage(options.video, events.from, model, options.short_side);
  const auto table =
      watching::run_events(events, options, model, footage, program.device, progress.hooks());
  std::printf("%s", watching::event_table(table).c_str());
  write_file_atomic(options.out + "/summary.json",
                    watching::event_json(events, options, table, progress.run_seconds()));
  const std::string body = watching::event_section(events, options, model, footage, table);
  examples::write_report(options.out, "jepa: events in footage", body, progress.run_seconds());
  program.results = {{"out", options.out}, {"seconds", progress.run_seconds()}};
}

void look_into(examples::Program& program, const watching::WatchOptions& options,
               const watching::InspectOptions& asked, const watching::WatchedModel& model) {
  eval::comparison::require_own_cells("out", options.out);
  int64_t window = 0;
  const auto parts = eval::physics::load_masked_model(options.weights, window);
  const int64_t past = options.known_frames(window, parts.tubelet);
  const auto film = watching::read_watched(options.video, asked.at, window * asked.windows, model,
                                           options.short_side);
  const auto seen = watching::inspect(parts, window, past, film, asked);
  std::printf("%s", watching::inspection_text(seen).c_str());
  examples::make_folder(options.out);
  write_file_atomic(options.out + "/summary.json", watching::inspection_json(seen, asked));
  const std::string body = watching::inspection_section(seen, asked);
  examples::write_report(options.out, "jepa: inside a model", body);
  program.results = {{"out", options.out}};
}

}  // namespace

int main(int argc, char** argv) {
  watching::WatchOptions options;
  watching::EventOptions events;
  watching::InspectOptions inspect;
  OptionValues given;
  return examples::program_main(
      argc, argv,
      {.name = "watch",
       .summary = "watches video of any length through a sliding window: the surprise curve, the "
                  "most surprising moments, the film under its heat, a page; memory does not grow",
       .exact = true,
       .complete = [&](OptionValues& values) { given = values; },
       .quick = [](const OptionValues&) { return watching::EventOptions::quick(); },
       .sections =
           [&](const OptionValues&) {
             return std::vector<OptionSection>{{"", "", [&](OptionVisitor& visit) {
                                                  options.describe(visit);
                                                  events.describe(visit);
                                                  inspect.describe(visit);
                                                }}};
           },
       .run =
           [&](examples::Program& program) {
             if (options.weights.empty()) throw ConfigError("option weights: name a model");
             if (options.video.empty()) {
               throw ConfigError("option video: name a file, a folder or -");
             }
             require_one_job(given, options, events, inspect);
             examples::catch_stop_signals();
             const auto model =
                 options.at_asked_rate(watching::load_watched(options.weights, program.device));
             if (events.events) {
               ask_events(program, options, events, model);
             } else if (inspect.inspect) {
               look_into(program, options, inspect, model);
             } else {
               watch(program, options, model);
             }
           },
       .goes_on = true});
}

#include <examples/training_run.hpp>
#include <jepa/data/memory_source.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/training/process_group.hpp>
#include <jepa/version.hpp>

#include <torch/types.h>
#include <torch/utils.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

namespace jepa::examples {

std::vector<OptionSection> TrainingInput::sections(
    const std::function<void(OptionVisitor&)>& more) {
  return {{"", "",
           [this, more](OptionVisitor& visit) {
             visit("run", run, {.help = "folder of the run; one that exists is continued"});
             visit("data", data,
                   {.help = "clip store (.h5), video, `path label` list, or folder of videos or "
                            "images"});
             visit("fit_minutes", fit_minutes,
                   {.help = "shorten a new run so that it takes about so long here; 0: as it is",
                    .unit = "minutes",
                    .min = 0});
             visit("in_memory", in_memory,
                   {.help = "read so many clips into memory and train on those; 0: read as it "
                            "trains",
                    .min = 0});
             more(visit);
           }},
          {"clip", "how clips are cut", [this](OptionVisitor& visit) { clip.describe(visit); }},
          {"loader", "batches", [this](OptionVisitor& visit) { loader.describe(visit); }},
          {"augment", "crops and flips",
           [this](OptionVisitor& visit) { loader.augment.describe(visit); }}};
}

std::shared_ptr<ClipSource> TrainingInput::open(int64_t seed) const {
  if (data.empty()) throw ConfigError("option data: name the clips to train on");
  auto source = open_clip_source(data, clip);
  if (in_memory == 0) return source;
  return hold_in_memory(*source, in_memory, static_cast<uint64_t>(seed));
}

namespace {

namespace fs = std::filesystem;

/// @throws ConfigError where `folder`, or one above it, is a file
void require_no_file(const std::string& folder) {
  std::error_code error;
  for (fs::path at = fs::path(folder).lexically_normal(); !at.empty(); at = at.parent_path()) {
    const auto status = fs::status(at, error);
    if (fs::is_directory(status)) return;
    if (fs::exists(status)) {
      throw ConfigError(folder + ": " + (at == folder ? "" : at.string() + " ") +
                        "is a file, expected a folder");
    }
  }
}

}  // namespace

void make_folder(const std::string& folder) {
  require_no_file(folder);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw ConfigError(folder + ": cannot be made a folder (" + error.message() + ")");
}

void require_unchanged(const std::string& folder, const OptionValues& before,
                       const OptionValues& now, const std::set<std::string>& free) {
  static const std::set<std::string> kAlwaysFree{"config", "run",     "json",     "threads",
                                                 "device", "timeout", "processes"};
  for (const auto& [key, value] : now) {
    const auto old = before.find(key);
    if (old == before.end() || old->second == value) continue;
    if (free.contains(key) || kAlwaysFree.contains(key)) continue;
    throw ConfigError("option " + key + " is " + value + ", but run " + folder +
                      " was started with " + old->second);
  }
}

namespace {

/// Another number of processes takes the same clips a step: `loader.batch`, where it is not given,
/// follows.
void keep_clips_a_step(const std::string& folder, const OptionValues& given,
                       const OptionValues& before, OptionValues& now, std::set<std::string>& free) {
  const auto group = processes_from_environment();
  if (group && (group->count > 1 || !given.contains("processes"))) {
    now["processes"] = std::to_string(group->count);
  }
  if (now.at("processes") == before.at("processes")) return;
  const int64_t clips = std::stoll(before.at("loader.batch")) * std::stoll(before.at("processes"));
  const int64_t processes = std::stoll(now.at("processes"));
  free.insert("loader.batch");
  if (!given.contains("loader.batch") && clips % processes == 0) {
    now["loader.batch"] = std::to_string(clips / processes);
  }
  if (std::stoll(now.at("loader.batch")) * processes == clips) return;
  const std::string batch = now.at("loader.batch");
  throw ConfigError("option loader.batch is " + batch + " for each of " +
                    std::to_string(processes) + " processes, but a step of run " + folder +
                    " has " + std::to_string(clips) + " clips" +
                    (clips % processes == 0 ? ": give " + std::to_string(clips / processes)
                                            : ", which do not divide over them"));
}

}  // namespace

void continue_run(OptionValues& given, const std::string& default_run,
                  const std::function<ContinuedOptions(const OptionValues&)>& options_of) {
  const auto run = given.find("run");
  const std::string folder = run == given.end() ? default_run : run->second;
  require_no_file(folder);
  const std::string checkpoint = find_checkpoint(folder);
  if (checkpoint.empty()) return;
  require_whole(checkpoint);
  const OptionValues stored = read_ini(checkpoint + "/config.ini");
  // Both sides as the options themselves write them: 5e-4 is 0.0005.
  CommonOptions common;
  ContinuedOptions options = options_of(stored);
  auto& sections = options.sections;
  auto& fitted = options.fitted;
  const bool many = options.many;
  sections.push_back({"", "", [&](OptionVisitor& visit) {
                        common.describe(
                            visit, {.name = {}, .summary = {}, .bfloat16 = true, .many = many});
                      }});
  apply_options(sections, stored);
  const OptionValues before = dump_options(sections);
  apply_options(sections, given);
  OptionValues now = dump_options(sections);
  if (before.at("fit_minutes") == "0") fitted.clear();
  if (now.at("optimisation.total_steps") == "0") fitted.insert("optimisation.total_steps");
  for (const auto& key : fitted) now[key] = before.at(key);
  std::set<std::string> free{"training.steps",
                             "training.checkpoint_every",
                             "training.keep_checkpoints",
                             "fit_minutes",
                             "loader.threads",
                             "loader.prefetch",
                             "loader.max_errors",
                             "clip.cache_mb",
                             "optimisation.shard_moments",
                             "optimisation.bucket_mb",
                             "second_optimisation.shard_moments",
                             "second_optimisation.bucket_mb"};
  free.insert(options.free.begin(), options.free.end());
  if (many) keep_clips_a_step(folder, given, before, now, free);
  require_unchanged(folder, before, now, free);
  given = std::move(now);
}

int64_t steps_that_fit(double minutes, int64_t steps, const std::function<void(int64_t)>& step) {
  constexpr int64_t kWarmUp = 3;
  constexpr int64_t kCounted = 8;
  auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < kWarmUp + kCounted; ++i) {
    if (i == kWarmUp) start = std::chrono::steady_clock::now();
    step(i);
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kCounted;
  const auto fitting = static_cast<int64_t>(minutes * 60 / seconds);
  if (fitting >= steps) return steps;
  std::printf("one step takes %.3f s here: %lld steps instead of %lld\n", seconds,
              static_cast<long long>(fitting), static_cast<long long>(steps));
  return std::max<int64_t>(1, fitting);
}

LoaderOptions shared_batches(const LoaderOptions& own, const Program& program) {
  LoaderOptions shared = own;
  if (program.processes) shared.batch *= program.processes->count();
  return shared;
}

LoaderShare own_share(const LoaderOptions& shared, const Program& program) {
  if (!program.processes || !shared.shuffle) return {};
  return {program.processes->rank(), program.processes->count()};
}

void print_passes(const ClipSource& source, int64_t steps, int64_t batch) {
  std::printf("clips              %lld, %.3g passes over them\n",
              static_cast<long long>(source.size()),
              static_cast<double>(steps * batch) / static_cast<double>(source.size()));
  std::fflush(stdout);
}

std::map<std::string, std::string> provenance(const Program& program, const std::string& data) {
  return {{"commit", commit()},
          {"version", version()},
          {"libtorch", TORCH_VERSION},
          {"machine", processor_name()},
          {"threads", std::to_string(torch::get_num_threads())},
          {"device", program.device.str()},
          {"precision", c10::toString(program.precision)},
          {"seed", std::to_string(program.common.seed)},
          {"data", data}};
}

LoopHooks progress_hooks(const Program& program, ProgressBar& bar, int64_t steps, int64_t batch,
                         std::vector<std::string> shown) {
  LoopHooks hooks;
  hooks.processes = program.processes.get();
  hooks.stop = stop_requested;
  if (!is_first(program)) return hooks;
  hooks.on_step = [&bar, steps, batch, shown = std::move(shown)](int64_t step,
                                                                 const StepMetrics& metrics) {
    char text[96];
    std::snprintf(text, sizeof text, "loss %.4f  %.1f clips/s", metrics.at("loss"),
                  static_cast<double>(batch) / metrics.at("seconds"));
    bar.update(step, steps, text);
    std::string line;
    for (const auto& metric : metrics) {
      const std::string& name = metric.first;
      const bool wanted = std::any_of(shown.begin(), shown.end(), [&](const std::string& prefix) {
        return name.starts_with(prefix);
      });
      if (!wanted) continue;
      std::snprintf(text, sizeof text, "  %s %.4g", name.c_str(), metric.second);
      line += text;
    }
    if (line.empty()) return;
    bar.finish();
    std::fprintf(stderr, "step %lld:%s\n", static_cast<long long>(step), line.c_str());
  };
  return hooks;
}

}  // namespace jepa::examples

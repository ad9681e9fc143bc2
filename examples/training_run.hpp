// What programs that train share: continuing a run, fitting it into minutes, saying how it goes.
#pragma once

#include <examples/program.hpp>
#include <jepa/data/clip_source.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/training/loop.hpp>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace jepa::examples {

/// Where a training program reads and writes, and for how long.
struct TrainingInput {
  std::string run;
  std::string data = {};
  double fit_minutes = 0;
  int64_t in_memory = 0;
  ClipOptions clip = {};
  LoaderOptions loader = {};

  /// The options; the first section has no name, and takes what `more` adds to it.
  std::vector<OptionSection> sections(const std::function<void(OptionVisitor&)>& more);
  /// The clips that `data` names, held in memory if so asked.
  /// @throws ConfigError where none are named, DataError as the sources do
  std::shared_ptr<ClipSource> open(int64_t seed) const;
};

/// Makes a folder that a program writes into, and those above it.
/// @throws ConfigError naming the path and what stands in its way as a file
void make_folder(const std::string& folder);

/// What a stored run is compared by.
struct ContinuedOptions {
  std::vector<OptionSection> sections;
  std::set<std::string> fitted = {};  ///< keys that `--fit_minutes` has changed in the run
  bool many = false;                  ///< the program can share its work among processes
  std::set<std::string> free = {};    ///< further keys that may change
};

/// A run that goes on is what it was: `now` may change options that tell how long or where it runs,
/// which are `free` (and those of every program: config, run, json, threads, device).
/// @throws ConfigError naming an option that differs from what the run `folder` was started with
void require_unchanged(const std::string& folder, const OptionValues& before,
                       const OptionValues& now, const std::set<std::string>& free);

/// A run that exists goes on with its own configuration. What is given now may change how long and
/// on what it trains, not what it is.
/// @param given what the command line and ini file say; completed from the run's checkpoint
/// @param default_run the run folder where none is given
/// @param options_of the program's options, sized for the run's stored values
/// @throws ConfigError naming an option that differs from the run's, or a folder that is a file
void continue_run(OptionValues& given, const std::string& default_run,
                  const std::function<ContinuedOptions(const OptionValues& stored)>& options_of);

/// Steps that fit into `minutes` here, at most `steps`: from a few that `step` takes and that are
/// thrown away.
int64_t steps_that_fit(double minutes, int64_t steps, const std::function<void(int64_t)>& step);

/// A loader's options where processes share its batches: `own.batch` clips each.
LoaderOptions shared_batches(const LoaderOptions& own, const Program& program);
/// Which rows of those batches this process reads; without shuffle, all of them.
LoaderShare own_share(const LoaderOptions& shared, const Program& program);

/// Prints how many clips there are and how often the run passes over them.
void print_passes(const ClipSource& source, int64_t steps, int64_t batch);

/// Where a run comes from, for its checkpoints and log.
std::map<std::string, std::string> provenance(const Program& program, const std::string& data);

/// Draws progress (loss, clips a second) and stops on SIGINT and SIGTERM. What an evaluation
/// measured, the metrics whose names start with one of `shown`, gets a line of its own. Of several
/// processes the first one draws.
/// @param batch clips a step, of all processes
/// @param bar outlives the hooks
LoopHooks progress_hooks(const Program& program, ProgressBar& bar, int64_t steps, int64_t batch,
                         std::vector<std::string> shown);

}  // namespace jepa::examples

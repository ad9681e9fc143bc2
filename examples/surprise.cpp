// Does a model notice what cannot happen? Trains every arm on films in which all is lawful, shows
// it pairs of films of which one breaks a rule, and asks which one surprised it more.
#include <eval/comparison/own_cells.hpp>
#include <eval/physics/benchmarks.hpp>
#include <eval/physics/surprise_grid.hpp>
#include <eval/report/html.hpp>
#include <examples/grid_run.hpp>
#include <examples/training_run.hpp>
#include <jepa/io/atomic_file.hpp>

#include <torch/types.h>

#include <cstdio>
#include <filesystem>

namespace {

using namespace jepa;
namespace comparison = jepa::eval::comparison;
namespace physics = jepa::eval::physics;

void run(examples::Program& program, physics::SurpriseOptions& options) {
  examples::catch_stop_signals();
  if (examples::has_config(options.run)) {
    comparison::require_own_cells("run", options.run, "light_share", /*not_asked=*/"benchmark");
  }
  examples::GridProgress progress(options.run);
  const auto hooks = progress.hooks();
  examples::require_cells_unchanged(
      options.run, program.sections,
      {"arms", "seeds", "scale", "untrained", "untrained_latents", "contexts", "resamples"});
  physics::require_askable(options);  // before anything is left behind
  examples::make_folder(options.run);
  write_file_atomic(options.run + "/config.ini", dump_ini(program.sections));
  const auto cells = physics::run_surprise(options, hooks);
  const auto rows = physics::summarise_surprise(options, cells);
  const auto scale = physics::surprise_scale(options, cells);
  std::printf("%s%s", physics::surprise_table(rows).c_str(),
              comparison::scale_table(scale).c_str());
  write_file_atomic(options.run + "/summary.json",
                    physics::surprise_json(options, rows, scale, progress.run_seconds()));
  examples::write_scale_plots(options.run, scale);
  const std::string body = physics::surprise_section(options, rows) +
                           comparison::scale_section(scale) +
                           physics::surprise_media(options, cells, hooks);
  examples::write_report(options.run, "jepa: surprise", body, progress.run_seconds());
  program.results = {
      {"run", options.run}, {"cells", cells.size()}, {"seconds", progress.run_seconds()}};
}

/// Published films in place of generated ones; nothing is trained.
void run_films(examples::Program& program, physics::SurpriseOptions& options,
               physics::BenchmarkOptions& benchmark) {
  benchmark.contexts = options.contexts;
  benchmark.stride = options.stride;
  benchmark.untrained = options.untrained;
  benchmark.untrained_latents = options.untrained_latents;
  benchmark.resamples = options.resamples;
  examples::catch_stop_signals();
  comparison::require_own_cells("run", options.run, "benchmark");
  examples::require_cells_unchanged(
      options.run, program.sections,
      {"arms", "seeds", "tera", "untrained", "untrained_latents", "contexts", "resamples"});
  examples::GridProgress progress(options.run);
  examples::make_folder(options.run);
  write_file_atomic(options.run + "/config.ini", dump_ini(program.sections));
  const auto result =
      physics::run_benchmark(benchmark, options.run, program.device, progress.hooks());
  const std::string table = physics::benchmark_table(result);
  std::printf("%s", table.c_str());
  write_file_atomic(options.run + "/summary.json",
                    physics::benchmark_json(benchmark, result, progress.run_seconds()));
  const std::string body = eval::report::heading(2, "Surprise: " + benchmark.benchmark) +
                           eval::report::preformatted(table);
  examples::write_report(options.run, "jepa: surprise", body, progress.run_seconds());
  program.results = {
      {"run", options.run}, {"pairs", result.pairs}, {"seconds", progress.run_seconds()}};
}

}  // namespace

int main(int argc, char** argv) {
  physics::SurpriseOptions options;
  physics::BenchmarkOptions benchmark;
  return examples::program_main(
      argc, argv,
      {.name = "surprise",
       .summary = "trains JEPA and pixel models on films in which all is lawful and measures how "
                  "much more films surprise them that break a rule of physics; what is done is "
                  "not done again",
       .quick = [](const OptionValues&) { return physics::SurpriseOptions::quick(); },
       .sections =
           [&](const OptionValues& values) {
             auto& recipe = options.training.arm.jepa;
             recipe.take_masks(values);
             auto sections = options.sections();
             sections.insert(sections.begin() + 1,
                             {"", "", [&](OptionVisitor& visit) { benchmark.describe(visit); }});
             return sections;
           },
       .run =
           [&](examples::Program& program) {
             options.training.arm.device = program.device;
             if (benchmark.benchmark.empty()) {
               run(program, options);
             } else {
               run_films(program, options, benchmark);
             }
           },
       .goes_on = true});
}

// Latent prediction beside drawing every pixel: trains every arm at the same budgets, asks all the
// same questions, and writes the tables, curves and films.
#include <eval/comparison/grid.hpp>
#include <eval/comparison/own_cells.hpp>
#include <eval/report/gif_writer.hpp>
#include <eval/report/html.hpp>
#include <eval/report/image.hpp>
#include <eval/report/video_writer.hpp>
#include <examples/grid_run.hpp>
#include <examples/training_run.hpp>
#include <jepa/io/atomic_file.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>

namespace {

using namespace jepa;
namespace comparison = jepa::eval::comparison;

/// The film beside the tables: MP4, GIF and a sheet of its first example.
std::string write_film(const comparison::ComparisonOptions& options, int64_t examples,
                       const comparison::ComparisonHooks& hooks) {
  const auto rows = comparison::film_rows(options, examples, hooks);
  const auto film = comparison::render_film(rows);
  const auto sheet = comparison::contact_sheet(rows);
  constexpr double kFps = 4;
  eval::report::write_video(options.run + "/film.mp4", film, kFps);
  write_file_atomic(options.run + "/film.gif", eval::report::encode_gif(film, kFps));
  eval::report::write_png(options.run + "/film.png", sheet);
  return eval::report::figure(
             eval::report::video(eval::report::encode_video(film, kFps), "side by side",
                                 static_cast<int>(film.size(2))),
             "Blue frames were shown, orange ones predicted. Test clips that no model trained on; "
             "largest budget, first seed.") +
         eval::report::figure(eval::report::image(eval::report::encode_png(sheet), "all frames",
                                                  static_cast<int>(sheet.size(1))),
                              "All frames of the first example.");
}

/// Options that may change where a run has cells.
std::set<std::string> free_options() {
  std::set<std::string> free{"arms", "budgets", "seeds", "noises", "widths", "film.examples"};
  for (const auto& arm : comparison::arm_names()) free.insert("tuning." + arm);
  return free;
}

void run(examples::Program& program, comparison::ComparisonOptions& options, int64_t examples) {
  options.settle();
  examples::catch_stop_signals();
  examples::require_same_options(program);
  if (examples::has_config(options.run)) {
    comparison::require_own_cells("run", options.run, "budgets");
  }
  const bool first = examples::is_first(program);
  examples::GridProgress progress(first ? options.run : "");
  const auto hooks = progress.hooks();
  examples::require_cells_unchanged(options.run, program.sections, free_options());
  comparison::plan_cells(options);  // before anything is left behind
  examples::make_folder(options.run);
  if (first) write_file_atomic(options.run + "/config.ini", dump_ini(program.sections));
  const auto cells = comparison::run_cells(options, hooks);
  if (!first) return;
  const auto summary = comparison::summarise_comparison(options, cells);
  std::printf("%s", comparison::comparison_table(summary).c_str());
  write_file_atomic(options.run + "/summary.json",
                    comparison::summary_json(options, cells, summary, progress.run_seconds()));
  examples::write_scale_plots(options.run, summary.scale);
  std::string body = comparison::comparison_section(summary);
  if (examples > 0) body += write_film(options, examples, hooks);
  examples::write_report(options.run, "jepa: comparison", body, progress.run_seconds());
  program.results = {
      {"run", options.run}, {"cells", cells.size()}, {"seconds", progress.run_seconds()}};
}

}  // namespace

int main(int argc, char** argv) {
  comparison::ComparisonOptions options;
  int64_t film_examples = 4;
  return examples::program_main(
      argc, argv,
      {.name = "compare",
       .summary =
           "trains JEPA and generative models at equal compute and compares them; cells that "
           "are done are not run again",
       .many = true,
       .quick =
           [](const OptionValues& given) {
             auto values = comparison::ComparisonOptions::quick(given);
             values["film.examples"] = "1";
             return values;
           },
       .sections =
           [&](const OptionValues& values) {
             options.arm.jepa.take_masks(values);
             auto sections = options.sections();
             sections.push_back({"film", "", [&](OptionVisitor& visit) {
                                   visit("examples", film_examples,
                                         {.help = "clips side by side; 0: no film", .min = 0});
                                 }});
             return sections;
           },
       .run =
           [&](examples::Program& program) {
             options.arm.device = options.questions.attentive_probe.device = program.device;
             run(program, options, film_examples);
           },
       .goes_on = true});
}

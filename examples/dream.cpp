// Learns inside its own dream: collects episodes of a game, trains V and M on them, trains a
// controller in what M imagines, and plays the real game, beside controls.
#include <eval/dreaming/experiment.hpp>
#include <eval/report/gif_writer.hpp>
#include <eval/report/html.hpp>
#include <eval/report/video_writer.hpp>
#include <examples/grid_run.hpp>
#include <examples/training_run.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/folder_lock.hpp>

#include <torch/types.h>

#include <chrono>
#include <cstdio>
#include <filesystem>

namespace {

using namespace jepa;
namespace dreaming = jepa::eval::dreaming;

/// What --quick makes of a recipe: everything passes through every stage in a minute or two.
const OptionValues kQuick = {
    {"temperatures", "1.15"},
    {"play.collected", "60"},
    {"play.episodes", "40"},
    {"play.swap_periods", "10"},
    {"play.tuning_episodes", "20"},
    {"vision.steps", "60"},
    {"vision.latent", "16"},
    {"vision.width", "8"},
    {"model.hidden", "32"},
    {"model.mixtures", "2"},
    {"model.steps", "60"},
    {"model.sequence", "24"},
    {"controller.population", "6"},
    {"controller.episodes", "4"},
    {"controller.generations", "4"},
    {"controller.limit", "150"},
    {"controller.updates", "10"},
    {"actor_critic.hidden", "32"},
    {"controller.real_episodes", "4"},
    {"controller.temperature", "1.15"},
};

/// The run's film as MP4 and GIF, and markup for the report.
std::string write_film(dreaming::Experiment& experiment, const std::string& run, int64_t repeat) {
  const std::string name = run + "/film.mp4";
  const auto film = experiment.film();
  const double fps = 35.0 / static_cast<double>(repeat);
  const std::string mp4 = eval::report::encode_video(film, fps);
  write_file_atomic(name, mp4);
  eval::report::write_gif(run + "/film.gif", film, fps);
  return eval::report::figure(
      eval::report::video(mp4, "real episode and dream", static_cast<int>(film.size(2))),
      "A real episode of the controller that learned in the dream (of nine, the one of median "
      "length), what V keeps of it, and what M dreams from its first frame with the same "
      "controller. What ended stands still.");
}

void run(examples::Program& program, dreaming::ExperimentOptions& options) {
  options.seed = program.common.seed;
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  examples::catch_stop_signals();
  options.game.gym.stop = examples::stop_requested;
  const std::string config = options.run + "/config.ini";
  if (std::filesystem::exists(config)) {
    examples::require_unchanged(
        options.run, read_ini(config), dump_options(program.sections),
        {"play.film", "play.real", "temperatures", "precision"});  // stages of their own
  }
  const auto game = dreaming::make_game(options.game);
  const auto shown = game(1)->info();
  // Before anything is left behind: whether all of it can be had.
  dreaming::make_vision(options.vision, shown);
  dreaming::make_model(options.model, options.vision.latent, shown.action_width);
  if (!options.data.empty()) dreaming::read_episodes(options.data, shown, 1);
  examples::make_folder(options.run);
  const FolderLock lock(options.run);
  write_file_atomic(config, dump_ini(program.sections));
  std::unique_ptr<examples::ProgressBar> bar;
  std::string stage;
  dreaming::ExperimentHooks hooks;
  hooks.say = [&](const std::string& name) {
    std::fprintf(stderr, "%s (%.0f s)\n", name.c_str(), seconds());
  };
  hooks.stop = examples::stop_requested;
  hooks.progress = [&](const std::string& name, int64_t step, int64_t steps, double value) {
    if (stage != name) bar = std::make_unique<examples::ProgressBar>(name);
    stage = name;
    char text[48];
    std::snprintf(text, sizeof text, "%.4g", value);
    bar->update(step, steps, text);
    if (step == steps) bar->finish();
  };
  dreaming::Experiment experiment(options, game, hooks);
  experiment.run();
  std::printf("%s", dreaming::experiment_text(experiment).c_str());
  const std::string summary = dreaming::experiment_summary(experiment);
  write_file_atomic(options.run + "/summary.json", summary);
  std::string body = dreaming::experiment_section(experiment);
  if (options.play.film) body += write_film(experiment, options.run, options.game.repeat);
  examples::write_report(options.run, "jepa: dream", body, seconds());
  program.results = nlohmann::json::parse(summary);
}

}  // namespace

int main(int argc, char** argv) {
  dreaming::ExperimentOptions options;
  return examples::program_main(
      argc, argv,
      {.name = "dream",
       .summary = "trains an agent in what its own world model imagines and plays the real game; "
                  "stages that are done are not run again",
       .quick = [](const OptionValues&) { return kQuick; },
       .sections = [&](const OptionValues&) { return options.sections(); },
       .run = [&](examples::Program& program) { run(program, options); },
       .goes_on = true});
}

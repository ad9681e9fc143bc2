#include <examples/grid_run.hpp>
#include <examples/training_run.hpp>

#include <cstdio>
#include <filesystem>

namespace jepa::examples {

void require_cells_unchanged(const std::string& run, const std::vector<OptionSection>& sections,
                             const std::set<std::string>& free) {
  const std::string path = run + "/config.ini", cells = run + "/cells";
  if (!std::filesystem::exists(path) || !std::filesystem::exists(cells)) return;
  if (std::filesystem::is_empty(cells)) return;
  require_unchanged(run, read_ini(path), dump_options(sections), free);
}

double GridProgress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

eval::comparison::ComparisonHooks GridProgress::hooks() {
  eval::comparison::ComparisonHooks hooks;
  hooks.stop = stop_requested;
  hooks.say = [this](const std::string& text) {
    std::fprintf(stderr, "%s (%.0f s)\n", text.c_str(), seconds());
  };
  hooks.training = [this](const std::string& what, int64_t steps) {
    bar_ = std::make_unique<ProgressBar>(what);
    LoopHooks loop;
    loop.stop = stop_requested;
    loop.on_step = [this, steps](int64_t step, const StepMetrics& metrics) {
      char text[48];
      std::snprintf(text, sizeof text, "loss %.4f", metrics.at("loss"));
      bar_->update(step, steps, text);
      if (step == steps) bar_->finish();
    };
    return loop;
  };
  return hooks;
}

}  // namespace jepa::examples

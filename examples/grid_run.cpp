#include <eval/report/html.hpp>
#include <examples/grid_run.hpp>
#include <examples/training_run.hpp>
#include <jepa/io/atomic_file.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <unistd.h>

namespace jepa::examples {
namespace {

namespace fs = std::filesystem;

constexpr double kKeepEvery = 10;  // seconds

}  // namespace

bool has_config(const std::string& run) { return fs::exists(run + "/config.ini"); }

void require_cells_unchanged(const std::string& run, const std::vector<OptionSection>& sections,
                             const std::set<std::string>& free) {
  const std::string path = run + "/config.ini", cells = run + "/cells";
  if (!std::filesystem::exists(path) || !std::filesystem::exists(cells)) return;
  if (std::filesystem::is_empty(cells)) return;
  auto all_free = free;
  all_free.insert("precision");  // auto is float32 here, where there is nothing else
  require_unchanged(run, read_ini(path), dump_options(sections), all_free);
}

void write_scale_plots(const std::string& run,
                       const std::vector<eval::comparison::ScaleCurve>& curves) {
  for (const auto& curve : curves) {
    std::string name = curve.measure.result;
    std::replace(name.begin(), name.end(), '/', '_');
    write_file_atomic(run + "/scale_" + name + ".svg",
                      eval::comparison::scale_plot(curves, curve.measure.result));
  }
}

void write_report(const std::string& folder, const std::string& title, const std::string& section,
                  double seconds) {
  write_file_atomic(folder + "/section.html", section);
  write_file_atomic(folder + "/report.html", eval::report::page(title, section));
  char took[48] = "";
  if (seconds >= 0) std::snprintf(took, sizeof took, " (%.0f s)", seconds);
  std::printf("report             %s/report.html%s\n", folder.c_str(), took);
}

GridProgress::GridProgress(std::string run) : run_(std::move(run)) {
  if (run_.empty()) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  file_ = run_ + "/seconds/" +
          std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(now).count()) + "-" +
          std::to_string(::getpid());
  const std::string summary = run_ + "/summary.json";
  if (fs::exists(run_ + "/seconds") || !fs::exists(run_ + "/cells") || !fs::exists(summary)) return;
  std::ifstream text(summary);
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_object() && json.contains("seconds") && json["seconds"].is_number()) {
    before_ = json["seconds"];
  }
}

void GridProgress::keep_time() {
  if (run_.empty()) return;
  kept_ = seconds();
  fs::create_directories(run_ + "/seconds");
  write_file_atomic(file_, std::to_string(before_ + kept_) + "\n");
}

double GridProgress::run_seconds() {
  if (run_.empty()) return seconds();
  keep_time();
  double sum = 0;
  for (const auto& entry : fs::directory_iterator(run_ + "/seconds")) {
    std::ifstream text(entry.path());
    double one = 0;
    if (text >> one) sum += one;
  }
  return sum;
}

double GridProgress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

eval::comparison::ComparisonHooks GridProgress::hooks() {
  eval::comparison::ComparisonHooks hooks;
  hooks.stop = stop_requested;
  hooks.say = [this](const std::string& text) {
    std::fprintf(stderr, "%s (%.0f s)\n", text.c_str(), seconds());
    keep_time();
  };
  hooks.training = [this](const std::string& what, int64_t steps) {
    bar_ = std::make_unique<ProgressBar>(what);
    LoopHooks loop;
    loop.stop = stop_requested;
    loop.on_step = [this, steps](int64_t step, const StepMetrics& metrics) {
      char text[48];
      std::snprintf(text, sizeof text, "loss %.4f", metrics.at("loss"));
      bar_->update(step, steps, text);
      if (seconds() > kept_ + kKeepEvery) keep_time();
      if (step == steps) bar_->finish();
    };
    return loop;
  };
  return hooks;
}

}  // namespace jepa::examples

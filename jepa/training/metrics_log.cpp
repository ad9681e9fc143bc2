#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/training/metrics_log.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <set>
#include <sstream>
#include <vector>

namespace jepa {
namespace {

using Json = nlohmann::ordered_json;

std::string log_path(const std::string& folder) { return folder + "/metrics.jsonl"; }

/// The complete lines of the log; one cut short by a kill is left out.
std::vector<Json> read_lines(const std::string& path) {
  std::ifstream file(path);
  std::vector<Json> lines;
  for (std::string text; std::getline(file, text);) {
    Json line = Json::parse(text, nullptr, false);
    if (line.is_object()) lines.push_back(std::move(line));
  }
  return lines;
}

void add(Json& line, const std::map<std::string, double>& numbers,
         const std::map<std::string, std::string>& texts) {
  for (const auto& [name, value] : numbers) {
    line[name] = std::isfinite(value) ? Json(value) : Json(nullptr);
  }
  for (const auto& [name, value] : texts) line[name] = value;
}

}  // namespace

MetricsLog::MetricsLog(const std::string& run_folder, int64_t keep_steps) : folder_(run_folder) {
  std::string kept;
  if (keep_steps >= 0) {
    for (const auto& line : read_lines(log_path(folder_))) {
      const std::string type = line.value("type", "");
      if (type == "run" || (type == "step" && line.value("step", int64_t{0}) <= keep_steps)) {
        kept += line.dump() + "\n";
      }
    }
  }
  write_file_atomic(log_path(folder_), kept);
  file_.open(log_path(folder_), std::ios::app);
  if (!file_) throw DataError(log_path(folder_) + ": cannot be opened for writing");
}

void MetricsLog::step(int64_t step, const std::map<std::string, double>& numbers,
                      const std::map<std::string, std::string>& texts) {
  Json line{{"type", "step"}, {"step", step}};
  add(line, numbers, texts);
  write(line.dump());
}

void MetricsLog::summary(const std::string& type, const std::map<std::string, double>& numbers,
                         const std::map<std::string, std::string>& texts) {
  Json line{{"type", type}};
  add(line, numbers, texts);
  write(line.dump());
}

std::map<std::string, std::string> MetricsLog::closing_texts(const std::string& run_folder) {
  const std::vector<Json> lines = read_lines(log_path(run_folder));
  if (lines.empty() || lines.back().value("type", "") != "end") return {};
  std::map<std::string, std::string> texts;
  for (const auto& item : lines.back().items()) {
    if (item.value().is_string()) texts[item.key()] = item.value().get<std::string>();
  }
  return texts;
}

void MetricsLog::write(const std::string& line) {
  file_ << line << std::endl;
  if (!file_) throw DataError(log_path(folder_) + ": cannot be written (disk full?)");
}

void MetricsLog::write_csv() const {
  std::vector<Json> steps;
  std::set<std::string> names;
  for (auto& line : read_lines(log_path(folder_))) {
    if (line.value("type", "") != "step") continue;
    for (const auto& item : line.items()) {
      if (item.key() != "type" && item.key() != "step") names.insert(item.key());
    }
    steps.push_back(std::move(line));
  }
  std::ostringstream out;
  out << "step";
  for (const auto& name : names) out << "," << name;
  out << "\n";
  for (const auto& line : steps) {
    out << line.value("step", int64_t{0});
    for (const auto& name : names) {
      out << "," << (line.contains(name) ? line[name].dump() : "");
    }
    out << "\n";
  }
  write_file_atomic(folder_ + "/metrics.csv", out.str());
}

}  // namespace jepa

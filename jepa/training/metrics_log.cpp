#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/json_text.hpp>
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

/// The complete lines of the log from byte `start` on; one cut short by a kill is left out.
std::vector<Json> read_lines(const std::string& path, std::streamoff start = 0) {
  std::ifstream file(path);
  file.seekg(start);
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
      if (type == "run" || type == "left_out" ||
          (type == "step" && line.value("step", int64_t{0}) <= keep_steps)) {
        kept += json_text(line) + "\n";
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
  write(json_text(line));
}

void MetricsLog::summary(const std::string& type, const std::map<std::string, double>& numbers,
                         const std::map<std::string, std::string>& texts) {
  Json line{{"type", type}};
  add(line, numbers, texts);
  write(json_text(line));
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

void MetricsLog::write_csv() {
  // Only what was logged since the last time is read, unless it brought a new column.
  std::vector<Json> steps;
  const auto read_from = [&](std::streamoff start) {
    steps.clear();
    for (auto& line : read_lines(log_path(folder_), start)) {
      if (line.value("type", "") == "step") steps.push_back(std::move(line));
    }
  };
  read_from(csv_end_);
  const size_t columns = csv_names_.size();
  for (const auto& line : steps) {
    for (const auto& item : line.items()) {
      if (item.key() != "type" && item.key() != "step") csv_names_.insert(item.key());
    }
  }
  const bool anew = csv_end_ == 0 || csv_names_.size() != columns;
  if (anew && csv_end_ > 0) read_from(0);
  std::ostringstream out;
  if (anew) {
    out << "step";
    for (const auto& name : csv_names_) out << "," << name;
    out << "\n";
  }
  for (const auto& line : steps) {
    out << line.value("step", int64_t{0});
    for (const auto& name : csv_names_) {
      out << "," << (line.contains(name) ? json_text(line[name]) : "");
    }
    out << "\n";
  }
  const std::string path = folder_ + "/metrics.csv";
  if (anew) {
    write_file_atomic(path, out.str());
  } else {
    std::ofstream file(path, std::ios::app);
    file << out.str() << std::flush;
    if (!file) throw DataError(path + ": cannot be written (disk full?)");
  }
  csv_end_ = file_.tellp();
}

}  // namespace jepa

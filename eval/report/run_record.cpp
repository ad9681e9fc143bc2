#include <eval/report/difference_table.hpp>
#include <eval/report/run_record.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/json_text.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <sstream>

namespace jepa::eval::report {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::string read_whole_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(path + ": cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A logged number; null is what JSON has for one that is not finite.
double number_or_nan(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

void read_step(const Json& line, const std::string& where, RunRecord& run) {
  const auto step = line.find("step");
  if (step == line.end() || !step->is_number_integer()) {
    throw DataError(where + ": expected an integer 'step'");
  }
  if (step->get<int64_t>() < run.last_step) {
    throw DataError(where + ": step " + step->dump() + " comes after step " +
                    std::to_string(run.last_step));
  }
  run.last_step = step->get<int64_t>();
  for (const auto& [name, value] : line.items()) {
    if (name == "step" || name == "type") continue;
    if (value.is_number() || value.is_null()) {
      Curve& curve = run.curves[name];
      curve.steps.push_back(static_cast<double>(run.last_step));
      curve.values.push_back(number_or_nan(value));
    } else if (name == "verdict" && value.is_string()) {
      run.verdicts.emplace_back(run.last_step, value.get<std::string>());
    } else if (!value.is_string()) {
      throw DataError(where + ": '" + name + "' is " + value.type_name() +
                      ", expected a number or text");
    }
  }
}

void read_summary(const Json& line, RunRecord& run) {
  for (const auto& [name, value] : line.items()) {
    if (name == "type") continue;
    if (value.is_number() || value.is_null()) {
      run.numbers[name] = number_or_nan(value);
    } else {
      run.texts[name] = value.is_string() ? value.get<std::string>() : json_text(value);
    }
  }
}

void read_metrics(const std::string& path, RunRecord& run) {
  const std::string text = read_whole_file(path);
  bool started = false, ended = false;
  std::set<std::string> left_out;  // a continued run names a clip again
  size_t line_number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string where = path + ":" + std::to_string(++line_number);
    const Json line = Json::parse(text.begin() + static_cast<ptrdiff_t>(begin),
                                  text.begin() + static_cast<ptrdiff_t>(end), nullptr, false);
    begin = end + 1;
    if (!line.is_object()) {
      if (end < text.size()) throw DataError(where + ": not a JSON object");
      run.notes.push_back("The last line of metrics.jsonl (line " + std::to_string(line_number) +
                          ") is unfinished and was left out: the run was killed while writing it.");
      break;
    }
    const std::string type =
        line.contains("type") && line["type"].is_string() ? line["type"].get<std::string>() : "";
    if (!started && type != "run") {
      throw DataError(where + ": expected the line of type \"run\" that opens a log, found " +
                      (type.empty() ? "no type" : "type \"" + type + "\""));
    }
    started = true;
    if (type == "step") {
      read_step(line, where, run);
    } else if (type == "run" || type == "end") {
      read_summary(line, run);
    } else if (type == "left_out") {
      left_out.insert(line.value("clip", ""));
    } else {
      throw DataError(where + ": unknown type \"" + type +
                      "\", expected run, step, left_out or end");
    }
    ended = type == "end";
  }
  if (!started) throw DataError(path + ": has no complete line");
  for (const auto& clip : left_out) run.notes.push_back("Left out: " + clip);
  if (run.curves.empty()) run.notes.push_back("No step has been logged yet.");
  if (!ended) {
    run.notes.push_back("The log has no closing line: the run is still going or was stopped.");
  }
}

Interval read_interval(const Json& value, const std::string& where) {
  const auto number = [&](const char* name, const Json& fallback) {
    const Json found = value.value(name, fallback);
    if (!found.is_number()) throw DataError(where + ": expected a number '" + name + "'");
    return found.get<double>();
  };
  if (!value.is_object()) throw DataError(where + ": expected an object with 'value'");
  const double middle = number("value", nullptr);
  return {middle, number("low", middle), number("high", middle)};
}

ProbeResult read_probe(const Json& entry, const std::string& where) {
  ProbeResult result;
  result.value = read_interval(entry, where);
  for (auto [name, member] : {std::pair{"dataset", &result.dataset},
                              {"probe", &result.probe},
                              {"label", &result.label},
                              {"metric", &result.metric}}) {
    const Json text = entry.value(name, Json(""));
    if (!text.is_string()) throw DataError(where + ": expected a text '" + name + "'");
    *member = text.get<std::string>();
  }
  for (auto [key, member] :
       {std::pair{"controls", &result.controls}, {"differences", &result.differences}}) {
    const Json controls = entry.value(key, Json::object());
    if (!controls.is_object()) throw DataError(where + ": expected an object '" + key + "'");
    for (const auto& [name, value] : controls.items()) {
      (*member)[name] = read_interval(value, where + ", " + key + "." + name);
    }
  }
  const Json notes = entry.value("control_notes", Json::object());
  if (notes.is_object()) {
    for (const auto& [name, text] : notes.items()) {
      if (text.is_string()) result.control_notes[name] = text.get<std::string>();
    }
  }
  if (const Json unit = entry.value("unit", Json("")); unit.is_string()) result.unit = unit;
  if (const Json units = entry.value("test_units", Json(0)); units.is_number_integer()) {
    result.test_units = units;
  }
  return result;
}

std::vector<Picture> read_pictures(const fs::path& folder) {
  std::vector<fs::path> files;
  if (fs::is_directory(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<Picture> pictures;
  for (const auto& file : files) {
    if (file.extension() != ".png" && file.extension() != ".mp4") continue;
    Picture picture{.caption = file.stem().string()};
    (file.extension() == ".png" ? picture.png : picture.mp4) = read_whole_file(file.string());
    pictures.push_back(std::move(picture));
  }
  return pictures;
}

}  // namespace

int ProbeResult::against_initialisation() const {
  const auto paired = differences.find("initialisation");
  return paired == differences.end() ? 0 : side_of_zero(paired->second);
}

std::vector<ProbeResult> read_probe_results(const std::string& path) {
  const Json file = Json::parse(read_whole_file(path), nullptr, false);
  if (file.is_discarded()) throw DataError(path + ": not JSON");
  const Json list = file.is_object() ? file.value("results", Json()) : file;
  if (!list.is_array()) {
    throw DataError(path + ": expected a list of probe results, or an object with 'results'");
  }
  std::vector<ProbeResult> results;
  for (const Json& entry : list) {
    results.push_back(read_probe(entry, path + ", result " + std::to_string(results.size() + 1)));
  }
  return results;
}

std::vector<std::string> probe_files(const std::string& folder) {
  std::vector<std::string> paths;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("probes") && name.ends_with(".json")) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

RunRecord read_run(const std::string& folder) {
  const fs::path root = fs::path(folder).lexically_normal();
  if (!fs::is_directory(root)) throw DataError(folder + ": is not a run folder");
  RunRecord run;
  run.folder = folder;
  run.name = (root.has_filename() ? root : root.parent_path()).filename().string();
  read_metrics((root / "metrics.jsonl").string(), run);
  if (fs::exists(root / "config.ini")) run.config = read_whole_file((root / "config.ini").string());
  for (const auto& path : probe_files(folder)) {
    const auto results = read_probe_results(path);
    run.probes.insert(run.probes.end(), results.begin(), results.end());
  }
  run.pictures = read_pictures(root / "media");
  return run;
}

}  // namespace jepa::eval::report

// Probe results as JSON and as a table.
#include <eval/probes/protocol.hpp>
#include <jepa/io/json_text.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <sstream>

namespace jepa::eval::probes {
namespace {

nlohmann::json to_json(const Estimate& estimate) {
  return {{"value", estimate.value}, {"low", estimate.low}, {"high", estimate.high}};
}

std::string interval(const Estimate& estimate, const char* format = "%6.3f [%.3f, %.3f]") {
  char text[64];
  std::snprintf(text, sizeof text, format, estimate.value, estimate.low, estimate.high);
  return text;
}

std::string in_words(std::string name) {
  for (auto& c : name) c = c == '_' ? ' ' : c;
  return name;
}

/// The untrained encoders' controls, the model's own first.
std::vector<std::string> encoder_controls(const ProbeResult& result) {
  std::vector<std::string> names;
  if (result.draws.contains("initialisation")) names.emplace_back("initialisation");
  for (const auto& [name, draws] : result.draws) {
    if (name != "initialisation") names.push_back(name);
  }
  return names;
}

}  // namespace

std::string results_json(const std::vector<ProbeResult>& results, const std::string& dataset) {
  auto list = nlohmann::json::array();
  for (const auto& result : results) {
    nlohmann::json entry = to_json(result.score);
    entry["dataset"] = dataset;
    entry["probe"] = result.probe;
    entry["label"] = result.label;
    entry["metric"] = result.metric;
    entry["setting"] = result.setting;
    entry["outputs"] = result.outputs;
    entry["train_clips"] = result.train_clips;
    entry["test_clips"] = result.test_clips;
    entry["test_units"] = result.test_units;
    entry["unit"] = result.unit;
    entry["draws"] = result.draws;
    entry["control_notes"] = result.control_notes;
    for (const auto& [name, control] : result.controls) entry["controls"][name] = to_json(control);
    for (const auto& [name, difference] : result.differences) {
      entry["differences"][name] = to_json(difference);
    }
    list.push_back(std::move(entry));
  }
  return json_text(list, 2);
}

std::string results_table(const std::vector<ProbeResult>& results) {
  if (results.empty()) return "";
  const auto encoders = encoder_controls(results.front());
  std::ostringstream out;
  char line[160];
  std::snprintf(line, sizeof line, "%-10s %-12s %-9s ", "probe", "label", "metric");
  out << line;
  const auto column = [&](const std::string& text) {
    std::snprintf(line, sizeof line, "%-25s", text.c_str());
    out << line;
  };
  for (const auto& name : encoders) column("less " + in_words(name));
  column("model [95 %]");
  for (const auto& name : encoders) column(in_words(name));
  column("raw pixels");
  out << "majority\n";
  for (const auto& result : results) {
    std::snprintf(line, sizeof line, "%-10s %-12s %-9s ", result.probe.c_str(),
                  result.label.c_str(), result.metric.c_str());
    out << line;
    for (const auto& name : encoders) {
      column(interval(result.differences.at(name), "%+6.3f [%+.3f, %+.3f]"));
    }
    column(interval(result.score));
    for (const auto& name : encoders) column(interval(result.controls.at(name)));
    column(interval(result.controls.at("raw_pixels")));
    std::snprintf(line, sizeof line, "%6.3f\n", result.controls.at("majority").value);
    out << line;
  }
  const auto& first = results.front();
  for (const auto& name : encoders) {
    out << in_words(name) << ": " << first.control_notes.at(name) << "\n";
  }
  for (const auto& result : results) {  // differs between kinds of probe
    if (result.label != first.label) continue;
    out << "raw pixels (" << result.probe << "): " << result.control_notes.at("raw_pixels") << "\n";
  }
  out << "intervals: 95 %, bootstrap over " << first.test_units << " "
      << (first.unit == "clip" ? "clips taken as independent" : "units (column " + first.unit + ")")
      << "; of an untrained control over its draws too\n";
  return out.str();
}

}  // namespace jepa::eval::probes

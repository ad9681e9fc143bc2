// Cells to rows, differences and summary.json.
#include <eval/comparison/grid.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/json_text.hpp>
#include <jepa/version.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace jepa::eval::comparison {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Results& results) { return Json::parse(results_json(results)); }

/// @param share few seeds make an interval that no share can fill: it is cut
probes::Estimate over_seeds(const std::vector<probes::Estimate>& values, bool share) {
  if (values.size() == 1) return values.front();
  double mean = 0, square = 0;
  const double n = static_cast<double>(values.size());
  for (const auto& v : values) mean += v.value / n;
  for (const auto& v : values) square += (v.value - mean) * (v.value - mean) / (n - 1);
  const double half = probes::student_t_quantile(n - 1, 0.975) * std::sqrt(square / n);
  if (share) return {mean, std::max(mean - half, 0.0), std::min(mean + half, 1.0)};
  return {mean, mean - half, mean + half};
}

}  // namespace

std::string cell_json(const CellRecord& cell) {
  const Json json{{"arm", cell.arm},
                  {"tera", cell.tera},
                  {"seed", cell.seed},
                  {"noise", cell.noise},
                  {"width", cell.width},
                  {"commit", commit()},
                  {"results", to_json(cell.results)},
                  {"layers", cell.layers}};
  return json_text(json, 2) + "\n";
}

std::vector<SummaryRow> summarise(const std::vector<CellRecord>& cells) {
  std::vector<SummaryRow> rows;
  std::vector<std::map<std::string, std::vector<probes::Estimate>>> values;
  std::vector<const CellRecord*> first;
  for (const auto& cell : cells) {
    size_t at = 0;
    while (at < rows.size() && !(rows[at].arm == cell.arm && rows[at].tera == cell.tera &&
                                 rows[at].noise == cell.noise && rows[at].width == cell.width)) {
      ++at;
    }
    if (at == rows.size()) {
      rows.push_back(
          {.arm = cell.arm, .tera = cell.tera, .noise = cell.noise, .width = cell.width});
      values.emplace_back();
      first.push_back(&cell);
    }
    ++rows[at].seeds;
    for (const auto& [name, value] : cell.results) values[at][name].push_back(value);
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const auto& [name, list] : values[i]) {
      rows[i].results[name] = over_seeds(list, is_share(name, first[i]->scores));
    }
  }
  return rows;
}

std::vector<TuningEffort> tuning_efforts(const ComparisonOptions& options) {
  std::vector<TuningEffort> efforts;
  for (const auto& arm : probes::split_names(options.arms)) {
    if (arm == "random_init") continue;
    TuningEffort effort{.arm = arm, .runs = -1, .grid = ""};
    const auto found = options.tuning.find(arm);
    if (found != options.tuning.end() && !found->second.empty()) {
      const std::string& text = found->second;
      const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
      if (digits == 0 || digits > 9) {
        throw ConfigError("option tuning." + arm + ": expected `RUNS: grid`, found '" + text + "'");
      }
      effort.runs = std::stoll(text.substr(0, digits));
      effort.grid = text.substr(std::min(text.find_first_not_of(": ", digits), text.size()));
    }
    efforts.push_back(std::move(effort));
  }
  return efforts;
}

ComparisonSummary summarise_comparison(const ComparisonOptions& options,
                                       const std::vector<CellRecord>& cells) {
  ComparisonSummary summary{summarise(cells), paired_differences(cells),   tuning_efforts(options),
                            fit_scale(cells), options.questions.report_on, read_judges(options)};
  add_skill(cells, summary.rows);
  return summary;
}

std::string summary_json(const ComparisonOptions& options, const std::vector<CellRecord>& cells,
                         const ComparisonSummary& summary, double seconds) {
  ComparisonOptions copy = options;
  Json json{{"commit", commit()},
            {"seconds", seconds},
            {"options", dump_options(copy.sections())},
            {"report_on", summary.report_on}};
  json["rows"] = Json::array();
  for (const auto& row : summary.rows) {
    if (row.results.empty()) continue;
    json["rows"].push_back({{"arm", row.arm},
                            {"tera", row.tera},
                            {"noise", row.noise},
                            {"width", row.width},
                            {"seeds", row.seeds},
                            {"results", to_json(row.results)}});
  }
  json["differences"] = Json::array();
  for (const auto& difference : summary.differences) {
    json["differences"].push_back({{"arm", difference.arm},
                                   {"less", difference.less},
                                   {"tera", difference.tera},
                                   {"noise", difference.noise},
                                   {"width", difference.width},
                                   {"seeds", difference.seeds},
                                   {"results", to_json(difference.results)}});
  }
  json["scale"] = Json::parse(scale_json(summary.scale));
  json["tuning"] = Json::array();
  for (const auto& effort : summary.tuning) {
    json["tuning"].push_back({{"arm", effort.arm},
                              {"runs", effort.runs < 0 ? Json(nullptr) : Json(effort.runs)},
                              {"grid", effort.grid}});
  }
  json["judges"] = Json::array();
  for (const auto& [noise, label, held_out] : summary.judges) {
    json["judges"].push_back({{"noise", noise},
                              {"label", label},
                              {"classes", held_out.classes},
                              {"direction", held_out.direction},
                              {"position_error", held_out.position_error},
                              {"clips", held_out.clips},
                              {"trusted", held_out.classes >= kTrustedJudge}});
  }
  json["cells"] = Json::array();
  for (const auto& cell : cells) json["cells"].push_back(Json::parse(cell_json(cell)));
  return json_text(json, 2) + "\n";
}

}  // namespace jepa::eval::comparison

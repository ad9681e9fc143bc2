// Tables of what arms know and draw in the range of training and outside it.
#include <eval/comparison/grid.hpp>
#include <eval/report/html.hpp>

#include <algorithm>
#include <cstdio>
#include <set>

namespace jepa::eval::comparison {
namespace {

constexpr size_t kShiftPrefix = 6;  // of "shift/"

/// One table: a result of every arm, range by range.
struct ShiftTable {
  std::string title;
  std::vector<std::string> ranges;   ///< names of columns
  std::vector<std::string> results;  ///< of those columns
};

/// Names of the shifts that some row has, in the order in which they are asked.
std::vector<std::string> shift_names(const std::vector<SummaryRow>& rows) {
  std::set<std::string> names;
  for (const auto& row : rows) {
    for (const auto& [name, value] : row.results) {
      if (!name.starts_with("shift/")) continue;
      names.insert(name.substr(kShiftPrefix, name.find('/', kShiftPrefix) - kShiftPrefix));
    }
  }
  std::vector<std::string> sorted(names.begin(), names.end());
  // Near before far.
  std::stable_sort(sorted.begin(), sorted.end(), [](const std::string& a, const std::string& b) {
    const auto split = [](const std::string& name) {
      const size_t at = name.rfind('_');
      return std::pair{name.substr(0, at), at != std::string::npos && name.substr(at) == "_far"};
    };
    return split(a) < split(b);
  });
  return sorted;
}

std::string result_title(const std::string& result) {
  if (result == "future/skill") {
    return "Skill of futures: 1 - position error / that of copying the last frame";
  }
  if (result == "future/position_error") return "Position error of futures, px";
  const size_t at = result.find('/');
  const std::string label = result.substr(at + 1);
  if (result.starts_with("probe/")) return "Linear probe: " + label;
  if (result.starts_with("attentive/")) return "Attentive probe: " + label;
  return label + " as the judge reads it from futures, share right";
}

/// Results that are asked in range and outside, the probes first.
std::vector<std::string> shared_results(const std::vector<SummaryRow>& rows) {
  std::set<std::string> shared;
  for (const auto& row : rows) {
    for (const auto& [name, value] : row.results) {
      if (!name.starts_with("shift/")) continue;
      const std::string result = name.substr(name.find('/', kShiftPrefix) + 1);
      const bool probe = result.starts_with("probe/") || result.starts_with("attentive/");
      static const std::set<std::string> drawn{"future/skill", "future/position_error",
                                               "future/legs", "future/count"};
      if (probe || drawn.contains(result)) shared.insert(result);
    }
  }
  std::vector<std::string> sorted(shared.begin(), shared.end());
  std::stable_partition(sorted.begin(), sorted.end(),
                        [](const std::string& result) { return result.starts_with("probe/"); });
  return sorted;
}

std::vector<ShiftTable> shift_tables(const std::vector<SummaryRow>& rows) {
  const auto shifts = shift_names(rows);
  std::vector<ShiftTable> tables;
  for (const auto& result : shared_results(rows)) {
    ShiftTable table{result_title(result), {"in range"}, {result}};
    for (const auto& shift : shifts) {
      table.ranges.push_back(shift);
      table.results.push_back("shift/" + shift + "/" + result);
    }
    tables.push_back(std::move(table));
  }
  const auto has = [&](const std::string& name) {
    return std::any_of(rows.begin(), rows.end(),
                       [&](const SummaryRow& row) { return row.results.contains(name); });
  };
  if (has("prompted/in/legs")) {
    tables.push_back({"Drawn from words alone: share with the number of legs that they call for",
                      {"in range", "combination"},
                      {"prompted/in/legs", "prompted/combination/legs"}});
  }
  std::vector<std::pair<std::string, std::string>> read{{"future/", "futures, in range"}};
  for (const auto& shift : shifts) {
    read.emplace_back("shift/" + shift + "/future/", "futures, " + shift);
  }
  read.emplace_back("prompted/in/", "from words, in range");
  read.emplace_back("prompted/combination/", "from words, combination");
  for (const auto& [prefix, what] : read) {
    if (!has(prefix + "read/6as6") && !has(prefix + "read/8as8")) continue;
    ShiftTable table{"Legs read as, " + what, {}, {}};
    for (const char* pair : {"6as6", "6as8", "6asother", "8as6", "8as8", "8asother"}) {
      std::string name = pair;
      name.replace(1, 2, " as ");
      table.ranges.push_back(name);
      table.results.push_back(prefix + "read/" + pair);
    }
    tables.push_back(std::move(table));
  }
  return tables;
}

std::string shift_row_name(const SummaryRow& row) {
  char text[96];
  std::snprintf(text, sizeof text, row.tera > 0 ? "%s, %g TFLOP" : "%s", row.arm.c_str(), row.tera);
  return row.width > 0 ? std::string(text) + ", width " + std::to_string(row.width) : text;
}

bool has_any(const SummaryRow& row, const ShiftTable& table) {
  return std::any_of(table.results.begin(), table.results.end(),
                     [&](const std::string& name) { return row.results.contains(name); });
}

std::string bounds_text(const probes::Estimate& e) {
  return report::short_number(e.low) + " to " + report::short_number(e.high);
}

}  // namespace

std::string shift_section(const ComparisonSummary& summary) {
  const auto& rows = summary.rows;
  if (rows.empty() || shift_names(rows).empty()) return "";
  std::string markup = report::heading(2, "Outside the range of training") +
                       report::paragraph(
                           "Trained and probed in one range, asked in it, near it and far from it. "
                           "Under each value its 95 % interval: over seeds, or with one seed over "
                           "clips. The row of truth is what the judge reads of true frames.",
                           report::Tone::kMuted);
  for (const auto& part : shift_tables(rows)) {
    report::Table table{.notes_below = true};
    table.head = {"arm"};
    for (const auto& range : part.ranges) table.head.push_back(range);
    for (const auto& row : rows) {
      if (!has_any(row, part)) continue;
      std::vector<report::Cell> cells{{shift_row_name(row)}};
      for (const auto& name : part.results) {
        const auto found = row.results.find(name);
        if (found == row.results.end()) {
          cells.push_back({"n/a", "", report::Tone::kMuted});
        } else {
          cells.push_back({report::short_number(found->second.value), bounds_text(found->second)});
        }
      }
      table.rows.push_back(std::move(cells));
    }
    if (table.rows.empty()) continue;
    markup += report::heading(3, part.title) + report::table(table);
  }
  return markup;
}

std::string shift_table(const ComparisonSummary& summary) {
  const auto& rows = summary.rows;
  if (rows.empty() || shift_names(rows).empty()) return "";
  std::string text;
  for (const auto& part : shift_tables(rows)) {
    std::string lines;
    for (const auto& row : rows) {
      if (!has_any(row, part)) continue;
      lines += shift_row_name(row) + ":";
      for (size_t i = 0; i < part.results.size(); ++i) {
        const auto found = row.results.find(part.results[i]);
        if (found == row.results.end()) continue;
        lines += "  " + part.ranges[i] + " " + report::short_number(found->second.value) + " [" +
                 bounds_text(found->second) + "]";
      }
      lines += "\n";
    }
    if (!lines.empty()) text += "\n" + part.title + "\n" + lines;
  }
  return text;
}

}  // namespace jepa::eval::comparison

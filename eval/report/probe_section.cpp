#include <eval/report/difference_table.hpp>
#include <eval/report/html.hpp>
#include <eval/report/probe_section.hpp>

#include <algorithm>
#include <set>

namespace jepa::eval::report {
namespace {

Cell interval_cell(const Interval& interval) {
  Cell cell{short_number(interval.value)};
  if (interval.low < interval.high) {
    cell.note = "[" + short_number(interval.low) + ", " + short_number(interval.high) + "]";
  }
  return cell;
}

/// Names of the controls that occur, the usual ones first.
std::vector<std::string> control_names(const std::vector<ProbeResult>& results) {
  std::vector<std::string> names;
  std::set<std::string> all;
  for (const auto& result : results) {
    for (const auto& [name, value] : result.controls) all.insert(name);
  }
  for (const char* usual :
       {"initialisation", "published_init", "random_init", "raw_pixels", "majority", "mean"}) {
    if (all.erase(usual)) names.emplace_back(usual);
  }
  names.insert(names.end(), all.begin(), all.end());
  return names;
}

std::vector<std::string> row_names(const ProbeResult& result, bool with_dataset) {
  std::vector<std::string> names{with_spaces(result.label), with_spaces(result.probe)};
  if (with_dataset) names.push_back(with_spaces(result.dataset));
  return names;
}

/// Values and controls with their intervals, in the order given.
std::string controls_table(const std::vector<ProbeResult>& results, bool with_dataset) {
  const auto controls = control_names(results);
  Table table{
      .head = {"label", "probe"}, .text_columns = with_dataset ? 4U : 3U, .notes_below = true};
  if (with_dataset) table.head.emplace_back("run");
  table.head.emplace_back("metric");
  table.head.emplace_back("trained");
  for (const auto& name : controls) table.head.push_back(with_spaces(name));
  std::map<std::string, std::set<std::string>> notes;
  for (const ProbeResult& result : results) {
    std::vector<Cell> row;
    for (const auto& name : row_names(result, with_dataset)) row.push_back({name});
    row.push_back({result.metric == "r2" ? "R²" : with_spaces(result.metric)});
    row.push_back(interval_cell(result.value));
    for (const auto& name : controls) {
      const auto found = result.controls.find(name);
      row.push_back(found == result.controls.end() ? Cell{"-", "", Tone::kMuted}
                                                   : interval_cell(found->second));
    }
    table.rows.push_back(std::move(row));
    for (const auto& [name, text] : result.control_notes) notes[name].insert(text);
  }
  std::string out = report::table(table);
  for (const auto& [name, texts] : notes) {
    for (const auto& text : texts) {
      out += paragraph(with_spaces(name) + ": " + text + ".", Tone::kMuted);
    }
  }
  return out;
}

std::string probe_plot(const std::vector<ProbeResult>& results) {
  const auto controls = control_names(results);
  IntervalPlot plot{.title = "Frozen encoder and its controls", .groups = {"trained"}};
  for (const auto& name : controls) plot.groups.push_back(with_spaces(name));
  for (const ProbeResult& result : results) {
    IntervalRow row{with_spaces(result.label) + " (" + with_spaces(result.probe) + ")",
                    {{0, result.value}}};
    for (size_t i = 0; i < controls.size(); ++i) {
      const auto found = result.controls.find(controls[i]);
      if (found != result.controls.end()) row.entries.push_back({i + 1, found->second});
    }
    plot.rows.push_back(std::move(row));
  }
  return interval_plot(plot);
}

/// On what the intervals rest.
std::string units_text(const std::vector<ProbeResult>& results) {
  std::set<std::string> texts;
  for (const auto& result : results) {
    if (result.test_units <= 0) continue;
    const std::string count = short_number(static_cast<double>(result.test_units));
    texts.insert(result.unit.empty() || result.unit == "clip"
                     ? count + " clips"
                     : count + " units of column " + result.unit);
  }
  std::string text = "95 % intervals on test clips, paired over units";
  if (!texts.empty()) {
    text += " (";
    for (const auto& part : texts) text += (part == *texts.begin() ? "" : "; ") + part;
    text += ")";
  }
  return text + " and over the control's draws. Colour: clear of zero.";
}

}  // namespace

std::string with_spaces(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

std::string probe_section(const std::vector<ProbeResult>& results, bool with_dataset) {
  DifferenceTable table{.names = {"label", "probe"},
                        .difference = "trained less own initialisation",
                        .values = {"trained", "own init"}};
  if (with_dataset) table.names.emplace_back("run");
  size_t without = 0;
  for (const auto& result : results) {
    const auto found = result.differences.find("initialisation");
    if (found == result.differences.end()) {
      ++without;
      continue;
    }
    const auto control = result.controls.find("initialisation");
    table.rows.push_back(
        {row_names(result, with_dataset),
         found->second,
         false,
         {short_number(result.value.value), control == result.controls.end()
                                                ? std::string("-")
                                                : short_number(control->second.value)}});
  }
  std::stable_sort(table.rows.begin(), table.rows.end(), [](const auto& a, const auto& b) {
    return a.difference.value > b.difference.value;
  });
  std::string out;
  if (!table.rows.empty()) {
    out += paragraph(difference_sentence(table.rows, "Clear above the model's own initialisation",
                                         "clear below")) +
           difference_table(table) + paragraph(units_text(results), Tone::kMuted);
  }
  if (without > 0) {
    out += paragraph(std::to_string(without) + " of " + std::to_string(results.size()) +
                     " results were not measured beside the model's own initialisation: nothing "
                     "is said of what training taught.");
  }
  return out + details("Values and controls", controls_table(results, with_dataset) +
                                                  (with_dataset ? "" : probe_plot(results)));
}

}  // namespace jepa::eval::report

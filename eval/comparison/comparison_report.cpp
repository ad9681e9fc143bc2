#include <eval/comparison/grid.hpp>
#include <eval/report/difference_table.hpp>
#include <eval/report/html.hpp>
#include <eval/report/plot.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

namespace jepa::eval::comparison {
namespace {

using report::Cell;
using report::LinePlot;
using report::Table;

/// A column of the tables.
struct Column {
  std::string result;
  std::string title;
  bool less_is_better = false;
  std::string unit = {};  ///< px, dB; empty: a score
};

/// A part of the comparison: its differences first, its values behind a click.
struct Part {
  std::string title;
  std::vector<Column> columns;
  std::string note = {};  ///< in place of a sentence where nothing is paired
};

/// Columns for all results that begin with `prefix`, the usual labels first.
std::vector<Column> label_columns(const std::vector<SummaryRow>& rows, const std::string& prefix) {
  std::set<std::string> labels;
  for (const auto& row : rows) {
    for (const auto& [name, value] : row.results) {
      if (name.starts_with(prefix)) labels.insert(name.substr(prefix.size()));
    }
  }
  std::vector<Column> columns;
  const auto add = [&](const std::string& label) {
    const bool quantity = label == "position" || label == "velocity";
    columns.push_back({prefix + label, label + (quantity ? " R²" : "")});
  };
  for (const char* usual : {"digit", "shape", "direction", "position", "velocity", "count"}) {
    if (labels.erase(usual) > 0) add(usual);
  }
  for (const auto& label : labels) add(label);
  return columns;
}

std::vector<Part> make_parts(const std::vector<SummaryRow>& rows) {
  const auto result = [](const char* name, const char* title, bool less = false,
                         const char* unit = "") {
    return Column{name, title, less, unit};
  };
  return {
      {"What frozen features know: linear probes on pooled tokens", label_columns(rows, "probe/")},
      {"The same, attentive probes on all tokens", label_columns(rows, "attentive/")},
      {"What predicted frames show",
       {result("future/digit", "digit read"), result("future/legs", "legs read"),
        result("future/count", "count read"), result("future/direction", "direction read"),
        result("future/position_error/h2", "error, h 2", true, "px"),
        result("future/position_error/h8", "error, h 8", true, "px"),
        result("future/best_position_error/h8", "least of K, h 8", true, "px"),
        result("future/mean_position_error/h8", "mean of K, h 8", true, "px"),
        result("future/energy/h8", "energy, h 8", true, "px"),
        result("future/coverage/h8", "coverage, h 8"),
        result("future/psnr/h4", "PSNR, h 4", false, "dB"), result("future/ssim/h4", "SSIM, h 4")}},
      {"The decoder between its ceiling and its floor",
       {result("ceiling/legs", "encoder's latents: legs"),
        result("future/legs", "predicted latents: legs"),
        result("floor/legs", "shuffled latents: legs"),
        result("ceiling/digit", "encoder's latents: digit"),
        result("future/digit", "predicted latents: digit"),
        result("floor/digit", "shuffled latents: digit"),
        result("ceiling/position_error", "encoder's: error", true, "px"),
        result("future/position_error", "predicted: error", true, "px"),
        result("floor/position_error", "shuffled: error", true, "px")},
       "Three decodings of one arm, each against the truth."},
      {"Distance of predicted frames from real ones",
       {result("distance/judge_frechet", "Fréchet, judge's reading"),
        result("distance/judge_mmd", "MMD, judge's reading"),
        result("distance/random_frechet", "Fréchet, random encoder"),
        result("distance/random_mmd", "MMD, random encoder")},
       "In feature spaces of our own (not FVD), of whole sets of clips: nothing here is paired. "
       "The row of truth is the floor, real against real."},
      {"What it cost",
       {result("cost/train_tflop", "training, TFLOP"),
        result("cost/decoder_tflop", "decoder, TFLOP"), result("cost/train_seconds", "training, s"),
        result("cost/clips", "clips seen"), result("cost/parameters", "parameters"),
        result("cost/peak_rss_mb", "peak memory, MB"),
        result("cost/gflop_per_predicted_frame", "GFLOP a predicted frame")},
       "As counted and measured while the arms were trained."}};
}

std::string budget_text(double tera) {
  char text[48];
  std::snprintf(text, sizeof text, "%g TFLOP", tera);
  return text;
}

std::string row_name(const SummaryRow& row) {
  std::string name = row.tera > 0 ? row.arm + ", " + budget_text(row.tera) : row.arm;
  if (row.width > 0) name += ", width " + std::to_string(row.width);
  return name;
}

std::string interval_text(const probes::Estimate& e) {
  if (e.low == e.high) return "";
  return report::short_number(e.low) + " to " + report::short_number(e.high);
}

report::Interval as_interval(const probes::Estimate& e) { return {e.value, e.low, e.high}; }

/// Columns that some of the rows have.
std::vector<Column> present(const std::vector<Column>& columns,
                            const std::vector<const SummaryRow*>& rows) {
  std::vector<Column> there;
  for (const auto& column : columns) {
    if (std::any_of(rows.begin(), rows.end(),
                    [&](const SummaryRow* row) { return row->results.contains(column.result); })) {
      there.push_back(column);
    }
  }
  return there;
}

/// Values of the first noise with their intervals over seeds. Empty where there are none.
std::string value_table(const std::vector<SummaryRow>& rows, const Part& part) {
  std::vector<const SummaryRow*> shown;
  for (const auto& row : rows) {
    if (row.noise != rows.front().noise || part.columns.empty()) continue;
    if (!present(part.columns, {&row}).empty()) shown.push_back(&row);
  }
  if (shown.empty()) return "";
  const auto columns = present(part.columns, shown);
  Table table{.notes_below = true};
  table.head = {"arm"};
  for (const auto& column : columns) {
    table.head.push_back(column.title + (column.unit.empty() ? "" : ", " + column.unit));
  }
  for (const SummaryRow* row : shown) {
    std::vector<Cell> cells{
        {row_name(*row), row->seeds > 1 ? std::to_string(row->seeds) + " seeds" : std::string()}};
    for (const auto& column : columns) {
      const auto found = row->results.find(column.result);
      if (found == row->results.end()) {
        cells.push_back({"n/a", "", report::Tone::kMuted});
      } else {
        cells.push_back({report::short_number(found->second.value), interval_text(found->second)});
      }
    }
    table.rows.push_back(std::move(cells));
  }
  return report::table(table);
}

/// Rows of one arm less the others, of the first noise; budgets as named.
struct FirstArm {
  std::string arm;
  std::vector<const ArmDifference*> others;  ///< those of the largest budget and width
  double tera = 0;
  int64_t width = 0;
};

FirstArm first_arm(const ComparisonSummary& summary) {
  FirstArm first;
  if (summary.differences.empty()) return first;
  first.arm = summary.rows.front().arm;
  const double noise = summary.rows.front().noise;
  for (const auto& difference : summary.differences) {
    if (difference.arm == first.arm && difference.noise == noise) {
      first.tera = std::max(first.tera, difference.tera);
      first.width = std::max(first.width, difference.width);
    }
  }
  for (const auto& difference : summary.differences) {
    if (difference.arm == first.arm && difference.noise == noise && difference.tera == first.tera &&
        difference.width == first.width) {
      first.others.push_back(&difference);
    }
  }
  return first;
}

double value_of(const std::vector<SummaryRow>& rows, const std::string& arm, const FirstArm& at,
                const std::string& result) {
  for (const auto& row : rows) {
    const auto found = row.results.find(result);
    if (row.arm == arm && (row.tera == at.tera || row.tera == 0) &&
        (row.width == at.width || row.width == 0) && found != row.results.end() &&
        row.noise == rows.front().noise) {
      return found->second.value;
    }
  }
  return std::nan("");
}

/// The first arm less each other on a part's columns, in a sentence and a table.
std::string difference_part(const ComparisonSummary& summary, const FirstArm& first,
                            const Part& part) {
  report::DifferenceTable table{.names = {"question", "less"},
                                .difference = first.arm + " less the other",
                                .values = {first.arm, "other"}};
  for (const auto& column : part.columns) {
    for (const auto* other : first.others) {
      const auto found = other->results.find(column.result);
      if (found == other->results.end()) continue;
      table.rows.push_back(
          {{column.title, other->less},
           as_interval(found->second),
           column.less_is_better,
           {report::short_number(value_of(summary.rows, first.arm, first, column.result)),
            report::short_number(value_of(summary.rows, other->less, first, column.result))},
           column.unit});
    }
  }
  if (table.rows.empty()) return "";
  return report::paragraph(report::difference_sentence(
             table.rows, "At " + budget_text(first.tera) + ", " + first.arm + " is clear ahead on",
             "clear behind on")) +
         report::difference_table(table);
}

/// One curve an arm: `result` over `x`, for the rows that `wanted` takes.
template <class X, class Wanted>
std::string curves(const std::vector<SummaryRow>& rows, const std::string& title,
                   const std::string& x_label, const std::string& result, X x, Wanted wanted) {
  LinePlot plot{.title = title, .x_label = x_label};
  for (const auto& row : rows) {
    const auto found = row.results.find(result);
    if (found == row.results.end() || !wanted(row)) continue;
    auto at = std::find_if(plot.series.begin(), plot.series.end(),
                           [&](const report::Series& s) { return s.name == row.arm; });
    if (at == plot.series.end()) at = plot.series.insert(at, {row.arm, {}, {}});
    at->x.push_back(x(row));
    at->y.push_back(found->second.value);
  }
  return plot.series.empty() ? "" : report::line_plot(plot);
}

/// A result over the horizon, one curve a row.
std::string horizon_plot(const std::vector<SummaryRow>& rows, const std::string& prefix,
                         const std::string& title) {
  LinePlot plot{.title = title, .x_label = "frames ahead"};
  for (const auto& row : rows) {
    if (row.noise != rows.front().noise) continue;
    std::map<int64_t, double> points;
    for (const auto& [name, value] : row.results) {
      if (name.starts_with(prefix)) points[std::stoll(name.substr(prefix.size()))] = value.value;
    }
    if (points.empty()) continue;
    report::Series series{row_name(row), {}, {}};
    for (const auto& [h, value] : points) {
      series.x.push_back(static_cast<double>(h));
      series.y.push_back(value);
    }
    plot.series.push_back(series);
  }
  return plot.series.empty() ? "" : report::line_plot(plot);
}

std::string plots_section(const std::vector<SummaryRow>& rows) {
  const double first_noise = rows.front().noise;
  std::vector<std::string> plots{
      horizon_plot(rows, "future/position_error/h", "position error of predicted frames, px")};
  if (plots.front().empty()) {
    plots.front() = horizon_plot(rows, "future/psnr/h", "PSNR of predicted frames, dB");
  }
  const auto same_noise = [&](const SummaryRow& row) {
    return row.noise == first_noise && row.tera > 0;
  };
  auto labels = label_columns(rows, "probe/");
  labels.resize(std::min<size_t>(2, labels.size()));
  for (const auto& label : labels) {
    plots.push_back(curves(
        rows, label.title + " probed, over clips seen", "clips", label.result,
        [](const SummaryRow& row) { return row.results.at("cost/clips").value; }, same_noise));
  }
  std::set<double> noises;
  double least = 0;
  for (const auto& row : rows) {
    noises.insert(row.noise);
    if (row.tera > 0) least = least == 0 ? row.tera : std::min(least, row.tera);
  }
  if (noises.size() > 1) {
    for (const char* result : {"probe/digit", "future/position_error/h8"}) {
      plots.push_back(curves(
          rows, std::string(result) + " over background noise", "noise", result,
          [](const SummaryRow& row) { return row.noise; },
          [&](const SummaryRow& row) { return row.tera == least || row.tera == 0; }));
    }
  }
  plots.erase(std::remove(plots.begin(), plots.end(), std::string()), plots.end());
  return report::grid(plots);
}

/// Whether every arm was tuned with as many runs, in a sentence.
std::string tuning_sentence(const std::vector<TuningEffort>& tuning) {
  std::set<int64_t> runs;
  for (const auto& effort : tuning) runs.insert(effort.runs);
  if (runs.contains(-1)) {
    return runs.size() == 1 ? "How the arms were tuned is not stated (section [tuning])."
                            : "How some arms were tuned is not stated (section [tuning]): effort "
                              "cannot be compared.";
  }
  if (runs.size() <= 1) return "Every arm was tuned with the same number of runs.";
  return "Tuning effort differs between arms: differences may come from it.";
}

std::string tuning_section(const std::vector<TuningEffort>& tuning) {
  if (tuning.empty()) return "";
  Table table{.head = {"arm", "grid, on the validation split", "runs"}, .text_columns = 2};
  for (const auto& effort : tuning) {
    table.rows.push_back({{effort.arm},
                          {effort.grid},
                          {effort.runs < 0 ? "not stated" : std::to_string(effort.runs)}});
  }
  return report::heading(3, "Tuning of each arm") + report::paragraph(tuning_sentence(tuning)) +
         report::details("Grid and runs", report::table(table));
}

/// On what differences rest.
std::string basis_sentence(const FirstArm& first) {
  const int64_t seeds = first.others.empty() ? 0 : first.others.front()->seeds;
  const char* unit =
      seeds == 1 ? " seed, so over clips alone: nothing is said of other seeds" : " seeds";
  return "Differences are paired: a bootstrap over clip x seed (" + std::to_string(seeds) + unit +
         "), 95 %. Colour: clear of zero.";
}

}  // namespace

std::string comparison_section(const ComparisonSummary& summary) {
  const auto& rows = summary.rows;
  if (rows.empty()) return "";
  const FirstArm first = first_arm(summary);
  std::string markup = report::heading(2, "Latent prediction beside drawing every pixel");
  if (summary.report_on == "validation") {
    markup += report::paragraph("Reported on the VALIDATION split, as while tuning: not a result.");
  }
  markup += first.others.empty() ? report::paragraph(
                                       "These cells kept no scores of single clips: nothing is "
                                       "paired and values below are not compared. Run them again.")
                                 : report::paragraph(basis_sentence(first), report::Tone::kMuted);
  if (!summary.judges.empty()) markup += report::paragraph(judge_lines(summary.judges) + ".");
  for (const Part& part : make_parts(rows)) {
    const std::string values = value_table(rows, part);
    if (values.empty()) continue;
    markup += report::heading(3, part.title);
    markup += part.note.empty() ? difference_part(summary, first, part)
                                : report::paragraph(part.note, report::Tone::kMuted);
    markup += report::details("Values of every arm and budget", values);
  }
  return markup + plots_section(rows) + shift_section(summary) + scale_section(summary.scale) +
         tuning_section(summary.tuning);
}

std::string comparison_table(const ComparisonSummary& summary) {
  const auto& rows = summary.rows;
  if (rows.empty()) return "";
  const FirstArm first = first_arm(summary);
  std::string text = summary.judges.empty() ? "" : judge_lines(summary.judges) + "\n";
  for (const Part& part : make_parts(rows)) {
    std::string lines;
    for (const auto& row : rows) {
      std::string line;
      for (const auto& column : part.columns) {
        const auto found = row.results.find(column.result);
        if (found == row.results.end()) continue;
        line += "  " + column.title + " " + report::short_number(found->second.value);
        const std::string interval = interval_text(found->second);
        if (!interval.empty()) line += " [" + interval + "]";
      }
      char noise[32];
      std::snprintf(noise, sizeof noise, ", noise %g", row.noise);
      if (!line.empty()) lines += row_name(row) + noise + ":" + line + "\n";
    }
    for (const auto* other : first.others) {
      std::string line;
      for (const auto& column : part.columns) {
        const auto found = other->results.find(column.result);
        if (found == other->results.end() || !part.note.empty()) continue;
        line += "  " + column.title + " " + report::signed_text(as_interval(found->second));
      }
      if (!line.empty()) {
        lines += first.arm + " less " + other->less + ", " + budget_text(first.tera) +
                 ", paired:" + line + "\n";
      }
    }
    if (!lines.empty()) text += "\n" + part.title + "\n" + lines;
  }
  return text + shift_table(summary) + scale_table(summary.scale) + "\n" +
         tuning_sentence(summary.tuning) + "\n";
}

}  // namespace jepa::eval::comparison

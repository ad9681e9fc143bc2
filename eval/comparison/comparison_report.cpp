#include <eval/comparison/grid.hpp>
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

/// A column of the tables: a result, what it is called, and which way is better (0: neither).
struct Column {
  const char* result;
  const char* title;
  int better;
};

constexpr Column kRepresentation[] = {{"probe/digit", "digit", 1},
                                      {"probe/direction", "direction", 1},
                                      {"probe/position", "position R²", 1},
                                      {"probe/velocity", "velocity R²", 1},
                                      {"probe/count", "count", 1}};
constexpr Column kAttentive[] = {{"attentive/digit", "digit", 1},
                                 {"attentive/direction", "direction", 1},
                                 {"attentive/position", "position R²", 1},
                                 {"attentive/velocity", "velocity R²", 1},
                                 {"attentive/count", "count", 1}};
constexpr Column kPrediction[] = {{"future/digit", "digit read", 1},
                                  {"future/direction", "direction read", 1},
                                  {"future/position_error/h2", "error, px, h 2", -1},
                                  {"future/position_error/h8", "error, px, h 8", -1},
                                  {"future/best_position_error/h8", "best of K, h 8", -1},
                                  {"future/mean_position_error/h8", "mean of K, h 8", -1},
                                  {"future/energy/h8", "energy, h 8", -1},
                                  {"future/coverage/h8", "coverage, h 8", 1},
                                  {"future/psnr/h4", "PSNR, dB, h 4", 1},
                                  {"future/ssim/h4", "SSIM, h 4", 1}};
constexpr Column kDecoder[] = {{"ceiling/digit", "encoder's latents: digit", 1},
                               {"future/digit", "predicted latents: digit", 1},
                               {"floor/digit", "shuffled latents: digit", 0},
                               {"ceiling/position_error", "encoder's: error, px", -1},
                               {"future/position_error", "predicted: error, px", -1},
                               {"floor/position_error", "shuffled: error, px", 0}};
constexpr Column kDistance[] = {{"distance/judge_frechet", "Fréchet, judge's reading", 0},
                                {"distance/judge_mmd", "MMD, judge's reading", 0},
                                {"distance/random_frechet", "Fréchet, random encoder", 0},
                                {"distance/random_mmd", "MMD, random encoder", 0}};
constexpr Column kCost[] = {{"cost/train_tflop", "training, TFLOP", 0},
                            {"cost/decoder_tflop", "decoder, TFLOP", 0},
                            {"cost/train_seconds", "training, s", 0},
                            {"cost/clips", "clips seen", 0},
                            {"cost/parameters", "parameters", 0},
                            {"cost/peak_rss_mb", "peak memory, MB", 0},
                            {"cost/gflop_per_predicted_frame", "GFLOP a predicted frame", 0}};

std::string row_name(const SummaryRow& row) {
  char text[96];
  if (row.tera > 0) {
    std::snprintf(text, sizeof text, "%s, %g TFLOP", row.arm.c_str(), row.tera);
    return text;
  }
  return row.arm;
}

std::string interval_text(const probes::Estimate& e) {
  if (e.low == e.high) return "";
  return report::short_number(e.low) + " to " + report::short_number(e.high);
}

/// Rows that have the first of the columns, of the first noise; the best value of a column is
/// marked. Empty where there are none.
template <size_t N>
std::string make_table(const std::vector<SummaryRow>& rows, const Column (&all)[N]) {
  const double noise = rows.empty() ? 0 : rows.front().noise;
  std::vector<const SummaryRow*> shown;
  for (const auto& row : rows) {
    if (row.noise == noise && row.results.contains(all[0].result)) shown.push_back(&row);
  }
  if (shown.empty()) return "";
  std::vector<Column> columns;  // that some row has
  for (const auto& column : all) {
    if (std::any_of(shown.begin(), shown.end(),
                    [&](const SummaryRow* row) { return row->results.contains(column.result); })) {
      columns.push_back(column);
    }
  }
  Table table;
  table.head = {"arm"};
  for (const auto& column : columns) table.head.emplace_back(column.title);
  for (const SummaryRow* row : shown) {
    std::vector<Cell> cells{
        {row_name(*row), row->seeds > 1 ? std::to_string(row->seeds) + " seeds" : std::string()}};
    for (const auto& column : columns) {
      const auto found = row->results.find(column.result);
      if (found == row->results.end()) {
        cells.push_back({"n/a", "", report::Tone::kMuted});
        continue;
      }
      // Trained arms compete; the trivial predictors and the truth stand beside them.
      const bool best = column.better != 0 && row->tera > 0 &&
                        std::all_of(shown.begin(), shown.end(), [&](const SummaryRow* other) {
                          const auto rival = other->results.find(column.result);
                          return other->tera == 0 || rival == other->results.end() ||
                                 column.better * (found->second.value - rival->second.value) >= 0;
                        });
      cells.push_back({report::short_number(found->second.value), interval_text(found->second),
                       best ? report::Tone::kGood : report::Tone::kPlain});
    }
    table.rows.push_back(std::move(cells));
  }
  return report::table(table);
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

/// Judged position error over the horizon, one curve a row.
std::string horizon_plot(const std::vector<SummaryRow>& rows) {
  LinePlot plot{.title = "position error of predicted frames, px", .x_label = "frames ahead"};
  const std::string prefix = "future/position_error/h";
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

}  // namespace

std::string comparison_section(const std::vector<SummaryRow>& rows) {
  if (rows.empty()) return "";
  const double first_noise = rows.front().noise;
  std::string markup = report::heading(2, "Latent prediction beside drawing every pixel");
  const auto add = [&](const char* title, const auto& columns) {
    const std::string table = make_table(rows, columns);
    if (!table.empty()) markup += report::heading(3, title) + table;
  };
  add("What frozen features know: linear probes on pooled tokens", kRepresentation);
  add("The same, attentive probes on all tokens", kAttentive);
  add("What predicted frames show, read by a judge trained on real ones", kPrediction);
  add("The decoder between its ceiling and its floor", kDecoder);
  add("Distance of predicted frames from real ones, in feature spaces of our own (not FVD; the row "
      "of truth is the floor: real against real)",
      kDistance);
  add("What it cost", kCost);
  std::vector<std::string> plots{horizon_plot(rows)};
  const auto same_noise = [&](const SummaryRow& row) {
    return row.noise == first_noise && row.tera > 0;
  };
  for (const char* label : {"probe/digit", "probe/direction"}) {
    plots.push_back(curves(
        rows, std::string(label) + " over clips seen", "clips", label,
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
  return markup + report::grid(plots);
}

std::string comparison_table(const std::vector<SummaryRow>& rows) {
  std::string text;
  const auto add = [&](const auto& columns, const char* title) {
    std::string lines;
    for (const auto& row : rows) {
      if (!row.results.contains(columns[0].result)) continue;
      std::string line;
      for (const auto& column : columns) {
        const auto found = row.results.find(column.result);
        if (found == row.results.end()) continue;
        line += std::string("  ") + column.title + " " + report::short_number(found->second.value);
        const std::string interval = interval_text(found->second);
        if (!interval.empty()) line += " [" + interval + "]";
      }
      char noise[32];
      std::snprintf(noise, sizeof noise, ", noise %g", row.noise);
      lines += row_name(row) + noise + ":" + line + "\n";
    }
    if (!lines.empty()) text += std::string("\n") + title + "\n" + lines;
  };
  add(kRepresentation, "probes");
  add(kAttentive, "attentive probes");
  add(kPrediction, "futures");
  add(kDecoder, "decoder");
  add(kDistance, "distance of frames (own features, not FVD)");
  add(kCost, "cost");
  return text;
}

}  // namespace jepa::eval::comparison

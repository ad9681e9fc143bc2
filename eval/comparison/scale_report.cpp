// Curves over training compute: the picture, slopes and best sizes.
#include <eval/comparison/scale.hpp>
#include <eval/report/html.hpp>
#include <eval/report/plot.hpp>
#include <jepa/io/json_text.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>

namespace jepa::eval::comparison {
namespace {

/// Results in the order of the curves, each once.
std::vector<std::string> measured(const std::vector<ScaleCurve>& curves) {
  std::vector<std::string> results;
  for (const auto& curve : curves) {
    if (results.empty() || results.back() != curve.measure.result) {
      results.push_back(curve.measure.result);
    }
  }
  return results;
}

std::string fixed(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", value);
  return text;
}

std::string slope_text(const ScaleCurve& curve) {
  return curve.fitted ? fixed(curve.slope.value) : "n/a";
}

std::string slope_bounds(const ScaleCurve& curve) {
  return curve.fitted ? fixed(curve.slope.low) + " to " + fixed(curve.slope.high) : "";
}

std::string point_text(const ScalePoint& point) {
  std::string text = report::short_number(point.error.value);
  if (point.width > 0) text += " at width " + std::to_string(point.width);
  return text;
}

}  // namespace

std::string scale_plot(const std::vector<ScaleCurve>& curves, const std::string& result) {
  report::LinePlot plot{.title = result, .x_label = "training, TFLOP"};
  plot.log_x = plot.log_y = true;
  for (const auto& curve : curves) {
    if (curve.measure.result != result) continue;
    plot.title = curve.measure.title;
    report::Series series{.name = curve.arm, .x = {}, .y = {}};
    for (const auto& point : curve.points) {
      series.x.push_back(point.tera);
      series.y.push_back(point.error.value);
      series.low.push_back(point.error.low);
      series.high.push_back(point.error.high);
    }
    plot.series.push_back(std::move(series));
  }
  return report::line_plot(plot);
}

std::string scale_section(const std::vector<ScaleCurve>& curves) {
  if (curves.empty()) return "";
  std::string markup =
      report::heading(2, "Error over training compute") +
      report::paragraph(
          "Both axes logarithmic; every budget with the size that is best there, the least of all "
          "on the clips that it is reported on: of more sizes it is lower by chance. Slope: d log "
          "error / d log FLOP, its 95 % interval from a bootstrap over clip x seed that chooses "
          "sizes "
          "anew. Losses of different latents are not compared.",
          report::Tone::kMuted);
  std::vector<std::string> plots;
  for (const auto& result : measured(curves)) plots.push_back(scale_plot(curves, result));
  markup += report::grid(plots);
  report::Table table{.text_columns = 2, .notes_below = true};
  table.head = {"error", "arm", "slope"};
  for (const auto& point : curves.front().points) {
    char text[48];
    std::snprintf(text, sizeof text, "%g TFLOP", point.tera);
    table.head.emplace_back(text);
  }
  for (const auto& curve : curves) {
    std::vector<report::Cell> cells{
        {curve.measure.title}, {curve.arm}, {slope_text(curve), slope_bounds(curve)}};
    for (const auto& point : curve.points) {
      std::string note =
          report::short_number(point.error.low) + " to " + report::short_number(point.error.high);
      if (point.sizes.size() > 1) note += "; best in " + report::short_number(point.share);
      cells.push_back({point_text(point), note});
    }
    table.rows.push_back(std::move(cells));
  }
  return markup + report::table(table);
}

std::string scale_table(const std::vector<ScaleCurve>& curves) {
  std::string text;
  std::string last;
  for (const auto& curve : curves) {
    if (curve.measure.result != last) text += "\n" + curve.measure.title + " over TFLOP\n";
    last = curve.measure.result;
    text += curve.arm + ":  slope " + slope_text(curve);
    if (curve.fitted) text += " [" + slope_bounds(curve) + "]";
    for (const auto& point : curve.points) {
      char budget[32];
      std::snprintf(budget, sizeof budget, "  %g: ", point.tera);
      text += budget + point_text(point);
    }
    text += "\n";
  }
  return text;
}

std::string scale_json(const std::vector<ScaleCurve>& curves) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  const auto interval = [](const probes::Estimate& e) {
    return nlohmann::ordered_json{{"value", e.value}, {"low", e.low}, {"high", e.high}};
  };
  for (const auto& curve : curves) {
    nlohmann::ordered_json points = nlohmann::ordered_json::array();
    for (const auto& point : curve.points) {
      nlohmann::ordered_json sizes = nlohmann::ordered_json::array();
      for (const auto& [width, error] : point.sizes) {
        sizes.push_back({{"width", width}, {"error", error}});
      }
      points.push_back({{"tera", point.tera},
                        {"width", point.width},
                        {"error", interval(point.error)},
                        {"best_share", point.share},
                        {"sizes", sizes}});
    }
    nlohmann::ordered_json entry{
        {"arm", curve.arm}, {"result", curve.measure.result}, {"error", curve.measure.title}};
    if (curve.fitted) {
      entry["slope"] = interval(curve.slope);
      entry["intercept_log10"] = curve.intercept;
    }
    entry["points"] = points;
    list.push_back(entry);
  }
  return json_text(list);
}

}  // namespace jepa::eval::comparison

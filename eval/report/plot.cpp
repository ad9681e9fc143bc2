#include <eval/report/html.hpp>
#include <eval/report/plot.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>

namespace jepa::eval::report {
namespace {

// Sizes in SVG user units; the page scales the drawing to its column.
constexpr double kWidth = 560;
constexpr double kLeft = 52;
constexpr double kRight = 14;
constexpr double kTop = 46;
constexpr double kPlotHeight = 200;
constexpr size_t kMaxPoints = 400;
constexpr std::array<const char*, 8> kFallback = {"#2563eb", "#d97706", "#059669", "#a21caf",
                                                  "#64748b", "#dc2626", "#0891b2", "#854d0e"};

std::string colour(size_t index) {
  const size_t i = index % kFallback.size();
  return "var(--c" + std::to_string(i) + "," + kFallback[i] + ")";
}

const std::string kInk = "var(--ink,#16202c)";
const std::string kMuted = "var(--muted,#667085)";
const std::string kLineColour = "var(--line,#dde1e7)";

std::string coordinate(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

/// A tick's number without the zeros that align a table.
std::string tick_text(double value) {
  std::string text = short_number(value);
  if (text.find('.') == std::string::npos || text.find('e') != std::string::npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

std::string point(double x, double y) { return coordinate(x) + "," + coordinate(y); }

std::string text_at(double x, double y, std::string_view text, std::string_view anchor,
                    std::string_view fill, int size = 11) {
  return "<text x=\"" + coordinate(x) + "\" y=\"" + coordinate(y) + "\" text-anchor=\"" +
         std::string(anchor) + "\" fill=\"" + std::string(fill) + "\" font-size=\"" +
         std::to_string(size) + "\">" + escape_html(text) + "</text>";
}

std::string line_between(double x1, double y1, double x2, double y2, const std::string& stroke,
                         std::string_view extra = {}) {
  return "<line x1=\"" + coordinate(x1) + "\" y1=\"" + coordinate(y1) + "\" x2=\"" +
         coordinate(x2) + "\" y2=\"" + coordinate(y2) + "\" stroke=\"" + stroke + "\"" +
         std::string(extra) + "/>";
}

std::string open_svg(double height, std::string_view title) {
  return "<svg viewBox=\"0 0 " + coordinate(kWidth) + " " + coordinate(height) +
         "\" role=\"img\" aria-label=\"" + escape_html(title) +
         "\" xmlns=\"http://www.w3.org/2000/svg\" font-family=\"system-ui,sans-serif\">\n" +
         "<text x=\"0\" y=\"15\" font-size=\"14\" font-weight=\"600\" fill=\"" + kInk + "\">" +
         escape_html(title) + "</text>\n";
}

/// A legend on one line from the left; entries are small squares (or dashes) with names.
struct LegendEntry {
  std::string name;
  size_t colour;
  bool dashed = false;
};
std::string legend(const std::vector<LegendEntry>& entries) {
  std::string out;
  double x = 0;
  for (const LegendEntry& entry : entries) {
    out += line_between(
        x, 31, x + 14, 31, colour(entry.colour),
        entry.dashed ? " stroke-width=\"2\" stroke-dasharray=\"4 3\"" : " stroke-width=\"4\"");
    out += text_at(x + 19, 35, entry.name, "start", kMuted);
    x += 32 + 5.9 * static_cast<double>(entry.name.size());
  }
  return out + "\n";
}

/// A value range mapped onto a pixel range.
struct Axis {
  double low, high, from, to;
  double operator()(double value) const {
    return from + (value - low) / (high - low) * (to - from);
  }
};

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void include(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
  /// Room for drawing: never of zero width.
  void widen() {
    if (empty()) *this = {0, 1};
    if (low == high) {
      const double room = low == 0 ? 1 : std::abs(low) * 0.1;
      low -= room;
      high += room;
    }
  }
};

/// A curve thinned to what the eye can tell apart.
struct Thinned {
  std::vector<double> x, mean, low, high;
};
Thinned thin(const Series& series) {
  const size_t count = std::min(series.x.size(), series.y.size());
  if (count <= kMaxPoints) {
    return {{series.x.begin(), series.x.begin() + static_cast<std::ptrdiff_t>(count)},
            series.y,
            series.low,
            series.high};
  }
  Thinned out;
  for (size_t bucket = 0; bucket < kMaxPoints / 2; ++bucket) {
    const size_t begin = bucket * count / (kMaxPoints / 2);
    const size_t end = (bucket + 1) * count / (kMaxPoints / 2);
    Range range;
    double x = 0, y = 0;
    for (size_t i = begin; i < end; ++i) {
      x += series.x[i];
      y += series.y[i];
      range.include(series.y[i]);
    }
    out.x.push_back(x / static_cast<double>(end - begin));
    out.mean.push_back(y / static_cast<double>(end - begin));
    out.low.push_back(range.low);
    out.high.push_back(range.high);
  }
  return out;
}

/// A value as it was before its logarithm was taken.
double shown_value(double value, bool logarithmic) {
  return logarithmic ? std::pow(10.0, value) : value;
}

std::string draw_curve(const Thinned& curve, const Axis& x, const Axis& y, size_t index,
                       const LinePlot& plot) {
  std::string out;
  if (!curve.low.empty()) {
    std::string band;
    for (size_t i = 0; i < curve.x.size(); ++i) {
      if (std::isfinite(curve.high[i])) band += point(x(curve.x[i]), y(curve.high[i])) + " ";
    }
    for (size_t i = curve.x.size(); i-- > 0;) {
      if (std::isfinite(curve.low[i])) band += point(x(curve.x[i]), y(curve.low[i])) + " ";
    }
    out += "<polygon points=\"" + band + "\" fill=\"" + colour(index) + "\" opacity=\"0.15\"/>\n";
  }
  std::string path;
  bool pen_down = false;
  size_t drawn = 0;
  for (size_t i = 0; i < curve.x.size(); ++i) {
    const bool finite = std::isfinite(curve.mean[i]);
    if (finite) {
      path += (pen_down ? "L" : "M") + point(x(curve.x[i]), y(curve.mean[i]));
      ++drawn;
    }
    pen_down = finite;
  }
  out += "<path d=\"" + path + "\" fill=\"none\" stroke=\"" + colour(index) +
         "\" stroke-width=\"1.8\" stroke-linejoin=\"round\"/>\n";
  // Few points (an online probe every k steps) are worth a dot each, with the number on hover.
  if (drawn <= 40) {
    for (size_t i = 0; i < curve.x.size(); ++i) {
      if (!std::isfinite(curve.mean[i])) continue;
      out += "<circle cx=\"" + coordinate(x(curve.x[i])) + "\" cy=\"" +
             coordinate(y(curve.mean[i])) + "\" r=\"2.6\" fill=\"" + colour(index) + "\"><title>" +
             short_number(shown_value(curve.x[i], plot.log_x)) + ": " +
             short_number(shown_value(curve.mean[i], plot.log_y), 4) + "</title></circle>\n";
    }
  }
  return out;
}

/// Bands of shares over one another.
std::string draw_stack(const std::vector<Series>& series, const Axis& x, const Axis& y) {
  std::string out;
  std::vector<double> base(series.empty() ? 0 : series[0].x.size(), 0.0);
  for (size_t s = 0; s < series.size(); ++s) {
    const size_t count = std::min({base.size(), series[s].x.size(), series[s].y.size()});
    std::string above, below;
    for (size_t i = 0; i < count; ++i) {
      const double share = std::isfinite(series[s].y[i]) ? series[s].y[i] : 0.0;
      below = point(x(series[s].x[i]), y(base[i])) + " " + below;
      base[i] += share;
      above += point(x(series[s].x[i]), y(base[i])) + " ";
    }
    out += "<polygon points=\"" + above + below + "\" fill=\"" + colour(s) +
           "\" opacity=\"0.75\"><title>" + escape_html(series[s].name) + "</title></polygon>\n";
  }
  return out;
}

/// Places and texts of an axis's ticks; a logarithmic one has log10 of its values.
std::vector<std::pair<double, std::string>> axis_ticks(const Axis& axis, bool logarithmic) {
  std::vector<std::pair<double, std::string>> ticks;
  if (!logarithmic) {
    for (const double tick : nice_ticks(axis.low, axis.high)) {
      ticks.emplace_back(tick, tick_text(tick));
    }
    return ticks;
  }
  // All of 1, 2, 5 times powers of ten, or over many decades the powers alone.
  const bool wide = axis.high - axis.low > 3;
  for (double power = std::floor(axis.low); power <= axis.high; ++power) {
    for (const double lead : {1.0, 2.0, 5.0}) {
      const double at = power + std::log10(lead);
      if ((wide && lead > 1) || at < axis.low - 1e-9 || at > axis.high + 1e-9) continue;
      ticks.emplace_back(at, tick_text(lead * std::pow(10.0, power)));
    }
  }
  return ticks;
}

/// log10 of what is above 0, else not finite: not drawn.
void take_logarithms(std::vector<double>& values) {
  for (double& value : values) {
    value = value > 0 ? std::log10(value) : std::numeric_limits<double>::quiet_NaN();
  }
}

std::string draw_axes(const Axis& x, const Axis& y, const LinePlot& plot) {
  std::string out;
  const std::string& x_label = plot.x_label;
  for (const auto& [tick, text] : axis_ticks(y, plot.log_y)) {
    out += line_between(x.from, y(tick), x.to, y(tick), kLineColour);
    out += text_at(x.from - 7, y(tick) + 4, text, "end", kMuted) + "\n";
  }
  for (const auto& [tick, text] : axis_ticks(x, plot.log_x)) {
    out += text_at(x(tick), y.from + 16, text, "middle", kMuted) + "\n";
  }
  out += line_between(x.from, y.from, x.to, y.from, kMuted);
  return out + text_at(x.to, y.from + 31, x_label, "end", kMuted) + "\n";
}

}  // namespace

std::vector<double> nice_ticks(double low, double high, int count) {
  const double raw = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double lead = raw / power;
  const double step = (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10) * power;
  std::vector<double> ticks;
  const double slack = step * 1e-9;
  for (double i = std::ceil((low - slack) / step); i * step <= high + slack; ++i) {
    ticks.push_back(i == 0 ? 0.0 : i * step);
  }
  return ticks;
}

std::string line_plot(const LinePlot& asked) {
  LinePlot plot = asked;
  for (Series& series : plot.series) {
    if (plot.log_x) take_logarithms(series.x);
    if (!plot.log_y) continue;
    for (auto* values : {&series.y, &series.low, &series.high}) take_logarithms(*values);
  }
  Range across, up;
  std::vector<LegendEntry> entries;
  for (size_t s = 0; s < plot.series.size(); ++s) {
    for (double value : plot.series[s].x) across.include(value);
    for (const auto* values : {&plot.series[s].y, &plot.series[s].low, &plot.series[s].high}) {
      for (double value : *values) up.include(value);
    }
    entries.push_back({plot.series[s].name, s});
  }
  for (const Level& level : plot.levels) {
    up.include(level.y);
    entries.push_back({level.name, level.colour, true});
  }
  if (plot.stacked) up = {0, 1};
  across.widen();
  up.widen();
  if (!plot.stacked) {
    // Zero is shown where the data come near it; else the data get a small margin.
    const double room = 0.05 * (up.high - up.low);
    up.low = !plot.log_y && up.low >= 0 && up.low < 0.4 * up.high ? 0 : up.low - room;
    up.high += room;
  }
  const Axis x{across.low, across.high, kLeft, kWidth - kRight};
  const Axis y{up.low, up.high, kTop + kPlotHeight, kTop};

  std::string out = open_svg(kTop + kPlotHeight + 38, plot.title) + legend(entries);
  if (plot.stacked) {
    out += draw_stack(plot.series, x, y) + draw_axes(x, y, plot);
  } else {
    out += draw_axes(x, y, plot);
    for (size_t s = 0; s < plot.series.size(); ++s) {
      out += draw_curve(thin(plot.series[s]), x, y, s, plot);
    }
  }
  for (const Level& level : plot.levels) {
    out += line_between(x.from, y(level.y), x.to, y(level.y), colour(level.colour),
                        " stroke-width=\"1.5\" stroke-dasharray=\"5 4\"") +
           "\n";
  }
  return out + "</svg>\n";
}

std::string interval_plot(const IntervalPlot& plot) {
  constexpr double kBar = 9, kGap = 16, kLabels = 190;
  Range range;
  range.include(0);
  size_t bars = 0;
  for (const IntervalRow& row : plot.rows) {
    bars += row.entries.size();
    for (const auto& entry : row.entries) {
      for (double value : {entry.interval.value, entry.interval.low, entry.interval.high}) {
        range.include(value);
      }
    }
  }
  range.widen();
  // Scores are shares more often than not: show how far off all of it is.
  if (range.high > 0.4 && range.high < 1) range.high = 1;
  const double bottom =
      kTop + kBar * static_cast<double>(bars) + kGap * static_cast<double>(plot.rows.size());
  const Axis x{range.low, range.high, kLabels, kWidth - kRight - 34};
  std::vector<LegendEntry> entries;
  for (size_t g = 0; g < plot.groups.size(); ++g) entries.push_back({plot.groups[g], g});

  std::string out = open_svg(bottom + 22, plot.title) + legend(entries);
  for (double tick : nice_ticks(range.low, range.high)) {
    out += line_between(x(tick), kTop, x(tick), bottom, kLineColour);
    out += text_at(x(tick), bottom + 15, tick_text(tick), "middle", kMuted) + "\n";
  }
  double top = kTop + kGap / 2;
  for (const IntervalRow& row : plot.rows) {
    const double height = kBar * static_cast<double>(row.entries.size());
    out += text_at(kLabels - 10, top + height / 2 + 4, row.label, "end", kInk, 12) + "\n";
    for (const auto& [group, interval] : row.entries) {
      const double from = std::min(x(0), x(interval.value));
      const double middle = top + kBar / 2;
      out += "<rect x=\"" + coordinate(from) + "\" y=\"" + coordinate(top + 1) + "\" width=\"" +
             coordinate(std::abs(x(interval.value) - x(0))) + "\" height=\"" +
             coordinate(kBar - 2) + "\" rx=\"1.5\" fill=\"" + colour(group) +
             "\" opacity=\"0.8\"><title>" + escape_html(plot.groups.at(group)) + ": " +
             short_number(interval.value) + " [" + short_number(interval.low) + ", " +
             short_number(interval.high) + "]</title></rect>";
      if (interval.low < interval.high) {
        out += line_between(x(interval.low), middle, x(interval.high), middle, kInk,
                            " stroke-width=\"1.6\"");
      }
      if (group == 0) {
        out += text_at(std::max(x(interval.high), x(interval.value)) + 5, middle + 4,
                       short_number(interval.value), "start", kInk);
      }
      out += "\n";
      top += kBar;
    }
    top += kGap;
  }
  out += line_between(x(0), kTop, x(0), bottom, kMuted);
  return out + "</svg>\n";
}

}  // namespace jepa::eval::report

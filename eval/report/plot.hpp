// SVG plots as text: curves, stacked shares and values with intervals. Colours come from the
// page's CSS variables (html.hpp), so that a plot follows light and dark; without a page the
// fallbacks of the light setting are used.
#pragma once

#include <string>
#include <vector>

namespace jepa::eval::report {

/// One curve. Points whose y is not finite break the line.
struct Series {
  std::string name;
  std::vector<double> x;
  std::vector<double> y;
  std::vector<double> low = {};  ///< of an interval about each y, drawn as a pale band
  std::vector<double> high = {};
};

/// A dashed level across the plot, such as what a random-init encoder reaches.
struct Level {
  std::string name;
  double y = 0;
  size_t colour = 4;  ///< index into the palette of eight
};

struct LinePlot {
  std::string title;
  std::string x_label = "step";
  std::vector<Series> series = {};
  std::vector<Level> levels = {};
  /// Shares that add up: drawn as bands over one another from 0 to 1. All series share their x.
  bool stacked = false;
  /// Logarithmic axes; values at or below 0 are left out.
  bool log_x = false;
  bool log_y = false;
};

/// Draws curves with ticks, grid and legend. A curve of more than 400 points is drawn as the mean
/// of equal spans of x with a pale band from the smallest to the largest value.
std::string line_plot(const LinePlot& plot);

/// The values at positions 1, 2, 5 times a power of ten that cover [low, high], about `count`.
std::vector<double> nice_ticks(double low, double high, int count = 5);

/// A value with its interval; `low` and `high` equal to `value`: none known.
struct Interval {
  double value = 0;
  double low = 0;
  double high = 0;
};

/// One row of an interval plot: a value for each of the plot's groups, where known.
struct IntervalRow {
  std::string label;
  struct Entry {
    size_t group;
    Interval interval;
  };
  std::vector<Entry> entries;
};

struct IntervalPlot {
  std::string title;
  std::vector<std::string> groups;  ///< legend, in drawing order
  std::vector<IntervalRow> rows = {};
};

/// Draws one bar with a whisker for each group of each row, from zero.
std::string interval_plot(const IntervalPlot& plot);

}  // namespace jepa::eval::report

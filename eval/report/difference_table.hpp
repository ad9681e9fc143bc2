// Differences with their intervals, drawn as dot and bar against zero: what a report shows first.
#pragma once

#include <eval/report/html.hpp>
#include <eval/report/plot.hpp>

#include <optional>
#include <string>
#include <vector>

namespace jepa::eval::report {

/// Where a paired difference's interval lies: 1 above zero, -1 below, 0 neither (or of no width).
int side_of_zero(const Interval& difference);

/// "+0.106 [+0.081, +0.130]".
std::string signed_text(const Interval& difference);

/// A value with its interval below, in a table that compares with `neutral`: coloured where clear
/// of it.
Cell estimate_cell(const Interval& estimate, std::optional<double> neutral = std::nullopt);

/// One difference. Rows of one `unit` are drawn on one scale.
struct DifferenceRow {
  std::vector<std::string> names;  ///< what was asked, one for each of the table's first columns
  Interval difference;
  bool less_is_better = false;           ///< errors: a difference below zero is the good one
  std::vector<std::string> values = {};  ///< what the difference is of
  std::string unit = {};                 ///< px, dB; empty: a score
};

struct DifferenceTable {
  std::vector<std::string> names;  ///< heads of the first columns
  std::string difference;          ///< head of the difference, "trained less initialisation"
  std::vector<std::string> values = {};
  std::vector<DifferenceRow> rows = {};
};

/// Draws the table, rows as they come. Colour stands for an interval clear of zero and for nothing
/// else: green on the good side, red on the other.
std::string difference_table(const DifferenceTable& table);

/// One sentence on some differences: which are clear of zero on the good and on the other side, and
/// how many are neither. `names` of a row are joined as "digit (linear)".
std::string difference_sentence(const std::vector<DifferenceRow>& rows, const std::string& above,
                                const std::string& below);

}  // namespace jepa::eval::report

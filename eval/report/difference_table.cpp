#include <eval/report/difference_table.hpp>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <map>

namespace jepa::eval::report {
namespace {

/// Differences drawn on one scale.
struct Scale {
  double low = 0, high = 0;

  void include(const Interval& interval) {
    for (const double value : {interval.low, interval.value, interval.high}) {
      if (!std::isfinite(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
};

/// A score cannot be more than 1 above another that means anything; R2 far below 0 would leave the
/// other rows no room.
constexpr double kMostOfAScore = 1.0;

Tone tone_of(const DifferenceRow& row) {
  const int side = side_of_zero(row.difference) * (row.less_is_better ? -1 : 1);
  return side > 0 ? Tone::kGood : side < 0 ? Tone::kBad : Tone::kMuted;
}

/// Zero as a line, the interval as a bar, the value as a dot.
std::string dot_and_bar(const DifferenceRow& row, const Scale& scale) {
  constexpr double kWidth = 300, kHeight = 18, kEdge = 6;
  const double span = scale.high > scale.low ? scale.high - scale.low : 1;
  const auto x = [&](double value) {
    const double inside = std::clamp(value, scale.low, scale.high);
    return kEdge + (inside - scale.low) / span * (kWidth - 2 * kEdge);
  };
  const Tone tone = tone_of(row);
  const char* colour = tone == Tone::kGood  ? "var(--good,#047857)"
                       : tone == Tone::kBad ? "var(--bad,#b91c1c)"
                                            : "var(--muted,#667085)";
  char text[640];
  std::snprintf(text, sizeof text,
                "<svg class=\"bar\" viewBox=\"0 0 %g %g\" "
                "xmlns=\"http://www.w3.org/2000/svg\">"
                "<line x1=\"%.1f\" y1=\"0\" x2=\"%.1f\" y2=\"%g\" stroke=\"var(--muted,#667085)\"/>"
                "<line x1=\"%.1f\" y1=\"9\" x2=\"%.1f\" y2=\"9\" stroke=\"%s\" stroke-width=\"5\" "
                "opacity=\"0.4\"/>"
                "<circle cx=\"%.1f\" cy=\"9\" r=\"4.5\" fill=\"%s\"/></svg>",
                kWidth, kHeight, x(0), x(0), kHeight, x(row.difference.low), x(row.difference.high),
                colour, x(row.difference.value), colour);
  return text;
}

std::string row_name(const DifferenceRow& row) {
  std::string text = row.names.empty() ? "" : row.names.front();
  std::string more;
  for (size_t i = 1; i < row.names.size(); ++i) more += (i > 1 ? ", " : "") + row.names[i];
  return more.empty() ? text : text + " (" + more + ")";
}

/// The first few of a list, and how many more there are.
std::string few(const std::vector<std::string>& names) {
  constexpr size_t kMost = 2;
  std::string text;
  for (size_t i = 0; i < std::min(kMost, names.size()); ++i) text += (i > 0 ? ", " : "") + names[i];
  if (names.size() > kMost) text += " and " + std::to_string(names.size() - kMost) + " more";
  return text;
}

}  // namespace

Cell estimate_cell(const Interval& estimate, std::optional<double> neutral) {
  Cell cell{.text = short_number(estimate.value, 2),
            .note = short_number(estimate.low, 2) + ", " + short_number(estimate.high, 2)};
  if (neutral && estimate.low > *neutral) cell.tone = Tone::kGood;
  if (neutral && estimate.high < *neutral) cell.tone = Tone::kBad;
  return cell;
}

int side_of_zero(const Interval& difference) {
  if (!(difference.low < difference.high)) return 0;
  return difference.low > 0 ? 1 : difference.high < 0 ? -1 : 0;
}

std::string signed_text(const Interval& difference) {
  const auto number = [](double value) { return (value > 0 ? "+" : "") + short_number(value); };
  if (!(difference.low < difference.high)) return number(difference.value);
  return number(difference.value) + " [" + number(difference.low) + ", " + number(difference.high) +
         "]";
}

std::string difference_table(const DifferenceTable& wanted) {
  std::map<std::string, Scale> scales;
  for (const auto& row : wanted.rows) scales[row.unit].include(row.difference);
  if (const auto scores = scales.find(""); scores != scales.end()) {
    scores->second.low = std::max(scores->second.low, -kMostOfAScore);
    scores->second.high = std::min(scores->second.high, kMostOfAScore);
  }
  Table table{.head = wanted.names, .text_columns = wanted.names.size()};
  table.head.push_back(wanted.difference);
  table.head.emplace_back("against 0");
  table.head.insert(table.head.end(), wanted.values.begin(), wanted.values.end());
  for (const auto& row : wanted.rows) {
    std::vector<Cell> cells;
    for (const auto& name : row.names) cells.push_back({name});
    const Tone tone = tone_of(row);
    cells.push_back(
        {signed_text(row.difference), row.unit, tone == Tone::kMuted ? Tone::kPlain : tone});
    cells.push_back({.text = "", .markup = dot_and_bar(row, scales.at(row.unit))});
    for (const auto& value : row.values) cells.push_back({value});
    table.rows.push_back(std::move(cells));
  }
  return report::table(table);
}

std::string difference_sentence(const std::vector<DifferenceRow>& rows, const std::string& above,
                                const std::string& below) {
  std::vector<std::string> good, bad;
  for (const auto& row : rows) {
    const Tone tone = tone_of(row);
    const std::string text = row_name(row) + " by " + signed_text(row.difference);
    if (tone == Tone::kGood) good.push_back(text);
    if (tone == Tone::kBad) bad.push_back(text);
  }
  std::string sentence;
  if (!good.empty()) sentence = above + ": " + few(good);
  if (!bad.empty()) sentence += (sentence.empty() ? "" : "; ") + below + ": " + few(bad);
  if (good.empty() && !bad.empty()) sentence[0] = static_cast<char>(std::toupper(sentence[0]));
  const size_t open = rows.size() - good.size() - bad.size();
  if (open == 0) return sentence + ".";
  if (sentence.empty()) {
    return "None of " + std::to_string(rows.size()) + " differences is clear of zero.";
  }
  return sentence + "; " + std::to_string(open) + " of " + std::to_string(rows.size()) +
         " not clear of zero.";
}

}  // namespace jepa::eval::report

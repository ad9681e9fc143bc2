#include <eval/watching/curve.hpp>
#include <jepa/errors.hpp>
#include <jepa/printable.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

namespace jepa::eval::watching {
namespace {

constexpr size_t kTableColumns = 5;
constexpr size_t kRowsAtOnce = 256;  // of the table

/// A number of the curve, empty where it is not known.
std::string number(double value) {
  if (!std::isfinite(value)) return "";
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

/// A field of a CSV row: names come from files, and may hold anything.
std::string csv_field(const std::string& text) {
  const std::string safe = printable(text);
  if (safe.find_first_of(",\"") == std::string::npos) return safe;
  std::string quoted = "\"";
  for (const char c : safe) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::map<std::string, std::string> table_attributes(const std::vector<std::string>& columns) {
  std::string names = "frame\nseconds\nsurprise\nmost\nmark";
  for (const auto& column : columns) names += "\n" + printable(column);
  return {{"columns", names}};
}

}  // namespace

CurveWriter::CurveWriter(const std::string& path, std::vector<std::string> columns)
    : path_(path + ".csv"),
      columns_(std::move(columns)),
      file_(std::fopen(path_.c_str(), "w")),
      rows_(path + ".h5", "curve", table_attributes(columns_)) {
  if (file_ == nullptr) {
    throw DataError(path_ + ": cannot be written (" + std::strerror(errno) + ")");
  }
  std::setvbuf(file_, nullptr, _IOLBF, 1 << 12);  // whole rows
  std::string header = "frame,seconds,surprise,most,window,mark";
  for (const auto& column : columns_) header += "," + csv_field(column);
  put(header + "\n");
}

CurveWriter::~CurveWriter() {
  if (file_ != nullptr) std::fclose(file_);
}

void CurveWriter::put(const std::string& line) {
  if (std::fputs(line.c_str(), file_) < 0 || std::ferror(file_) != 0) {
    throw DataError(path_ + ": cannot be written (" + std::strerror(errno) + ")");
  }
}

void CurveWriter::add(const CurveRow& row) {
  char head[64];
  std::snprintf(head, sizeof head, "%lld,%.3f,", static_cast<long long>(row.frame), row.seconds);
  std::string line = head + number(row.surprise) + "," + number(row.most) + "," +
                     (row.window < 0 ? "" : std::to_string(row.window)) + "," + row.mark;
  for (size_t i = 0; i < columns_.size(); ++i) {
    const CurveAnswer answer = i < row.answers.size() ? row.answers[i] : CurveAnswer{};
    line += "," + (answer.name.empty() ? number(answer.value) : csv_field(answer.name));
  }
  put(line + "\n");
  for (const double value : {static_cast<double>(row.frame), row.seconds, row.surprise, row.most,
                             row.mark.empty() ? 0.0 : 1.0}) {
    waiting_.push_back(static_cast<float>(value));
  }
  for (size_t i = 0; i < columns_.size(); ++i) {
    waiting_.push_back(
        static_cast<float>(i < row.answers.size() ? row.answers[i].value : CurveAnswer{}.value));
  }
  if (waiting_.size() >= kRowsAtOnce * (kTableColumns + columns_.size())) flush_table();
}

void CurveWriter::flush_table() {
  if (waiting_.empty()) return;
  const auto width = static_cast<int64_t>(kTableColumns + columns_.size());
  rows_.append(torch::tensor(waiting_).view({-1, width}));
  waiting_.clear();
}

void CurveWriter::finish() {
  flush_table();
  rows_.finish();
}

void CurveOutline::add(const CurveRow& row) {
  if (rows_ % length_ == 0) {
    if (static_cast<int64_t>(spans_.size()) == kPoints) {
      for (size_t i = 0; i < spans_.size() / 2; ++i) {
        const Span& left = spans_[2 * i];
        const Span& right = spans_[2 * i + 1];
        Span both = left.count > 0 ? left : right;
        both.seconds = left.seconds;
        both.row = left.row;
        if (left.count > 0 && right.count > 0) {
          both.low = std::min(left.low, right.low);
          both.high = std::max(left.high, right.high);
          both.sum = left.sum + right.sum;
          both.count = left.count + right.count;
        }
        spans_[i] = both;
      }
      spans_.resize(spans_.size() / 2);
      length_ *= 2;
    }
    if (rows_ % length_ == 0) {
      spans_.push_back({.seconds = row.seconds, .row = rows_});
      spans_.reserve(kPoints);
    }
  }
  ++rows_;
  if (!std::isfinite(row.surprise)) return;
  Span& span = spans_.back();
  span.low = span.count == 0 ? row.surprise : std::min(span.low, row.surprise);
  span.high = span.count == 0 ? row.surprise : std::max(span.high, row.surprise);
  span.sum += row.surprise;
  ++span.count;
}

void RunningQuantile::add(const torch::Tensor& values) {
  const auto flat = values.to(torch::kFloat32).contiguous();
  const float* at = flat.const_data_ptr<float>();
  for (int64_t i = 0; i < flat.numel(); ++i) {
    if (!std::isfinite(at[i])) continue;
    const double bin =
        at[i] > 0 ? std::log(static_cast<double>(at[i]) / 1e-9) / std::log(1.025) : 0;
    ++counts_[static_cast<size_t>(std::clamp<int64_t>(static_cast<int64_t>(bin), 0, kBins - 1))];
    ++total_;
  }
}

double RunningQuantile::value(double share) const {
  const auto wanted = static_cast<int64_t>(std::ceil(share * static_cast<double>(total_)));
  int64_t below = 0;
  for (int64_t i = 0; i < kBins; ++i) {
    below += counts_[static_cast<size_t>(i)];
    if (below >= wanted && below > 0) return 1e-9 * std::pow(1.025, static_cast<double>(i + 1));
  }
  return 0;
}

}  // namespace jepa::eval::watching

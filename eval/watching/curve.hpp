// The surprise curve of a film of any length: written out as it comes, kept only in outline.
#pragma once

#include <jepa/data/hdf5_rows.hpp>

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::watching {

/// What a probe says of the window that ends with a frame.
struct CurveAnswer {
  double value = std::numeric_limits<double>::quiet_NaN();  ///< a quantity, or a class's number
  std::string name = {};  ///< of the class; empty: the value says it
};

/// One frame of those that are watched.
struct CurveRow {
  int64_t frame = 0;   ///< of the film, from 0, with those that are passed over
  double seconds = 0;  ///< since the first frame
  double surprise = std::numeric_limits<double>::quiet_NaN();  ///< mean over tokens; NaN: not known
  double most = std::numeric_limits<double>::quiet_NaN();      ///< of the frame's tokens
  int64_t window = -1;  ///< number of the window that ends with this frame; -1: none
  /// What happened before it: `cut`, see also StreamFrame::mark; joined by `+`.
  std::string mark = {};
  std::vector<CurveAnswer> answers = {};  ///< one a column of the writer; empty: no window ends
};

/// Writes rows to `PATH.csv`, row by row as they come, so that all are there after kill -9, and to
/// `PATH.h5`: `curve` float32 [rows, 5 + columns], frame, seconds, surprise, most, 1 where there is
/// a mark, and the answers, NaN where no window ends; attribute `columns` names them, a line each
/// (complete once finish() was called; until then `PATH.h5.partial`).
class CurveWriter {
 public:
  /// @param columns names of the answers that rows carry
  /// @throws DataError naming the file that cannot be made
  explicit CurveWriter(const std::string& path, std::vector<std::string> columns = {});
  ~CurveWriter();
  CurveWriter(const CurveWriter&) = delete;
  CurveWriter& operator=(const CurveWriter&) = delete;

  /// @throws DataError on a full disk
  void add(const CurveRow& row);
  void finish();

 private:
  void put(const std::string& line);
  void flush_table();

  std::string path_;
  std::vector<std::string> columns_;
  std::FILE* file_ = nullptr;
  Hdf5RowWriter rows_;
  std::vector<float> waiting_;
};

/// A curve in at most `kPoints` spans of equal length with the smallest, mean and largest value of
/// each. Where there are more, two become one.
class CurveOutline {
 public:
  static constexpr int64_t kPoints = 800;

  struct Span {
    double seconds = 0;  ///< of its first row
    int64_t row = 0;
    double low = 0, high = 0, sum = 0;
    int64_t count = 0;  ///< rows whose surprise is known
    double mean() const { return sum / static_cast<double>(count); }
  };

  void add(const CurveRow& row);
  const std::vector<Span>& spans() const { return spans_; }

 private:
  std::vector<Span> spans_;
  int64_t length_ = 1;  // rows of a span
  int64_t rows_ = 0;
};

/// A quantile of values above 0 so far, to 3 %: a histogram over their logarithm.
class RunningQuantile {
 public:
  /// @param values float, any shape; those that are not finite are passed over
  void add(const torch::Tensor& values);
  /// 0 where there is none yet.
  double value(double share) const;

 private:
  static constexpr int64_t kBins = 1200;  // of 2.5 %, from 1e-9 on
  std::array<int64_t, kBins> counts_{};
  int64_t total_ = 0;
};

}  // namespace jepa::eval::watching

// Results of clips with their intervals, as the questions of a comparison record them.
#pragma once

#include <eval/comparison/cell.hpp>

#include <string>

namespace jepa::eval::comparison {

/// Of every resample in a cell.
inline constexpr uint64_t kRecorderSeed = 0;

/// Estimates by name, and what they rest on where that is wanted.
class Recorder {
 public:
  /// For the first `clips` of a source.
  /// @param labels columns that are asked for, which are no units
  /// @param scores takes what the results rest on; null: not wanted
  /// @param prefix of every name
  Recorder(const ClipSource& source, int64_t clips, const std::string& labels, Scores* scores,
           std::string prefix = {});
  /// For `clips` that are independent of each other.
  Recorder(int64_t clips, Scores* scores, std::string prefix = {});

  /// The mean of one value a clip [n].
  void mean(const std::string& name, const torch::Tensor& values);
  /// Over the clips of `wanted` bool [n] alone; nothing where there are none.
  void mean(const std::string& name, const torch::Tensor& values, const torch::Tensor& wanted);
  /// Predictions of classes or quantities.
  void predicted(const std::string& name, const torch::Tensor& said, const torch::Tensor& truth);

  Results results;

 private:
  void add(const std::string& name, const probes::UnitScores& scores, const torch::Tensor& counts);

  torch::Tensor units_;
  int64_t unit_count_ = 0;
  torch::Tensor counts_;
  Scores* scores_;
  std::string prefix_;
};

/// Shares of the clips of each class of `truth` int64 [B] that are read as each, `PREFIXAasB`, and
/// as none of them, `PREFIXAasother`. Nothing where there are more than four classes.
/// @param read int64 [K, B]
void record_confusion(Recorder& record, const torch::Tensor& read, const torch::Tensor& truth,
                      const std::string& prefix);

}  // namespace jepa::eval::comparison

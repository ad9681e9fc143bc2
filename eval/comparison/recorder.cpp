#include <eval/comparison/recorder.hpp>
#include <eval/probes/protocol.hpp>

#include <torch/types.h>

#include <utility>

namespace jepa::eval::comparison {
namespace {

constexpr int64_t kRecorderResamples = 1000;

}  // namespace

Recorder::Recorder(const ClipSource& source, int64_t clips, const std::string& labels,
                   Scores* scores, std::string prefix)
    : scores_(scores), prefix_(std::move(prefix)) {
  const auto units = probes::choose_units(source, "auto", probes::split_names(labels));
  units_ = probes::number_units(units.numbers.narrow(0, 0, clips), unit_count_);
  counts_ = probes::resample_units(unit_count_, kRecorderResamples, kRecorderSeed);
}

Recorder::Recorder(int64_t clips, Scores* scores, std::string prefix)
    : units_(torch::arange(clips)),
      unit_count_(clips),
      counts_(probes::resample_units(clips, kRecorderResamples, kRecorderSeed)),
      scores_(scores),
      prefix_(std::move(prefix)) {}

void Recorder::add(const std::string& name, const probes::UnitScores& scores,
                   const torch::Tensor& counts) {
  results[prefix_ + name] = probes::estimate(scores, counts);
  if (scores_ != nullptr) scores_->insert_or_assign(prefix_ + name, scores);
}

void Recorder::mean(const std::string& name, const torch::Tensor& values) {
  add(name, probes::UnitScores::of_values(values.to(torch::kFloat64), units_, unit_count_),
      counts_);
}

void Recorder::mean(const std::string& name, const torch::Tensor& values,
                    const torch::Tensor& wanted) {
  const auto rows = wanted.nonzero().flatten();
  if (rows.size(0) == 0) return;
  // Units of these clips alone: no resample is without any of them.
  int64_t count = 0;
  const auto units = probes::number_units(units_.index_select(0, rows), count);
  add(name,
      probes::UnitScores::of_values(values.to(torch::kFloat64).index_select(0, rows), units, count),
      probes::resample_units(count, kRecorderResamples, kRecorderSeed));
}

void Recorder::predicted(const std::string& name, const torch::Tensor& said,
                         const torch::Tensor& truth) {
  add(name, probes::UnitScores(said, truth, units_, unit_count_), counts_);
}

}  // namespace jepa::eval::comparison

// The probing protocol: fit on training clips, choose on validation clips, report on test clips
// with an interval over independent units, and always beside controls.
#pragma once

#include <eval/probes/attentive.hpp>
#include <eval/probes/features.hpp>
#include <eval/probes/metrics.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::probes {

/// Clips with labels. Units (digit instances, source segments) should be in one split only.
struct ProbeSources {
  std::shared_ptr<const ClipSource> train;
  std::shared_ptr<const ClipSource> validation;
  std::shared_ptr<const ClipSource> test;
};

/// What is probed and how.
struct ProbeOptions {
  std::string labels;           ///< columns, comma-separated: int64 classes or float quantities
  std::string kind = "linear";  ///< comma-separated: linear, ridge, knn, attentive
  std::string unit;             ///< int64 column of test clips that are not independent; empty: none
  double share = 1.0;           ///< of the training labels that is used, the same of each class
  int64_t resamples = 1000;
  int64_t pixel_values = 512;   ///< numbers to which a clip is averaged down for the pixel control
  int64_t seed = 0;             ///< of the share and the resamples

  /// The options above. Features, attentive grid and loader are described by themselves.
  void describe(OptionVisitor& visit);

  FeatureOptions features;
  AttentiveOptions attentive;
  LoaderOptions loader;
};

/// One probe of one label, beside its controls: "random_init" (same probe, untrained encoder of
/// the same shape), "raw_pixels" (same probe, no encoder), "majority" (the commonest training
/// class, or the mean).
struct ProbeResult {
  std::string probe;
  std::string label;
  std::string metric;   ///< "accuracy" or "r2" (mean over outputs)
  std::string setting;  ///< chosen on validation
  Estimate score;
  std::vector<double> outputs;  ///< R2 of each output; the accuracy alone for classes
  std::map<std::string, Estimate> controls;
  std::map<std::string, Estimate> differences;  ///< score less control, paired over units
  int64_t train_clips = 0;
  int64_t test_clips = 0;
  int64_t test_units = 0;
};

/// Probes `model` on every label with every kind. Clips are read once; features are kept.
/// @param random_init untrained encoder of the same shape, published initialisation
/// @param progress told in words what is being done; may be empty
/// @throws DataError where a source lacks a column or its columns disagree between splits;
///   ConfigError for unknown kinds
std::vector<ProbeResult> run_probes(Encoder& model, Encoder& random_init,
                                    const ProbeSources& sources, const ProbeOptions& options,
                                    const std::function<void(const std::string&)>& progress = {});

/// Rows of `labels` (int64 [n]: as many of each class, at least one; float [n, K]: any) that make
/// up `share` of them, ascending. Of one seed, a smaller share is part of a larger one.
torch::Tensor share_of_labels(const torch::Tensor& labels, double share, uint64_t seed);

/// The results as a JSON list, each {dataset, probe, label, metric, value, low, high, controls,
/// differences, outputs, setting, train_clips, test_clips, test_units}.
std::string results_json(const std::vector<ProbeResult>& results, const std::string& dataset);

/// The results as a table for people, one line a probe.
std::string results_table(const std::vector<ProbeResult>& results);

/// Comma-separated names, blanks around them cut off.
std::vector<std::string> split_names(const std::string& text);

/// Label columns of a source: int64 [E], or float [E, K].
/// @throws DataError as ClipSource::column, or for other types
torch::Tensor label_column(const ClipSource& source, const std::string& name);

}  // namespace jepa::eval::probes

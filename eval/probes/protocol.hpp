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
  /// int64 column of test clips that are not independent; "auto": the first of unit_columns() that
  /// is there; "none": each clip is independent
  std::string unit = "auto";
  double share = 1.0;  ///< of the training labels that is used, the same of each class
  int64_t resamples = 1000;
  int64_t pixel_values = 512;        ///< numbers of a clip in the pixel control of linear probes
  int64_t knn_pixel_values = 32768;  ///< and of k-NN, which takes all pixels where it can
  std::string cache;                 ///< folder for attentive probes' tokens; empty: temporary
  int64_t seed = 0;                  ///< of the share and the resamples

  /// The options above. Features, attentive grid and loader are described by themselves.
  void describe(OptionVisitor& visit);

  FeatureOptions features;
  AttentiveOptions attentive;
  LoaderOptions loader;
};

/// Untrained encoders that a model is probed beside, as independent draws of one initialisation.
/// They are made one at a time, when their turn comes.
struct ControlEncoders {
  std::string name;  ///< "initialisation": the model's own; "published_init"; "start"
  std::string what;  ///< how they were made, in words
  int64_t draws = 0;
  std::function<Encoder(int64_t draw)> make;
};

/// One probe of one label, beside its controls: those of the untrained encoders, "raw_pixels" (same
/// probe, no encoder) and "majority" (the commonest training class, or the mean).
struct ProbeResult {
  std::string probe;
  std::string label;
  std::string metric;   ///< "accuracy" or "r2" (mean over outputs)
  std::string setting;  ///< chosen on validation
  Estimate score;
  std::vector<double> outputs;               ///< R2 of each output; the accuracy alone for classes
  std::map<std::string, Estimate> controls;  ///< mean over draws
  std::map<std::string, Estimate> differences;       ///< score less control, paired over units
  std::map<std::string, std::vector<double>> draws;  ///< of controls with several
  std::map<std::string, std::string> control_notes;  ///< how each was made
  int64_t train_clips = 0;
  int64_t test_clips = 0;
  int64_t test_units = 0;
  std::string unit;  ///< column that says which clips are not independent; "clip": none does
  TensorMap parts;   ///< of the model's probe, see Candidate::parts and saved_probe.hpp
};

/// Probes `model` on every label with every kind. Clips are read once for each encoder; of features
/// and tokens those of one encoder are kept at a time, tokens on disk.
/// @param controls the first one stands beside the model in tables
/// @param progress told in words what is being done; may be empty
/// @throws DataError where a source lacks a column or its columns disagree between splits;
///   ConfigError for unknown kinds
std::vector<ProbeResult> run_probes(Encoder& model, const std::vector<ControlEncoders>& controls,
                                    const ProbeSources& sources, const ProbeOptions& options,
                                    const std::function<void(const std::string&)>& progress = {});

/// Which clips of a source are not independent of each other.
struct UnitChoice {
  std::string column;          ///< "clip": each is taken as independent
  torch::Tensor numbers = {};  ///< int64 [E], 0 .. count - 1
  int64_t count = 0;
  std::string text = {};  ///< the choice in words
};

/// Columns that name units, in the order in which they are looked for.
const std::vector<std::string>& unit_columns();

/// @param wanted see ProbeOptions::unit
/// @param labels columns that are asked for, which are no units
/// @throws DataError where a named column is missing or not int64 [E]
UnitChoice choose_units(const ClipSource& source, const std::string& wanted,
                        const std::vector<std::string>& labels);

/// Rows of `labels` (int64 [n]: as many of each class, at least one; float [n, K]: any) that make
/// up `share` of them, ascending. Of one seed, a smaller share is part of a larger one.
torch::Tensor share_of_labels(const torch::Tensor& labels, double share, uint64_t seed);

/// The results as a JSON list, each {dataset, probe, label, metric, value, low, high, controls,
/// differences, draws, control_notes, outputs, setting, train_clips, test_clips, test_units, unit}.
std::string results_json(const std::vector<ProbeResult>& results, const std::string& dataset);

/// The results as a table for people, one line a probe, the difference from the first control
/// before all else; below it what the controls and the units are.
std::string results_table(const std::vector<ProbeResult>& results);

/// Comma-separated names, blanks around them cut off.
std::vector<std::string> split_names(const std::string& text);

/// Label columns of a source: int64 [E], or float [E, K].
/// @throws DataError as ClipSource::column, or for other types
torch::Tensor label_column(const ClipSource& source, const std::string& name);

}  // namespace jepa::eval::probes

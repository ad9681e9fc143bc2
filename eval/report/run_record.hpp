// A run folder read back: config.ini, metrics.jsonl, probes.json and extra pictures.
#pragma once

#include <eval/report/plot.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace jepa::eval::report {

/// One number over the steps at which it was logged. NaN stands for one that was not finite.
struct Curve {
  std::vector<double> steps;
  std::vector<double> values;
};

/// One probe of one label, with the controls it was measured beside.
struct ProbeResult {
  std::string dataset;
  std::string probe;   ///< linear, attentive, knn, ...
  std::string label;   ///< what was asked: digit, direction, position, ...
  std::string metric;  ///< accuracy, r2, ...
  Interval value;
  /// initialisation (the model's own), published_init, raw_pixels, majority or mean; files of
  /// earlier versions have random_init, a weaker control than the model's own initialisation
  std::map<std::string, Interval> controls;
  std::map<std::string, Interval> differences;       ///< value less control, paired over units
  std::map<std::string, std::string> control_notes;  ///< how each was made
  std::string unit;                                  ///< what intervals resample; empty: unknown
  int64_t test_units = 0;

  /// Where the paired difference from the model's own initialisation lies: 1 clear above zero, -1
  /// clear below, 0 neither or not measured.
  int against_initialisation() const;
};

/// A picture or film with what it shows.
struct Picture {
  std::string caption;
  std::string png = {};  ///< file bytes; empty: it is a film
  std::string mp4 = {};  ///< file bytes; empty: it is a picture
  int width = 0;         ///< CSS pixels; 0: as wide as the column allows
};

/// Everything a run left behind.
struct RunRecord {
  std::string folder;
  std::string name;                          ///< last part of the folder's path
  std::map<std::string, double> numbers;     ///< of the lines of type "run" and "end"
  std::map<std::string, std::string> texts;  ///< of the same lines
  std::map<std::string, Curve> curves;       ///< every number of the step lines, by name
  std::vector<std::pair<int64_t, std::string>> verdicts;  ///< step and sentence
  int64_t last_step = 0;
  std::vector<ProbeResult> probes;
  std::string config;
  std::vector<Picture> pictures;   ///< media/*.png and media/*.mp4, by name
  std::vector<std::string> notes;  ///< what the reader of the report should know about the files
};

/// The files of probe results in a run folder, `probes*.json`, by name.
std::vector<std::string> probe_files(const std::string& folder);

/// Reads a run folder. `probes*.json`, `config.ini` and `media/` may be absent; a last line of
/// metrics.jsonl that was cut short (a killed run) is left out and noted.
/// @throws DataError naming the file, and in a log or list the line or entry: missing, damaged,
/// steps going back, a result without a value.
RunRecord read_run(const std::string& folder);

/// Reads probe results: a JSON list, or an object with the list under `results`.
/// @throws DataError naming the file and the entry.
std::vector<ProbeResult> read_probe_results(const std::string& path);

}  // namespace jepa::eval::report

// The report of one or several runs: one HTML file that says whether the model learned, and shows
// what that rests on.
#pragma once

#include <eval/report/run_record.hpp>

#include <string>
#include <vector>

namespace jepa::eval::report {

/// Pictures that need the model and its data, made by the caller (run_media.hpp).
struct ReportMedia {
  std::vector<Picture> masks;     ///< each mask configuration over a clip
  std::vector<Picture> features;  ///< principal components of the tokens beside the frames
};

struct RunReport {
  RunRecord run;
  ReportMedia media;
};

/// What became of a run, in one word.
enum class Outcome { kLearned, kLearnedInPart, kUnclear, kDidNotLearn, kCollapsed };

/// The outcome and the sentences that it rests on.
///
/// Collapsed: the last diagnostics verdict says so. Learned: a probe's paired difference from the
/// model's own initialisation is clear above zero and none is clear below; in part: some are below.
/// Did not learn: none is above. Unclear: no probe has been measured beside the initialisation.
struct Assessment {
  Outcome outcome = Outcome::kUnclear;
  std::string headline;
  std::vector<std::string> sentences;
};
/// By the rules above, from the run's diagnostics and probes.
Assessment assess(const RunRecord& run);

/// The report as HTML; several runs share a summary table at the top.
/// @param more_markup a section of another room's making, set before the runs' own
std::string report_html(const std::string& title, const std::vector<RunReport>& runs,
                        const std::string& more_markup = {});

/// Writes `report_html` to `path`, whole or not at all. @throws DataError naming the file.
void write_report(const std::string& path, const std::string& title,
                  const std::vector<RunReport>& runs, const std::string& more_markup = {});

}  // namespace jepa::eval::report

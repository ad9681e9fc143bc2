// What the probes found, as a report shows it.
#pragma once

#include <eval/report/run_record.hpp>

#include <string>
#include <vector>

namespace jepa::eval::report {

/// One sentence, then the differences from the model's own initialisation, largest first, each as
/// dot and bar against zero; values, controls and how they were made behind a click.
/// @param with_dataset a column for `ProbeResult::dataset`
std::string probe_section(const std::vector<ProbeResult>& results, bool with_dataset);

/// "raw_pixels" -> "raw pixels".
std::string with_spaces(std::string name);

}  // namespace jepa::eval::report

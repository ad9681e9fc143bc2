// What `plan` found: rows of controllers, as numbers and as a page.
#pragma once

#include <eval/dynamics/diagnostics.hpp>
#include <eval/dynamics/episodes.hpp>
#include <eval/dynamics/films.hpp>

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace jepa::examples {

/// A line of the result.
struct PlanRow {
  std::string name;
  std::string what;
  eval::dynamics::EpisodeResult result;
  bool ever = false;  ///< success at any step counts, not at the last

  eval::dynamics::Rate rate() const;
};

/// `name`'s line for people, under `plan_head()`.
std::string plan_line(const PlanRow& row);
std::string plan_head();

nlohmann::json plan_numbers(const PlanRow& row);

/// The section of a page. @param unit of distances @param wall of two rooms alone
std::string plan_markup(const std::vector<PlanRow>& rows, const std::string& unit,
                        const std::optional<eval::dynamics::WallTest>& wall);

/// What the wall test found, in a line.
std::string wall_line(const eval::dynamics::WallTest& wall);

/// Draws the first `count` rollouts over their true frames: `folder`/rollout_N.mp4, added to
/// `films`, and strips of pictures as markup.
std::string draw_rollouts(const eval::dynamics::HeldOutClips& clips,
                          const eval::dynamics::Rollouts& rollouts, int64_t count,
                          const std::string& folder, std::vector<std::string>& films);

/// A table of `plan_settings()`, what is nested a row.
std::string settings_markup(const nlohmann::json& settings);

/// Writes `folder`/report.html. @param run its curves come first, where it has any
/// @param films files shown at its end
void write_plan_page(const std::string& title, const std::string& run, const std::string& folder,
                     const std::string& section, const std::vector<std::string>& films);

}  // namespace jepa::examples

#include <eval/report/html.hpp>
#include <eval/report/image.hpp>
#include <eval/report/run_report.hpp>
#include <eval/report/video_writer.hpp>
#include <examples/plan_report.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

namespace jepa::examples {

namespace html = eval::report;
using eval::dynamics::Rate;
using eval::dynamics::wilson;

Rate PlanRow::rate() const { return wilson(ever ? result.ever : result.at_end, result.episodes); }

std::string plan_head() {
  char text[120];
  std::snprintf(text, sizeof text, "%-16s %21s  %5s  %5s  %4s  %7s  %8s", "controller",
                "success % [95 %]", "ever", "px", "n", "dropped", "s/plan");
  return text;
}

std::string plan_line(const PlanRow& row) {
  const auto& r = row.result;
  const Rate rate = row.rate();
  char text[160];
  std::snprintf(text, sizeof text, "%-16s %5.1f [%5.1f, %5.1f]  %5.1f  %5.1f  %4lld  %7lld  %8.4f",
                row.name.c_str(), 100 * rate.rate, 100 * rate.low, 100 * rate.high,
                100 * wilson(r.ever, r.episodes).rate, r.distance,
                static_cast<long long>(r.episodes), static_cast<long long>(r.dropped),
                r.seconds_per_decision);
  return text;
}

nlohmann::json plan_numbers(const PlanRow& row) {
  const auto& r = row.result;
  const Rate rate = row.rate(), ever = wilson(r.ever, r.episodes);
  return {{"what", row.what},
          {"success_counts", row.ever ? "at any step" : "at the last step"},
          {"success_rate", rate.rate},
          {"low", rate.low},
          {"high", rate.high},
          {"ever", ever.rate},
          {"episodes", r.episodes},
          {"dropped", r.dropped},
          {"distance", r.distance},
          {"seconds", r.seconds},
          {"seconds_per_decision", r.seconds_per_decision}};
}

std::string plan_markup(const std::vector<PlanRow>& rows, const std::string& unit,
                        const std::optional<eval::dynamics::WallTest>& wall) {
  const auto percent = [](double share) { return html::short_number(100 * share); };
  html::Table table{.head = {"controller", "success [%]", "ever [%]",
                             "distance at the end [" + unit + "]", "episodes", "dropped",
                             "s a decision"}};
  for (const auto& row : rows) {
    const auto& r = row.result;
    const Rate rate = row.rate();
    table.rows.push_back(
        {{.text = row.name, .note = row.what},
         {.text = percent(rate.rate), .note = percent(rate.low) + " to " + percent(rate.high)},
         {.text = percent(wilson(r.ever, r.episodes).rate)},
         {.text = html::short_number(r.distance)},
         {.text = std::to_string(r.episodes)},
         {.text = std::to_string(r.dropped)},
         {.text = html::short_number(r.seconds_per_decision)}});
  }
  std::string markup = html::heading(2, "Planning", "planning") +
                       html::paragraph(
                           "Success at the last step; towards goals ahead: at any. Dropped are "
                           "episodes whose start was a success already.") +
                       html::table(table);
  if (!wall) return markup;
  html::Table walls{.head = {"pushed at the wall", "imagined beyond it [%]", "truly beyond it [%]"},
                    .rows = {{{.text = "door more than 10 px away"},
                              {.text = percent(wall->far)},
                              {.text = percent(wall->true_far)}},
                             {{.text = "door 6 to 10 px away"},
                              {.text = percent(wall->near)},
                              {.text = percent(wall->true_near)}},
                             {{.text = "through the door"},
                              {.text = percent(wall->door)},
                              {.text = percent(wall->true_door)}}}};
  const std::string depth = "Pushed for 20 steps far from the door, the dot is imagined " +
                            html::short_number(wall->depth) + " px beyond the wall's middle; " +
                            "truly " + html::short_number(wall->true_depth) + " px.";
  return markup +
         html::paragraph("A model that walks through walls scores what the straight line scores:") +
         html::table(walls) + html::paragraph(depth);
}

std::string wall_line(const eval::dynamics::WallTest& wall) {
  char text[240];
  std::snprintf(text, sizeof text,
                "wall test          imagined beyond the wall %.2f (truly %.2f), near the door %.2f "
                "(%.2f); through the door %.2f (%.2f); depth after 20 steps %.1f px (%.1f)",
                wall.far, wall.true_far, wall.near, wall.true_near, wall.door, wall.true_door,
                wall.depth, wall.true_depth);
  return text;
}

std::string draw_rollouts(const eval::dynamics::HeldOutClips& clips,
                          const eval::dynamics::Rollouts& rollouts, int64_t count,
                          const std::string& folder, std::vector<std::string>& films) {
  constexpr double kFramesASecond = 2;  // a block of actions lies between two
  constexpr int kWidth = 1040;
  std::string off;
  for (const double error : rollouts.error) {
    off += (off.empty() ? "" : ", ") + html::short_number(error);
  }
  std::string markup =
      html::heading(3, "Rollouts over the true frames") +
      html::paragraph(
          "Shown the first frame and the actions alone, the model predicts latents; a "
          "linear probe reads the place from them (orange, with its path). Blue: where "
          "the dot was. Mean distance over " +
          std::to_string(clips.clips.size(0)) + " clips, frame by frame: " + off + " px.");
  for (int64_t i = 0; i < std::min(count, clips.clips.size(0)); ++i) {
    const auto frames = eval::dynamics::draw_rollout(clips, rollouts, i);
    const std::string name = "rollout_" + std::to_string(i);
    films.push_back(folder + "/" + name + ".mp4");
    html::write_video(films.back(), frames, kFramesASecond);
    markup += html::figure(
        html::image(html::encode_png(html::frame_grid(frames, frames.size(0))), name, kWidth),
        name);
  }
  return markup;
}

std::string settings_markup(const nlohmann::json& settings) {
  const auto plain = [](const nlohmann::json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump();
  };
  html::Table table{.head = {"made with", ""}, .text_columns = 2};
  for (const auto& [name, value] : settings.items()) {
    std::string text;
    if (value.is_object()) {
      for (const auto& [key, of] : value.items()) {
        const std::string said = plain(of);
        if (!said.empty()) text += (text.empty() ? "" : ", ") + key + " " + said;
      }
    } else {
      text = plain(value);
    }
    table.rows.push_back({{.text = name}, {.text = text}});
  }
  return html::table(table);
}

void write_plan_page(const std::string& title, const std::string& run, const std::string& folder,
                     const std::string& section, const std::vector<std::string>& shown) {
  std::vector<html::RunReport> runs;
  if (std::filesystem::exists(run + "/metrics.jsonl")) runs.push_back({html::read_run(run), {}});
  std::string films;
  for (const std::filesystem::path path : shown) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    films += html::figure(html::video(bytes, path.stem().string(), 528),
                          path.stem().string() + ": the world, and what was imagined");
  }
  html::write_report(folder + "/report.html", title, runs, section + films);
}

}  // namespace jepa::examples

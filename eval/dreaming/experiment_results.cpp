#include <eval/dreaming/experiment.hpp>
#include <eval/report/html.hpp>
#include <eval/report/plot.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdarg>
#include <cstdio>

namespace jepa::eval::dreaming {
namespace {

using Json = nlohmann::ordered_json;

/// Text as printf has it.
[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  return text;
}

std::string score_text(const ScoreInterval* s) {
  return s == nullptr ? "-" : format("%.0f [%.0f, %.0f]", s->mean, s->low, s->high);
}

/// A row of the results: an arm or a control.
struct Row {
  std::string name;
  std::string label;
  bool control = false;
  const ScoreInterval* real = nullptr;   // rewards
  const ScoreInterval* lived = nullptr;  // frames, in the real game; null: a stage of before
  const ScoreInterval* dream = nullptr;  // frames, in the dream, which has no rewards; null: none
  Cost cost = {};
};

const StageRecord* find(const Experiment& experiment, const std::string& name) {
  for (const auto& record : experiment.records()) {
    if (record.name == name) return &record;
  }
  return nullptr;
}

std::string main_stage(const Experiment& experiment) {
  const auto& o = experiment.options();
  return controller_stage(o.play.rounds, o.controller.temperature);
}

const ScoreInterval* score_of(const StageRecord& record, const std::string& name) {
  const auto found = record.scores.find(name);
  return found == record.scores.end() ? nullptr : &found->second;
}

std::vector<Row> all_rows(const Experiment& experiment) {
  std::vector<Row> rows;
  const auto* dream = find(experiment, "play-" + main_stage(experiment));
  rows.push_back({"dream", "learned in the dream", false, &dream->scores.at("real"),
                  score_of(*dream, lived_name("real")), &dream->scores.at("dream"),
                  dream_cost(experiment)});
  if (const auto* real = find(experiment, "play-controller-real")) {
    rows.push_back({"real", "the same, learned in the real game", false, &real->scores.at("real"),
                    score_of(*real, lived_name("real")), &real->scores.at("dream"),
                    real_cost(experiment)});
  }
  const auto* controls = find(experiment, "play-controls");
  const auto add_of = [&](const StageRecord& record, const char* name, const std::string& label) {
    const auto* found = score_of(record, name);
    if (found != nullptr) {
      rows.push_back({name, label, true, found, score_of(record, lived_name(name))});
    }
  };
  const auto add = [&](const char* name, const std::string& label) {
    add_of(*controls, name, label);
  };
  const auto number = [&](const char* name) {
    const auto found = controls->numbers.find(name);
    return found == controls->numbers.end() ? 0.0 : found->second;
  };
  add("held_random", "held random (collects the first round)");
  add("uniform_random", "random at every decision");
  add("best_constant", format("best constant action (%g)", number("best_constant")));
  add("swap_sides", format("swaps sides every %g decisions", number("swap_period")));
  if (const auto* untrained = find(experiment, "play-untrained")) {
    add_of(*untrained, "untrained", "untrained controllers");
  }
  return rows;
}

Json score_json(const ScoreInterval* s) {
  if (s == nullptr) return Json();
  return {{"mean", s->mean},
          {"low", s->low},
          {"high", s->high},
          {"deviation", s->deviation},
          {"episodes", s->episodes}};
}

/// Records of the table over temperatures, coldest first.
std::vector<const StageRecord*> table_records(const Experiment& experiment) {
  std::vector<const StageRecord*> records;
  for (const double temperature : experiment.options().temperatures) {
    const auto name = controller_stage(experiment.options().play.rounds, temperature);
    if (const auto* record = find(experiment, "play-" + name)) records.push_back(record);
  }
  return records;
}

const StageRecord& last_model(const Experiment& experiment) {
  return *find(experiment,
               format("model-%lld", static_cast<long long>(experiment.options().play.rounds)));
}

/// Of a candidate in the real game.
int64_t real_episodes(const SearchOptions& search) {
  return search.real_episodes > 0 ? search.real_episodes : search.episodes;
}

/// Whether the dream's arm is clear of every control that it must beat.
bool clear_of_controls(const std::vector<Row>& rows) {
  return std::all_of(rows.begin(), rows.end(), [&](const Row& row) {
    return !row.control || row.real->high < rows.front().real->low;
  });
}

double share_of_real(const std::vector<Row>& rows) {
  return rows.size() > 1 && rows[1].name == "real" ? rows[0].real->mean / rows[1].real->mean : 0;
}

std::string verdict(const std::vector<Row>& rows) {
  std::string text = clear_of_controls(rows)
                         ? "The controller learned in the dream is above every control, intervals "
                           "disjoint."
                         : "The controller learned in the dream is not above every control with "
                           "disjoint intervals.";
  if (const double share = share_of_real(rows); share > 0) {
    text +=
        format(" It reaches %.0f %% of the same controller learned in the real game.", 100 * share);
  }
  return text;
}

}  // namespace

Cost dream_cost(const Experiment& experiment) {
  const auto& o = experiment.options();
  const double temperature = o.controller.temperature;
  return cost_of(experiment.records(), [&](const std::string& name) {
    if (name.starts_with("collect-") || name.starts_with("vision-") || name.starts_with("model-")) {
      return true;
    }
    for (int64_t round = 1; round <= o.play.rounds; ++round) {
      if (name == controller_stage(round, temperature)) return true;
    }
    return false;
  });
}

Cost real_cost(const Experiment& experiment) {
  const auto last = main_stage(experiment);
  Cost cost = dream_cost(experiment);
  for (const auto& record : experiment.records()) {
    const double sign = record.name == last ? -1 : record.name == "controller-real" ? 1 : 0;
    cost.seconds += sign * record.seconds;
    cost.frames += static_cast<int64_t>(sign) * record.frames;
    cost.imagined += static_cast<int64_t>(sign) * record.imagined;
  }
  return cost;
}

std::string experiment_summary(const Experiment& experiment) {
  const auto rows = all_rows(experiment);
  const auto& o = experiment.options();
  Json arms = Json::object(), controls = Json::object(), table = Json::array(),
       stages = Json::array();
  for (const auto& row : rows) {
    Json entry = {{"real", score_json(row.real)},
                  {"real_lived", score_json(row.lived)},
                  {"dream", score_json(row.dream)},
                  {"episodes", row.real->episodes},
                  {"seconds", row.cost.seconds},
                  {"real_frames", row.cost.frames},
                  {"imagined_decisions", row.cost.imagined}};
    (row.control ? controls : arms)[row.name] = entry;
  }
  const auto& model = last_model(experiment);
  for (const auto* record : table_records(experiment)) {
    table.push_back({{"temperature", record->numbers.at("temperature")},
                     {"dream", score_json(&record->scores.at("dream"))},
                     {"real", score_json(&record->scores.at("real"))},
                     {"real_lived", score_json(score_of(*record, lived_name("real")))},
                     {"recall", model.numbers.at("recall")},
                     {"false_alarms", model.numbers.at("false_alarms")},
                     {"dreamed_recall", record->numbers.at("dreamed_recall")},
                     {"dreamed_false_share", record->numbers.at("dreamed_false_share")}});
  }
  for (const auto& record : experiment.records())
    stages.push_back(Json::parse(record_json(record)));
  return Json{{"world", experiment.info().name},
              {"repeat", experiment.info().repeat},
              {"frame_limit", experiment.info().frame_limit},
              {"units",
               {{"real", "rewards of an episode"},
                {"real_lived", "frames of an episode"},
                {"dream", "frames of an episode"}}},
              {"seed", o.seed},
              {"controller", o.controller.kind},
              {"budget",
               {{"population", o.controller.population},
                {"episodes", o.controller.episodes},
                {"real_episodes", real_episodes(o.controller)},
                {"generations", o.controller.generations}}},
              {"above_every_control", clear_of_controls(rows)},
              {"share_of_real", share_of_real(rows)},
              {"arms", arms},
              {"controls", controls},
              {"temperatures", table},
              {"stages", stages}}
             .dump(2) +
         "\n";
}

std::string experiment_text(const Experiment& experiment) {
  const auto rows = all_rows(experiment);
  std::string text = format("%-40s %-20s %-20s %-20s %10s %12s\n", "of an episode", "real reward",
                            "real frames lived", "dream frames lived", "seconds", "real frames");
  for (const auto& row : rows) {
    text += format("%-40s %-20s %-20s %-20s", row.label.c_str(), score_text(row.real).c_str(),
                   score_text(row.lived).c_str(), score_text(row.dream).c_str());
    text += row.control ? "\n"
                        : format(" %10.0f %12lld\n", row.cost.seconds,
                                 static_cast<long long>(row.cost.frames));
  }
  const auto& model = last_model(experiment);
  text += format("\n%-12s %-20s %-20s %-20s %10s %14s\n", "temperature", "dream frames lived",
                 "real frames lived", "real reward", "recall", "dreamed recall");
  for (const auto* record : table_records(experiment)) {
    text +=
        format("%-12g %-20s %-20s %-20s %10.2f %7.2f (%.2f)\n", record->numbers.at("temperature"),
               score_text(&record->scores.at("dream")).c_str(),
               score_text(score_of(*record, lived_name("real"))).c_str(),
               score_text(&record->scores.at("real")).c_str(), model.numbers.at("recall"),
               record->numbers.at("dreamed_recall"), record->numbers.at("dreamed_false_share"));
  }
  return text + "\n" + verdict(rows) + "\n";
}

std::string experiment_section(const Experiment& experiment) {
  using report::Cell;
  const auto rows = all_rows(experiment);
  const auto& o = experiment.options();
  std::string body = report::heading(2, "Learned in a dream: " + experiment.info().name);
  body += report::callout(
      verdict(rows),
      {format("%lld real episodes each, the same ones for all (ten untrained controllers play the "
              "first tenth of them each); means with their 95 %% intervals. Reward is the game's, "
              "summed over an episode; a dream has none, only frames lived. An action is held for "
              "%lld frames.",
              static_cast<long long>(o.play.episodes),
              static_cast<long long>(experiment.info().repeat)),
       format("Both searched %lld generations of %lld candidates: in the dream %lld episodes each, "
              "in the real game %lld.",
              static_cast<long long>(o.controller.generations),
              static_cast<long long>(o.controller.population),
              static_cast<long long>(o.controller.episodes),
              static_cast<long long>(real_episodes(o.controller)))},
      clear_of_controls(rows) ? report::Tone::kGood : report::Tone::kWarning);
  report::Table scores{.head = {"policy", "real reward", "real frames lived", "dream frames lived",
                                "seconds", "real frames"}};
  report::IntervalPlot plot{.title = "reward of an episode", .groups = {"real"}};
  const auto cell = [](const ScoreInterval* s) {
    if (s == nullptr) return Cell{"-"};
    return Cell{format("%.0f", s->mean), format("[%.0f, %.0f]", s->low, s->high)};
  };
  for (const auto& row : rows) {
    scores.rows.push_back({{row.label}, cell(row.real), cell(row.lived), cell(row.dream)});
    if (!row.control) {
      scores.rows.back().push_back({report::short_number(row.cost.seconds)});
      scores.rows.back().push_back({report::short_number(static_cast<double>(row.cost.frames))});
    }
    plot.rows.push_back({row.label, {{0, {row.real->mean, row.real->low, row.real->high}}}});
  }
  body += report::table(scores) + report::interval_plot(plot);
  const auto& model = last_model(experiment);
  body += report::heading(3, "Temperatures");
  body += report::paragraph(format(
      "A dream's score is no evidence: what counts is the real one. Recall: share of %g true "
      "deaths in held-out episodes with an end predicted in the last %lld decisions (%.1f false "
      "alarms among 1000 others). Dreamed recall: the same where M imagines those decisions; in "
      "small print the share of windows before them in which the dream ends too.",
      model.numbers.at("held_out_deaths"), static_cast<long long>(o.model.recall_window),
      model.numbers.at("false_alarms")));
  report::Table table{.head = {"temperature", "dream frames lived", "real frames lived",
                               "real reward", "recall", "dreamed recall"}};
  for (const auto* record : table_records(experiment)) {
    table.rows.push_back({{format("%g", record->numbers.at("temperature"))},
                          cell(&record->scores.at("dream")),
                          cell(score_of(*record, lived_name("real"))),
                          cell(&record->scores.at("real")),
                          {format("%.2f", model.numbers.at("recall"))},
                          {format("%.2f", record->numbers.at("dreamed_recall")),
                           format("%.2f", record->numbers.at("dreamed_false_share"))}});
  }
  body += report::table(table);
  report::LinePlot curves{.title = "score of the candidates, mean", .x_label = "generation"};
  const auto curve = [&](const std::string& stage, const std::string& name) {
    const auto* record = find(experiment, stage);
    if (record == nullptr || !record->curves.contains("score")) return;
    report::Series series{name, {}, record->curves.at("score")};
    for (size_t g = 0; g < series.y.size(); ++g) series.x.push_back(static_cast<double>(g + 1));
    curves.series.push_back(std::move(series));
  };
  curve(main_stage(experiment), "decisions lived in the dream");
  curve("controller-real", "reward in the real game, over the frames of a decision");
  if (!curves.series.empty()) body += report::line_plot(curves);
  return body;
}

}  // namespace jepa::eval::dreaming

// Cells to rows, summary.json and tables.
#include <eval/physics/surprise_grid.hpp>
#include <eval/report/difference_table.hpp>
#include <eval/report/html.hpp>
#include <jepa/io/json_text.hpp>
#include <jepa/version.hpp>

#include <c10/util/StringUtil.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>

#include <algorithm>
#include <cstdio>

namespace jepa::eval::physics {
namespace {

using Json = nlohmann::ordered_json;
using probes::Estimate;

constexpr uint64_t kBootstrapSeed = 7;
constexpr double kChance = 0.5;
constexpr int64_t kFewestScenes = 5;  // resamples of fewer say nothing

/// Whether a metric needs the matched changes.
bool of_changes(Metric metric) {
  return metric == Metric::kFiredChanged || metric == Metric::kChangedOverLawful ||
         metric == Metric::kBrokenOverChanged;
}

std::vector<RuleValues> measured(const std::vector<const SurpriseCell*>& cells, Metric metric,
                                 int64_t resamples) {
  std::vector<RuleValues> draws;
  for (const auto* cell : cells) {
    if (of_changes(metric) && cell->test.front().size(2) < 3) return {};
    draws.push_back(measure(cell->test, metric, cell->threshold, resamples, kBootstrapSeed));
  }
  return draws;
}

std::vector<const SurpriseCell*> cells_of(const std::vector<SurpriseCell>& cells,
                                          const std::string& arm) {
  std::vector<const SurpriseCell*> found;
  for (const auto& cell : cells) {
    if (cell.arm == arm && cell.tera == 0) found.push_back(&cell);
  }
  return found;
}

Json to_json(const std::vector<Estimate>& estimates) {
  Json json = Json::object();
  for (size_t i = 0; i < estimates.size(); ++i) {
    const auto& names = rule_names();
    json[i < names.size() ? names[i] : "all"] = {
        {"value", estimates[i].value}, {"low", estimates[i].low}, {"high", estimates[i].high}};
  }
  return json;
}

std::string rule_title(size_t rule) {
  return rule < rule_names().size() ? rule_names()[rule] : "all rules";
}

report::Cell estimate_cell(const Estimate& e, bool chance) {
  return report::estimate_cell({e.value, e.low, e.high},
                               chance ? std::optional(kChance) : std::nullopt);
}

/// Rules by arms of one metric. @param chance one half is what guessing reaches
std::string metric_table(const std::vector<SurpriseRow>& rows, Metric metric, bool chance) {
  report::Table table{.head = {"rule"}};
  std::vector<const std::vector<Estimate>*> columns;
  for (const auto& row : rows) {
    const auto found = row.metrics.find(metric_name(metric));
    if (found == row.metrics.end()) continue;
    table.head.push_back(row.arm);
    columns.push_back(&found->second);
  }
  if (columns.empty()) return "";
  for (size_t rule = 0; rule < columns.front()->size(); ++rule) {
    std::vector<report::Cell> line;
    line.push_back({.text = rule_title(rule)});
    for (const auto* column : columns) line.push_back(estimate_cell((*column)[rule], chance));
    table.rows.push_back(line);
  }
  table.notes_below = true;
  return report::table(table);
}

std::string difference_table(const std::vector<SurpriseRow>& rows, Metric metric) {
  const std::string name = metric_name(metric);
  report::Table table{.head = {"rule"}};
  for (const auto& row : rows) {
    if (!row.less_untrained.empty()) table.head.push_back(row.arm);
  }
  for (size_t rule = 0; rule <= rule_names().size(); ++rule) {
    std::vector<report::Cell> line;
    line.push_back({.text = rule_title(rule)});
    for (const auto& row : rows) {
      if (row.less_untrained.empty()) continue;
      const Estimate& e = row.less_untrained.at(name)[rule];
      auto cell = estimate_cell(e, false);
      if (e.low > 0) cell.tone = report::Tone::kGood;
      if (e.high < 0) cell.tone = report::Tone::kBad;
      line.push_back(cell);
    }
    table.rows.push_back(line);
  }
  table.notes_below = true;
  return report::table(table);
}

/// Rules on which an arm is above one half and above the untrained, both intervals clear (`clear`);
/// or those on which it is not.
std::vector<std::string> rules_where(const SurpriseRow& row, Metric metric, bool clear) {
  std::vector<std::string> rules;
  const auto& values = row.metrics.at(metric_name(metric));
  const auto& differences = row.less_untrained.at(metric_name(metric));
  for (size_t rule = 0; rule < rule_names().size(); ++rule) {
    if ((values[rule].low > kChance && differences[rule].low > 0) == clear) {
      rules.push_back(rule_names()[rule]);
    }
  }
  return rules;
}

std::string clear_text(const SurpriseRow& row, Metric metric) {
  const auto clear = rules_where(row, metric, true), not_clear = rules_where(row, metric, false);
  std::string text = "on " + std::to_string(clear.size()) + " of " +
                     std::to_string(rule_names().size()) + " rules";
  if (!clear.empty()) text += " (" + c10::Join(", ", clear) + ")";
  if (!not_clear.empty()) text += ", not on " + c10::Join(", ", not_clear);
  return text;
}

std::string clear_sentence(const SurpriseRow& row) {
  if (row.scenes < kFewestScenes) {
    return row.arm + ": " + std::to_string(row.scenes) +
           " scenes of each rule are too few to tell.";
  }
  return row.arm + ": clear of one half and of untrained networks by pairs " +
         clear_text(row, Metric::kRelative) + "; by sets " + clear_text(row, Metric::kSets) + ".";
}

std::string interval_text(const Estimate& e) {
  char text[64];
  std::snprintf(text, sizeof text, "%.2f [%.2f, %.2f]", e.value, e.low, e.high);
  return text;
}

}  // namespace

std::vector<SurpriseRow> summarise_surprise(const SurpriseOptions& options,
                                            const std::vector<SurpriseCell>& cells) {
  std::vector<SurpriseRow> rows;
  for (const auto& arm : surprise_arms(options)) {
    const auto own = cells_of(cells, arm);
    if (own.empty()) continue;
    const auto untrained = cells_of(cells, "untrained_" + arm);
    SurpriseRow row{.arm = arm,
                    .draws = static_cast<int64_t>(own.size()),
                    .scenes = own[0]->test.front().size(0),
                    .past = own[0]->past};
    for (const Metric metric : all_metrics()) {
      const auto draws = measured(own, metric, options.resamples);
      if (draws.empty()) continue;
      row.metrics[metric_name(metric)] = pooled(draws, kBootstrapSeed);
      if ((metric == Metric::kRelative || metric == Metric::kSets) && !untrained.empty()) {
        row.less_untrained[metric_name(metric)] = pooled_difference(
            draws, measured(untrained, metric, options.resamples), kBootstrapSeed);
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<comparison::ScaleCurve> surprise_scale(const SurpriseOptions& options,
                                                   const std::vector<SurpriseCell>& cells) {
  std::vector<comparison::CellRecord> records;
  for (const auto& cell : cells) {
    if (!is_trained(options, cell.arm)) continue;
    comparison::CellRecord record{
        .arm = cell.arm, .tera = cell.tera > 0 ? cell.tera : options.tera, .seed = cell.seed};
    const auto add = [&](const char* name, const auto& accuracy) {
      std::vector<torch::Tensor> rules;
      for (const auto& rule : cell.test) rules.push_back(accuracy(rule.to(torch::kFloat64)));
      const auto values = torch::cat(rules);
      const auto scores =
          probes::UnitScores::of_values(values, torch::arange(values.size(0)), values.size(0));
      record.scores.insert_or_assign(name, scores);
      record.results[name] = {scores.value(), scores.value(), scores.value()};
    };
    add("surprise/pairs",
        [](const torch::Tensor& rule) { return relative_accuracy(rule, kBroken, kLawful, kMean); });
    add("surprise/sets",
        [](const torch::Tensor& rule) { return set_accuracy(rule, kBroken, kLawful, kMean); });
    records.push_back(std::move(record));
  }
  return comparison::fit_scale(records);
}

std::string surprise_json(SurpriseOptions options, const std::vector<SurpriseRow>& rows,
                          const std::vector<comparison::ScaleCurve>& scale, double seconds) {
  Json json{{"commit", commit()},
            {"seconds", seconds},
            {"options", dump_options(options.sections())},
            {"rules", rule_names()}};
  json["rows"] = Json::array();
  for (const auto& row : rows) {
    Json metrics = Json::object();
    for (const auto& [name, values] : row.metrics) metrics[name] = to_json(values);
    Json made{{"arm", row.arm},
              {"draws", row.draws},
              {"scenes", row.scenes},
              {"past", row.past},
              {"metrics", metrics}};
    if (!row.less_untrained.empty()) {
      for (const Metric metric : {Metric::kRelative, Metric::kSets}) {
        const std::string name = metric_name(metric);
        made[name + "_less_untrained"] = to_json(row.less_untrained.at(name));
        const bool told = row.scenes >= kFewestScenes;
        made[name + "_clear_rules"] =
            told ? rules_where(row, metric, true) : std::vector<std::string>();
      }
    }
    json["rows"].push_back(made);
  }
  json["scale"] = Json::parse(comparison::scale_json(scale));
  return json_text(json, 2) + "\n";
}

std::string surprise_table(const std::vector<SurpriseRow>& rows) {
  std::string text =
      "shares of pairs, and of sets of two pairs, whose films that break the rule surprise more\n";
  for (const auto& row : rows) {
    char head[128];
    std::snprintf(head, sizeof head, "\n%s (%lld of it, a past of %lld frames)\n", row.arm.c_str(),
                  static_cast<long long>(row.draws), static_cast<long long>(row.past));
    text += head;
    for (size_t rule = 0; rule <= rule_names().size(); ++rule) {
      std::string line = "  " + rule_title(rule);
      line.resize(15, ' ');
      text += line;
      for (const Metric metric : {Metric::kRelative, Metric::kSets}) {
        const std::string name = metric_name(metric);
        text += (metric == Metric::kSets ? "  sets " : " pairs ") +
                interval_text(row.metrics.at(name)[rule]);
        if (row.less_untrained.empty()) continue;
        text += " less untrained " + interval_text(row.less_untrained.at(name)[rule]);
      }
      text += "\n";
    }
    const auto all = [&](Metric metric) {
      const auto found = row.metrics.find(metric_name(metric));
      return found == row.metrics.end() ? std::string("-") : interval_text(found->second.back());
    };
    text += "  AUROC " + all(Metric::kAuroc) + ", absolute " + all(Metric::kAbsolute) +
            "\n  matched change over lawful " + all(Metric::kChangedOverLawful) +
            ", broken over matched change " + all(Metric::kBrokenOverChanged) + "\n";
  }
  text += "\n";
  for (const auto& row : rows) {
    if (!row.less_untrained.empty()) text += clear_sentence(row) + "\n";
  }
  return text;
}

std::string surprise_section(const SurpriseOptions& options, const std::vector<SurpriseRow>& rows) {
  std::vector<std::string> sentences;
  for (const auto& row : rows) {
    if (!row.less_untrained.empty()) sentences.push_back(clear_sentence(row));
  }
  std::string markup = report::heading(2, "Surprise");
  markup += report::callout("Which film surprises more", sentences, report::Tone::kPlain);
  markup += report::paragraph(
      "Two films are one, bit for bit, up to a frame; then one of them breaks a rule. A model "
      "trained on lawful films alone sees windows of " +
      std::to_string(options.clip_frames) +
      " frames, is told the first of them and is surprised by the others. " +
      std::to_string(options.test_scenes) +
      " scenes of two pairs for each rule; each ending is lawful in one pair of a scene and breaks "
      "the rule in the other, so neither what is there nor how it ends gives the answer away. The "
      "length of the past is chosen once for each arm, on other scenes.");
  std::string pasts;
  for (const auto& row : rows) {
    pasts += (pasts.empty() ? "" : "; ") + row.arm + " " + std::to_string(row.draws) +
             " drawn, past " + std::to_string(row.past);
  }
  markup += report::paragraph(pasts + ".", report::Tone::kMuted);
  const auto add = [&](const std::string& title, const std::string& note, Metric metric,
                       bool chance) {
    const auto table = metric_table(rows, metric, chance);
    if (table.empty()) return;
    markup += report::heading(3, title) + report::paragraph(note, report::Tone::kMuted) + table;
  };
  add("Relative accuracy: pairs",
      "Pairs whose broken film surprises more, mean over windows; "
      "95 % intervals over scenes and seeds. Coloured: clear of one half.",
      Metric::kRelative, true);
  add("Relative accuracy: sets",
      "Scenes whose two broken films together surprise more than the "
      "two lawful ones, as IntPhys counts: how surprising an ending is by itself cancels.",
      Metric::kSets, true);
  markup += report::heading(3, "Pairs, less untrained networks") +
            difference_table(rows, Metric::kRelative) +
            report::heading(3, "Sets, less untrained networks") +
            difference_table(rows, Metric::kSets);
  add("The matched change",
      "Pairs in which the lawful film with a light that comes on, in as many "
      "pixels as the other two differ in, surprises more than without: one half is what "
      "understanding should reach, 1 a detector of change.",
      Metric::kChangedOverLawful, false);
  add("Broken against the matched change",
      "Pairs in which the broken film surprises more than "
      "the matched change.",
      Metric::kBrokenOverChanged, true);
  std::string more;
  const auto detail = [&](const std::string& title, Metric metric, bool chance) {
    const auto table = metric_table(rows, metric, chance);
    if (!table.empty()) more += report::heading(4, title) + table;
  };
  detail("Pairs, max over windows", Metric::kRelativeMax, true);
  detail("Sets, max over windows", Metric::kSetsMax, true);
  detail("AUROC, mean over windows", Metric::kAuroc, true);
  detail("AUROC, max over windows", Metric::kAurocMax, true);
  detail("Absolute accuracy: one threshold for all rules, from validation", Metric::kAbsolute,
         true);
  detail("Lawful films above it", Metric::kFiredLawful, false);
  detail("Broken films above it", Metric::kFiredBroken, false);
  detail("Matched changes above it", Metric::kFiredChanged, false);
  return markup + report::details("Max over windows, AUROC, single films", more);
}

}  // namespace jepa::eval::physics

#include <eval/report/html.hpp>
#include <eval/report/run_report.hpp>
#include <jepa/io/atomic_file.hpp>

#include <algorithm>
#include <cmath>
#include <set>

namespace jepa::eval::report {
namespace {

/// Curves drawn in one plot, and how to read it.
struct PlotPlan {
  std::string title;
  std::vector<std::string> names;  ///< a trailing `*` takes every name with that beginning
  std::string caption;
  bool stacked = false;
};

const std::vector<PlotPlan>& plot_plans() {
  static const std::vector<PlotPlan> plans = {
      {"Loss",
       {"loss", "loss_*"},
       "Falls when the model learns and when it collapses: read it with the diagnostics."},
      {"Where the token variance is",
       {"position_share", "clip_share", "rest_share"},
       "Explained by a token's position alone, by its clip alone, and the rest, which is what a "
       "token should carry. Position filling the plot: position codes. Clip: clip codes.",
       true},
      {"Content predicted",
       {"predicted_content"},
       "R squared of the predictions on what tells clips apart (targets less their position's "
       "mean): 1 is all of it, 0 no more than the position says, however low the loss."},
      {"Rank of the tokens",
       {"rankme", "effective_rank", "content_rank"},
       "Directions in use. Content: after taking away what position explains. Falling to a few: "
       "dimensional collapse."},
      {"Spread of the tokens",
       {"std_median", "std_min", "cosine"},
       "Per-dimension standard deviation (median, smallest) and mean cosine of two tokens. "
       "Deviations at 0 or cosine at 1: all tokens are one point."},
      {"Online probe",
       {"probe_*"},
       "Ridge on held-out labelled clips while training: what the loss cannot say."},
      {"Agreement of two views",
       {"agreement_*"},
       "Invariance: difference of the views. Variance: 1 where the projections of all clips are "
       "one point, 0 where they fill every direction. Shift: error of the shift read back, 0.67 "
       "by chance."},
      {"Gradient norm", {"grad_norm_*"}, ""},
      {"Learning rate", {"lr"}, ""},
      {"Momentum of the target encoder", {"momentum"}, ""},
      {"Weight decay", {"weight_decay"}, ""},
  };
  return plans;
}

/// Names of the run's curves that a plan's patterns take, in the plan's order.
std::vector<std::string> matching(const RunRecord& run, const PlotPlan& plan) {
  std::vector<std::string> names;
  for (const std::string& pattern : plan.names) {
    for (const auto& [name, curve] : run.curves) {
      const bool taken = pattern.ends_with('*')
                             ? name.starts_with(pattern.substr(0, pattern.size() - 1))
                             : name == pattern;
      if (taken && std::find(names.begin(), names.end(), name) == names.end()) {
        names.push_back(name);
      }
    }
  }
  return names;
}

std::string with_spaces(std::string name) {
  if (name == "random_init") return "random-init";
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

std::string draw(const RunRecord& run, const PlotPlan& plan,
                 const std::vector<std::string>& names) {
  LinePlot plot{.title = plan.title, .stacked = plan.stacked};
  for (const std::string& name : names) {
    const Curve& curve = run.curves.at(name);
    plot.series.push_back({with_spaces(name), curve.steps, curve.values});
  }
  return figure(line_plot(plot), plan.caption);
}

/// Every curve of the run: the known ones grouped, the others each on its own behind a click.
std::string curves_section(const RunRecord& run) {
  std::vector<std::string> shown, others;
  std::set<std::string> taken;
  for (const PlotPlan& plan : plot_plans()) {
    const auto names = matching(run, plan);
    if (names.empty()) continue;
    shown.push_back(draw(run, plan, names));
    taken.insert(names.begin(), names.end());
  }
  for (const auto& [name, curve] : run.curves) {
    if (!taken.contains(name)) others.push_back(draw(run, {with_spaces(name), {}, ""}, {name}));
  }
  std::string out;
  if (!shown.empty()) out += heading(3, "Training") + grid(shown);
  if (!others.empty()) out += details("Other numbers that were logged", grid(others));
  return out;
}

Cell interval_cell(const Interval& interval, Tone tone = Tone::kPlain) {
  Cell cell{short_number(interval.value), "", tone};
  if (interval.low < interval.high) {
    cell.note = "[" + short_number(interval.low) + ", " + short_number(interval.high) + "]";
  }
  return cell;
}

/// Names of the controls that occur, the usual ones first.
std::vector<std::string> control_names(const std::vector<ProbeResult>& results) {
  std::vector<std::string> names;
  std::set<std::string> all;
  for (const auto& result : results) {
    for (const auto& [name, value] : result.controls) all.insert(name);
  }
  for (const char* usual : {"random_init", "raw_pixels", "majority", "mean"}) {
    if (all.erase(usual)) names.push_back(usual);
  }
  names.insert(names.end(), all.begin(), all.end());
  return names;
}

Tone result_tone(const ProbeResult& result) {
  const int against = result.against_random_init();
  return against > 0 ? Tone::kGood : against < 0 ? Tone::kBad : Tone::kPlain;
}

std::string probe_table(const std::vector<ProbeResult>& results, bool with_dataset) {
  const auto controls = control_names(results);
  const bool with_difference = std::any_of(results.begin(), results.end(), [](const auto& r) {
    return r.differences.contains("random_init");
  });
  Table table{.text_columns = with_dataset ? 4u : 3u};
  if (with_dataset) table.head = {"run"};
  for (const char* name : {"label", "probe", "metric", "trained"}) table.head.push_back(name);
  for (const auto& name : controls) table.head.push_back(with_spaces(name));
  if (with_difference) table.head.push_back("trained less random-init");
  for (const ProbeResult& result : results) {
    std::vector<Cell> row;
    if (with_dataset) row.push_back({with_spaces(result.dataset)});
    for (const auto& text : {result.label, result.probe, result.metric}) {
      row.push_back({with_spaces(text)});
    }
    row.push_back(interval_cell(result.value, result_tone(result)));
    for (const auto& name : controls) {
      const auto found = result.controls.find(name);
      row.push_back(found == result.controls.end() ? Cell{"-", "", Tone::kMuted}
                                                   : interval_cell(found->second));
    }
    if (with_difference) {
      const auto found = result.differences.find("random_init");
      row.push_back(found == result.differences.end()
                        ? Cell{"-", "", Tone::kMuted}
                        : interval_cell(found->second, result_tone(result)));
    }
    table.rows.push_back(std::move(row));
  }
  return report::table(table) +
         paragraph(
             "Values on held-out units with 95 % intervals. Green: above random-init, the paired "
             "difference clear of zero (where there is none: the intervals apart); red: "
             "below.",
             Tone::kMuted);
}

std::string probe_plot(const std::vector<ProbeResult>& results) {
  const auto controls = control_names(results);
  IntervalPlot plot{.title = "Frozen encoder against its controls", .groups = {"trained"}};
  for (const auto& name : controls) plot.groups.push_back(with_spaces(name));
  for (const ProbeResult& result : results) {
    IntervalRow row{with_spaces(result.label) + " (" + with_spaces(result.probe) + ")",
                    {{0, result.value}}};
    for (size_t i = 0; i < controls.size(); ++i) {
      const auto found = result.controls.find(controls[i]);
      if (found != result.controls.end()) row.entries.push_back({i + 1, found->second});
    }
    plot.rows.push_back(std::move(row));
  }
  return interval_plot(plot);
}

std::string duration_text(double seconds) {
  if (std::isnan(seconds)) return "n/a";
  if (seconds < 90) return short_number(seconds) + " s";
  if (seconds < 5400) return short_number(seconds / 60) + " min";
  return short_number(seconds / 3600) + " h";
}

double number(const RunRecord& run, const std::string& name) {
  const auto found = run.numbers.find(name);
  return found == run.numbers.end() ? std::nan("") : found->second;
}

std::string tiles_section(const RunRecord& run) {
  std::vector<Tile> all{{"steps", short_number(static_cast<double>(run.last_step))}};
  const double seconds = number(run, "train_seconds"), clips = number(run, "clips");
  const double wait = number(run, "loader_wait_share"), peak = number(run, "peak_rss_mb");
  const auto loss = run.curves.find("loss");
  if (!std::isnan(clips)) {
    all.push_back({"clips", short_number(clips),
                   seconds > 0 ? short_number(clips / seconds) + " a second" : ""});
  }
  if (!std::isnan(seconds)) all.push_back({"training time", duration_text(seconds)});
  if (!std::isnan(peak)) all.push_back({"peak memory", short_number(peak) + " MB"});
  if (!std::isnan(wait)) {
    all.push_back({"waited for data", short_number(std::round(1000 * wait) / 10, 2) + " %",
                   "of the training time", wait > 0.05 ? Tone::kWarning : Tone::kPlain});
  }
  if (loss != run.curves.end()) {
    all.push_back({"loss", short_number(loss->second.values.back()),
                   "from " + short_number(loss->second.values.front())});
  }
  return tiles(all);
}

std::string media_section(std::string_view title, std::string_view how_to_read,
                          const std::vector<Picture>& pictures) {
  if (pictures.empty()) return "";
  std::vector<std::string> figures;
  for (const Picture& picture : pictures) {
    const int width = picture.width > 0 ? picture.width : 480;
    figures.push_back(figure(picture.mp4.empty() ? image(picture.png, picture.caption, width)
                                                 : video(picture.mp4, picture.caption, width),
                             picture.caption));
  }
  return heading(3, title) + paragraph(how_to_read, Tone::kMuted) + grid(figures);
}

/// The lines of type "run" and "end" as they are, the numbers after the words.
std::string facts_table(const RunRecord& run) {
  Table table{.head = {"", ""}, .text_columns = 2};
  for (const auto& [name, text] : run.texts) {
    if (name != "verdict") table.rows.push_back({{with_spaces(name)}, {text}});
  }
  for (const auto& [name, value] : run.numbers) {
    table.rows.push_back({{with_spaces(name)}, {short_number(value, 4)}});
  }
  return report::table(table);
}

Tone tone_of(Outcome outcome) {
  switch (outcome) {
    case Outcome::kLearned:
      return Tone::kGood;
    case Outcome::kLearnedInPart:
      return Tone::kWarning;
    case Outcome::kUnclear:
      return Tone::kMuted;
    case Outcome::kDidNotLearn:
    case Outcome::kCollapsed:
      return Tone::kBad;
  }
  return Tone::kPlain;
}

std::string run_section(const RunReport& report) {
  const RunRecord& run = report.run;
  const Assessment assessment = assess(run);
  std::string out = callout(assessment.headline, assessment.sentences, tone_of(assessment.outcome));
  for (const std::string& note : run.notes) out += paragraph(note, Tone::kWarning);
  out += tiles_section(run);
  if (!run.probes.empty()) {
    out += heading(3, "What the frozen encoder knows") + probe_table(run.probes, false) +
           figure(probe_plot(run.probes), "Whiskers: 95 % intervals.");
  }
  out += curves_section(run);
  out +=
      media_section("Masks over a clip",
                    "Above the frames, below what the context encoder sees of them; what is to be "
                    "predicted in orange, what is left out in blue-grey.",
                    report.media.masks);
  out += media_section("Features: the first three principal components as colours",
                       "Each clip beside its tokens. One and the same pattern beside every clip: "
                       "tokens say where they stand. One colour a clip: they say which clip it is. "
                       "Colours that follow what moves: they say what is there.",
                       report.media.features);
  out += media_section("More pictures", "", run.pictures);
  out += heading(3, "How it was made");
  out += details("Machine, versions and sizes", facts_table(run));
  if (!run.config.empty()) {
    out += details("Configuration, every option resolved", preformatted(run.config));
  }
  return out;
}

std::string percent(double share) { return short_number(100 * share, 2); }

/// "66 / 1 / 33 %" at one end of the curves.
std::string shares_text(const RunRecord& run, bool at_end) {
  std::string out;
  for (const char* name : {"position_share", "clip_share", "rest_share"}) {
    const auto curve = run.curves.find(name);
    if (curve == run.curves.end()) return "";
    const auto& values = curve->second.values;
    out += (out.empty() ? "" : " / ") + percent(at_end ? values.back() : values.front());
  }
  return out + " %";
}

std::string list(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

}  // namespace

Assessment assess(const RunRecord& run) {
  std::vector<std::string> above, below;
  size_t compared = 0;
  for (const ProbeResult& result : run.probes) {
    const std::string name = with_spaces(result.label) + " (" + with_spaces(result.probe) + ")";
    compared += result.controls.contains("random_init") ? 1 : 0;
    const int against = result.against_random_init();
    if (against > 0) above.push_back(name);
    if (against < 0) below.push_back(name);
  }
  const std::string verdict = run.verdicts.empty() ? "" : run.verdicts.back().second;

  Assessment out;
  if (verdict.starts_with("collapsed")) {
    out = {Outcome::kCollapsed, "Collapsed", {}};
  } else if (compared == 0) {
    out = {Outcome::kUnclear,
           verdict.starts_with("drifting") ? "Drifting, and not yet compared with random-init"
                                           : "Not yet compared with a random-init encoder",
           {}};
  } else if (above.empty()) {
    out = {Outcome::kDidNotLearn, "Did not learn: no probe is clear above random-init", {}};
  } else {
    out.outcome = below.empty() ? Outcome::kLearned : Outcome::kLearnedInPart;
    out.headline = (below.empty() ? "Learned: clear above random-init on "
                                  : "Learned in part: clear above random-init on ") +
                   std::to_string(above.size()) + " of " + std::to_string(compared) + " probes";
  }
  if (!above.empty()) out.sentences.push_back("Above random-init: " + list(above) + ".");
  if (!below.empty()) out.sentences.push_back("Below random-init: " + list(below) + ".");
  if (!verdict.empty()) {
    out.sentences.push_back("Diagnostics at step " + std::to_string(run.verdicts.back().first) +
                            ": " + verdict + ".");
  }
  if (const std::string last = shares_text(run, true); !last.empty()) {
    out.sentences.push_back("Token variance by position / clip / rest: " + last +
                            "; at the start " + shares_text(run, false) + ".");
  }
  return out;
}

std::string report_html(const std::string& title, const std::vector<RunReport>& runs,
                        const std::string& more_markup) {
  std::string body = heading(1, title);
  if (runs.size() == 1) return page(title, body + more_markup + run_section(runs.front()));

  Table overview{.head = {"run", "outcome", "steps", "training time", "peak memory"},
                 .text_columns = 2};
  std::vector<ProbeResult> results;
  for (const auto& [run, media] : runs) {
    const Assessment assessment = assess(run);
    overview.rows.push_back({{run.name},
                             {assessment.headline, "", tone_of(assessment.outcome)},
                             {short_number(static_cast<double>(run.last_step))},
                             {duration_text(number(run, "train_seconds"))},
                             {short_number(number(run, "peak_rss_mb")) + " MB"}});
    for (ProbeResult result : run.probes) {
      result.dataset = run.name;  // two runs may be on the same data
      results.push_back(std::move(result));
    }
  }
  body += table(overview);
  if (!results.empty()) body += probe_table(results, true);
  body += more_markup;
  for (const RunReport& report : runs) {
    body += heading(2, report.run.name, report.run.name) + run_section(report);
  }
  return page(title, body);
}

void write_report(const std::string& path, const std::string& title,
                  const std::vector<RunReport>& runs, const std::string& more_markup) {
  write_file_atomic(path, report_html(title, runs, more_markup));
}

}  // namespace jepa::eval::report

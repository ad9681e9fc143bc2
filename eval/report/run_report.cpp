#include <eval/report/html.hpp>
#include <eval/report/probe_section.hpp>
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

std::string draw(const RunRecord& run, const PlotPlan& plan,
                 const std::vector<std::string>& names) {
  LinePlot plot{.title = plan.title, .stacked = plan.stacked};
  for (const std::string& name : names) {
    const Curve& curve = run.curves.at(name);
    plot.series.push_back({with_spaces(name), curve.steps, curve.values});
  }
  return figure(line_plot(plot), plan.caption);
}

/// Where the loss went.
std::string training_sentence(const RunRecord& run) {
  std::string text = "In " + short_number(static_cast<double>(run.last_step)) + " steps";
  const auto loss = run.curves.find("loss");
  if (loss != run.curves.end() && !loss->second.values.empty()) {
    text += " the loss went from " + short_number(loss->second.values.front()) + " to " +
            short_number(loss->second.values.back());
  }
  return text + ".";
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
  if (!shown.empty()) {
    out += heading(3, "Training") + paragraph(training_sentence(run)) + grid(shown);
  }
  if (!others.empty()) out += details("Other numbers that were logged", grid(others));
  return out;
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
                   "of the training time"});
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

/// Colour stands for paired intervals clear of zero and for nothing else.
Tone tone_of(Outcome outcome) { return outcome == Outcome::kLearned ? Tone::kGood : Tone::kPlain; }

std::string run_section(const RunReport& report) {
  const RunRecord& run = report.run;
  const Assessment assessment = assess(run);
  std::string out = callout(assessment.headline, assessment.sentences, tone_of(assessment.outcome));
  for (const std::string& note : run.notes) out += paragraph(note);
  if (!run.probes.empty()) {
    const bool several = std::any_of(run.probes.begin(), run.probes.end(), [&](const auto& probe) {
      return probe.dataset != run.probes.front().dataset;
    });
    out += heading(3, "What the frozen encoder knows") + probe_section(run.probes, several);
  }
  out += tiles_section(run);
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

}  // namespace

Assessment assess(const RunRecord& run) {
  size_t above = 0, below = 0, measured = 0;
  for (const ProbeResult& result : run.probes) {
    measured += result.differences.contains("initialisation") ? 1 : 0;
    const int against = result.against_initialisation();
    above += against > 0 ? 1 : 0;
    below += against < 0 ? 1 : 0;
  }
  const std::string verdict = run.verdicts.empty() ? "" : run.verdicts.back().second;

  Assessment out;
  if (verdict.starts_with("collapsed")) {
    out = {Outcome::kCollapsed, "Collapsed", {}};
  } else if (measured == 0) {
    out = {Outcome::kUnclear,
           verdict.starts_with("drifting")
               ? "Drifting, and not yet compared with its own initialisation"
               : "Not yet compared with its own initialisation",
           {}};
  } else if (above == 0) {
    out = {Outcome::kDidNotLearn,
           "Did not learn: no probe is clear above the model's own initialisation",
           {}};
  } else {
    out.outcome = below == 0 ? Outcome::kLearned : Outcome::kLearnedInPart;
    out.headline = std::string(below == 0 ? "Learned" : "Learned in part") +
                   ": clear above the model's own initialisation on " + std::to_string(above) +
                   " of " + std::to_string(measured) + " probes" +
                   (below == 0 ? "" : ", below on " + std::to_string(below));
  }
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
  if (!results.empty()) {
    body += heading(2, "What the frozen encoders know") + probe_section(results, true);
  }
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

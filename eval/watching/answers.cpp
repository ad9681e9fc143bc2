#include <eval/report/html.hpp>
#include <eval/report/plot.hpp>
#include <eval/watching/answers.hpp>
#include <jepa/errors.hpp>
#include <jepa/printable.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace jepa::eval::watching {
namespace {

constexpr int64_t kDrawnColumns = 12;  // of one probe; more are in the curve's files alone

std::string class_name(const probes::SavedProbe& about, int64_t index) {
  const auto at = static_cast<size_t>(index);
  return at < about.names.size() ? about.names[at] : std::to_string(index);
}

/// The name of output `index` of a probe that is called `name`.
std::string column_name(const std::string& name, const probes::SavedProbe& about, int64_t index) {
  const bool several = about.classes == 0 && about.outputs() > 1;
  return several ? name + "_" + std::to_string(index) : name;
}

/// What a probe is called: its label, with the kind where a label has several.
std::vector<std::string> probe_names(const std::vector<probes::SavedProbe>& all) {
  std::map<std::string, int> probes_of;
  for (const auto& probe : all) ++probes_of[probe.label];
  std::vector<std::string> names;
  for (const auto& probe : all) {
    names.push_back(probes_of[probe.label] > 1 ? probe.label + "_" + probe.kind : probe.label);
  }
  return names;
}

}  // namespace

ProbeAnswers::ProbeAnswers(const WatchOptions& options, const WatchedModel& model,
                           torch::Device device)
    : saved_(probes::read_probes(options.probes)),
      loaded_(encoders::load_encoder(WeightFile::open(options.weights), {.which = saved_.module})) {
  probes::require_encoder(saved_, options.probes, *loaded_.encoder,
                          {model.channels, model.surprise.window, model.height, model.width});
  loaded_.encoder->to(device);
  how_.layer = saved_.layer;
  how_.pixels = loaded_.options.pixels;
  how_.device = device;
  const auto names = probe_names(saved_.probes);
  for (size_t i = 0; i < saved_.probes.size(); ++i) {
    const probes::SavedProbe& about = saved_.probes[i];
    const int64_t outputs = about.outputs();
    for (int64_t k = 0; k < (about.classes > 0 ? 1 : outputs); ++k) {
      columns_.push_back(column_name(names[i], about, k));
    }
    asked_.push_back(
        {about,
         probes::restore_probe(about, saved_, loaded_.encoder->output_width(), device,
                               options.probes),
         std::vector<CurveOutline>(static_cast<size_t>(outputs <= kDrawnColumns ? outputs : 0)),
         std::vector<int64_t>(static_cast<size_t>(about.classes))});
  }
}

std::vector<CurveAnswer> ProbeAnswers::answers(Asked& asked,
                                               const torch::Tensor& prediction) const {
  std::vector<CurveAnswer> said;
  if (asked.about.classes > 0) {
    const auto index = prediction.argmax().item<int64_t>();
    ++asked.counts[static_cast<size_t>(index)];
    said.push_back({static_cast<double>(index), class_name(asked.about, index)});
  } else {
    for (int64_t k = 0; k < prediction.size(0); ++k) {
      said.push_back({prediction[k].item<double>(), ""});
    }
  }
  return said;
}

void ProbeAnswers::add(const torch::Tensor& windows) {
  const auto tokens = probes::frozen_tokens(loaded_.encoder, windows, how_);
  const auto pooled = probes::pool_tokens(tokens, saved_.pool);
  std::vector<std::vector<CurveAnswer>> rows(static_cast<size_t>(windows.size(0)));
  for (auto& asked : asked_) {
    const auto prediction = asked.probe.predict(asked.about.kind == "attentive" ? tokens : pooled);
    for (size_t b = 0; b < rows.size(); ++b) {
      for (auto& answer : answers(asked, prediction[static_cast<int64_t>(b)])) {
        rows[b].push_back(std::move(answer));
      }
    }
  }
  for (auto& row : rows) waiting_.push_back(std::move(row));
}

std::vector<CurveAnswer> ProbeAnswers::take(const CurveRow& row) {
  TORCH_CHECK(!waiting_.empty(), "answers of a window that was not asked about");
  auto said = std::move(waiting_.front());
  waiting_.pop_front();
  size_t column = 0;
  for (auto& asked : asked_) {
    for (size_t k = 0; k < asked.outlines.size(); ++k) {
      const bool classes = asked.about.classes > 0;
      const double value = said[classes ? column : column + k].value;
      const double drawn = classes ? (static_cast<size_t>(value) == k ? 1.0 : 0.0) : value;
      asked.outlines[k].add({.frame = row.frame, .seconds = row.seconds, .surprise = drawn});
    }
    column += asked.about.classes > 0 ? 1 : static_cast<size_t>(asked.about.outputs());
  }
  return said;
}

std::string ProbeAnswers::section() const {
  std::string body = report::heading(2, "What the probes say");
  const auto names = probe_names(saved_.probes);
  for (size_t i = 0; i < asked_.size(); ++i) {
    const Asked& asked = asked_[i];
    const bool classes = asked.about.classes > 0;
    report::LinePlot plot{.title = printable(names[i]), .x_label = "seconds", .stacked = classes};
    for (size_t k = 0; k < asked.outlines.size(); ++k) {
      const auto index = static_cast<int64_t>(k);
      report::Series series;
      series.name =
          classes ? class_name(asked.about, index) : column_name(names[i], asked.about, index);
      for (const auto& span : asked.outlines[k].spans()) {
        series.x.push_back(span.seconds);
        series.y.push_back(span.mean());
      }
      plot.series.push_back(std::move(series));
    }
    const std::string what = asked.about.kind + " probe, on its test clips " + asked.about.score;
    if (!plot.series.empty() && !plot.series.front().x.empty()) {
      body +=
          report::figure(report::line_plot(plot),
                         what + (classes ? ". Share of the windows of a stretch of time." : ""));
    } else {
      body += report::paragraph(names[i] + ": " + what + "; its answers are in curve.csv.");
    }
    std::vector<std::pair<int64_t, size_t>> most;
    for (size_t k = 0; k < asked.counts.size(); ++k) {
      if (asked.counts[k] > 0) most.emplace_back(asked.counts[k], k);
    }
    std::sort(most.rbegin(), most.rend());
    std::string text;
    for (size_t k = 0; k < std::min<size_t>(most.size(), 8); ++k) {
      text += (k == 0 ? "" : ", ") + class_name(asked.about, static_cast<int64_t>(most[k].second)) +
              " in " + std::to_string(most[k].first);
    }
    if (!text.empty()) body += report::paragraph("Windows by answer: " + text + ".");
  }
  return body;
}

}  // namespace jepa::eval::watching

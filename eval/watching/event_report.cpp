// Tables of the events: for a terminal, summary.json, the report.
#include <eval/report/difference_table.hpp>
#include <eval/report/html.hpp>
#include <eval/report/image.hpp>
#include <eval/watching/events.hpp>
#include <eval/watching/film.hpp>
#include <jepa/io/json_text.hpp>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include <algorithm>
#include <cstdio>

namespace jepa::eval::watching {
namespace {

using probes::Estimate;
using EventJson = nlohmann::ordered_json;

std::string kind_title(size_t kind) {
  return kind < event_kinds().size() ? event_kinds()[kind] : "all kinds";
}

std::string interval(const Estimate& e) {
  char text[64];
  std::snprintf(text, sizeof text, "%.2f [%.2f, %.2f]", e.value, e.low, e.high);
  return text;
}

EventJson estimates_json(const std::vector<Estimate>& estimates) {
  EventJson json = EventJson::object();
  for (size_t i = 0; i < estimates.size(); ++i) {
    json[i < event_kinds().size() ? event_kinds()[i] : "all"] = {
        {"value", estimates[i].value}, {"low", estimates[i].low}, {"high", estimates[i].high}};
  }
  return json;
}

/// Kinds on which the model is above an untrained network and above frame difference, clear of
/// both.
std::vector<std::string> clear_kinds(const EventRow& row) {
  std::vector<std::string> kinds;
  for (size_t kind = 0; kind < event_kinds().size(); ++kind) {
    if (row.less.at("untrained")[kind].low > 0 && row.less.at("pixel_difference")[kind].low > 0) {
      kinds.push_back(event_kinds()[kind]);
    }
  }
  return kinds;
}

std::string clear_kinds_sentence(const EventRow& row) {
  const auto kinds = clear_kinds(row);
  std::string names;
  for (const auto& kind : kinds) names += (names.empty() ? ": " : ", ") + kind;
  return row.arm + " is clear of untrained networks and of frame difference on " +
         std::to_string(kinds.size()) + " of " + std::to_string(event_kinds().size()) + " kinds" +
         names + ".";
}

std::string estimates_table(const EventTable& all, const std::string& metric) {
  report::Table table{.head = {"event", "stretches"}};
  for (const auto& row : all.rows) table.head.push_back(row.arm);
  for (size_t kind = 0; kind <= event_kinds().size(); ++kind) {
    std::vector<report::Cell> line{
        {.text = kind_title(kind)},
        {.text = kind < all.stretches.size() ? std::to_string(all.stretches[kind]) : ""}};
    for (const auto& row : all.rows) {
      const Estimate& e = row.metrics.at(metric)[kind];
      line.push_back(report::estimate_cell({e.value, e.low, e.high}, 0.5));
    }
    table.rows.push_back(line);
  }
  table.notes_below = true;
  return report::table(table);
}

std::string less_table(const EventRow& row) {
  report::Table table{.head = {"event"}};
  for (const auto& [other, estimates] : row.less) table.head.push_back("less " + other);
  for (size_t kind = 0; kind <= event_kinds().size(); ++kind) {
    std::vector<report::Cell> line{{.text = kind_title(kind)}};
    for (const auto& [other, estimates] : row.less) {
      const Estimate& e = estimates[kind];
      line.push_back(report::estimate_cell({e.value, e.low, e.high}, 0.0));
    }
    table.rows.push_back(line);
  }
  table.notes_below = true;
  return report::table(table);
}

/// One stretch with each kind of event, under the model's heat, the first foretold frame on.
std::string strips(const EventOptions& options, const WatchOptions& watch,
                   const WatchedModel& model, const Footage& footage) {
  const int64_t window = model.surprise.window;
  const int64_t past = watch.known_frames(window, model.surprise.tubelet);
  const auto stretches = find_stretches(footage, window, past, options.segments);
  std::vector<std::string> figures;
  const auto figure = [&](const torch::Tensor& film, const std::string& caption) {
    const auto surprise =
        physics::surprise_of(model.surprise, film.unsqueeze(0), {.past = past, .stride = 1});
    const auto map = surprise.frame_map(0, film.size(1));
    std::vector<SeenFrame> frames;
    for (int64_t t = past; t < film.size(1); ++t) {
      SeenFrame seen;
      seen.index = t;
      seen.picture = film.select(1, t).contiguous();
      seen.map = map[t];
      frames.push_back(seen);
    }
    const double full = torch::nan_to_num(map, 0.0).max().item<double>();
    const auto sheet =
        report::frame_grid(draw_frames(frames, 1, full), static_cast<int64_t>(frames.size()));
    figures.push_back(report::figure(
        report::image(report::encode_png(sheet), caption, static_cast<int>(sheet.size(1))),
        caption + ", brightest " + report::short_number(full)));
  };
  const Stretch& shown = stretches[stretches.size() / 2];
  figure(lawful_film(footage, shown, window, past), "as it is");
  for (const auto& kind : event_kinds()) {
    if (const auto film = spliced_film(kind, footage, shown, window, past)) figure(*film, kind);
  }
  return report::grid(figures);
}

}  // namespace

std::string event_table(const EventTable& table) {
  std::string text =
      "AUROC of windows in which an event begins against those of other stretches without\n";
  for (const auto& row : table.rows) {
    char head[96];
    std::snprintf(head, sizeof head, "\n%s (%lld drawn)\n", row.arm.c_str(),
                  static_cast<long long>(row.draws));
    text += head;
    for (size_t kind = 0; kind <= event_kinds().size(); ++kind) {
      std::string line = "  " + kind_title(kind);
      line.resize(16, ' ');
      text += line + interval(row.metrics.at("auroc")[kind]) + "  pairs " +
              interval(row.metrics.at("relative")[kind]);
      for (const auto& [other, estimates] : row.less) {
        if (other == "untrained" || other == "pixel_difference") {
          text += "  less " + other + " " + interval(estimates[kind]);
        }
      }
      text += "\n";
    }
  }
  return text + "\n" + clear_kinds_sentence(table.rows.front()) + "\n";
}

std::string event_json(const EventOptions& options, const WatchOptions& watch,
                       const EventTable& table, double seconds) {
  EventJson json;
  json["program"] = "watch --events";
  json["video"] = watch.video;
  json["weights"] = watch.weights;
  json["from"] = options.from;
  json["windows_a_stretch"] = table.windows;
  for (size_t i = 0; i < table.stretches.size(); ++i) {
    json["stretches"][event_kinds()[i]] = table.stretches[i];
  }
  json["clear_kinds"] = clear_kinds(table.rows.front());
  json["seconds"] = seconds;
  json["rows"] = EventJson::array();
  for (const auto& row : table.rows) {
    EventJson made{{"arm", row.arm}, {"draws", row.draws}};
    for (const auto& [name, estimates] : row.metrics) {
      made["metrics"][name] = estimates_json(estimates);
    }
    for (const auto& [other, estimates] : row.less) {
      made["auroc_less"][other] = estimates_json(estimates);
    }
    json["rows"].push_back(made);
  }
  return json_text(json, 2) + "\n";
}

std::string event_section(const EventOptions& options, const WatchOptions& watch,
                          const WatchedModel& model, const Footage& footage,
                          const EventTable& table) {
  const EventRow& first = table.rows.front();
  std::string markup =
      report::heading(2, "Events in real footage") +
      report::callout(clear_kinds_sentence(first), {}, report::Tone::kPlain) +
      report::paragraph(
          "What each video has from " + report::short_number(options.from) +
          " of its time on was not trained on. It is cut into stretches that share no frame; an "
          "event begins in each, and " +
          std::to_string(table.windows) +
          " windows foretell its first frames from what was before it. AUROC: such a window "
          "against one of another stretch without the event. Intervals: 95 %, bootstrap over "
          "stretches (those of one video are not independent) and over draws. Untrained: the "
          "model's own initialisation. copy_last: the last known frame stands; pixel_difference: "
          "each frame against the one before; change_of_difference: that, against its own mean "
          "over the known frames.") +
      report::heading(3, "AUROC, mean over a window's tokens") + estimates_table(table, "auroc") +
      report::heading(3, "AUROC, " + first.arm + " less the others") + less_table(first) +
      report::heading(3, "Windows with the event above the same ones without it") +
      estimates_table(table, "relative");
  markup +=
      report::details("By the most surprising token of a window",
                      report::heading(4, "AUROC") + estimates_table(table, "auroc_max") +
                          report::heading(4, "Pairs") + estimates_table(table, "relative_max"));
  return markup + report::heading(3, "One stretch under " + first.arm + "'s surprise") +
         strips(options, watch, model, footage);
}

}  // namespace jepa::eval::watching

#include <eval/report/html.hpp>
#include <eval/report/image.hpp>
#include <eval/report/plot.hpp>
#include <eval/watching/film.hpp>
#include <eval/watching/watch.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace jepa::eval::watching {
namespace {

constexpr double kWidth = 1040, kHeight = 220, kLeft = 60, kBottom = 24;
constexpr size_t kLinks = 200;  // along the curve
constexpr const char* kFrame = "film";

std::string two(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

/// `1:02:03.4`.
std::string clock_text(double seconds) {
  char text[48];
  const auto whole = static_cast<int64_t>(seconds);
  std::snprintf(text, sizeof text, "%lld:%02lld:%04.1f", static_cast<long long>(whole / 3600),
                static_cast<long long>(whole / 60 % 60),
                seconds - static_cast<double>(whole / 60 * 60));
  return text;
}

std::string link(const std::string& target, const std::string& markup) {
  return "<a href=\"" + report::escape_html(target) + "\" target=\"" + kFrame + "\">" + markup +
         "</a>";
}

/// Where seconds and surprises are drawn.
struct Axes {
  double end = 1, top = 1;
  double x(double seconds) const { return kLeft + (kWidth - kLeft - 8) * seconds / end; }
  double y(double surprise) const { return 8 + (kHeight - 8 - kBottom) * (1 - surprise / top); }
};

std::string grid_lines(const Axes& axes) {
  std::string svg;
  for (const double value : report::nice_ticks(0, axes.top, 4)) {
    if (value > axes.top) continue;
    svg += "<line x1=\"" + two(kLeft) + "\" x2=\"" + two(kWidth - 8) + "\" y1=\"" +
           two(axes.y(value)) + "\" y2=\"" + two(axes.y(value)) +
           "\" stroke=\"var(--line,#dde1e7)\"/><text x=\"" + two(kLeft - 6) + "\" y=\"" +
           two(axes.y(value) + 4) +
           "\" text-anchor=\"end\" font-size=\"11\" "
           "fill=\"var(--muted,#667085)\">" +
           report::short_number(value) + "</text>";
  }
  for (const double value : report::nice_ticks(0, axes.end, 8)) {
    if (value > axes.end) continue;
    svg += "<text x=\"" + two(axes.x(value)) + "\" y=\"" + two(kHeight - 6) +
           "\" text-anchor=\"middle\" font-size=\"11\" fill=\"var(--muted,#667085)\">" +
           clock_text(value) + "</text>";
  }
  return svg;
}

/// The curve as its mean with a band from least to most, links over it, peaks marked.
std::string curve_svg(const WatchResult& result, const std::vector<CurveOutline::Span>& all,
                      const std::function<std::string(int64_t)>& place) {
  std::vector<CurveOutline::Span> spans;
  Axes axes{.end = std::max(result.seconds, 1e-3), .top = 1e-12};
  for (const auto& span : all) {
    if (span.count == 0) continue;
    spans.push_back(span);
    axes.top = std::max(axes.top, span.high);
  }
  std::string band, back, mean;
  for (const auto& span : spans) {
    const std::string x = two(axes.x(span.seconds));
    band += x + "," + two(axes.y(span.high)) + " ";
    back = x + "," + two(axes.y(span.low)) + " " + back;
    mean += x + "," + two(axes.y(span.mean())) + " ";
  }
  std::string svg = "<svg viewBox=\"0 0 " + two(kWidth) + " " + two(kHeight) +
                    "\" style=\"max-width:none\" role=\"img\">" + grid_lines(axes) +
                    "<polygon points=\"" + band + back +
                    "\" fill=\"var(--c0,#2563eb)\" opacity=\"0.25\"/><polyline points=\"" + mean +
                    "\" fill=\"none\" stroke=\"var(--c0,#2563eb)\" stroke-width=\"1.2\"/>";
  if (place) {
    const size_t step = std::max<size_t>(1, spans.size() / kLinks);
    for (size_t i = 0; i < spans.size(); i += step) {
      const double from = axes.x(spans[i].seconds);
      const double to = i + step < spans.size() ? axes.x(spans[i + step].seconds) : kWidth - 8;
      svg +=
          link(place(spans[i].row),
               "<rect x=\"" + two(from) + "\" y=\"8\" width=\"" + two(std::max(to - from, 1.0)) +
                   "\" height=\"" + two(kHeight - 8 - kBottom) + "\" fill=\"transparent\"><title>" +
                   clock_text(spans[i].seconds) + "</title></rect>");
    }
  }
  for (size_t i = 0; i < result.peaks.size(); ++i) {
    const SeenFrame& at = result.peaks[i].at;
    const std::string dot = "<circle cx=\"" + two(axes.x(at.row.seconds)) + "\" cy=\"" +
                            two(axes.y(at.row.surprise)) +
                            "\" r=\"5\" fill=\"var(--c5,#dc2626)\"><title>peak " +
                            std::to_string(i + 1) + "</title></circle>";
    svg += place ? link(place(at.index), dot) : dot;
  }
  return svg + "</svg>";
}

std::string peak_figures(const WatchOptions& options, const WatchResult& result,
                         const std::function<std::string(int64_t)>& place, double heat) {
  std::vector<std::string> figures;
  for (size_t i = 0; i < result.peaks.size(); ++i) {
    const SeenFrame& at = result.peaks[i].at;
    const auto drawn = draw_frames({at}, options.film_scale, heat)[0];
    const std::string name = "peak-" + std::to_string(i + 1) + ".mp4";
    const std::string picture =
        report::image(report::encode_png(drawn), "peak " + std::to_string(i + 1),
                      static_cast<int>(drawn.size(1)));
    figures.push_back(report::figure(
        place ? link(place(at.index), picture) : link(name, picture),
        std::to_string(i + 1) + ": " + clock_text(at.row.seconds) + ", frame " +
            std::to_string(at.row.frame) + ", surprise " + report::short_number(at.row.surprise) +
            (at.row.mark.empty() ? "" : ", after: " + at.row.mark) + "; clip " + name));
  }
  return report::grid(figures);
}

}  // namespace

std::string watch_page(const WatchOptions& options, const WatchResult& result,
                       const std::vector<CurveOutline::Span>& spans,
                       const std::function<std::string(int64_t row)>& place, double heat) {
  std::string body = report::heading(1, "Watched: " + options.video);
  body += report::tiles(
      {{.label = "film", .value = clock_text(result.seconds)},
       {.label = "frames",
        .value = std::to_string(result.frames),
        .note = std::to_string(result.watched) + " watched, " + std::to_string(result.windows) +
                " windows"},
       {.label = "frames a second",
        .value = report::short_number(result.fps()),
        .note =
            result.film_fps > 0 ? "the film's own: " + report::short_number(result.film_fps) : ""},
       {.label = "peak memory", .value = report::short_number(result.peak_mb) + " MB"}});
  if (!result.problems.empty()) {
    body += report::callout("Not watched to its end", result.problems, report::Tone::kBad);
  }
  std::string marks;
  for (const auto& [mark, count] : result.marks) {
    marks += (marks.empty() ? "" : ", ") + std::to_string(count) + " x " + mark;
  }
  if (!marks.empty()) body += report::paragraph("Marks in the curve: " + marks + ".");
  body += report::heading(2, "Surprise") +
          report::figure(curve_svg(result, spans, place),
                         std::string("Mean over the tokens of a frame; the band is from the least "
                                     "to the largest of its stretch of time. ") +
                             (place ? "A click shows that moment in the film below." : "") +
                             " All values: curve.csv, curve.h5.");
  if (place) {
    body += report::heading(2, "The film under its heat") + "<iframe name=\"" + kFrame +
            "\" title=\"film\" width=\"100%\" height=\"420\" style=\"border:0\" src=\"" +
            result.films.front() + "\"></iframe>\n";
    std::string pieces;
    for (const auto& film : result.films) pieces += link(film, report::escape_html(film)) + " ";
    body += report::details("Its files", pieces);
  }
  body += result.answers;
  body += report::heading(2, "Most surprising moments") +
          peak_figures(options, result, place, heat) +
          report::paragraph("Brightest: a surprise of " + report::short_number(heat) + ".",
                            report::Tone::kMuted);
  return report::page("jepa: watch", body);
}

}  // namespace jepa::eval::watching

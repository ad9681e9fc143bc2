// Curves with t* and heat maps of the first test scene of every rule.
#include <eval/physics/heat_map.hpp>
#include <eval/physics/surprise_grid.hpp>
#include <eval/report/bitmap_text.hpp>
#include <eval/report/html.hpp>
#include <eval/report/image.hpp>
#include <eval/report/plot.hpp>
#include <eval/report/video_writer.hpp>
#include <jepa/io/atomic_file.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <sstream>

namespace jepa::eval::physics {
namespace {

constexpr int64_t kEnlarged = 3;
constexpr int64_t kColumns = 3;  // of the film, each a rule
constexpr int64_t kGap = 6;
constexpr int64_t kCaption = 12;
constexpr int64_t kMargin = 2;  // about a caption
const char* const kBrokenCaption = "breaks it";
constexpr double kFps = 5;

/// One pair of films and what a model was surprised by.
struct Shown {
  std::string rule;
  int64_t first = 0;       ///< t*
  torch::Tensor films[2];  ///< uint8 [T, H, W, 3], lawful and broken
  torch::Tensor maps[2];   ///< float [T, h, w]
};

std::vector<Shown> ask(const SurpriseModel& model, const SurpriseOptions& options, int64_t past) {
  std::vector<Shown> all;
  for (const auto& rule : rule_names()) {
    const Scene scene = make_scene(rule, options.world, kWorldSeed, "test", 0);
    const auto clips = torch::stack({scene.lawful[0].clip(), scene.broken[0].clip()});
    const auto surprise = surprise_of(model, clips, {.past = past, .stride = options.stride});
    Shown shown{.rule = rule, .first = scene.first[0], .films = {}, .maps = {}};
    for (int64_t i = 0; i < 2; ++i) {
      shown.films[i] = report::clip_frames(clips[i]);
      shown.maps[i] = surprise.frame_map(i, options.world.frames);
    }
    all.push_back(shown);
  }
  return all;
}

std::string lawful_caption(const std::string& rule) { return rule + ": lawful"; }

/// Each pixel so many times that a caption has room over its film, whatever its side.
int64_t enlarged(int64_t side) {
  int64_t caption = 0;
  for (const auto& rule : rule_names()) {
    caption = std::max(caption, report::bitmap_text(lawful_caption(rule)).size(1));
  }
  return std::max(kEnlarged, (caption + 2 * kMargin + side - 1) / side);
}

/// Writes over frames [T, height, width, 3], where `column` is.
void write_caption(const torch::Tensor& frames, const std::string& text, int64_t column,
                   at::IntArrayRef colour) {
  const auto ink = report::bitmap_text(text);
  auto place = frames.narrow(1, kMargin, ink.size(0)).narrow(2, column + kMargin, ink.size(1));
  const auto paint = torch::tensor(colour, torch::kUInt8);
  place.copy_(torch::where(ink.unsqueeze(0).unsqueeze(3), paint, place));
}

/// A rule's two films with their heat, each under its caption, uint8 [T, height, width, 3]. That of
/// the film which breaks the rule is red from t* on.
torch::Tensor panel(const Shown& shown) {
  const double full = std::max(torch::nan_to_num(shown.maps[0], 0.0).max().item<double>(),
                               torch::nan_to_num(shown.maps[1], 0.0).max().item<double>());
  std::vector<torch::Tensor> films;
  const int64_t times = enlarged(shown.films[0].size(2));
  for (size_t i = 0; i < 2; ++i) {
    const auto heat = draw_heat(report::upscale(shown.films[i], times), shown.maps[i], full);
    films.push_back(torch::constant_pad_nd(heat, {0, 0, 0, kGap}, 255));
  }
  auto made = torch::constant_pad_nd(torch::cat(films, 2), {0, 0, 0, kGap, kCaption, 0}, 255);
  const int64_t right = films[0].size(2);
  write_caption(made, lawful_caption(shown.rule), 0, {32, 32, 32});
  write_caption(made.slice(0, 0, shown.first), kBrokenCaption, right, {150, 150, 150});
  write_caption(made.slice(0, shown.first), kBrokenCaption, right, {220, 40, 40});
  return made;
}

torch::Tensor film_of(const std::vector<Shown>& all) {
  std::vector<torch::Tensor> rows, row;
  for (size_t i = 0; i < all.size(); ++i) {
    row.push_back(panel(all[i]));
    if (static_cast<int64_t>(row.size()) < kColumns && i + 1 < all.size()) continue;
    while (static_cast<int64_t>(row.size()) < kColumns) {
      row.push_back(torch::full_like(row.front(), 255));
    }
    rows.push_back(torch::cat(row, 2));
    row.clear();
  }
  return torch::cat(rows, 1).contiguous();
}

/// Mean over tokens of a map, frame by frame; NaN where nothing is foretold.
std::vector<double> curve(const torch::Tensor& map) {
  const auto values = map.mean(at::IntArrayRef{1, 2}).to(torch::kFloat64).contiguous();
  return {values.data_ptr<double>(), values.data_ptr<double>() + values.numel()};
}

std::string curve_plot(const Shown& shown) {
  report::LinePlot plot{.title = shown.rule, .x_label = "frame"};
  double top = 0;
  const char* names[2] = {"lawful", "breaks the rule"};
  for (size_t i = 0; i < 2; ++i) {
    report::Series series{names[i], {}, curve(shown.maps[i])};
    for (size_t t = 0; t < series.y.size(); ++t) {
      series.x.push_back(static_cast<double>(t));
      if (std::isfinite(series.y[t])) top = std::max(top, series.y[t]);
    }
    plot.series.push_back(series);
  }
  const auto at = static_cast<double>(shown.first);
  plot.series.push_back({"t*", {at, at}, {0, top}});
  return report::line_plot(plot);
}

std::string curves_csv(const std::vector<Shown>& all) {
  std::ostringstream text;
  text << "rule,frame,lawful,broken,t_star\n";
  for (const auto& shown : all) {
    const auto lawful = curve(shown.maps[0]), broken = curve(shown.maps[1]);
    for (size_t t = 0; t < lawful.size(); ++t) {
      text << shown.rule << "," << t << "," << lawful[t] << "," << broken[t] << "," << shown.first
           << "\n";
    }
  }
  return text.str();
}

/// The frames of one rule's broken film from two before t* on, with their heat.
torch::Tensor strip(const Shown& shown) {
  const auto film = panel(shown);
  const int64_t from = std::max<int64_t>(shown.first - 2, 0);
  return report::frame_grid(film.slice(0, from, std::min(from + 8, film.size(0))).contiguous(), 4);
}

}  // namespace

std::string surprise_media(const SurpriseOptions& options, const std::vector<SurpriseCell>& cells,
                           const comparison::ComparisonHooks& hooks) {
  const SurpriseCell& first = cells.front();
  hooks.say("films of " + first.arm);
  const auto model = cell_model(options, first.arm, first.seed, hooks);
  const auto all = ask(model, options, first.past);
  const auto film = film_of(all);
  report::write_video(options.run + "/surprise.mp4", film, kFps);
  const auto hoop =
      std::find_if(all.begin(), all.end(), [](const Shown& shown) { return shown.rule == "hoop"; });
  const auto sheet = strip(*hoop);
  report::write_png(options.run + "/surprise.png", sheet);
  write_file_atomic(options.run + "/curves.csv", curves_csv(all));
  std::vector<std::string> plots;
  for (const auto& shown : all) plots.push_back(curve_plot(shown));
  return report::heading(3, "Where and when") +
         report::figure(
             report::video(report::encode_video(film, kFps), "surprise over films",
                           static_cast<int>(film.size(2))),
             "The first test scene of every rule: the lawful film, and beside it the one that "
             "breaks the rule, under the surprise of " +
                 first.arm + ", seed " + std::to_string(first.seed) +
                 ": brightest where it is largest in the two. \"Breaks it\" is red from t* on.") +
         report::figure(
             report::image(report::encode_png(sheet), "the hoop, frame by frame",
                           static_cast<int>(sheet.size(1))),
             "The hoop, the lawful film and the broken one side by side: frames about t*, "
             "when \"breaks it\" turns red.") +
         report::details("Surprise by frame, t* marked", report::grid(plots));
}

}  // namespace jepa::eval::physics

// What was seen of a model, as text, tables and pictures.
#include <eval/physics/heat_map.hpp>
#include <eval/report/features_pca.hpp>
#include <eval/report/html.hpp>
#include <eval/report/image.hpp>
#include <eval/watching/inspect.hpp>
#include <jepa/io/json_text.hpp>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include <algorithm>
#include <cstdio>

namespace jepa::eval::watching {
namespace {

constexpr int64_t kEnlarged = 2;
constexpr int64_t kGridColumns = 4;

/// A quadrant's value over the mean of the other three.
std::array<double, 4> over_others(const std::array<double, 4>& values) {
  std::array<double, 4> made{};
  double sum = 0;
  for (const double value : values) sum += value;
  for (size_t i = 0; i < 4; ++i) made[i] = values[i] / std::max((sum - values[i]) / 3, 1e-12);
  return made;
}

report::Table quadrant_table(const Inspection& seen) {
  report::Table table{.head = {"quadrant", "surprise", "over the others", "attention it gets",
                               "variance of the encoder's tokens"}};
  const auto ratio = over_others(seen.quadrants);
  for (size_t i = 0; i < 4; ++i) {
    const bool odd = ratio[i] > 1.5, unread = seen.attended[i] < 0.05;
    table.rows.push_back({{.text = quadrant_names()[i]},
                          {.text = report::short_number(seen.quadrants[i])},
                          {.text = report::short_number(ratio[i]),
                           .tone = odd ? report::Tone::kBad : report::Tone::kPlain},
                          {.text = report::short_number(seen.attended[i]),
                           .tone = unread ? report::Tone::kBad : report::Tone::kPlain},
                          {.text = report::short_number(seen.variance[i])}});
  }
  return table;
}

std::string picture(const torch::Tensor& frames, const std::string& caption) {
  const auto sheet =
      report::frame_grid(frames.contiguous(), std::min<int64_t>(frames.size(0), kGridColumns));
  return report::figure(
      report::image(report::encode_png(sheet), caption, static_cast<int>(sheet.size(1))), caption);
}

/// Frames first .. first + steps * tubelet - 1 of the window under maps [steps, h, w].
torch::Tensor under(const Inspection& seen, const torch::Tensor& maps, int64_t first_step,
                    double full) {
  const int64_t tubelet = seen.window.size(1) / seen.grid.t;
  const auto frames = report::upscale(report::clip_frames(seen.window), kEnlarged)
                          .slice(0, first_step * tubelet, (first_step + maps.size(0)) * tubelet);
  return physics::draw_heat(frames, maps.repeat_interleave(tubelet, 0), full);
}

}  // namespace

std::string inspection_text(const Inspection& seen) {
  std::string text = "quadrant       surprise  over others  attention  variance\n";
  const auto ratio = over_others(seen.quadrants);
  for (size_t i = 0; i < 4; ++i) {
    char line[128];
    std::snprintf(line, sizeof line, "%-14s %8.4f %12.2f %10.3f %9.3f\n",
                  quadrant_names()[i].c_str(), seen.quadrants[i], ratio[i], seen.attended[i],
                  seen.variance[i]);
    text += line;
  }
  return text;
}

std::string inspection_json(const Inspection& seen, const InspectOptions& options) {
  nlohmann::ordered_json json;
  json["program"] = "watch --inspect";
  json["fault"] = options.fault;
  const auto ratio = over_others(seen.quadrants);
  for (size_t i = 0; i < 4; ++i) {
    json["quadrants"][quadrant_names()[i]] = {{"surprise", seen.quadrants[i]},
                                              {"over_others", ratio[i]},
                                              {"attention", seen.attended[i]},
                                              {"variance", seen.variance[i]}};
  }
  json["target"] = {{"step", seen.target[0]}, {"row", seen.target[1]}, {"column", seen.target[2]}};
  return json_text(json, 2) + "\n";
}

std::string inspection_section(const Inspection& seen, const InspectOptions& options) {
  std::string markup = report::heading(2, "Inside the model");
  if (options.fault != "none") {
    markup += report::callout(
        "A fault was planted",
        {"The predictor is not given the context tokens of the quadrant " + options.fault + "."},
        report::Tone::kWarning);
  }
  markup += report::heading(3, "By quadrant") + report::table(quadrant_table(seen)) +
            report::paragraph(
                "Surprise: the mean over windows that share no frame. Attention: the share of the "
                "context that target tokens attend to, mean over layers, heads, targets and up to "
                "8 windows; a quarter is even. Variance: of the encoder's context tokens over "
                "windows; near 0, the encoder says nothing there.");
  const double full = seen.surprise.max().item<double>();
  const auto& grid = seen.grid;
  markup += report::heading(3, "Surprise by token") +
            picture(under(seen, seen.surprise, seen.past_steps, full),
                    "The foretold frames of one window; brightest " + report::short_number(full));
  const auto places = seen.places.unsqueeze(0);
  const auto canvas = torch::full({1, grid.h * 16, grid.w * 16, 3}, 0, torch::kUInt8);
  const double most = seen.places.max().item<double>();
  markup += picture(physics::draw_heat(canvas, places, most),
                    "By place, the mean over windows; brightest " + report::short_number(most));
  std::string maps;
  for (int64_t layer = 0; layer < seen.attention.size(0); ++layer) {
    const auto map = seen.attention[layer];
    const double top = map.max().item<double>();
    maps += picture(under(seen, map, 0, top), "layer " + std::to_string(layer + 1) +
                                                  ", brightest " + report::short_number(top));
  }
  markup +=
      report::heading(3, "What one prediction attends to") +
      report::paragraph("Target: step " + std::to_string(seen.target[0]) +
                        " of the foretold ones, row " + std::to_string(seen.target[1]) +
                        ", column " + std::to_string(seen.target[2]) + ". Over the known frames:") +
      maps;
  const auto colours = report::fit_pca(seen.tokens).colours(seen.tokens)[0];
  const auto frames = report::upscale(report::clip_frames(seen.window), kEnlarged).contiguous();
  return markup + report::heading(3, "What the encoder says") +
         picture(report::pca_frames(frames, colours, grid),
                 "Frames beside the first three principal components of the target encoder's "
                 "tokens.");
}

}  // namespace jepa::eval::watching

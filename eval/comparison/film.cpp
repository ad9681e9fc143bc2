#include <eval/comparison/film.hpp>
#include <eval/report/bitmap_text.hpp>
#include <eval/report/image.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>

namespace jepa::eval::comparison {
namespace {

constexpr uint8_t kGivenColour[3] = {31, 119, 180};
constexpr uint8_t kPredictedColour[3] = {236, 130, 22};
constexpr uint8_t kPlainColour[3] = {200, 200, 200};
constexpr uint8_t kInk = 32;
constexpr uint8_t kPaper = 255;

/// A row with its clips ready to draw.
struct Strip {
  torch::Tensor caption;              ///< bool, where ink is
  std::vector<torch::Tensor> clips;   ///< uint8 [T, scale * H, scale * W, 3]
  std::vector<const uint8_t*> frame;  ///< colour [T]
};

/// Where things stand; all lengths in px.
struct Layout {
  int64_t frames = 0, height = 0, width = 0;  ///< of a picture, enlarged
  int64_t caption_width = 0, row_height = 0;
};

torch::Tensor ready_clip(const torch::Tensor& clip, int64_t scale) {
  TORCH_CHECK((clip.dim() == 3 || clip.dim() == 4) && clip.scalar_type() == torch::kUInt8,
              "film: clips uint8 [T, H, W] or [C, T, H, W] expected, got ", clip.scalar_type(), " ",
              clip.sizes());
  const auto channels = clip.dim() == 3 ? clip.unsqueeze(0) : clip;
  return report::upscale(report::clip_frames(channels.cpu()), scale);
}

Strip ready_row(const FilmRow& row, const FilmOptions& options) {
  Strip strip;
  strip.caption = report::bitmap_text(
      report::wrap_text(row.caption, static_cast<size_t>(options.caption_letters)),
      options.text_scale);
  for (const auto& clip : row.clips) strip.clips.push_back(ready_clip(clip, options.scale));
  TORCH_CHECK(!strip.clips.empty(), "film: row '", row.caption, "' has no clips");
  const auto frames = static_cast<size_t>(strip.clips.front().size(0));
  TORCH_CHECK(row.given.empty() || row.given.size() == frames, "film: row '", row.caption,
              "' says of ", row.given.size(), " frames whether they were given, and has ", frames);
  strip.frame.assign(frames, kPlainColour);
  for (size_t t = 0; t < row.given.size(); ++t) {
    strip.frame[t] = row.given[t] ? kGivenColour : kPredictedColour;
  }
  return strip;
}

std::vector<Strip> ready_rows(const std::vector<FilmRow>& rows, const FilmOptions& options,
                              Layout& layout) {
  for (const int64_t value :
       {options.scale, options.border, options.gap, options.text_scale, options.caption_letters}) {
    if (value < 1) {
      throw ConfigError("film: options must be at least 1, found " + std::to_string(value));
    }
  }
  TORCH_CHECK(!rows.empty(), "film: no rows");
  std::vector<Strip> strips;
  for (const auto& row : rows) strips.push_back(ready_row(row, options));
  const auto& first = strips.front().clips;
  layout = {first[0].size(0), first[0].size(1), first[0].size(2), 0, 0};
  layout.row_height = layout.height + 2 * options.border;
  for (size_t r = 0; r < strips.size(); ++r) {
    TORCH_CHECK(strips[r].clips.size() == first.size(), "film: row '", rows[r].caption, "' has ",
                strips[r].clips.size(), " examples, the first row ", first.size());
    for (const auto& clip : strips[r].clips) {
      TORCH_CHECK(clip.sizes() == first[0].sizes(), "film: row '", rows[r].caption,
                  "' has a clip of other length or size than the first");
    }
    layout.row_height = std::max(layout.row_height, strips[r].caption.size(0));
    layout.caption_width = std::max(layout.caption_width, strips[r].caption.size(1));
  }
  return strips;
}

/// An empty picture for `rows` rows of `columns` pictures, captions drawn.
torch::Tensor blank(const std::vector<Strip>& strips, int64_t columns, const Layout& layout,
                    const FilmOptions& options) {
  const auto rows = static_cast<int64_t>(strips.size());
  auto page = torch::full(
      {rows * (layout.row_height + options.gap) + options.gap,
       layout.caption_width + columns * (layout.width + 2 * options.border + options.gap) +
           2 * options.gap,
       3},
      kPaper, torch::kUInt8);
  for (int64_t r = 0; r < rows; ++r) {
    const auto& caption = strips[static_cast<size_t>(r)].caption;
    const int64_t top = options.gap + r * (layout.row_height + options.gap) +
                        (layout.row_height - caption.size(0)) / 2;
    page.narrow(0, top, caption.size(0))
        .narrow(1, options.gap, caption.size(1))
        .masked_fill_(caption.unsqueeze(2), kInk);
  }
  return page;
}

/// Draws frame `t` of `clip` with its coloured frame at a row and column of `page`.
void draw(torch::Tensor page, const Strip& strip, const torch::Tensor& clip, int64_t t, int64_t row,
          int64_t column, const Layout& layout, const FilmOptions& options) {
  const int64_t edge = 2 * options.border;
  const int64_t top = options.gap + row * (layout.row_height + options.gap) +
                      (layout.row_height - layout.height - edge) / 2;
  const int64_t left =
      layout.caption_width + 2 * options.gap + column * (layout.width + edge + options.gap);
  auto cell = page.narrow(0, top, layout.height + edge).narrow(1, left, layout.width + edge);
  const uint8_t* colour = strip.frame[static_cast<size_t>(t)];
  for (int64_t c = 0; c < 3; ++c) cell.select(2, c).fill_(colour[c]);
  cell.narrow(0, options.border, layout.height)
      .narrow(1, options.border, layout.width)
      .copy_(clip[t]);
}

}  // namespace

void FilmOptions::describe(OptionVisitor& visit) {
  visit("scale", scale, {.help = "enlargement of the pictures", .min = 1, .max = 64});
  visit("border", border, {.help = "coloured frame", .unit = "px", .min = 1, .max = 64});
  visit("gap", gap, {.help = "white between pictures", .unit = "px", .min = 1, .max = 256});
  visit("text_scale", text_scale, {.help = "enlargement of captions", .min = 1, .max = 16});
  visit("caption_letters", caption_letters,
        {.help = "letters in a line of a caption", .min = 1, .max = 80});
}

std::vector<bool> given_first(int64_t context, int64_t frames) {
  std::vector<bool> given(static_cast<size_t>(frames), false);
  std::fill_n(given.begin(), std::min(context, frames), true);
  return given;
}

torch::Tensor render_film(const std::vector<FilmRow>& rows, const FilmOptions& options) {
  Layout layout;
  const auto strips = ready_rows(rows, options, layout);
  const auto examples = static_cast<int64_t>(strips.front().clips.size());
  const auto page = blank(strips, examples, layout, options);
  auto film = page.unsqueeze(0).repeat({layout.frames, 1, 1, 1});
  for (int64_t t = 0; t < layout.frames; ++t) {
    for (size_t r = 0; r < strips.size(); ++r) {
      for (int64_t e = 0; e < examples; ++e) {
        draw(film[t], strips[r], strips[r].clips[static_cast<size_t>(e)], t,
             static_cast<int64_t>(r), e, layout, options);
      }
    }
  }
  return film;
}

torch::Tensor contact_sheet(const std::vector<FilmRow>& rows, int64_t example,
                            const FilmOptions& options) {
  Layout layout;
  const auto strips = ready_rows(rows, options, layout);
  const auto examples = static_cast<int64_t>(strips.front().clips.size());
  TORCH_CHECK(example >= 0 && example < examples, "film: example ", example, " of ", examples);
  auto page = blank(strips, layout.frames, layout, options);
  for (size_t r = 0; r < strips.size(); ++r) {
    for (int64_t t = 0; t < layout.frames; ++t) {
      draw(page, strips[r], strips[r].clips[static_cast<size_t>(example)], t,
           static_cast<int64_t>(r), t, layout, options);
    }
  }
  return page;
}

}  // namespace jepa::eval::comparison

// Films and sheets, pixel by pixel; GIF against FFmpeg's reader.
#include "temporary_folder.hpp"

#include <eval/comparison/film.hpp>
#include <eval/report/bitmap_text.hpp>
#include <eval/report/gif_writer.hpp>
#include <eval/report/image.hpp>
#include <eval/report/video_writer.hpp>
#include <jepa/data/video_reader.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::eval::comparison {
namespace {

TEST(BitmapText, DrawsAndWraps) {
  const auto one = report::bitmap_text("I", 1);
  ASSERT_EQ(one.sizes(), (std::vector<int64_t>{7, 5}));
  EXPECT_EQ(one[0].sum().item<int>(), 3);
  EXPECT_EQ(one[3].sum().item<int>(), 1);
  EXPECT_TRUE(torch::equal(report::bitmap_text("jepa"), report::bitmap_text("JEPA")));
  EXPECT_EQ(report::bitmap_text("AB\nC", 2).sizes(), (std::vector<int64_t>{32, 22}));
  EXPECT_EQ(report::wrap_text("shuffled latents decoded", 12), "shuffled\nlatents\ndecoded");
  EXPECT_EQ(report::wrap_text("a b extraordinarily", 5), "a b\nextraordinarily");
}

std::vector<FilmRow> rows() {
  torch::manual_seed(1);
  const auto clip = [] { return torch::randint(0, 256, {4, 6, 8}, torch::kUInt8); };
  return {{"truth", {clip(), clip(), clip()}},
          {"JEPA decoded", {clip(), clip(), clip().unsqueeze(0)}, given_first(1, 4)}};
}

TEST(Film, PutsEveryClipInItsPlaceAndFramesIt) {
  const auto given = rows();
  const FilmOptions options{.scale = 3, .border = 2, .gap = 5, .text_scale = 1};
  const auto film = render_film(given, options);
  // Captions: 12 letters; pictures 8 * 3 and 6 * 3 with their borders.
  const int64_t text = 12 * 6 - 1, wide = 28, high = 22;
  ASSERT_EQ(film.sizes(),
            (std::vector<int64_t>{4, 2 * (high + 5) + 5, text + 10 + 3 * (wide + 5), 3}));
  const int64_t top = 5 + high + 5, left = text + 10 + 2 * (wide + 5);
  const auto cell = film[2].narrow(0, top, high).narrow(1, left, wide);
  EXPECT_EQ(cell[0][0][0].item<int>(), 236);         // predicted: orange
  EXPECT_EQ(film[0][top][left][0].item<int>(), 31);  // given: blue
  EXPECT_EQ(film[0][5][left][0].item<int>(), 200);   // neither: grey
  const auto picture = cell.narrow(0, 2, 18).narrow(1, 2, 24);
  const auto small = picture.slice(0, 1, 18, 3).slice(1, 1, 24, 3).select(2, 0);
  EXPECT_TRUE(torch::equal(small, given[1].clips[2][0][2]));
  EXPECT_EQ(film.narrow(2, 5, text).min().item<int>(), 32);  // captions are there

  const auto sheet = contact_sheet(given, 1, options);
  ASSERT_EQ(sheet.sizes(),
            (std::vector<int64_t>{2 * (high + 5) + 5, text + 10 + 4 * (wide + 5), 3}));
  const auto last = sheet.narrow(0, 5 + 2, 18).narrow(1, text + 10 + 3 * (wide + 5) + 2, 24);
  EXPECT_TRUE(
      torch::equal(last.slice(0, 0, 18, 3).slice(1, 0, 24, 3).select(2, 1), given[0].clips[1][3]));
  EXPECT_EQ(report::encode_png(sheet).substr(1, 3), "PNG");
  EXPECT_GT(report::encode_video(film, 8).size(), 500U);
}

TEST(Film, RefusesRowsThatDoNotMatch) {
  auto given = rows();
  given[1].clips.pop_back();
  EXPECT_THROW(render_film(given), c10::Error);
  given = rows();
  given[1].given.pop_back();
  EXPECT_THROW(render_film(given), c10::Error);
  EXPECT_THROW(render_film(rows(), {.scale = 0}), ConfigError);
}

TEST(Gif, ComesBackFromFfmpegsReader) {
  // Smooth parts, noise (which fills the code table many times over) and repeated frames.
  torch::manual_seed(2);
  auto grey = torch::randint(0, 256, {3, 90, 110, 1}, torch::kUInt8);
  grey.narrow(1, 0, 30).copy_(torch::arange(110).view({1, 1, -1, 1}));
  const auto frames = grey.expand({3, 90, 110, 3}).contiguous();
  const TemporaryFolder folder;
  const auto path = folder.file("film.gif");
  report::write_gif(path, frames, 10);
  VideoReader reader(path, {}, /*luma_only=*/true);
  ASSERT_EQ(reader.info().frames, 3);
  EXPECT_EQ(reader.info().height, 90);
  EXPECT_EQ(reader.info().width, 110);
  EXPECT_NEAR(reader.info().fps, 10, 0.1);
  const auto decoded = reader.decode(0, 3);
  for (int64_t t = 0; t < 3; ++t) {
    const auto& frame = decoded[static_cast<size_t>(t)];
    ASSERT_EQ(frame.error, "");
    const auto luma = torch::tensor(at::ArrayRef<uint8_t>(frame.planes.data(), 90 * 110))
                          .view({90, 110})
                          .to(torch::kFloat32);
    const auto expected = 16 + frames[t].select(2, 0).to(torch::kFloat32) * (219.0 / 255.0);
    EXPECT_LT((luma - expected).abs().max().item<double>(), 2.5) << t;
  }
  // More than 256 colours: fewer bits of each, none of them far off.
  const auto coarse = torch::randint(0, 256, {1, 40, 40, 3}, torch::kUInt8);
  report::write_gif(path, coarse, 1000);
  EXPECT_EQ(VideoReader(path, {}, true).info().frames, 1);
}

}  // namespace
}  // namespace jepa::eval::comparison

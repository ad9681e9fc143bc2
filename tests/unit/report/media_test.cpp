// Pictures and films: what is written is what other programs read back.
#include "temporary_folder.hpp"

#include <eval/report/features_pca.hpp>
#include <eval/report/image.hpp>
#include <eval/report/run_media.hpp>
#include <eval/report/video_writer.hpp>
#include <jepa/data/clip_source.hpp>
#include <jepa/data/video_reader.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>
#include <fstream>

namespace jepa::eval::report {
namespace {

namespace fs = std::filesystem;

/// A picture whose every pixel tells where it is.
torch::Tensor gradient_image(int64_t height, int64_t width) {
  const auto rows = torch::arange(height).view({height, 1}).expand({height, width});
  const auto columns = torch::arange(width).view({1, width}).expand({height, width});
  return torch::stack({rows * 5, columns * 3, (rows + columns) * 2}, -1).to(torch::kUInt8);
}

TEST(Image, PngReadsBackExactly) {
  const auto image = gradient_image(31, 45);
  const TemporaryFolder folder;
  const std::string path = folder.file("image.png");
  write_png(path, image);
  int64_t height = 0, width = 0;
  const auto pixels = read_image(path, {}, 3, height, width);
  ASSERT_EQ(height, 31);
  ASSERT_EQ(width, 45);
  EXPECT_TRUE(torch::equal(
      torch::tensor(c10::ArrayRef<uint8_t>(pixels), torch::kUInt8).view({31, 45, 3}), image));
  EXPECT_THROW(write_png(folder.file("no/such/folder.png"), image), DataError);
  EXPECT_THROW(encode_png(image.to(torch::kFloat32)), c10::Error);
}

TEST(Image, ClipFramesOfOneTwoAndThreeChannels) {
  const auto clip = torch::randint(0, 256, {3, 4, 5, 6}, torch::kUInt8);
  EXPECT_TRUE(torch::equal(clip_frames(clip), clip.permute({1, 2, 3, 0})));
  const auto grey = clip_frames(clip.slice(0, 0, 1));
  EXPECT_EQ(grey.sizes(), (std::vector<int64_t>{4, 5, 6, 3}));
  EXPECT_TRUE(torch::equal(grey.select(3, 0), clip[0]));
  EXPECT_TRUE(torch::equal(grey.select(3, 2), clip[0]));
  EXPECT_EQ(clip_frames(clip.slice(0, 0, 2)).select(3, 2).sum().item<int64_t>(), 0);
}

TEST(Image, GridAndUpscale) {
  const auto frames = torch::arange(3 * 2 * 2 * 3).view({3, 2, 2, 3}).to(torch::kUInt8);
  const auto grid = frame_grid(frames, 2, 1);
  ASSERT_EQ(grid.sizes(), (std::vector<int64_t>{5, 5, 3}));
  EXPECT_TRUE(torch::equal(grid.narrow(0, 0, 2).narrow(1, 3, 2), frames[1]));
  EXPECT_TRUE(torch::equal(grid.narrow(0, 3, 2).narrow(1, 0, 2), frames[2]));
  EXPECT_EQ(grid[4][4][0].item<int>(), 255);  // no fourth frame
  const auto large = upscale(frames, 3);
  ASSERT_EQ(large.sizes(), (std::vector<int64_t>{3, 6, 6, 3}));
  EXPECT_TRUE(torch::equal(large[1][4][5], frames[1][1][1]));
}

TEST(Image, MaskShowsContextAndTintsTargets) {
  const TokenGrid grid{2, 2, 2};
  const auto frames = torch::full({4, 4, 4, 3}, 100, torch::kUInt8);
  // Two contexts, two target sets each, mask-major: row 1's targets are rows 1 and 3.
  const Mask mask{torch::tensor({{0, 1}, {2, 5}}), torch::tensor({{3}, {7}, {4}, {6}})};
  const auto drawn = draw_mask(frames, mask, 1, grid);
  ASSERT_EQ(drawn.sizes(), frames.sizes());
  const auto pixel = [&](int64_t id) {  // upper left pixel of a token
    const auto p = drawn[id / 4 * 2][id % 4 / 2 * 2][id % 2 * 2];
    return std::vector<int>{p[0].item<int>(), p[1].item<int>(), p[2].item<int>()};
  };
  const std::vector<int> shown{100, 100, 100}, tinted{192, 120, 47}, left_out{81, 93, 124};
  for (int64_t id : {2, 5}) EXPECT_EQ(pixel(id), shown) << id;
  for (int64_t id : {6, 7}) EXPECT_EQ(pixel(id), tinted) << id;
  for (int64_t id : {0, 1, 3, 4}) EXPECT_EQ(pixel(id), left_out) << id;
}

TEST(Video, ReadsBackWithItsSizeTimesAndColours) {
  // A bright square moves right on a coloured ground; odd sides get a line more.
  auto frames = torch::zeros({12, 47, 63, 3}, torch::kUInt8);
  frames.select(3, 2).fill_(90);
  for (int64_t t = 0; t < 12; ++t) {
    frames[t].narrow(0, 10, 16).narrow(1, 4 * t, 16).fill_(230);
  }
  const TemporaryFolder folder;
  const std::string path = folder.file("film.mp4");
  write_video(path, frames, 12.5);
  VideoReader reader(path, {}, false);
  EXPECT_EQ(reader.info().frames, 12);
  EXPECT_EQ(reader.info().height, 48);
  EXPECT_EQ(reader.info().width, 64);
  EXPECT_NEAR(reader.info().fps, 12.5, 1e-6);
  Random random(0);
  const RawClip clip = open_clip_source(path, {.frames = 12})->read(0, random);
  const auto read = torch::tensor(c10::ArrayRef<uint8_t>(clip.pixels), torch::kUInt8)
                        .view({12, 48, 64, 3})
                        .narrow(1, 0, 47)
                        .narrow(2, 0, 63);
  EXPECT_LT((read.to(torch::kFloat32) - frames.to(torch::kFloat32)).abs().mean().item<float>(), 4);
  for (int64_t t = 0; t < 12; ++t) {
    EXPECT_GT(read[t][18][4 * t + 8][0].item<int>(), 200) << "frame " << t;
  }
}

TEST(Video, SameFramesGiveSameBytesAndErrorsNameTheFile) {
  const TemporaryFolder folder;
  const auto frames = torch::randint(0, 256, {3, 32, 32, 3}, torch::kUInt8);
  EXPECT_EQ(encode_video(frames, 5), encode_video(frames, 5));
  try {
    write_video(folder.file("empty.mp4"), frames.slice(0, 0, 0), 5);
    FAIL() << "a film without frames was written";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("empty.mp4"), std::string::npos);
  }
  EXPECT_FALSE(fs::exists(folder.file("empty.mp4")));
  EXPECT_THROW(write_video(folder.file("no/such/folder.mp4"), frames, 5), DataError);
  EXPECT_THROW(encode_video(frames, 0), c10::Error);
  VideoEncoder encoder(32, 32, 5);
  EXPECT_THROW(encoder.add(frames.slice(1, 0, 16)), c10::Error);
}

/// Tokens [B, N, D]: one strong direction by position, one weaker by clip, noise.
torch::Tensor planted_tokens(int64_t batch, int64_t count, int64_t dim) {
  auto generator = seeded_generator(7);
  auto tokens = 0.01 * torch::randn({batch, count, dim}, generator);
  tokens.select(2, 0) += 10 * torch::linspace(-1, 1, count).view({1, count});
  tokens.select(2, 3) += 2 * torch::linspace(-1, 1, batch).view({batch, 1});
  return tokens;
}

TEST(Pca, FindsPlantedDirections) {
  const auto tokens = planted_tokens(20, 16, 8);
  const FeaturePca pca = fit_pca(tokens);
  EXPECT_NEAR(pca.basis[0][0].item<float>(), 1, 1e-3);
  EXPECT_NEAR(pca.basis[3][1].item<float>(), 1, 1e-3);
  EXPECT_TRUE(torch::allclose(pca.basis.t().matmul(pca.basis), torch::eye(3), 0, 1e-5));
  EXPECT_GT(pca.explained[0].item<float>(), 0.9);
  // Red follows the position, from black to full.
  const auto colours = pca.colours(tokens);
  ASSERT_EQ(colours.sizes(), (std::vector<int64_t>{20, 16, 3}));
  EXPECT_NEAR(colours[5][0][0].item<float>(), 0, 0.01);
  EXPECT_NEAR(colours[5][15][0].item<float>(), 1, 0.01);
  EXPECT_TRUE(colours.ge(0).logical_and(colours.le(1)).all().item<bool>());
}

TEST(Pca, PositionCanBeTakenAway) {
  const auto tokens = planted_tokens(20, 16, 8);
  const FeaturePca pca = fit_pca(tokens, {.remove_position_mean = true});
  EXPECT_NEAR(pca.basis[3][0].item<float>(), 1, 1e-3);  // the clip's direction comes first now
  const auto colours = pca.colours(tokens);
  EXPECT_LT(colours.select(2, 0).std(1, true).max().item<float>(), 0.02);
  EXPECT_THROW(pca.colours(tokens.slice(1, 0, 8)), c10::Error);
}

TEST(Pca, ConstantTokensStayFinite) {
  const auto colours = fit_pca(torch::ones({2, 4, 5})).colours(torch::ones({2, 4, 5}));
  EXPECT_TRUE(colours.isfinite().all().item<bool>());
}

TEST(Pca, FramesBesideTheirPaint) {
  const TokenGrid grid{2, 2, 2};
  const auto frames = torch::randint(0, 256, {4, 8, 8, 3}, torch::kUInt8);
  auto colours = torch::zeros({8, 3});
  colours.slice(0, 4, 8).fill_(1);  // second tubelet white
  const auto both = pca_frames(frames, colours, grid);
  ASSERT_EQ(both.sizes(), (std::vector<int64_t>{4, 8, 20, 3}));
  EXPECT_TRUE(torch::equal(both.narrow(2, 0, 8), frames));
  EXPECT_EQ(both[1].narrow(1, 12, 8).max().item<int>(), 0);
  EXPECT_EQ(both[2].narrow(1, 12, 8).min().item<int>(), 255);
  EXPECT_THROW(pca_frames(frames, colours.slice(0, 0, 4), grid), c10::Error);
}

TEST(RunMedia, MasksAndFeaturesBecomePictures) {
  const TokenGrid grid{4, 4, 4};
  const auto clips = torch::randint(0, 256, {5, 1, 8, 32, 32}, torch::kUInt8);
  const Mask mask{torch::arange(20).expand({5, 20}), torch::arange(20, 64).expand({5, 44})};
  const auto masks = draw_masks_over_clip(clips, grid, {{"Mask 1, tube", mask}});
  ASSERT_EQ(masks.size(), 1u);
  EXPECT_EQ(masks[0].width, 4 * 128 + 3 * 3);  // a frame for each tubelet
  EXPECT_NE(masks[0].caption.find("context 20 of 64 tokens, target 44 of 64"), std::string::npos);
  const auto films = draw_features(clips, torch::randn({5, 64, 12}), grid, 4);
  ASSERT_EQ(films.size(), 2u);
  const TemporaryFolder folder;
  const std::string path = folder.file("features.mp4");
  std::ofstream(path, std::ios::binary) << films[1].mp4;
  const VideoReader reader(path, {}, false);
  EXPECT_EQ(reader.info().frames, 8);
  EXPECT_EQ(reader.info().width, films[1].width);
}

}  // namespace
}  // namespace jepa::eval::report

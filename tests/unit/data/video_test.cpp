#include "temporary_folder.hpp"

#include <eval/report/video_writer.hpp>
#include <jepa/data/footage.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/data/media_list.hpp>
#include <jepa/data/recipe.hpp>
#include <jepa/data/video_source.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <filesystem>
#include <fstream>
#include <set>

namespace jepa {
namespace {

namespace fs = std::filesystem;

class VideoTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.file(name); }

  /// A video whose frame i is grey of brightness 20 + 3 (i modulo 60).
  std::string write_counting(const std::string& name, int64_t frames) {
    torch::Tensor clip =
        (20 + 3 * (torch::arange(frames) % 60)).to(torch::kUInt8).view({frames, 1, 1, 1});
    eval::report::write_video(path(name), clip.expand({frames, 48, 64, 3}).contiguous(), 10.0);
    return path(name);
  }

  /// A video of noise that moves right by 3 px a frame.
  std::string write_moving(const std::string& name, int64_t frames, int64_t side = 96) {
    torch::manual_seed(0);
    const torch::Tensor noise = torch::randint(256, {side / 8, 128, 3}, torch::kUInt8)
                                    .repeat_interleave(8, 0)
                                    .repeat_interleave(8, 1);
    std::vector<torch::Tensor> all;
    for (int64_t t = 0; t < frames; ++t) {
      const int64_t shift = 700 - 3 * t;
      all.push_back(noise.slice(1, shift, shift + side));
    }
    eval::report::write_video(path(name), torch::stack(all).contiguous(), 10.0);
    return path(name);
  }

  static std::string failure(const std::string& file) {
    try {
      VideoSource source(find_videos(file), {.clips_per_video = 1});
      Random random(0);
      source.read(0, random);
    } catch (const DataError& error) {
      return error.what();
    }
    return "";
  }

  TemporaryFolder folder_;
};

/// Which frame of a counting video this is.
int64_t number_of(const RawClip& clip, int64_t t) {
  const uint8_t* frame = clip.pixels.data() + t * clip.frame_bytes();
  return std::lround((frame[clip.frame_bytes() / 2] - 20) / 3.0);
}

TEST_F(VideoTest, FramesAreTheOnesAskedFor) {
  const std::string file = write_counting("a.mp4", 60);
  VideoReader reader(file, {}, false);
  EXPECT_EQ(reader.info().frames, 60);
  EXPECT_EQ(reader.info().height, 48);
  EXPECT_EQ(reader.info().width, 64);
  EXPECT_NEAR(reader.info().fps, 10.0, 0.01);
  VideoSource source({{file, 0}}, {.frames = 5, .frame_step = 3});
  std::set<int64_t> starts;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    Random random(seed);
    const RawClip clip = source.read(0, random);
    const int64_t first = number_of(clip, 0);
    starts.insert(first);
    for (int64_t t = 0; t < 5; ++t) EXPECT_EQ(number_of(clip, t), first + 3 * t);
  }
  EXPECT_GT(starts.size(), 15U);
}

TEST_F(VideoTest, AnyOrderOfReadingGivesTheSameFrames) {
  const std::string file = write_moving("a.mp4", 80);
  VideoReader straight(file, {}, false);
  const auto frames = straight.decode(0, 80);
  VideoReader jumping(file, {}, false);
  for (const int64_t first : {70, 3, 3, 40, 41, 79, 0}) {
    const auto one = jumping.decode(first, 1);
    EXPECT_EQ(one[0].error, "");
    EXPECT_EQ(one[0].planes, frames[static_cast<size_t>(first)].planes) << first;
  }
}

TEST_F(VideoTest, ASmallCacheChangesNothing) {
  const std::string file = write_moving("a.mp4", 80, 256);
  // 256 x 256 in 4:2:0: about 1.6 MB a block, so that one megabyte keeps a single block.
  const VideoSource small({{file, 0}}, {.frames = 20, .cache_mb = 1});
  const VideoSource large({{file, 0}}, {.frames = 20, .cache_mb = 100});
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Random a(seed);
    Random b(seed);
    EXPECT_EQ(small.read(0, a).pixels, large.read(0, b).pixels);
  }
  EXPECT_LT(small.library().cached_bytes(), 2 << 20);
  EXPECT_GT(large.library().cached_bytes(), 6 << 20);
}

// More videos than readers are kept for: those that were let go come back.
TEST_F(VideoTest, ManyVideosAreReadAgain) {
  const std::string a = write_counting("a.mp4", 20), b = write_counting("b.mp4", 6);
  std::vector<std::string> paths(600, a);
  for (size_t i = 1; i < paths.size(); i += 2) paths[i] = b;
  const VideoLibrary library(paths, {}, 1, /*cache_mb=*/1);
  const auto level = [&](int64_t video, int64_t frame) {
    uint8_t pixel = 0;
    library.read(video, frame, {24, 32, 1, 1}, &pixel);
    return static_cast<int>(pixel);
  };
  const int third = level(0, 3), last = level(0, 19);
  for (int round = 0; round < 2; ++round) {
    for (int64_t video = 0; video < library.size(); ++video) {
      ASSERT_EQ(library.info(video).frames, video % 2 == 0 ? 20 : 6);
      ASSERT_EQ(level(video, 3), third) << video;
    }
    EXPECT_EQ(level(0, 19), last);
    EXPECT_EQ(library.times(0).size(), library.times(2).size());
  }
}

TEST_F(VideoTest, CropsColourAndScale) {
  const std::string file = write_moving("a.mp4", 4);
  Random random(0);
  const VideoSource source({{file, 0}}, {});
  const RawClip whole = source.read(0, random);
  const PixelRect part{10, 20, 30, 40};
  const RawClip cut = source.read(0, random, [&](int64_t, int64_t, Random&) { return part; });
  EXPECT_EQ(cut.pixels, cut_frames(whole.pixels.data(), 4, 96, 96, 3, part).pixels);
  // The video is lossy, and its colours are stored at half the size: blocks of 8 px survive that.
  torch::manual_seed(0);
  const torch::Tensor noise = torch::randint(256, {12, 128, 3}, torch::kUInt8)
                                  .repeat_interleave(8, 0)
                                  .repeat_interleave(8, 1);
  const torch::Tensor expected = noise.slice(1, 700, 796).to(torch::kFloat32);
  const torch::Tensor found = torch::tensor(at::ArrayRef<uint8_t>(whole.pixels))
                                  .view({4, 96, 96, 3})[0]
                                  .to(torch::kFloat32);
  EXPECT_LT((found - expected).abs().mean().item<double>(), 15.0);
  const VideoSource halved({{file, 0}}, {.short_side = 48, .channels = 1});
  const RawClip small = halved.read(0, random);
  EXPECT_EQ(small.height, 48);
  EXPECT_EQ(small.width, 48);
  EXPECT_EQ(small.channels, 1);
}

TEST_F(VideoTest, ListsAndFoldersNameClasses) {
  fs::create_directories(folder_.path() / "set/walk");
  fs::create_directories(folder_.path() / "set/run");
  write_counting("set/walk/a.mp4", 4);
  write_counting("set/run/b.mp4", 4);
  std::ofstream(path("list.txt")) << "set/walk/a.mp4 7\nset/run/b.mp4 9\r\n";
  const auto listed = open_clip_source(path("list.txt"), {});
  EXPECT_TRUE(listed->column("label").equal(torch::tensor({7, 9})));
  Random random(0);
  EXPECT_EQ(listed->read(1, random).frames, 4);
  const auto found = open_clip_source(path("set"), {.clips_per_video = 2});
  EXPECT_TRUE(found->column("label").equal(torch::tensor({0, 0, 1, 1})));
  std::ofstream(path("bad.txt")) << "a.mp4 1\nb.mp4\n";
  try {
    open_clip_source(path("bad.txt"), {});
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("bad.txt: line 2"), std::string::npos);
  }
}

TEST_F(VideoTest, WhatIsNoVideoIsNamed) {
  EXPECT_NE(failure(path("none.mp4")).find("none.mp4: no such file"), std::string::npos);
  std::ofstream(path("empty.mp4"));
  EXPECT_NE(failure(path("empty.mp4")).find("empty.mp4: the file is empty"), std::string::npos);
  std::ofstream(path("text.mp4")) << std::string(5000, 'x');
  EXPECT_NE(failure(path("text.mp4")).find("text.mp4: not a readable video"), std::string::npos);
  fs::create_directories(folder_.path() / "nothing");
  EXPECT_THROW(open_clip_source(path("nothing"), {}), DataError);
}

TEST_F(VideoTest, AVideoThatEndsEarlyIsAnError) {
  const std::string whole = write_moving("whole.mp4", 60);
  for (const double share : {0.3, 0.6, 0.95}) {
    const std::string cut = path("cut.mp4");
    fs::copy_file(whole, cut, fs::copy_options::overwrite_existing);
    fs::resize_file(cut, static_cast<uintmax_t>(static_cast<double>(fs::file_size(whole)) * share));
    EXPECT_NE(failure(cut).find("cut.mp4"), std::string::npos) << share;
  }
}

TEST_F(VideoTest, ACorruptFrameIsNamedAndItsClipsLeftOut) {
  const std::string file = write_moving("bad.mp4", 60);
  {
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(static_cast<std::streamoff>(fs::file_size(file) / 2));
    bytes << std::string(400, '\0');
  }
  const std::string message = failure(file);
  EXPECT_NE(message.find("bad.mp4: frame "), std::string::npos) << message;
  LoaderOptions loading{.batch = 4, .shuffle = false, .max_errors = 100};
  ClipLoader loader(std::make_shared<VideoSource>(std::vector<MediaEntry>{{file, 0}},
                                                  ClipOptions{.frames = 5, .clips_per_video = 12}),
                    loading, 0);
  while (loader.next().size() > 0) {
  }
  EXPECT_GT(loader.stats().clips, 0);
  EXPECT_GT(loader.stats().errors, 0);
  EXPECT_EQ(loader.stats().clips + loader.stats().errors, 12);
  EXPECT_NE(loader.stats().messages.at(0).find("bad.mp4: frame "), std::string::npos);
}

TEST_F(VideoTest, FootageLabelsAreTrue) {
  write_moving("a.mp4", 200);
  FootageOptions options{.data = path("a.mp4"),
                         .clips = 60,
                         .frames = 4,
                         .size = 16,
                         .divide = 1,
                         .speeds = {1, 2},
                         .motion_min = 1.0,
                         .motion_max = 255.0};
  const FootageSource source(options, 0);
  const torch::Tensor velocity = source.column("drift_velocity");
  const VideoLibrary& library = source.library();
  std::vector<uint8_t> frame(16 * 16 * 3);
  for (int64_t i = 0; i < 60; ++i) {
    const FootageClip drawn = source.draw(i);
    Random random(0);
    const RawClip clip = source.read(i, random);
    const int64_t step = options.speeds[static_cast<size_t>(drawn.speed)];
    EXPECT_EQ(source.column("arrow")[i].item<int64_t>(), drawn.backward ? 1 : 0);
    for (int64_t t = 0; t < 4; ++t) {
      const int64_t number = drawn.start + (drawn.backward ? 3 - t : t) * step;
      const int64_t segment_length = 120 / source.segments();
      EXPECT_EQ(number / segment_length, drawn.segment);  // 60 % of 200 frames, cut evenly
      PixelRect part = drawn.middle;
      part.left += velocity[i][0].item<int64_t>() * t - drawn.drift_x * 3 / 2;
      part.top += velocity[i][1].item<int64_t>() * t - drawn.drift_y * 3 / 2;
      library.read(0, number, part, frame.data());
      EXPECT_TRUE(
          std::equal(frame.begin(), frame.end(), clip.pixels.data() + t * clip.frame_bytes()));
    }
  }
}

TEST_F(VideoTest, FootageSplitsShareNoFrame) {
  write_moving("a.mp4", 200);
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const std::string split : {"train", "validation", "test"}) {
    const FootageSource source({.data = path("a.mp4"),
                                .split = split,
                                .clips = 100,
                                .size = 16,
                                .divide = 1,
                                .motion_min = 0,
                                .motion_max = 255},
                               0);
    int64_t low = 1000;
    int64_t high = -1;
    for (int64_t i = 0; i < 100; ++i) {
      const FootageClip clip = source.draw(i);
      const int64_t step = int64_t{1} << clip.speed;
      low = std::min(low, clip.start);
      high = std::max(high, clip.start + 7 * step);
    }
    ranges.emplace_back(low, high);
  }
  EXPECT_LT(ranges[0].second, ranges[1].first);
  EXPECT_LT(ranges[1].second, ranges[2].first);
  EXPECT_LT(ranges[2].second, 200);
  EXPECT_GE(ranges[2].first, 160);  // the last fifth
}

TEST_F(VideoTest, FootageLeavesOutWhatCannotBeRead) {
  fs::create_directories(folder_.path() / "set");
  write_moving("set/a.mp4", 60);
  write_moving("set/c.mp4", 60);
  std::ofstream(path("set/b.mp4")) << "no video";
  FootageOptions options{.data = path("set"),
                         .clips = 20,
                         .frames = 4,
                         .size = 16,
                         .divide = 1,
                         .motion_min = 0,
                         .motion_max = 255};
  EXPECT_THROW(FootageSource(options, 0), DataError);
  options.max_errors = 1;
  const FootageSource source(options, 0);
  ASSERT_EQ(source.left_out().size(), 1U);
  EXPECT_NE(source.left_out()[0].find("b.mp4"), std::string::npos);
  const torch::Tensor videos = source.column("source");
  EXPECT_FALSE((videos == 1).any().item<bool>());
  EXPECT_TRUE((videos == 2).any().item<bool>());
}

TEST_F(VideoTest, FootageThatDoesNotMoveIsAnError) {
  write_counting("still.mp4", 150);
  const FootageSource source({.data = path("still.mp4"),
                              .clips = 4,
                              .size = 16,
                              .divide = 1,
                              .drift_max = 1,
                              .motion_min = 10},
                             0);
  EXPECT_THROW(source.draw(0), DataError);
  EXPECT_THROW(FootageSource({.data = path("still.mp4"), .size = 60}, 0), DataError);
}

TEST_F(VideoTest, ARecipeFileIsASource) {
  std::ofstream(path("digits.ini"))
      << "kind = digits\nclips = 12\nseed = 5\n[generated]\nframes = 4\n";
  const auto source = open_clip_source(path("digits.ini"), {});
  EXPECT_EQ(source->size(), 12);
  Random random(0);
  EXPECT_EQ(source->read(3, random).pixels,
            GeneratedSource({.clips = 12, .frames = 4}, 5).read(3, random).pixels);
  std::ofstream(path("wrong.ini")) << "kind = letters\n";
  EXPECT_THROW(open_clip_source(path("wrong.ini"), {}), ConfigError);
}

TEST_F(VideoTest, ImagesAreClipsOfOneFrame) {
  fs::create_directories(folder_.path() / "set/b");
  for (const std::string name : {"set/b/y.ppm", "set/b/x.ppm"}) {
    std::ofstream file(path(name), std::ios::binary);
    file << "P6 3 2 255\n";
    for (int value = 0; value < 18; ++value)
      file.put(static_cast<char>(value + (name == "set/b/y.ppm" ? 100 : 0)));
  }
  const auto source = open_clip_source(path("set"), {});
  Random random(0);
  const RawClip clip = source->read(1, random);
  EXPECT_EQ(source->size(), 2);
  EXPECT_EQ(clip.frames, 1);
  EXPECT_EQ(clip.height, 2);
  EXPECT_EQ(clip.width, 3);
  EXPECT_EQ(clip.pixels[17], 117);
  std::ofstream(path("set/b/z.png")) << "no picture";
  EXPECT_THROW(open_clip_source(path("set"), {})->read(2, random), DataError);
}

}  // namespace
}  // namespace jepa

// Files as people have them that were once read wrongly, refused though whole, or crashed.
#include "temporary_folder.hpp"

#include <jepa/data/loader.hpp>
#include <jepa/data/media_list.hpp>
#include <jepa/data/video_source.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>

namespace jepa {
namespace {

namespace fs = std::filesystem;

std::string fixture(const std::string& name) {
  return std::string(JEPA_TEST_FIXTURES) + "/data/" + name;
}

RawClip read_clip(const std::string& file, ClipOptions options = {}) {
  options.random_window = false;
  const VideoSource source({{.path = file}}, options);
  Random random(0);
  return source.read(0, random);
}

std::string failure(const std::string& file, const ClipOptions& options = {}) {
  try {
    read_clip(file, options);
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

TEST(VideoFaults, AnotherSizeAmidTheVideoIsAnError) {
  EXPECT_NE(failure(fixture("crash_41.flv")).find("crash_41.flv: frame "), std::string::npos);
}

TEST(VideoFaults, EveryTurnAndMirrorOfAPlane) {
  const std::vector<uint8_t> plane = {1, 2, 3, 4, 5, 6};  // 2 rows of 3
  const auto turned = [&](const Turn& turn) {
    std::vector<uint8_t> to(plane.size());
    turn_plane(plane.data(), 3, 2, 3, 1, turn, to.data());
    return to;
  };
  using Pixels = std::vector<uint8_t>;
  EXPECT_EQ(turned({}), plane);
  EXPECT_EQ(turned({.mirror_x = true}), (Pixels{3, 2, 1, 6, 5, 4}));
  EXPECT_EQ(turned({.mirror_x = true, .mirror_y = true}), (Pixels{6, 5, 4, 3, 2, 1}));
  EXPECT_EQ(turned({.transpose = true}), (Pixels{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(turned({.transpose = true, .mirror_x = true}), (Pixels{4, 1, 5, 2, 6, 3}));
  EXPECT_EQ(turned({.transpose = true, .mirror_y = true}), (Pixels{3, 6, 2, 5, 1, 4}));
}

TEST(VideoFaults, WholeMillisecondsStillMakeThirtyFramesASecond) {
  for (const char* name : {"r30_98.webm", "r30_98.flv"}) {
    VideoReader reader(fixture(name), {}, false);
    EXPECT_DOUBLE_EQ(reader.info().fps, 30.0) << name;
    EXPECT_EQ(reader.info().frames, 98) << name;
  }
  const RawClip two = read_clip(fixture("r30_98.webm"), {.frames = 2, .fps = 1});
  const RawClip stepped = read_clip(fixture("r30_98.webm"), {.frames = 2, .frame_step = 30});
  EXPECT_EQ(two.pixels, stepped.pixels);
}

TEST(VideoFaults, VaryingRatesAreSampledByTime) {
  VideoReader reader(fixture("vfr_n200.mp4"), {}, true);
  const auto times = reader.times();
  ASSERT_EQ(times.size(), static_cast<size_t>(reader.info().frames));
  const RawClip sampled = read_clip(fixture("vfr_n200.mp4"), {.fps = 5});
  const RawClip all = read_clip(fixture("vfr_n200.mp4"));
  int64_t at = 0;
  for (int64_t t = 0; t < sampled.frames; ++t) {
    // The frame shown nearest to t / 5 seconds.
    const double wanted = 0.2 * static_cast<double>(t);
    int64_t nearest = at;
    for (size_t i = 0; i < times.size(); ++i) {
      if (std::abs(times[i] - wanted) < std::abs(times[static_cast<size_t>(nearest)] - wanted)) {
        nearest = static_cast<int64_t>(i);
      }
    }
    at = nearest;
    EXPECT_TRUE(std::equal(sampled.pixels.begin() + t * sampled.frame_bytes(),
                           sampled.pixels.begin() + (t + 1) * sampled.frame_bytes(),
                           all.pixels.begin() + nearest * all.frame_bytes()))
        << t;
  }
}

TEST(VideoFaults, FromZeroToTheEndOfAVaryingVideoOneFrameEveryFifthOfASecond) {
  const RawClip sampled = read_clip(fixture("vfr_n200.mp4"), {.fps = 5});
  EXPECT_NEAR(static_cast<double>(sampled.frames), 5 * 152064 / 12800.0, 1.5);
}

TEST(VideoFaults, WhatIsCutIsStillAnError) {
  const TemporaryFolder folder;
  for (const std::string name : {"r30_98.webm", "r30_98.flv", "held.webm", "base.mp4"}) {
    const std::string cut = folder.file(name);
    fs::copy_file(fixture(name), cut);
    fs::resize_file(cut, fs::file_size(cut) * 7 / 10);
    EXPECT_NE(failure(cut).find(name), std::string::npos) << name;
  }
}

TEST(VideoFaults, TheEndOfAnOpenGroupIsReachedCold) {
  const RawClip cold = read_clip(fixture("cut2.mp4"), {.frames = 2, .from = 0.9411});
  const RawClip all = read_clip(fixture("cut2.mp4"));
  EXPECT_TRUE(std::equal(cold.pixels.begin(), cold.pixels.end(),
                         all.pixels.end() - static_cast<int64_t>(cold.pixels.size())));
}

TEST(VideoFaults, NamesAreNeitherPatternsNorProtocols) {
  const TemporaryFolder folder;
  for (const char* name : {"a%03d.mp4", "10:30.mp4", "my%20dog.mp4", "concat:a.mp4", "x*?.mp4"}) {
    fs::copy_file(fixture("base.mp4"), folder.file(name));
    EXPECT_EQ(failure(folder.file(name), {.frames = 1}), "") << name;
  }
}

TEST(VideoFaults, PlaylistsOpenNothing) {
  const TemporaryFolder folder;
  fs::copy_file(fixture("base.mp4"), folder.file("base.mp4"));
  const std::string texts[] = {
      "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nbase.mp4\n#EXT-X-ENDLIST\n",
      "ffconcat version 1.0\nfile base.mp4\n",
      "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"};
  for (const auto& text : texts) {
    std::ofstream(folder.file("list.mp4")) << text;
    EXPECT_NE(failure(folder.file("list.mp4")).find("list.mp4: "), std::string::npos) << text;
  }
}

TEST(VideoFaults, FrameStepsBeyondAnyVideoAreErrors) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  for (const int64_t frames : {0, 2, 16}) {
    const std::string text = failure(fixture("base.mp4"), {.frames = frames, .frame_step = kMost});
    EXPECT_NE(text.find("base.mp4"), std::string::npos) << frames;
  }
}

/// The mean of each frame, in fives: its number in fixtures that count so.
std::vector<int64_t> numbers_of(const RawClip& clip) {
  std::vector<int64_t> numbers;
  for (int64_t t = 0; t < clip.frames; ++t) {
    const uint8_t* frame = clip.pixels.data() + t * clip.frame_bytes();
    const double sum = std::accumulate(frame, frame + clip.frame_bytes(), 0.0);
    numbers.push_back(std::llround(sum / static_cast<double>(clip.frame_bytes()) / 5));
  }
  return numbers;
}

TEST(VideoFaults, JoinedTransportStreamsGoOnWhereTheLastEnded) {
  const TemporaryFolder folder;
  const std::string part = read_bytes(fixture("part.ts"));
  write_bytes(folder.file("joined.ts"), part + part + part);
  const VideoReader reader(folder.file("joined.ts"), {}, false);
  EXPECT_EQ(reader.info().frames, 90);
  EXPECT_NEAR(reader.info().fps, 25, 1e-6);
  EXPECT_TRUE(reader.info().constant_rate);
  std::vector<int64_t> expected;
  for (int64_t i = 0; i < 90; ++i) expected.push_back(i % 30);
  EXPECT_EQ(numbers_of(read_clip(folder.file("joined.ts"))), expected);
  expected.clear();
  for (int64_t i = 2; i < 90; i += 5) expected.push_back(i % 30);
  EXPECT_EQ(numbers_of(read_clip(folder.file("joined.ts"), {.fps = 5})), expected);
}

TEST(VideoFaults, APauseMakesNoVideoTooSlow) {
  // Frames 0 to 9 every 40 ms, frames 10 to 19 the same from 5.4 s on.
  const auto numbers = numbers_of(read_clip(fixture("pause.mkv"), {.fps = 5}));
  ASSERT_EQ(numbers.size(), 29U);  // 5.8 s
  EXPECT_EQ(numbers[0], 0);
  EXPECT_EQ(numbers[1], 5);
  EXPECT_EQ(numbers[12], 9);   // 2.4 s
  EXPECT_EQ(numbers[16], 10);  // 3.2 s
  EXPECT_EQ(numbers[27], 10);  // 5.4 s
  EXPECT_EQ(numbers[28], 15);
  EXPECT_NE(failure(fixture("pause.mkv"), {.fps = 30}).find("expected at least 30"),
            std::string::npos);
}

TEST(VideoFaults, TheShortSideAskedForIsHadThoughItBeOdd) {
  const auto size = [](int64_t height, int64_t width, int64_t side) {
    scaled_size({.short_side = side}, height, width);
    return std::pair{height, width};
  };
  EXPECT_EQ(size(32, 64, 31), (std::pair<int64_t, int64_t>{31, 62}));
  EXPECT_EQ(size(64, 32, 31), (std::pair<int64_t, int64_t>{62, 31}));
  EXPECT_EQ(size(32, 32, 31), (std::pair<int64_t, int64_t>{31, 31}));
  EXPECT_EQ(size(640, 480, 72), (std::pair<int64_t, int64_t>{96, 72}));
  const RawClip clip = read_clip(fixture("base.mp4"), {.frames = 1, .short_side = 31});
  EXPECT_EQ(std::min(clip.height, clip.width), 31);
}

TEST(VideoFaults, RatesThatDifferAreUnknown) {
  const auto rate = [](const std::vector<MediaEntry>& videos, const ClipOptions& options) {
    return VideoSource(videos, options).frames_a_second();
  };
  const std::vector<MediaEntry> both = {{fixture("base.mp4")}, {fixture("r30_98.webm")}};
  EXPECT_EQ(rate(both, {}), 0);
  EXPECT_EQ(VideoSource(both, {}).rates(), (std::pair{25.0, 30.0}));
  EXPECT_EQ(rate(both, {.fps = 5}), 5);
  EXPECT_EQ(rate({both[0], both[0], {"missing.mp4"}}, {}), 25);
}

TEST(VideoFaults, ClipsAreCalledByTheirFile) {
  const VideoSource source({{"a.mp4"}, {"b.mp4"}}, {.clips_per_video = 3});
  EXPECT_EQ(source.name(4), "b.mp4: clip 2 of 3");
  EXPECT_EQ(VideoSource({{"a.mp4"}, {"b.mp4"}}, {}).name(1), "b.mp4");
  const auto both = std::make_shared<VideoSource>(
      std::vector<MediaEntry>{{fixture("part.ts")}, {fixture("pause.mkv")}}, ClipOptions{});
  ClipLoader loader(both, {.batch = 2, .threads = 0, .shuffle = false}, 0);
  const std::string text = message_of<DataError>([&] { loader.next(); });
  EXPECT_NE(text.find("pause.mkv: 20 frames"), std::string::npos) << text;
  EXPECT_NE(text.find("but 30 frames"), std::string::npos) << text;
  EXPECT_NE(text.find("part.ts; clip.frames makes lengths equal"), std::string::npos) << text;
}

TEST(VideoFaults, AClipThatNoMemoryHoldsIsRefused) {
  const std::string text =
      failure(fixture("base.mp4"), {.frames = int64_t{1} << 25, .repeat_last = true});
  EXPECT_NE(text.find("base.mp4: "), std::string::npos) << text;
  EXPECT_NE(text.find("memory"), std::string::npos) << text;
}

}  // namespace
}  // namespace jepa

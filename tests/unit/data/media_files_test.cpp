// Video and picture files as people have them: what is whole is read as it is shown, what is not is
// an error, and nothing but the file itself is opened.
#include "temporary_folder.hpp"

#include <jepa/data/clip_source.hpp>
#include <jepa/data/media_list.hpp>
#include <jepa/data/video_reader.hpp>
#include <jepa/data/video_source.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>

namespace jepa {
namespace {

namespace fs = std::filesystem;

std::string fixture(const std::string& name) {
  return std::string(JEPA_TEST_FIXTURES) + "/data/" + name;
}

RawClip read(const std::string& path, ClipOptions options = {}) {
  options.random_window = false;
  Random random(0);
  return open_clip_source(path, options)->read(0, random);
}

std::string failure(const std::string& path, const ClipOptions& options = {}) {
  try {
    read(path, options);
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    return text;
  }
  return "";
}

/// The mean colour of columns [from, to) of the first frame.
std::array<double, 3> colour(const RawClip& clip, int64_t from, int64_t to) {
  std::array<double, 3> sum{};
  for (int64_t y = clip.height / 4; y < 3 * clip.height / 4; ++y) {
    for (int64_t x = from; x < to; ++x) {
      for (int64_t c = 0; c < 3; ++c) {
        sum[static_cast<size_t>(c)] +=
            clip.pixels[static_cast<size_t>((y * clip.width + x) * 3 + c)];
      }
    }
  }
  const double count = static_cast<double>((to - from) * (3 * clip.height / 4 - clip.height / 4));
  for (double& value : sum) value /= count;
  return sum;
}

void expect_colour(const std::array<double, 3>& found, double red, double green, double blue) {
  EXPECT_NEAR(found[0], red, 4);
  EXPECT_NEAR(found[1], green, 4);
  EXPECT_NEAR(found[2], blue, 4);
}

TEST(MediaFiles, FullRangeIsNotStretched) {
  // Four bars: grey 10, 128, 245 and (200, 60, 30).
  const RawClip clip = read(fixture("c_vp9_601_pc.webm"));
  const int64_t bar = clip.width / 4, inset = bar / 4;
  const auto at = [&](int64_t i) { return colour(clip, i * bar + inset, (i + 1) * bar - inset); };
  expect_colour(at(0), 10, 10, 10);
  expect_colour(at(1), 128, 128, 128);
  expect_colour(at(2), 245, 245, 245);
  expect_colour(at(3), 200, 60, 30);
}

TEST(MediaFiles, ColoursOfBt2020) {
  const RawClip clip = read(fixture("c_h264_2020_tv.mp4"));
  const int64_t bar = clip.width / 4, inset = bar / 4;
  expect_colour(colour(clip, 3 * bar + inset, 4 * bar - inset), 200, 60, 30);
}

TEST(MediaFiles, AreTurnedAsTheFileSays) {
  const RawClip flat = read(fixture("base.mp4")), turned = read(fixture("rot90.mp4"));
  ASSERT_EQ(turned.height, flat.width);
  ASSERT_EQ(turned.width, flat.height);
  ASSERT_EQ(turned.frames, flat.frames);
  // Same coded pixels: each is found where a turn by 90 degrees, one way or the other, puts it.
  const auto at = [](const RawClip& clip, int64_t y, int64_t x) {
    return static_cast<int>(clip.pixels[static_cast<size_t>((y * clip.width + x) * 3)]);
  };
  int64_t left = 0, right = 0;
  for (int64_t y = 0; y < flat.height; ++y) {
    for (int64_t x = 0; x < flat.width; ++x) {
      left += std::abs(at(flat, y, x) - at(turned, flat.width - 1 - x, y));
      right += std::abs(at(flat, y, x) - at(turned, x, flat.height - 1 - y));
    }
  }
  EXPECT_EQ(std::min(left, right), 0);
  EXPECT_GT(std::max(left, right), 0);
}

TEST(MediaFiles, NarrowPlanesAreRead) {
  const RawClip clip = read(fixture("odd_3x5_yuv444p.mkv"));
  EXPECT_EQ(clip.width, 3);
  EXPECT_EQ(clip.height, 5);
}

TEST(MediaFiles, WholeFilesAreRead) {
  for (const char* name : {"r30_98.flv", "held.webm", "base.mp4", "vfr_n200.mp4"}) {
    EXPECT_EQ(failure(fixture(name)), "") << name;
  }
  EXPECT_EQ(read(fixture("r30_98.flv")).frames, 98);
}

TEST(MediaFiles, ALostPacketCostsFramesAndNotTheFile) {
  const VideoSource source(find_videos(fixture("drop1.ts")), {.frames = 1, .random_window = false});
  const VideoInfo& info = source.library().info(0);
  EXPECT_GT(info.frames, 10);
  int64_t good = 0;
  std::vector<uint8_t> pixels(static_cast<size_t>(info.height * info.width * 3));
  for (int64_t frame = 0; frame < info.frames; ++frame) {
    try {
      source.library().read(0, frame, {0, 0, info.height, info.width}, pixels.data());
      ++good;
    } catch (const DataError&) {
    }
  }
  EXPECT_GT(good, info.frames / 2);
  EXPECT_LT(good, info.frames);
}

TEST(MediaFiles, FramesAreChosenByTheirTimes) {
  ClipOptions options{.frames = 2, .fps = 1};
  const auto webm = choose_frames(98, 30.03, options, 0, *std::make_unique<Random>(0), "");
  EXPECT_EQ(webm[1] - webm[0], 30);
  const VideoSource source(find_videos(fixture("vfr_n200.mp4")), {.fps = 5});
  const VideoInfo& info = source.library().info(0);
  const auto times = source.library().times(0);
  ASSERT_EQ(static_cast<int64_t>(times.size()), info.frames);
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
  EXPECT_EQ(source.frames_a_second(), 5);
  EXPECT_EQ(failure(fixture("vfr_n200.mp4"), {.frames = 4, .fps = 5}), "");
}

TEST(MediaFiles, RatesAreTrue) {
  const auto rate = [](const ClipOptions& options) {
    return VideoSource(find_videos(fixture("base.mp4")), options).frames_a_second();
  };
  EXPECT_NEAR(rate({}), 25, 1e-6);
  EXPECT_NEAR(rate({.fps = 20}), 25, 1e-6);  // every frame: there are none between
  EXPECT_NEAR(rate({.frame_step = 5}), 5, 1e-6);
}

TEST(MediaFiles, ExifTurnsAPicture) {
  int64_t height = 0, width = 0, flat_height = 0, flat_width = 0;
  const auto turned = read_image(fixture("exif_rot6.jpg"), {}, 3, height, width);
  std::string bytes = read_bytes(fixture("exif_rot6.jpg"));
  const size_t tag = bytes.find(std::string("Exif\0\0", 6));
  ASSERT_NE(tag, std::string::npos);
  bytes[tag] = 'e';  // no longer EXIF
  const TemporaryFolder folder;
  write_bytes(folder.file("flat.jpg"), bytes);
  const auto flat = read_image(folder.file("flat.jpg"), {}, 3, flat_height, flat_width);
  ASSERT_EQ(height, flat_width);
  ASSERT_EQ(width, flat_height);
  // Orientation 6: the picture's first column, read upwards, is the top row of what is shown.
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      EXPECT_EQ(turned[static_cast<size_t>((y * width + x) * 3)],
                flat[static_cast<size_t>(((flat_height - 1 - x) * flat_width + y) * 3)]);
    }
  }
}

TEST(MediaFiles, PicturesAreTurnedWholeOrAnError) {
  const TemporaryFolder folder;
  const auto only = [&](const std::string& name) {
    const std::string inside = folder.file("of " + name);
    fs::create_directory(inside);
    fs::copy(fixture(name), inside + "/" + name);
    return inside;
  };
  const RawClip turned = read(only("exif_rot6.jpg"));
  EXPECT_GT(turned.height, turned.width);
  EXPECT_NE(failure(only("truncated.jpg")), "");
  EXPECT_EQ(failure(only("my%20dog.jpg")), "");
  EXPECT_GT(read(fixture("exif_rot6.jpg")).height, read(fixture("exif_rot6.jpg")).width);
  EXPECT_NE(failure(fixture("truncated.jpg")), "");
  EXPECT_NE(failure(fixture("jpg.tif")), "");
  fs::copy(fixture("my%20dog.jpg"), folder.file("of my%20dog.jpg") + "/a%03d.jpg");
  fs::copy(fixture("my%20dog.jpg"), folder.file("of my%20dog.jpg") + "/10:30.jpg");
  fs::copy(fixture("my%20dog.jpg"), folder.file("of my%20dog.jpg") + "/http:b.jpg");
  Random random(0);
  const auto source = open_clip_source(folder.file("of my%20dog.jpg"), {});
  ASSERT_EQ(source->size(), 4);
  for (int64_t i = 0; i < 4; ++i) EXPECT_GT(source->read(i, random).width, 0);
  // JPEG inside TIFF: pixels or an error, but not black.
  const std::string tiff = only("jpg.tif");
  if (failure(tiff).empty()) {
    const RawClip clip = read(tiff);
    EXPECT_GT(*std::max_element(clip.pixels.begin(), clip.pixels.end()), 0);
  }
}

TEST(MediaFiles, WhatAFileNamesIsNotOpened) {
  EXPECT_NE(failure(fixture("evil_hls.mp4")).find("'hls' is not opened"), std::string::npos);
}

TEST(MediaLists, AreReadInEverySpelling) {
  for (const char* name : {"quoted.csv", "trailing.csv"}) {
    const auto entries = read_video_list(fixture(std::string("lists/") + name));
    ASSERT_GE(entries.size(), 1u) << name;
    for (const auto& entry : entries) EXPECT_TRUE(fs::exists(entry.path)) << entry.path;
  }
  const TemporaryFolder folder;
  std::ofstream(folder.file("list.txt")) << "\xEF\xBB\xBF# clips\n\na.mp4\t3\r\nb c.mp4, 4\n"
                                            "d.mp4::5\n  \"e \"\"f\"\".mp4\",6  \n";
  const auto entries = read_video_list(folder.file("list.txt"));
  ASSERT_EQ(entries.size(), 4u);
  const std::vector<std::string> names{"a.mp4", "b c.mp4", "d.mp4", "e \"f\".mp4"};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(fs::path(entries[i].path).filename(), names[i]);
    EXPECT_EQ(entries[i].label, static_cast<int64_t>(i) + 3);
  }
  std::ofstream(folder.file("far.txt")) << "a.mp4 1000000000000\n";
  EXPECT_THROW(read_video_list(folder.file("far.txt")), DataError);
  std::ofstream(folder.file("part.txt")) << "a.mp4 0.5\n";
  EXPECT_THROW(read_video_list(folder.file("part.txt")), DataError);
}

TEST(MediaFolders, OneGifDoesNotHideThePictures) {
  const TemporaryFolder folder;
  fs::copy(fixture("exif_rot6.jpg"), folder.file("a.jpg"));
  std::ofstream(folder.file("b.gif")) << "GIF89a";
  EXPECT_EQ(failure(fs::path(folder.file("a.jpg")).parent_path().string()), "");
}

TEST(MediaFolders, PassOverWhatIsNoFileAndEnterLinkedClasses) {
  const TemporaryFolder folder;
  const std::string root = folder.file("root");
  fs::create_directories(root + "/cats");
  fs::create_directories(folder.file("elsewhere"));
  fs::copy(fixture("base.mp4"), root + "/cats/a.MP4");
  fs::copy(fixture("base.mp4"), root + "/cats/._a.mp4");
  fs::copy(fixture("base.mp4"), folder.file("elsewhere") + "/b.mp4");
  fs::create_symlink(root + "/nowhere.mp4", root + "/cats/dead.mp4");
  fs::create_directory_symlink(folder.file("elsewhere"), root + "/dogs");
  fs::create_directory_symlink(root, root + "/cats/loop");
  const auto entries = list_videos(root);
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].label, 0);
  EXPECT_EQ(entries[1].label, 1);
}

}  // namespace
}  // namespace jepa

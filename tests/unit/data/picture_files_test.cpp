// Pictures as other programs write them: with tags, turns and trailers.
#include "temporary_folder.hpp"

#include <jepa/data/clip_source.hpp>
#include <jepa/data/video_reader.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>

#include <filesystem>

namespace jepa {
namespace {

namespace fs = std::filesystem;

std::string fixture(const std::string& name) {
  return std::string(JEPA_TEST_FIXTURES) + "/data/" + name;
}

struct Picture {
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint8_t> pixels;
  bool operator==(const Picture&) const = default;
};

Picture read(const std::string& path) {
  Picture picture;
  picture.pixels = read_image(path, {}, 3, picture.height, picture.width);
  return picture;
}

std::string failure(const std::string& path) {
  return message_of<DataError>([&] { read(path); });
}

/// Which colour the middle of a quarter is: of the fixtures' four, in the order of their quarters.
std::string colours(const Picture& picture) {
  std::string found;
  for (const int64_t y : {picture.height / 4, 3 * picture.height / 4}) {
    for (const int64_t x : {picture.width / 4, 3 * picture.width / 4}) {
      const uint8_t* pixel = picture.pixels.data() + 3 * (y * picture.width + x);
      const int colour[4][3] = {{250, 20, 20}, {20, 250, 20}, {20, 20, 250}, {240, 240, 240}};
      char name = '?';
      for (int i = 0; i < 4; ++i) {
        int off = 0;
        for (int c = 0; c < 3; ++c) off = std::max(off, std::abs(pixel[c] - colour[i][c]));
        if (off <= 3) name = "rgbw"[i];
      }
      found += name;
    }
  }
  return found;
}

TEST(PictureFiles, TiffsWithTagsOfOtherProgramsAreRead) {
  for (const char* name : {"dots.tif", "rgba.tif", "ycbcr.tif"}) {
    ASSERT_EQ(failure(fixture(name)), "") << name;
    const Picture picture = read(fixture(name));
    EXPECT_EQ(picture.height, 12) << name;
    EXPECT_EQ(picture.width, 16) << name;
    EXPECT_EQ(colours(picture), "rgbw") << name;
  }
}

TEST(PictureFiles, ADamagedTiffIsStillAnError) {
  const TemporaryFolder folder;
  const std::string whole = read_bytes(fixture("dots.tif"));
  write_bytes(folder.file("cut.tif"), whole.substr(0, whole.size() * 9 / 10));
  EXPECT_NE(failure(folder.file("cut.tif")).find("cut.tif: "), std::string::npos);
  std::string bytes = read_bytes(fixture("turned.tif"));  // its deflated pixels come first
  for (size_t i = 20; i < 40; ++i) bytes[i] = static_cast<char>(bytes[i] ^ 0x55);
  write_bytes(folder.file("bad.tif"), bytes);
  EXPECT_NE(failure(folder.file("bad.tif")).find("bad.tif: "), std::string::npos);
  // Samples that are floats: 16-bit ones would pass for whole numbers.
  std::string floats = read_bytes(fixture("rgba.tif"));
  const size_t tag = floats.find(std::string("\x52\x01\x03\0", 4));  // extra samples
  ASSERT_NE(tag, std::string::npos);
  floats[tag] = '\x53';      // sample format
  floats[tag + 8] = '\x03';  // floating point
  write_bytes(folder.file("float.tif"), floats);
  EXPECT_NE(failure(folder.file("float.tif")).find("floating-point"), std::string::npos);
}

TEST(PictureFiles, AreTurnedAsExifSays) {
  for (const char* name : {"turned.png", "turned.webp", "turned.tif"}) {
    ASSERT_EQ(failure(fixture(name)), "") << name;
    const Picture picture = read(fixture(name));
    EXPECT_EQ(picture.height, 16) << name;
    EXPECT_EQ(picture.width, 12) << name;
    EXPECT_EQ(colours(picture), "brwg") << name;  // a quarter to the right
  }
}

TEST(PictureFiles, WhatFollowsAJpegChangesNothing) {
  const TemporaryFolder folder;
  const std::string jpeg = read_bytes(fixture("my%20dog.jpg"));
  const std::string other = read_bytes(fixture("exif_rot6.jpg"));
  const Picture alone = read(fixture("my%20dog.jpg"));
  const std::string film = std::string("\0\0\0\x18", 4) + "ftypmp42" + std::string(50, 'x') +
                           "\xFF\xDA" + std::string(50, 'y');
  std::string mp3;
  for (int i = 0; i < 50; ++i) mp3 += "\xFF\xFB\x90\x64" + std::string(413, '\0');
  const std::vector<std::pair<std::string, std::string>> files = {
      {"motion.jpg", jpeg + film},
      {"film.jpg", jpeg + read_bytes(fixture("base.mp4"))},
      {"two.jpg", jpeg + other},
      {"three.JPEG", jpeg + other + jpeg},
      {"sound.jpg", jpeg + mp3}};
  for (const auto& [name, bytes] : files) {
    write_bytes(folder.file(name), bytes);
    ASSERT_EQ(failure(folder.file(name)), "") << name;
    EXPECT_EQ(read(folder.file(name)), alone) << name;
  }
  // Cut off, whatever comes then.
  const std::string cut = jpeg.substr(0, jpeg.size() * 8 / 10);
  for (const std::string& bytes : {cut, cut + jpeg, cut + std::string(300, '\0'),
                                   jpeg.substr(0, 300) + std::string(300, '\0') + "\xFF\xD9"}) {
    write_bytes(folder.file("cut.jpg"), bytes);
    EXPECT_NE(failure(folder.file("cut.jpg")).find("cut.jpg: "), std::string::npos);
  }
}

TEST(PictureFiles, ACutGifIsAnError) {
  const TemporaryFolder folder;
  const std::string whole = read_bytes(fixture("four.gif"));
  const auto length = [&](const std::string& bytes) {
    write_bytes(folder.file("a.gif"), bytes);
    Random random(0);
    return open_clip_source(folder.file("a.gif"), {.random_window = false})->read(0, random).frames;
  };
  EXPECT_EQ(length(whole), 4);
  EXPECT_EQ(length(whole + "what other programs append"), 4);
  for (const size_t percent : {40, 70, 95}) {
    const std::string text =
        message_of<DataError>([&] { length(whole.substr(0, whole.size() * percent / 100)); });
    EXPECT_NE(text.find("a.gif: "), std::string::npos) << percent;
  }
  EXPECT_THROW(length(whole.substr(0, whole.size() - 1)), DataError);
}

}  // namespace
}  // namespace jepa

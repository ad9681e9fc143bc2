// Pictures made smaller: the published pipelines of pictures average over what a pixel covers.
#include <jepa/data/augment.hpp>
#include <jepa/data/clip_source.hpp>

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace jepa {
namespace {

RawClip pattern(int64_t frames) {
  RawClip clip{frames, 10, 13, 1, {}};
  for (int64_t t = 0; t < frames; ++t) {
    for (int64_t y = 0; y < 10; ++y) {
      for (int64_t x = 0; x < 13; ++x) {
        clip.pixels.push_back(static_cast<uint8_t>((x * x * 7 + y * 31 + x * y * 5) % 256));
      }
    }
  }
  return clip;
}

void expect_near(const std::vector<uint8_t>& found, const std::vector<int>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1) << i;
}

// Pillow 13.0: Image.resize((4, 5), BILINEAR) and ((20, 4), BILINEAR) of pattern().
const std::vector<int> kSmaller = {50,  138, 121, 128, 114, 126, 120, 122, 158, 136,
                                   130, 127, 123, 135, 145, 147, 108, 119, 144, 147};
const std::vector<int> kWider = {
    31,  37,  46,  63,  86,  112, 139, 155, 160, 145, 139, 141, 108, 97,  117, 105,
    107, 146, 149, 145, 100, 111, 129, 153, 169, 174, 110, 94,  112, 146, 144, 107,
    124, 127, 109, 98,  108, 154, 122, 84,  179, 167, 148, 120, 108, 106, 130, 155,
    179, 141, 131, 149, 131, 135, 171, 150, 139, 161, 130, 99,  167, 112, 57,  89,
    132, 168, 105, 95,  124, 139, 137, 116, 148, 166, 163, 149, 146, 170, 145, 119};

TEST(Antialiasing, IsThatOfThePythonImagingLibrary) {
  expect_near(resize_antialiased(pattern(1), 5, 4).pixels, kSmaller);
  expect_near(resize_antialiased(pattern(1), 4, 20).pixels, kWider);
}

TEST(Antialiasing, IsForPicturesUnlessAskedFor) {
  const auto written = [](int64_t frames, const std::string& antialias) {
    AugmentOptions options{.size = 4};
    options.antialias = antialias;
    Random random(0);
    std::vector<uint8_t> out(static_cast<size_t>(frames * 16));
    Augmentation(options).write(pattern(frames), random, out.data());
    return out;
  };
  const std::vector<int> averaged = {61,  137, 120, 129, 135, 128, 122, 118,
                                     140, 139, 142, 141, 109, 121, 144, 150};
  expect_near(written(1, "images"), averaged);
  expect_near(written(1, "always"), averaged);
  EXPECT_NE(written(1, "never"), written(1, "images"));
  EXPECT_EQ(written(2, "images"), written(2, "never"));
  EXPECT_NE(written(2, "always"), written(2, "never"));
}

}  // namespace
}  // namespace jepa

#include <jepa/data/generated.hpp>
#include <jepa/data/mnist.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <set>

namespace jepa {
namespace {

RawClip read(const GeneratedSource& source, int64_t index) {
  Random random(0);
  return source.read(index, random);
}

TEST(Mnist, SplitsAreDisjointAndBalanced) {
  std::set<int64_t> all;
  size_t total = 0;
  for (const auto& [split, per_class] : std::vector<std::pair<std::string, int64_t>>{
           {"train", 350}, {"validation", 50}, {"test", 100}}) {
    const auto indices = mnist_split(split);
    std::vector<int64_t> counts(10, 0);
    for (const int64_t index : indices) ++counts[mnist_digits().labels[static_cast<size_t>(index)]];
    EXPECT_EQ(counts, std::vector<int64_t>(10, per_class));
    all.insert(indices.begin(), indices.end());
    total += indices.size();
  }
  EXPECT_EQ(all.size(), total);
  EXPECT_EQ(total, 5000U);
  EXPECT_THROW(mnist_split("dev"), ConfigError);
}

TEST(Generated, IsAFunctionOfSeedSplitAndIndex) {
  GeneratedOptions options;
  options.noise = 0.3;
  const GeneratedSource source(options, 7);
  const auto clip = read(source, 11).pixels;
  EXPECT_EQ(clip, read(GeneratedSource(options, 7), 11).pixels);
  EXPECT_NE(clip, read(source, 12).pixels);
  EXPECT_NE(clip, read(GeneratedSource(options, 8), 11).pixels);
  options.split = "test";
  EXPECT_NE(clip, read(GeneratedSource(options, 7), 11).pixels);
}

TEST(Generated, DigitInstancesComeFromTheirSplit) {
  for (const std::string split : {"train", "validation", "test"}) {
    const auto indices = mnist_split(split);
    const std::set<int64_t> allowed(indices.begin(), indices.end());
    const GeneratedSource source({.split = split, .clips = 500}, 0);
    const torch::Tensor instances = source.column("instance");
    const torch::Tensor digits = source.column("digit");
    for (int64_t i = 0; i < 500; ++i) {
      const int64_t instance = instances[i].item<int64_t>();
      ASSERT_TRUE(allowed.contains(instance));
      ASSERT_EQ(digits[i].item<int64_t>(), mnist_digits().labels[static_cast<size_t>(instance)]);
    }
  }
}

/// The brightness-weighted centre of each frame, less that of the object standing still.
TEST(Generated, PixelsMoveAsTheLabelsSay) {
  for (const std::string kind : {"digits", "shapes"}) {
    const GeneratedSource source({.kind = kind, .clips = 200}, 3);
    const torch::Tensor positions = source.column("position");
    const torch::Tensor velocities = source.column("velocity");
    const torch::Tensor directions = source.column("direction");
    const torch::Tensor place = torch::arange(32) + 0.5;
    for (int64_t i = 0; i < 200; ++i) {
      const RawClip clip = read(source, i);
      const torch::Tensor frames =
          torch::tensor(at::ArrayRef<uint8_t>(clip.pixels)).view({8, 32, 32}).to(torch::kFloat32);
      const torch::Tensor mass = frames.sum({1, 2});
      const torch::Tensor x = (frames.sum(1) * place).sum(1) / mass;
      const torch::Tensor y = (frames.sum(2) * place).sum(1) / mass;
      const torch::Tensor centre = torch::stack({x.mean(), y.mean()});
      // Ink is not centred in a digit's box to the pixel, so the place is known less well than
      // motion.
      EXPECT_LT((centre - positions[i]).abs().max().item<double>(), 1.0) << kind << " " << i;
      const torch::Tensor moved = torch::stack({x[7] - x[0], y[7] - y[0]}) / 7;
      EXPECT_LT((moved - velocities[i]).abs().max().item<double>(), 0.02) << kind << " " << i;
      const double angle =
          std::atan2(velocities[i][1].item<double>(), velocities[i][0].item<double>());
      const auto octant = (std::lround(angle / (M_PI / 4)) + 8) % 8;
      EXPECT_EQ(directions[i].item<int64_t>(), octant);
    }
  }
}

TEST(Generated, GravityBendsPathsInsideTheFrame) {
  const GeneratedOptions straight{.clips = 200, .frames = 12};
  GeneratedOptions falling = straight;
  falling.gravity = 0.2;
  const GeneratedSource source(falling, 3);
  const torch::Tensor velocities = source.column("velocity");
  EXPECT_TRUE(
      torch::equal(source.column("acceleration"), torch::tensor({0.0F, 0.2F}).repeat({200, 1})));
  // The labels of motion are those of mid-clip, which gravity leaves as they are.
  EXPECT_TRUE(torch::allclose(velocities, GeneratedSource(straight, 3).column("velocity")));
  const torch::Tensor place = torch::arange(32) + 0.5;
  for (int64_t i = 0; i < 200; ++i) {
    const torch::Tensor frames = torch::tensor(at::ArrayRef<uint8_t>(read(source, i).pixels))
                                     .view({12, 32, 32})
                                     .to(torch::kFloat32);
    const torch::Tensor mass = frames.sum({1, 2});
    EXPECT_LT((mass / mass[0] - 1).abs().max().item<double>(), 0.03) << i;
    const torch::Tensor y = (frames.sum(2) * place).sum(1) / mass;
    const double fallen = (y[11] - y[0]).item<double>() / 11;
    EXPECT_NEAR(fallen, velocities[i][1].item<double>(), 0.02) << i;
    // A parabola: the mean of the ends is below the middle two.
    const double bent = (0.5 * (y[0] + y[11]) - 0.5 * (y[5] + y[6])).item<double>();
    EXPECT_NEAR(bent, 0.1 * (5.5 * 5.5 - 0.25), 0.1) << i;
  }
  falling.gravity = 2;
  EXPECT_THROW(GeneratedSource(falling, 0), ConfigError);
}

TEST(Generated, SignalsAreTheTruthOfEachFrame) {
  const GeneratedSource source(
      {.clips = 20, .frames = 9, .gravity = 0.1, .signals = "position,velocity"}, 3);
  const torch::Tensor positions = source.column("position");
  const torch::Tensor velocities = source.column("velocity");
  for (int64_t i = 0; i < 20; ++i) {
    const RawClip clip = read(source, i);
    const auto signal = [&](const std::string& name) {
      return torch::tensor(at::ArrayRef<float>(clip.signals.at(name).values)).view({9, 2});
    };
    // The columns tell of mid-clip.
    EXPECT_TRUE(torch::allclose(signal("position")[4], positions[i], 0, 1e-4));
    EXPECT_TRUE(torch::allclose(signal("velocity")[4], velocities[i], 0, 1e-5));
    const torch::Tensor moved = signal("position").diff(1, 0);
    const torch::Tensor mean =
        0.5 * (signal("velocity").slice(0, 1) + signal("velocity").slice(0, 0, 8));
    EXPECT_TRUE(torch::allclose(moved, mean, 0, 1e-4));
  }
  EXPECT_TRUE(read(GeneratedSource({.clips = 1}, 0), 0).signals.empty());
  EXPECT_THROW(GeneratedSource({.signals = "mass"}, 0), ConfigError);
}

TEST(Generated, NoInkIsLostAtTheBorder) {
  const GeneratedSource source({.clips = 50}, 0);
  for (int64_t i = 0; i < 50; ++i) {
    const RawClip clip = read(source, i);
    std::vector<double> ink(8, 0);
    for (size_t p = 0; p < clip.pixels.size(); ++p) ink[p / 1024] += clip.pixels[p];
    for (const double frame : ink) EXPECT_NEAR(frame, ink[0], 0.03 * ink[0]);
  }
}

TEST(Generated, CountNoiseAndColourDoWhatTheySay) {
  const GeneratedSource several({.clips = 300, .count = 3}, 0);
  const torch::Tensor counts = several.column("count");
  EXPECT_EQ(counts.min().item<int64_t>(), 1);
  EXPECT_EQ(counts.max().item<int64_t>(), 3);

  const GeneratedSource noisy({.clips = 1, .noise = 0.5}, 0);
  const RawClip clip = read(noisy, 0);
  int64_t dark = 0;
  for (const uint8_t value : clip.pixels) dark += value == 0 ? 1 : 0;
  EXPECT_LT(dark, 200);  // of 8,192, nearly all of them background

  const GeneratedSource colour({.kind = "shapes", .clips = 1, .channels = 3}, 0);
  EXPECT_EQ(read(colour, 0).channels, 3);
}

TEST(Generated, RefusesWhatDoesNotFit) {
  EXPECT_THROW(GeneratedSource({.speed_max = 5}, 0), ConfigError);
  EXPECT_THROW(GeneratedSource({.speed_min = 2, .speed_max = 1}, 0), ConfigError);
  EXPECT_THROW(GeneratedSource({.kind = "letters"}, 0), ConfigError);
  EXPECT_THROW(GeneratedSource({}, 0).column("colour"), DataError);
}

}  // namespace
}  // namespace jepa

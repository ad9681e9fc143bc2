// Tiny folders in the layouts of the published benchmarks.
#include "temporary_folder.hpp"

#include <eval/physics/benchmarks.hpp>
#include <eval/report/image.hpp>
#include <eval/report/video_writer.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>

namespace jepa::eval::physics {
namespace {

namespace fs = std::filesystem;

class Benchmarks : public testing::Test {
 protected:
  /// An IntPhys film: black frames, from `flips` on white.
  void intphys_film(const std::string& name, bool possible, int64_t frames, int64_t flips,
                    uint8_t shade) const {
    const std::string folder = folder_.file(name);
    fs::create_directories(folder + "/scene");
    for (int64_t t = 0; t < frames; ++t) {
      char file[32];
      std::snprintf(file, sizeof file, "/scene/scene_%03d.png", static_cast<int>(t + 1));
      const uint8_t value = t < flips ? shade : 255;
      report::write_png(folder + file, torch::full({16, 24, 3}, value, torch::kUInt8));
    }
    write_bytes(folder + "/status.json", std::string(R"({"header": {"is_possible": )") +
                                             (possible ? "true" : "false") + "}}");
  }
  void video(const std::string& name, int64_t frames) const {
    fs::create_directories(fs::path(folder_.file(name)).parent_path());
    report::write_video(folder_.file(name), torch::zeros({frames, 32, 48, 3}, torch::kUInt8), 10);
  }
  BenchmarkOptions options(const std::string& benchmark) const {
    return {.benchmark = benchmark, .data = folder_.path().string()};
  }

  TemporaryFolder folder_;
};

TEST_F(Benchmarks, IntPhysFilmsArePairedByTheirCommonStart) {
  // Films 1 and 4 share their frames until one flips, so do 2 and 3.
  intphys_film("O1/01/1", true, 6, 6, 10);
  intphys_film("O1/01/2", true, 6, 6, 20);
  intphys_film("O1/01/3", false, 6, 4, 20);
  intphys_film("O1/01/4", false, 6, 4, 10);
  const auto pairs = find_film_pairs(options("intphys"));
  ASSERT_EQ(pairs.size(), 2u);
  EXPECT_EQ(pairs[0].property, "O1");
  EXPECT_EQ(pairs[0].scene, "01");
  EXPECT_EQ(pairs[0].possible, folder_.file("O1/01/1/scene"));
  EXPECT_EQ(pairs[0].impossible, folder_.file("O1/01/4/scene"));
  EXPECT_EQ(pairs[1].impossible, folder_.file("O1/01/3/scene"));
  const auto film = read_film(pairs[0].impossible, 2, 16);
  EXPECT_EQ(film.sizes(), (std::vector<int64_t>{3, 3, 16, 16}));
  EXPECT_EQ(film[0][0][0][0].item<int64_t>(), 10);
  EXPECT_EQ(film[0][2][0][0].item<int64_t>(), 255);

  fs::remove(folder_.file("O1/01/2/status.json"));
  EXPECT_NE(message_of<DataError>([&] { find_film_pairs(options("intphys")); }).find("status.json"),
            std::string::npos);
}

TEST_F(Benchmarks, GraspFilmsArePairedByName) {
  video("P_Collision/1.mp4", 6);
  video("IP_Collision/1.mp4", 6);
  video("P_Gravity/7.mp4", 6);
  video("IP_Gravity/7.mp4", 6);
  const auto pairs = find_film_pairs(options("grasp"));
  ASSERT_EQ(pairs.size(), 2u);
  EXPECT_EQ(pairs[0].property, "Collision");
  EXPECT_EQ(pairs[0].impossible, folder_.file("IP_Collision/1.mp4"));
  EXPECT_EQ(read_film(pairs[1].possible, 2, 32).sizes(), (std::vector<int64_t>{3, 3, 32, 32}));
  fs::remove(folder_.file("IP_Gravity/7.mp4"));
  EXPECT_NE(message_of<DataError>([&] { find_film_pairs(options("grasp")); }).find("IP_Gravity"),
            std::string::npos);
}

TEST_F(Benchmarks, FilmsOfAnyLengthAreReadFromTheirFirstFrame) {
  // Each frame is a shade of its own.
  const auto shades = (2 * torch::arange(100, torch::kInt64)).to(torch::kUInt8);
  const auto film = shades.view({100, 1, 1, 1}).expand({100, 32, 32, 3}).contiguous();
  for (const int64_t frames : {91, 96, 100}) {
    report::write_video(folder_.file(std::to_string(frames) + ".mp4"), film.slice(0, 0, frames),
                        10);
  }
  for (const int64_t step : {1, 2, 3, 7}) {
    const auto all = read_film(folder_.file("100.mp4"), step, 32).to(torch::kInt32);
    EXPECT_EQ(all.size(1), (100 + step - 1) / step);
    for (const int64_t frames : {91, 96}) {
      const auto read = read_film(folder_.file(std::to_string(frames) + ".mp4"), step, 32);
      EXPECT_EQ(read.size(1), (frames + step - 1) / step);
      const auto apart = (read.to(torch::kInt32) - all.slice(1, 0, read.size(1))).abs();
      EXPECT_LE(apart.max().item<int32_t>(), 1) << frames << " frames, step " << step;
    }
  }
}

TEST_F(Benchmarks, InfLevelFilmsArePairedByTheirBeginning) {
  for (const char* name :
       {"continuity/left__continuity__cup__duck__ii__LR.mp4",
        "continuity/left__continuity__cup__duck__iv__LR.mp4",
        "continuity/left__continuity__cup__duck__vV__LR.mp4",
        "gravity/left__gravity__cup__duck__ci.mp4", "gravity/left__gravity__cup__duck__co.mp4",
        "gravity/left__gravity__cup__duck__oi.mp4", "gravity/left__gravity__cup__duck__oo.mp4",
        "gravity/right__gravity__cup__duck__ci.mp4", "gravity/right__gravity__cup__duck__co.mp4",
        "gravity/right__gravity__hat__duck__ci.mp4", "gravity/right__gravity__hat__duck__co.mp4"}) {
    video(name, 4);
  }
  const auto pairs = find_film_pairs(options("inflevel"));
  ASSERT_EQ(pairs.size(), 5u);
  // One event, whichever camera and type; another one with other things.
  EXPECT_EQ(pairs[0].scene, "continuity__cup__duck__LR");
  for (const size_t i : {1, 2, 3}) EXPECT_EQ(pairs[i].scene, "gravity__cup__duck");
  EXPECT_EQ(pairs[4].scene, "gravity__hat__duck");
  EXPECT_EQ(pairs[0].property, "continuity");
  EXPECT_EQ(pairs[0].possible, folder_.file("continuity/left__continuity__cup__duck__ii__LR.mp4"));
  EXPECT_EQ(pairs[1].impossible, folder_.file("gravity/left__gravity__cup__duck__co.mp4"));
  video("solidity/what.mp4", 4);
  EXPECT_NE(message_of<DataError>([&] { find_film_pairs(options("inflevel")); }).find("what.mp4"),
            std::string::npos);
}

TEST_F(Benchmarks, FramesThatAreMissingAreNamed) {
  for (const char* film : {"1", "2", "3", "4"}) {
    intphys_film(std::string("O1/01/") + film, *film < '3', 6, *film < '3' ? 6 : 4, 10);
  }
  const auto fault = [&] {
    return message_of<DataError>([&] { find_film_pairs(options("intphys")); });
  };
  EXPECT_EQ(fault(), "");
  const std::string scene = folder_.file("O1/01/2/scene");
  fs::rename(scene + "/scene_003.png", folder_.file("third.png"));
  EXPECT_EQ(fault(), scene + ": frame 3 is missing");
  fs::rename(folder_.file("third.png"), scene + "/scene_003.png");
  fs::rename(scene + "/scene_001.png", folder_.file("first.png"));
  EXPECT_EQ(fault(), scene + ": frame 1 is missing");
  fs::rename(folder_.file("first.png"), scene + "/scene_1.png");  // after scene_006.png by name
  EXPECT_NE(fault().find("not in the order of their numbers"), std::string::npos) << fault();
  fs::copy_file(scene + "/scene_1.png", scene + "/scene_001.png");
  EXPECT_EQ(fault(), scene + ": frame 1 is there twice");
}

TEST_F(Benchmarks, UntrainedNetworksDoNotStartAsTheModelDid) {
  const auto seeds = untrained_seeds(folder_.file("none"), 20);
  ASSERT_EQ(seeds.size(), 20u);
  EXPECT_EQ(std::set<uint64_t>(seeds.begin(), seeds.end()).size(), 20u);
  for (const uint64_t usual : {0, 1, 2, 42, 1000, 2000}) {
    EXPECT_EQ(std::count(seeds.begin(), seeds.end(), usual), 0) << usual;
  }
  write_bytes(folder_.file("config.ini"), "seed = " + std::to_string(seeds[3]) + "\n");
  const auto others = untrained_seeds(folder_.path().string(), 20);
  EXPECT_EQ(others.size(), 20u);
  EXPECT_EQ(others[2], seeds[2]);
  EXPECT_EQ(others[3], seeds[4]);
}

TEST_F(Benchmarks, WrongFoldersAreNamed) {
  EXPECT_THROW(find_film_pairs(options("intphys")), DataError);  // empty
  EXPECT_THROW(find_film_pairs(options("none")), ConfigError);
  auto missing = options("grasp");
  missing.data = folder_.file("nowhere");
  EXPECT_NE(message_of<DataError>([&] { find_film_pairs(missing); }).find("nowhere"),
            std::string::npos);
}

}  // namespace
}  // namespace jepa::eval::physics

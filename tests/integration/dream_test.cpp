#include "integration/program_test.hpp"

#include <jepa/data/clip_store.hpp>

#include <nlohmann/json.hpp>

#include <fstream>
#include <map>

namespace jepa {
namespace {

class DreamTest : public ProgramTest {
 protected:
  const std::string recipe_ = std::string(JEPA_SOURCE_DIR) + "/examples/configs/ha_dodge.ini";

  /// Three episodes of dodge's size with actions of `width` numbers; 0: none.
  void write_store(const std::string& name, int64_t width, int64_t side = 64) const {
    ClipStoreWriter writer(path(name), {});
    for (int i = 0; i < 3; ++i) {
      RawClip clip{.frames = 4, .height = side, .width = side, .channels = 3, .pixels = {}};
      clip.pixels.assign(4 * clip.frame_bytes(), 7);
      if (width > 0) clip.signals["action"] = {width, std::vector<float>(4 * width, 0.0F)};
      writer.append(clip);
    }
    writer.finish({});
  }
};

TEST_F(DreamTest, LearnsPlaysAndGoesOn) {
  const std::vector<std::string> arguments{"--config",  recipe_,  "--quick",           "--run",
                                           path("run"), "--json", path("results.json")};
  ASSERT_EQ(run("dream", arguments), 0) << said();
  for (const char* file : {"summary.json", "report.html", "section.html", "film.mp4", "film.gif",
                           "collect-1.h5", "stages/controller-real.json"}) {
    EXPECT_TRUE(fs::exists(path(std::string("run/") + file))) << file;
  }
  const auto summary = nlohmann::json::parse(read_bytes(path("run/summary.json")));
  for (const char* arm : {"dream", "real"}) {
    const auto& entry = summary["arms"][arm];
    for (const char* key : {"seconds", "real_frames", "episodes"}) EXPECT_GT(entry[key], 0) << key;
    for (const char* score : {"dream", "real"}) {
      EXPECT_LE(entry[score]["low"], entry[score]["mean"]);
      EXPECT_LE(entry[score]["mean"], entry[score]["high"]);
    }
  }
  EXPECT_GT(summary["arms"]["real"]["real_frames"], summary["arms"]["dream"]["real_frames"]);
  EXPECT_EQ(summary["arms"]["real"]["real_lived"]["episodes"], 40);
  for (const char* control : {"held_random", "best_constant", "swap_sides", "untrained"}) {
    EXPECT_EQ(summary["controls"][control]["episodes"], 40) << control;
  }
  EXPECT_EQ(summary["temperatures"].size(), 1);
  EXPECT_TRUE(summary["temperatures"][0].contains("recall"));

  // Temperatures and the real arm may come later.
  std::string config = read_bytes(path("run/config.ini"));
  for (const auto& [now, then] : std::map<std::string, std::string>{
           {"temperatures = 1.15", "temperatures = 0.9"}, {"real = true", "real = false"}}) {
    ASSERT_NE(config.find(now), std::string::npos) << config;
    config.replace(config.find(now), now.size(), then);
  }
  std::ofstream(path("run/config.ini")) << config;
  // A stage that is gone is done again, to the same end; those before it are not.
  const auto before = fs::last_write_time(path("run/stages/vision-1.json"));
  fs::remove(path("run/stages/play-untrained.json"));
  fs::remove(path("run/stages/controller-real.json"));
  ASSERT_EQ(run("dream", arguments), 0) << said();
  EXPECT_EQ(fs::last_write_time(path("run/stages/vision-1.json")), before);
  auto again = nlohmann::json::parse(read_bytes(path("run/summary.json")));
  EXPECT_EQ(again["arms"]["real"]["real"], summary["arms"]["real"]["real"]);
  EXPECT_EQ(again["controls"], summary["controls"]);

  refuses("dream", {"--config", recipe_, "--quick", "--run", path("run"), "--world.repeat", "2"}, 2,
          "world.repeat is 2, but run " + path("run") + " was started with 4");
  // What was collected is a store like any other.
  ASSERT_EQ(run("dream", {"--config", recipe_, "--quick", "--run", path("given"), "--data",
                          path("run/collect-1.h5"), "--controller.kind", "actor_critic"}),
            0)
      << said();
  EXPECT_FALSE(fs::exists(path("given/collect-1.h5")));
  const auto given = nlohmann::json::parse(read_bytes(path("given/summary.json")));
  EXPECT_FALSE(given["arms"].contains("real"));
}

TEST_F(DreamTest, StopsWithinSecondsWhereControlsArePlayed) {
  const std::vector<std::string> arguments{"--config",  recipe_,           "--quick", "--run",
                                           path("run"), "--play.episodes", "20000",   "--play.hold",
                                           "2",         "--world.repeat",  "1"};
  const pid_t child = start_program("dream", arguments, path("said.txt"));
  ASSERT_TRUE(says(path("said.txt"), "play-controls")) << said();
  kill(child, SIGINT);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(exit_code_of(child), 0);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  EXPECT_LT(taken.count(), 10);
  EXPECT_TRUE(said().ends_with("stopped; the same command goes on from here\n")) << said();
  EXPECT_FALSE(fs::exists(path("run/stages/play-controls.json")));
}

TEST_F(DreamTest, RefusesWhatDoesNotFit) {
  write_store("none.h5", 0);
  write_store("wide.h5", 2);
  write_store("small.h5", 1, 32);
  const auto refuse = [&](const std::string& store, const std::string& thing) {
    refuses("dream", {"--config", recipe_, "--quick", "--run", path("run"), "--data", path(store)},
            1, thing);
  };
  refuse("none.h5", "none.h5: has no column 'action' of one row a frame");
  refuse("wide.h5", "wide.h5: actions of 2 numbers, but dodge takes 1");
  refuse("small.h5", "small.h5: frames of 32 x 32 x 3, but dodge shows 64 x 64 x 3");
  refuse("missing.h5", "missing.h5");
  const std::string file = path("none.h5");
  refuses("dream", {"--quick", "--run", file}, 2, file + ": is a file, expected a folder");
  refuses("dream", {"--quick", "--run", file + "/run"}, 2, file + "/run: " + file + " is a file");
  refuses("dream", {"--run", path("run"), "--world.name", "push"}, 2, "push has no end");
  refuses("dream", {"--run", path("run"), "--world.name", "doom"}, 2, "doom");
  refuses("dream", {"--run", path("run"), "--vision.shrink", "3"}, 2, "do not divide by 48");
}

}  // namespace
}  // namespace jepa

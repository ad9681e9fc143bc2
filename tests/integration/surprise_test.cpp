// The surprise program: a quick run, what it writes, and that it goes on where it was cut off.
#include "temporary_folder.hpp"

#include <eval/physics/violations.hpp>
#include <eval/report/image.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sys/wait.h>

namespace jepa {
namespace {

namespace fs = std::filesystem;

class SurpriseProgram : public testing::Test {
 protected:
  /// @param before such as `timeout`
  int run(const std::string& arguments, const std::string& before = "") const {
    const std::string command =
        before +
        " " JEPA_PROGRAMS "/surprise --config '" JEPA_SOURCE_DIR
        "/examples/configs/surprise_balls.ini' --quick --threads 1 --run '" +
        folder_.file("run") + "' " + arguments + " > '" + folder_.file("out.txt") + "' 2>&1";
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string said() const { return read_bytes(folder_.file("out.txt")); }
  std::string in_run(const std::string& name) const { return folder_.file("run/" + name); }

  /// Generated films in the layout of IntPhys: O1/SCENE/1..4/{scene/*.png, status.json}.
  void write_intphys(int64_t scenes) const {
    namespace physics = eval::physics;
    for (int64_t i = 0; i < scenes; ++i) {
      const auto scene = physics::make_scene("permanence", {}, 1, "test", i);
      const physics::Film* films[] = {&scene.lawful[0], &scene.lawful[1], &scene.broken[0],
                                      &scene.broken[1]};
      for (int64_t movie = 0; movie < 4; ++movie) {
        const std::string folder =
            folder_.file("intphys/O1/0" + std::to_string(i + 1) + "/" + std::to_string(movie + 1));
        fs::create_directories(folder + "/scene");
        const auto frames = eval::report::clip_frames(films[movie]->clip());
        for (int64_t t = 0; t < frames.size(0); ++t) {
          char name[32];
          std::snprintf(name, sizeof name, "/scene/scene_%03d.png", static_cast<int>(t + 1));
          eval::report::write_png(folder + name, frames[t]);
        }
        write_bytes(folder + "/status.json", std::string(R"({"header": {"is_possible": )") +
                                                 (movie < 2 ? "true}}" : "false}}"));
      }
    }
  }

  TemporaryFolder folder_;
};

TEST_F(SurpriseProgram, GoesOnAfterBeingKilledAndWritesItsReport) {
  // Killed while it trains or scores, wherever that is.
  EXPECT_NE(run("--arms jepa,pixels", "timeout -s KILL 8"), 0);
  ASSERT_EQ(run("--arms jepa,pixels"), 0) << said();
  const auto summary = nlohmann::json::parse(read_bytes(in_run("summary.json")));
  std::vector<std::string> arms;
  for (const auto& row : summary.at("rows")) arms.push_back(row.at("arm"));
  EXPECT_EQ(arms, (std::vector<std::string>{"jepa", "pixels", "untrained_jepa", "untrained_pixels",
                                            "copy_last", "pixel_difference"}));
  EXPECT_EQ(summary.at("rows")[2].at("draws"), 2);
  EXPECT_EQ(summary.at("rows")[3].at("draws"), 1);
  EXPECT_TRUE(summary.at("rows")[1].contains("relative_less_untrained"));
  EXPECT_FALSE(summary.at("rows")[4].contains("relative_less_untrained"));
  const auto& relative = summary.at("rows")[0].at("metrics").at("relative");
  EXPECT_EQ(relative.size(), 13u);  // twelve rules and all of them
  EXPECT_TRUE(fs::exists(in_run("surprise.mp4")));
  EXPECT_NE(read_bytes(in_run("report.html")).find("untrained"), std::string::npos);

  // What is there is not done again; what was lost is, and comes out the same.
  const std::string kept = in_run("cells/jepa-s0/test-c6-hoop.safetensors");
  const std::string lost = in_run("cells/pixels-s0/test-c6-candle.safetensors");
  const auto time = fs::last_write_time(kept);
  const std::string before = read_bytes(lost);
  fs::remove(lost);
  // All is float32 here, whatever it is called.
  ASSERT_EQ(run("--arms jepa,pixels --precision auto"), 0) << said();
  EXPECT_EQ(fs::last_write_time(kept), time);
  EXPECT_EQ(read_bytes(lost), before);
  // Its time is that of all its processes.
  const auto again = nlohmann::json::parse(read_bytes(in_run("summary.json")));
  EXPECT_GT(again.at("seconds"), summary.at("seconds"));

  EXPECT_EQ(run("--arms jepa,pixels --world.side 64"), 2);  // another run
  EXPECT_NE(said().find("world.side"), std::string::npos) << said();

  // The same films in the folders of a published benchmark, asked of the model that is there.
  write_intphys(3);
  ASSERT_EQ(run("--benchmark intphys --data '" + folder_.file("intphys") + "' --model '" +
                in_run("cells/jepa-s0/masked") + "' --film_step 1 --film_side 48 --run '" +
                folder_.file("films") + "'"),
            0)
      << said();
  const auto films = nlohmann::json::parse(read_bytes(folder_.file("films/summary.json")));
  EXPECT_EQ(films.at("pairs"), 4);  // of two scenes; the third chose the past
  EXPECT_EQ(films.at("validation_pairs"), 2);
  std::vector<std::string> asked;
  for (const auto& row : films.at("rows")) {
    asked.push_back(row.at("arm"));
    EXPECT_EQ(row.at("metrics").at("relative").size(), 2u);  // O1 and all
    EXPECT_EQ(row.at("metrics").contains("absolute"), row.at("arm") != "untrained");
  }
  EXPECT_EQ(asked,
            (std::vector<std::string>{"model", "untrained", "copy_last", "pixel_difference"}));
  EXPECT_EQ(films.at("rows")[0].at("sets_less_untrained").size(), 2u);

  // What is there is not asked again; other questions are refused, and so is the grid's own folder.
  const std::string ask = "--benchmark intphys --data '" + folder_.file("intphys") + "' --model '" +
                          in_run("cells/jepa-s0/masked") + "' --film_step 1 --film_side 48 --run '";
  const std::string scores = folder_.file("films/cells/model-s0/test-c6-O1.safetensors");
  const auto asked_at = fs::last_write_time(scores);
  ASSERT_EQ(run(ask + folder_.file("films") + "'"), 0) << said();
  EXPECT_EQ(fs::last_write_time(scores), asked_at);
  EXPECT_TRUE(fs::exists(folder_.file("films/section.html")));
  EXPECT_EQ(run(ask + folder_.file("films") + "' --film_step 2"), 2);
  EXPECT_NE(said().find("film_step"), std::string::npos) << said();
  const auto grid = read_bytes(in_run("summary.json"));
  EXPECT_EQ(run(ask + in_run("") + "'"), 2);
  EXPECT_NE(said().find("holds the cells of another experiment"), std::string::npos) << said();
  EXPECT_EQ(read_bytes(in_run("summary.json")), grid);

  // A lone scene: nothing sets a threshold. Frames are as large as the model's.
  fs::remove_all(folder_.file("intphys/O1/02"));
  fs::remove_all(folder_.file("intphys/O1/03"));
  ASSERT_EQ(
      run("--benchmark intphys --data '" + folder_.file("intphys") + "' --model '" +
          in_run("cells/jepa-s0/masked") + "' --film_step 1 --run '" + folder_.file("lone") + "'"),
      0)
      << said();
  const auto lone = nlohmann::json::parse(read_bytes(folder_.file("lone/summary.json")));
  EXPECT_EQ(lone.at("pairs"), 2);
  EXPECT_FALSE(lone.at("rows")[0].at("metrics").contains("absolute"));
  EXPECT_FALSE(lone.at("rows")[0].at("metrics").contains("fired_broken"));
}

TEST_F(SurpriseProgram, TheCommandLineWinsOverQuick) {
  EXPECT_EQ(run("--contexts 3"), 2);
  EXPECT_NE(said().find("a past of 3 frames"), std::string::npos) << said();
  fs::remove_all(folder_.file("run"));
  write_bytes(folder_.file("run"), "");
  EXPECT_EQ(run(""), 2);
  EXPECT_NE(said().find("is a file, expected a folder"), std::string::npos) << said();
}

TEST_F(SurpriseProgram, LeavesNothingBehindWhereItRefuses) {
  for (const char* twice : {"--seeds 0,0", "--arms jepa,jepa"}) {
    EXPECT_EQ(run(twice), 2) << twice;
    EXPECT_NE(said().find("is there twice"), std::string::npos) << said();
    EXPECT_FALSE(fs::exists(folder_.file("run"))) << twice;
  }
  // Folders of `watch --events`, of `compare` and of films: none of them is gone on with.
  fs::create_directories(in_run("cells/jepa-s0"));
  for (const char* program :
       {"events = true\n", "budgets = 1\n", "light_share = 0.25\nbenchmark = intphys\n"}) {
    const std::string config = std::string("precision = auto\n") + program;
    write_bytes(in_run("config.ini"), config);
    EXPECT_EQ(run(""), 2) << program;
    EXPECT_NE(said().find("holds the cells of another experiment"), std::string::npos) << said();
    EXPECT_EQ(read_bytes(in_run("config.ini")), config);
  }
}

TEST_F(SurpriseProgram, GoesOnInAFolderThatWasMoved) {
  ASSERT_EQ(run("--arms latents --scale 0.2"), 0) << said();
  // Another budget is a curve's second point, and no row of the tables.
  const auto summary = nlohmann::json::parse(read_bytes(in_run("summary.json")));
  EXPECT_EQ(summary.at("rows").size(), 4u);
  const auto& curve = summary.at("scale").at(0);
  EXPECT_EQ(curve.at("result"), "surprise/pairs");
  EXPECT_EQ(curve.at("points").size(), 2u);
  EXPECT_TRUE(fs::exists(in_run("scale_surprise_pairs.svg")));
  const std::string test = "cells/latents-s0/test-c6-hoop.safetensors";
  const std::string control = "cells/untrained_latents-s0/test-c6-hoop.safetensors";
  const std::string before = read_bytes(in_run(test)), fresh = read_bytes(in_run(control));
  EXPECT_NE(before, fresh);
  fs::rename(folder_.file("run"), folder_.file("moved"));
  fs::remove(folder_.file("moved/" + test));
  fs::remove(folder_.file("moved/" + control));
  ASSERT_EQ(run("--arms latents --run '" + folder_.file("moved") + "'"), 0) << said();
  EXPECT_EQ(read_bytes(folder_.file("moved/" + test)), before);
  EXPECT_EQ(read_bytes(folder_.file("moved/" + control)), fresh);
  EXPECT_FALSE(fs::exists(folder_.file("run")));

  EXPECT_EQ(run("--arms latents,foo"), 2);  // before any training
  EXPECT_NE(said().find("error: arm foo"), std::string::npos) << said();
  EXPECT_EQ(said().find("cell latents"), std::string::npos) << said();
}

}  // namespace
}  // namespace jepa

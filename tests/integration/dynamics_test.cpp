// train_dynamics and plan as a user runs them.
#include "program_test.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace jepa {
namespace {

using Json = nlohmann::json;

class DynamicsPrograms : public ProgramTest {
 protected:
  std::vector<std::string> quick(const std::string& folder) const {
    return {"--config",    std::string(JEPA_SOURCE_DIR) + "/examples/configs/two_rooms_quick.ini",
            "--run",       path(folder),
            "--precision", "float32",
            "--threads",   "1"};
  }
  int train(const std::string& folder, const std::vector<std::string>& more = {}) const {
    auto arguments = quick(folder);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run("train_dynamics", arguments);
  }
  std::string weights(const std::string& folder, const std::string& name) const {
    return read_bytes(path(folder) + "/checkpoints/step-00000030/" + name + ".safetensors");
  }
};

TEST_F(DynamicsPrograms, TrainThenPlan) {
  ASSERT_EQ(train("run"), 0) << said();
  const auto trained = Json::parse(read_bytes(path("run/summary.json")));
  for (const char* name :
       {"skill_1", "skill_k", "r2_x", "r2_door", "within_clip", "wall_far", "wall_far_true",
        "wall_near", "wall_door", "coverage_contact", "coverage_crossings", "processor_seconds"}) {
    EXPECT_TRUE(trained.contains(name)) << name;
  }
  EXPECT_EQ(trained.at("wall_far_true"), 0);
  EXPECT_EQ(trained.at("phase"), 2);

  ASSERT_EQ(run("plan", {"--run",
                         path("run"),
                         "--episodes",
                         "3",
                         "--unseen_episodes",
                         "2",
                         "--films",
                         "1",
                         "--probe_clips",
                         "32",
                         "--wall_cases",
                         "16",
                         "--cem.samples",
                         "8",
                         "--cem.elites",
                         "4",
                         "--cem.iterations",
                         "1",
                         "--precision",
                         "float32",
                         "--threads",
                         "1",
                         "--json",
                         path("out.json")}),
            0)
      << said();
  const auto planned = Json::parse(read_bytes(path("run/plan/summary.json")));
  EXPECT_EQ(planned, Json::parse(read_bytes(path("out.json"))));
  EXPECT_EQ(planned.at("episodes").get<int>() + planned.at("dropped").get<int>(), 3);
  for (const char* name : {"random", "straight", "simulator", "simulator_path", "inverse",
                           "untrained", "unseen_wall", "unseen_door"}) {
    for (const char* key : {"success_rate", "low", "high", "episodes", "seconds_per_decision"}) {
      EXPECT_TRUE(planned.at("controls").at(name).contains(key)) << name << " " << key;
    }
  }
  EXPECT_EQ(planned.at("wall_far_true"), 0);
  int films = 0;
  for (const auto& file : files()) films += file.extension() == ".mp4";
  EXPECT_EQ(films, 2);  // an episode, a rollout
  EXPECT_EQ(planned.at("rollout_error").size(), 9u);
  const auto page = read_bytes(path("run/plan/report.html"));
  EXPECT_NE(page.find("simulator_path"), std::string::npos);
  EXPECT_NE(page.find("Rollouts over the true frames"), std::string::npos);

  refuses("plan", {"--run", path("run"), "--model.block", "4"}, 1, "model.block = 5, asked for 4");
  refuses("plan", {"--run", path("run"), "--horizon.block", "4"}, 1,
          "blocks of 5 steps, asked for horizon.block = 4");
  refuses("plan", {"--run", path("run"), "--model.action_width", "3"}, 1, "model.action_width = 2");
  refuses("plan", {"--run", path("run"), "--model.height", "64"}, 1, "model.height = 65");
  refuses("plan", {"--run", path("run"), "--protocol.steps", "100"}, 1, "protocol.steps = 200");
  refuses("plan", {"--run", path("run"), "--controls", "luck"}, 2, "'luck' is none of");
  refuses("plan", {"--run", path("nothing")}, 1, "train_dynamics");
  // Planning does without inverse dynamics.
  std::filesystem::remove(path("run/checkpoints/step-00000030/inverse.safetensors"));
  const std::vector<std::string> few = {"--run",
                                        path("run"),
                                        "--episodes",
                                        "2",
                                        "--unseen_episodes",
                                        "0",
                                        "--films",
                                        "0",
                                        "--probe_clips",
                                        "32",
                                        "--wall_cases",
                                        "16",
                                        "--cem.samples",
                                        "8",
                                        "--cem.elites",
                                        "4",
                                        "--cem.iterations",
                                        "1",
                                        "--horizon.horizon",
                                        "3",
                                        "--landscape",
                                        path("map.png")};
  const auto with = [&](const std::string& controls) {
    auto all = few;
    all.insert(all.end(), {"--controls", controls});
    return all;
  };
  ASSERT_EQ(run("plan", with("")), 0) << said();
  EXPECT_EQ(read_bytes(path("map.png")).substr(1, 3), "PNG");
  refuses("plan", with("inverse"), 2, "that this world and model have");
}

TEST_F(DynamicsPrograms, PublishedWeightsPlanInAWorldThatFits) {
  const std::string fixtures = JEPA_TEST_FIXTURES;
  const auto arguments = [&](const std::string& weights, std::vector<std::string> more) {
    std::vector<std::string> all = {"--weights",
                                    fixtures + "/" + weights,
                                    "--episodes",
                                    "2",
                                    "--unseen_episodes",
                                    "0",
                                    "--ahead_episodes",
                                    "2",
                                    "--ahead_steps",
                                    "6",
                                    "--films",
                                    "1",
                                    "--landscape_side",
                                    "5",
                                    "--controls",
                                    "random,scripted",
                                    "--cem.samples",
                                    "8",
                                    "--cem.elites",
                                    "4",
                                    "--cem.iterations",
                                    "1",
                                    "--out",
                                    path("out"),
                                    "--threads",
                                    "1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  ASSERT_EQ(
      run("plan", arguments("lewm_checkpoint", {"--protocol.world", "push", "--protocol.steps",
                                                "12", "--protocol.history", "2"})),
      0)
      << said();
  const auto found = Json::parse(read_bytes(path("out/summary.json")));
  EXPECT_EQ(found.at("world"), "push");
  for (const char* name : {"random", "scripted", "model_ahead", "random_ahead", "scripted_ahead"}) {
    EXPECT_TRUE(found.at("controls").contains(name)) << name;
  }
  EXPECT_EQ(found.at("controls").at("model_ahead").at("success_counts"), "at any step");
  refuses("plan", arguments("lewm_checkpoint", {"--protocol.world", "two_rooms"}), 1,
          "takes frames of 3 channels, two_rooms's have 2");
  refuses("plan",
          arguments("lewm_checkpoint", {"--protocol.world", "push", "--protocol.history", "4"}), 1,
          "sees 3 frames at most, asked for protocol.history = 4");
  refuses("plan",
          arguments("lewm_checkpoint", {"--protocol.world", "push", "--horizon.block", "5"}), 1,
          "blocks of 3 steps, asked for horizon.block = 5");
  refuses("plan", arguments("ebjepa_checkpoint.pth.tar", {}), 1, "mlp.weight");
  refuses("plan", arguments("lewm_checkpoint", {"--run", path("run")}), 2, "one of them");
}

// What examples/models/README.md says of it: 0.885 of 200 episodes, below 1,000,000 bytes.
TEST_F(DynamicsPrograms, TheShippedModelFindsTheDoor) {
  uintmax_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(std::string(JEPA_SOURCE_DIR) +
                                                              "/examples/models/two_rooms")) {
    bytes += file.file_size();
  }
  EXPECT_LT(bytes, 1000000U);
  ASSERT_EQ(run("plan", {"--run", std::string(JEPA_SOURCE_DIR) + "/examples/models/two_rooms",
                         "--episodes", "24", "--unseen_episodes", "0", "--films", "0", "--controls",
                         "straight", "--out", path("shipped")}),
            0)
      << said();
  const auto found = Json::parse(read_bytes(path("shipped/summary.json")));
  EXPECT_GE(found.at("success_rate").get<double>(), 0.7);
  EXPECT_GT(found.at("success_rate"), found.at("controls").at("straight").at("success_rate"));
  EXPECT_LT(found.at("wall_far").get<double>(), 0.5);
}

TEST_F(DynamicsPrograms, ARunGoesOnBitForBit) {
  ASSERT_EQ(train("whole"), 0) << said();
  // Cut in the first phase, at its end, and in the second.
  for (const char* cut : {"12", "20", "25"}) {
    const std::string folder = std::string("cut") + cut;
    ASSERT_EQ(train(folder, {"--training.steps", cut, "--optimisation.total_steps", "20",
                             "--second_optimisation.total_steps", "20"}),
              0)
        << said();
    ASSERT_EQ(train(folder, {"--training.steps", "30"}), 0) << said();
    for (const char* file : {"encoder", "predictor", "inverse", "optimizer", "buffer"}) {
      EXPECT_EQ(weights("whole", file), weights(folder, file)) << cut << " " << file;
    }
  }
}

TEST_F(DynamicsPrograms, RefusesWhatItCannotTrainOn) {
  auto arguments = quick("bad");
  arguments.insert(arguments.end(), {"--model.strides", "4"});
  refuses("train_dynamics", arguments, 2, "strides");
  arguments = quick("bad");
  arguments.insert(arguments.end(), {"--data", path("nothing.h5")});
  refuses("train_dynamics", arguments, 1, "nothing.h5: no such file");
  const std::string stores = std::string(JEPA_TEST_FIXTURES) + "/stores/";
  arguments = quick("bad");
  arguments.insert(arguments.end(), {"--data", stores + "columns.h5"});
  refuses("train_dynamics", arguments, 1, "no dataset 'action'");
  arguments = quick("bad");
  arguments.insert(arguments.end(), {"--clip.frame_step", "3", "--data", stores + "columns.h5"});
  refuses("train_dynamics", arguments, 2, "clip.frame_step is 3");
}

TEST_F(DynamicsPrograms, TrainsOnAStoreWithActions) {
  const std::vector<std::string> more = {"--data",
                                         std::string(JEPA_TEST_FIXTURES) + "/swm_dataset.h5",
                                         "--clip.frames",
                                         "2",
                                         "--model.block",
                                         "1",
                                         "--model.pixel_mean",
                                         "127.5",
                                         "--model.pixel_std",
                                         "127.5",
                                         "--training.steps",
                                         "4",
                                         "--second.from_step",
                                         "2",
                                         "--loader.batch",
                                         "2"};
  ASSERT_EQ(train("store", more), 0) << said();
  const auto trained = Json::parse(read_bytes(path("store/summary.json")));
  EXPECT_EQ(trained.at("steps"), 4);
  EXPECT_FALSE(trained.contains("wall_far"));
}

}  // namespace
}  // namespace jepa

// train_dynamics and plan with each predictor of one latent a frame, as a user runs them.
#include "program_test.hpp"

#include <jepa/options.hpp>

#include <nlohmann/json.hpp>

namespace jepa {
namespace {

class LatentPredictors : public ProgramTest {
 protected:
  using Arguments = std::vector<std::string>;

  static Arguments joined(Arguments all, const Arguments& more) {
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Arguments recipe(const std::string& folder, const Arguments& more) const {
    return joined(
        {"--config", std::string(JEPA_SOURCE_DIR) + "/examples/configs/two_rooms_quick.ini",
         "--run", path(folder), "--precision", "float32", "--threads", "1", "--training.steps", "4",
         "--second.from_step", "2", "--training.checkpoint_every", "1", "--wall_cases", "8"},
        more);
  }
  Arguments plan(const std::string& folder, const Arguments& more = {}) const {
    return joined({"--run",
                   path(folder),
                   "--episodes",
                   "2",
                   "--unseen_episodes",
                   "0",
                   "--films",
                   "1",
                   "--probe_clips",
                   "32",
                   "--wall_cases",
                   "8",
                   "--cem.samples",
                   "6",
                   "--cem.elites",
                   "2",
                   "--cem.iterations",
                   "1",
                   "--horizon.horizon",
                   "3",
                   "--controls",
                   "random,untrained",
                   "--threads",
                   "1"},
                  more);
  }
  nlohmann::json read(const std::string& file) const {
    return nlohmann::json::parse(read_bytes(path(file)));
  }
};

TEST_F(LatentPredictors, TrainGoOnBitForBitAndPlan) {
  const std::map<std::string, Arguments> kinds = {
      {"residual", {"--predictor.kind", "residual"}},
      {"gru", {"--predictor.kind", "gru"}},
      {"adaln",
       {"--predictor.kind", "adaln", "--predictor.dropout", "0.1", "--predictor.heads", "2",
        "--protocol.history", "3"}},
      {"mixed", {"--predictor.kind", "gru", "--second.kind", "adaln", "--protocol.history", "2"}}};
  for (const auto& [name, kind] : kinds) {
    SCOPED_TRACE(name);
    ASSERT_EQ(run("train_dynamics", recipe(name, kind)), 0) << said();
    const auto trained = read(name + "/summary.json");
    for (const char* number : {"skill_1", "skill_k", "wall_far", "parameters"}) {
      EXPECT_TRUE(trained.contains(number)) << number;
    }
    // The second phase's predictor is as the first's where nothing else is said.
    const auto config = read_ini(path(name + "/config.ini"));
    EXPECT_EQ(config.at("second.kind"), name == "mixed" ? "adaln" : name);
    EXPECT_EQ(config.at("second.heads"), name == "adaln" ? "2" : "4");
    EXPECT_EQ(config.at("second.hidden"), "64");
    for (const char* cut : {"1", "3"}) {
      const std::string other = name + cut;
      ASSERT_EQ(
          run("train_dynamics",
              recipe(other, joined(kind, {"--training.steps", cut, "--optimisation.total_steps",
                                          "2", "--second_optimisation.total_steps", "4"}))),
          0)
          << said();
      ASSERT_EQ(run("train_dynamics", {"--run", path(other), "--training.steps", "4"}), 0)
          << said();
      int same = 0;
      const std::string last = "/checkpoints/step-00000004/";
      for (const auto& file : fs::directory_iterator(path(name) + last)) {
        if (file.path().extension() != ".safetensors") continue;
        const std::string tensors = file.path().filename().string();
        EXPECT_EQ(read_bytes(file.path().string()), read_bytes(path(other) + last + tensors))
            << cut << " " << tensors;
        ++same;
      }
      EXPECT_EQ(same, config.at("second.kind") == "adaln" ? 6 : 5);
    }
    ASSERT_EQ(run("plan", plan(name)), 0) << said();
    const auto planned = read(name + "/plan/summary.json");
    EXPECT_EQ(planned.at("episodes").get<int>() + planned.at("dropped").get<int>(), 2);
    EXPECT_EQ(planned.at("wall_far_true"), 0);
    EXPECT_EQ(planned.at("rollout_error").size(), 9U);
    EXPECT_TRUE(planned.at("controls").contains("untrained"));
    EXPECT_EQ(planned.at("protocol").at("history"), name == "adaln" ? 3 : name == "mixed" ? 2 : 1);
    if (name == "adaln") {
      ASSERT_EQ(run("plan", plan(name, {"--planner.type", "gradient", "--gradient.iterations", "2",
                                        "--gradient.starts", "2", "--films", "0"})),
                0)
          << said();
    }
  }
  // A checkpoint of the first phase, whose predictor looks back less.
  ASSERT_EQ(
      run("train_dynamics", recipe("early", joined(kinds.at("mixed"), {"--training.steps", "1"}))),
      0)
      << said();
  refuses("plan", plan("early"), 1, "history of 2, its predictor (gru) sees 1 frame");
  // Whatever predicts, runs of one protocol plan together.
  ASSERT_EQ(run("plan", plan("gru", {"--members", path("residual"), "--films", "0"})), 0) << said();
  refuses("plan", plan("gru", {"--members", path("adaln")}), 1, "protocol.history = 3");
}

TEST_F(LatentPredictors, HistoriesThatAreNotTrainedAreRefused) {
  const auto refused = [&](const Arguments& more, const std::string& thing) {
    refuses("train_dynamics", recipe("bad", more), 2, thing);
  };
  refused({"--predictor.kind", "lstm"}, "predictor.kind");
  refused({"--predictor.kind", "gru", "--protocol.history", "2"}, "from 1 frame at most");
  refused({"--predictor.kind", "adaln", "--protocol.history", "4"}, "from 3 frames at most");
  refused({"--predictor.kind", "adaln", "--second.kind", "gru", "--protocol.history", "2"},
          "from 1 frame at most");
  refused({"--predictor.kind", "adaln", "--predictor.frames", "8", "--protocol.history", "5"},
          "clips of 5 frames (clip.frames) train 4 of them");
}

TEST_F(LatentPredictors, StatisticsOfActionsAreMeasuredAndKept) {
  ASSERT_EQ(run("collect", {"--world", "push", "--policy", "scripted", "--episodes", "3",
                            "--max_steps", "40", "--block", "5", "--out", path("push.h5")}),
            0)
      << said();
  const Arguments more = {"--data",
                          path("push.h5"),
                          "--clip.frames",
                          "4",
                          "--model.pixel_mean",
                          "127.5",
                          "--model.pixel_std",
                          "127.5",
                          "--loader.batch",
                          "2",
                          "--model.action_mean",
                          "",
                          "--model.action_std",
                          "",
                          "--predictor.kind",
                          "adaln",
                          "--protocol.history",
                          "3",
                          "--protocol.steps",
                          "12",
                          "--training.steps",
                          "2",
                          "--second.from_step",
                          "0"};
  ASSERT_EQ(run("train_dynamics", recipe("store", more)), 0) << said();
  const auto measured = read_ini(path("store/config.ini"));
  for (const char* key : {"model.action_mean", "model.action_std"}) {
    const auto& list = measured.at(key);
    EXPECT_EQ(std::count(list.begin(), list.end(), ','), 1) << key << " " << list;
    EXPECT_NE(list, "0,0");
  }
  // Asked for again they are not measured again, and plans are in the same numbers.
  ASSERT_EQ(run("train_dynamics", recipe("store", joined(more, {"--training.steps", "3"}))), 0)
      << said();
  EXPECT_EQ(read_ini(path("store/config.ini")).at("model.action_std"),
            measured.at("model.action_std"));
  ASSERT_EQ(run("plan", plan("store", {"--films", "0"})), 0) << said();
  EXPECT_EQ(read_ini(path("store/plan/config.ini")).at("model.action_std"),
            measured.at("model.action_std"));
  // Two rooms: from clips.
  ASSERT_EQ(run("train_dynamics", recipe("rooms", {"--model.action_std", "", "--training.steps",
                                                   "1", "--second.from_step", "0"})),
            0)
      << said();
  const auto rooms = read_ini(path("rooms/config.ini"));
  EXPECT_EQ(rooms.at("model.action_mean"), "0");
  EXPECT_NE(rooms.at("model.action_std").find(','), std::string::npos);
}

}  // namespace
}  // namespace jepa

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
  void expect_planned() const;
  void refuse_what_was_not_trained() const;
  std::vector<std::string> small_plan(const std::vector<std::string>& more) const;
  void plan_in_other_ways() const;
};

// What `plan` left of the run in path("run").
void DynamicsPrograms::expect_planned() const {
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
  EXPECT_EQ(planned.at("planner").at("samples"), 8);
  EXPECT_EQ(planned.at("planner").at("max_norm"), 1.8);
  EXPECT_EQ(planned.at("cost").at("over_time"), "min");
  EXPECT_EQ(planned.at("protocol").at("steps"), 200);
  EXPECT_EQ(planned.at("protocol").at("factors"), "training");
  EXPECT_EQ(planned.at("precision"), "float32");
  EXPECT_NE(read_bytes(path("run/plan/config.ini")).find("longest_step = 1.8"), std::string::npos);
  int films = 0;
  for (const auto& file : files()) films += file.extension() == ".mp4";
  EXPECT_EQ(films, 2);  // an episode, a rollout
  EXPECT_EQ(planned.at("rollout_error").size(), 9u);
  const auto page = read_bytes(path("run/plan/report.html"));
  EXPECT_NE(page.find("simulator_path"), std::string::npos);
  EXPECT_NE(page.find("Rollouts over the true frames"), std::string::npos);
}

void DynamicsPrograms::refuse_what_was_not_trained() const {
  refuses("plan", {"--run", path("run"), "--model.block", "4"}, 1, "model.block = 5, asked for 4");
  refuses("plan", {"--run", path("run"), "--horizon.block", "4"}, 1,
          "blocks of 5 steps, asked for horizon.block = 4");
  refuses("plan", {"--run", path("run"), "--model.action_width", "3"}, 1, "model.action_width = 2");
  refuses("plan", {"--run", path("run"), "--model.height", "64"}, 1, "model.height = 65");
  refuses("plan", {"--run", path("run"), "--protocol.steps", "100"}, 1, "protocol.steps = 200");
  refuses("plan", {"--run", path("run"), "--controls", "luck"}, 2, "'luck' is none of");
  refuses("plan", {"--run", path("run"), "--landscape_side", "1"}, 2, "landscape_side");
  refuses("plan",
          {"--run", path("run"), "--landscape_side", "0", "--landscape", path("landscape.png")}, 2,
          "landscape_side: 0 draws no picture, but landscape names ");
  const std::string file = path("out.json");
  refuses("plan", {"--run", file}, 1, file + ": is a file, expected the folder of a run");
  refuses("plan", {"--run", path("run"), "--out", file}, 2,
          file + ": is a file, expected a folder");
  refuses("plan", {"--run", path("run"), "--cem.max_norm", "30"}, 2, "longest_step 1.8");
  refuses("plan", {"--run", path("run"), "--planner.type", "categorical"}, 2, "categorical");
  refuses("plan", {"--run", path("run"), "--planner.type", "mppi", "--planner.variant", "icem"}, 2,
          "icem is one of cem");
  refuses("plan", {"--run", path("nothing")}, 1, "train_dynamics");
}

// A search as small as it can be, of what was trained.
std::vector<std::string> DynamicsPrograms::small_plan(const std::vector<std::string>& more) const {
  std::vector<std::string> all = {"--run",        path("run"), "--probe_clips",    "32",
                                  "--wall_cases", "16",        "--cem.samples",    "8",
                                  "--cem.elites", "4",         "--cem.iterations", "1"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

// Planning does without inverse dynamics, with a published search, with gradients.
void DynamicsPrograms::plan_in_other_ways() const {
  std::filesystem::remove(path("run/checkpoints/step-00000030/inverse.safetensors"));
  const auto few = small_plan({"--episodes", "2", "--unseen_episodes", "0", "--films", "0",
                               "--horizon.horizon", "3", "--landscape", path("map.png")});
  const auto with = [&](const std::string& controls) {
    auto all = few;
    all.insert(all.end(), {"--controls", controls});
    return all;
  };
  ASSERT_EQ(run("plan", with("")), 0) << said();
  EXPECT_EQ(read_bytes(path("map.png")).substr(1, 3), "PNG");
  refuses("plan", with("inverse"), 2, "that this world and model have");
  // A film of before is not this evaluation's.
  EXPECT_EQ(read_bytes(path("run/plan/report.html")).find("episode_0"), std::string::npos);
  // What is given of cem goes on top of the variant.
  auto variant = with("");
  variant.insert(variant.end(), {"--planner.variant", "icem"});
  ASSERT_EQ(run("plan", variant), 0) << said();
  const auto how = Json::parse(read_bytes(path("run/plan/summary.json"))).at("planner");
  EXPECT_EQ(how.at("variant"), "icem");
  EXPECT_EQ(how.at("samples"), 8);
  EXPECT_EQ(how.at("noise_power"), 2);
  EXPECT_EQ(how.at("max_norm"), 1.8);
  auto gradient = with("");
  gradient.insert(gradient.end(), {"--planner.type", "gradient", "--gradient.iterations", "2",
                                   "--gradient.starts", "2"});
  ASSERT_EQ(run("plan", gradient), 0) << said();
}

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

  ASSERT_EQ(run("plan", small_plan({"--episodes", "3", "--unseen_episodes", "2", "--films", "1",
                                    "--precision", "float32", "--threads", "1", "--json",
                                    path("out.json")})),
            0)
      << said();
  expect_planned();
  refuse_what_was_not_trained();
  plan_in_other_ways();
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

TEST_F(DynamicsPrograms, WhatWasNotTrainedOrWasSeenIsNotShown) {
  ASSERT_EQ(train("run", {"--two_rooms.unseen", "true", "--model.block", "4", "--objective.inverse",
                          "0", "--training.steps", "4", "--second.from_step", "2"}),
            0)
      << said();
  EXPECT_FALSE(fs::exists(path("run/checkpoints/step-00000004/inverse.safetensors")));
  EXPECT_FALSE(Json::parse(read_bytes(path("run/summary.json"))).contains("wall_far"));
  ASSERT_EQ(run("plan", {"--run", path("run"), "--episodes", "2", "--unseen_episodes", "2",
                         "--films", "0", "--probe_clips", "32", "--cem.samples", "8",
                         "--cem.elites", "4", "--cem.iterations", "1"}),
            0)
      << said();
  const auto found = Json::parse(read_bytes(path("run/plan/summary.json")));
  for (const char* name : {"inverse", "unseen_wall", "unseen_door"}) {
    EXPECT_FALSE(found.at("controls").contains(name)) << name;
  }
  EXPECT_TRUE(found.contains("r2_x"));
  EXPECT_FALSE(found.contains("wall_far"));
  // Another run takes the encoder, without inverse dynamics, and its statistics.
  const std::vector<std::string> more = {"--encoder", path("run"),        "--model.block",
                                         "4",         "--training.steps", "2"};
  auto other = more;
  other.insert(other.end(), {"--model.pixel_std", "50,60"});
  auto arguments = quick("other");
  arguments.insert(arguments.end(), other.begin(), other.end());
  refuses("train_dynamics", arguments, 1, "model.pixel_std = 9.4,76.1, asked for 50,60");
  ASSERT_EQ(train("other", more), 0) << said();
  ASSERT_EQ(train("other", {"--encoder", path("run"), "--model.block", "4", "--training.steps", "3",
                            "--wall_cases", "8", "--validation_clips", "16"}),
            0)
      << said();
}

TEST_F(DynamicsPrograms, RunsPlanTogether) {
  ASSERT_EQ(train("one", {"--training.steps", "2", "--second.from_step", "0"}), 0) << said();
  ASSERT_EQ(train("two", {"--training.steps", "2", "--second.from_step", "0", "--seed", "1",
                          "--model.dim", "24"}),
            0)
      << said();
  const auto plan = [&](const std::string& members, const std::string& out) {
    return std::vector<std::string>{
        "--run",         path("one"), "--members",         members, "--out",         path(out),
        "--episodes",    "2",         "--unseen_episodes", "0",     "--films",       "1",
        "--probe_clips", "32",        "--wall_cases",      "8",     "--cem.samples", "8",
        "--cem.elites",  "4",         "--cem.iterations",  "1",     "--controls",    "untrained",
        "--precision",   "float32"};
  };
  ASSERT_EQ(run("plan", plan("", "alone")), 0) << said();
  ASSERT_EQ(run("plan", plan(path("one"), "twice")), 0) << said();  // its own mean
  const auto result = [&](const std::string& of) {
    auto found = Json::parse(read_bytes(path(of + "/summary.json")));
    for (const char* key : {"seconds_per_decision", "seconds", "members", "controls"}) {
      found.erase(key);
    }
    return found;
  };
  EXPECT_EQ(result("alone"), result("twice"));
  auto together = plan(path("two"), "together");
  together.insert(together.end(), {"--cost.disagreement", "1"});
  ASSERT_EQ(run("plan", together), 0) << said();
  const auto found = Json::parse(read_bytes(path("together/summary.json")));
  EXPECT_EQ(found.at("members"), Json::array({path("two")}));
  EXPECT_EQ(found.at("cost").at("disagreement"), 1);
  auto lonely = plan("", "lonely");
  lonely.insert(lonely.end(), {"--cost.disagreement", "1"});
  refuses("plan", lonely, 2, "cost.disagreement");
  ASSERT_EQ(
      train("other", {"--training.steps", "1", "--second.from_step", "0", "--model.block", "4"}), 0)
      << said();
  refuses("plan", plan(path("other"), "refused"), 1, "trained with model.block = 4, asked for 5");
}

TEST_F(DynamicsPrograms, AStoreTellsWorldFactorsAndBlock) {
  const auto collect = [&](const std::string& world, const std::string& out) {
    ASSERT_EQ(run("collect", {"--world", world, "--policy", "scripted", "--episodes", "3",
                              "--max_steps", "40", "--block", "5", "--out", path(out)}),
              0)
        << said();
  };
  collect("push", "push.h5");
  collect("dodge", "dodge.h5");
  const auto with = [&](const std::vector<std::string>& more) {
    auto all = quick("store");
    all.insert(all.end(), {"--data", path("push.h5"), "--clip.frames", "3", "--model.pixel_mean",
                           "127.5", "--model.pixel_std", "127.5", "--training.steps", "2",
                           "--second.from_step", "0", "--loader.batch", "2"});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  refuses("train_dynamics", with({"--protocol.world", "two_rooms"}), 2, "is of push");
  refuses("train_dynamics", with({"--protocol.history", "2"}), 2, "trained from 1 frame at most");
  refuses("train_dynamics", with({"--model.block", "4"}), 2, "which do not divide 4");
  refuses("train_dynamics", with({"--validation", path("dodge.h5")}), 1,
          "dodge.h5: actions of 5 numbers a block, the model takes 10");
  refuses("train_dynamics",
          with({"--validation", path("push.h5"), "--clip.signals", "action,state"}), 1,
          "3 clips, reading their states takes 8");
  ASSERT_EQ(run("train_dynamics", with({"--validation", path("push.h5")})), 0) << said();
  const auto config = read_bytes(path("store/config.ini"));
  for (const char* line : {"world = push", "factors = standard", "frame_step = 1",
                           "action_width = 2", "longest_step = 0"}) {
    EXPECT_NE(config.find(std::string("\n") + line + "\n"), std::string::npos) << line;
  }
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

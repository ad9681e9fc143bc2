// train_dynamics and plan over a frozen encoder of patches, as a user runs them.
#include "program_test.hpp"
#include "tiny_encoder.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace jepa {
namespace {

using PatchJson = nlohmann::json;
using Arguments = std::vector<std::string>;

class PatchPrograms : public ProgramTest {
 protected:
  PatchPrograms() {
    write_tiny_encoder(path("two"), 2, 24);
    write_tiny_encoder(path("three"), 3, 32);
  }
  static Arguments joined(Arguments all, const Arguments& more) {
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Arguments rooms(const std::string& folder, const Arguments& more = {}) const {
    return joined({"--run",
                   path(folder),
                   "--patches.weights",
                   path("two"),
                   "--patches.size",
                   "24",
                   "--action_conditioned.dim",
                   "24",
                   "--action_conditioned.depth",
                   "1",
                   "--action_conditioned.heads",
                   "2",
                   "--adaln.depth",
                   "1",
                   "--adaln.heads",
                   "2",
                   "--adaln.head_dim",
                   "8",
                   "--adaln.mlp_hidden",
                   "32",
                   "--adaln.dropout",
                   "0.1",
                   "--clip.frames",
                   "5",
                   "--loader.batch",
                   "4",
                   "--validation_clips",
                   "8",
                   "--training.steps",
                   "4",
                   "--training.checkpoint_every",
                   "2",
                   "--precision",
                   "float32",
                   "--threads",
                   "1"},
                  more);
  }
  std::string weights(const std::string& folder, const std::string& name) const {
    return read_bytes(path(folder) + "/checkpoints/step-00000004/" + name + ".safetensors");
  }
};

TEST_F(PatchPrograms, ARunGoesOnBitForBit) {
  for (const char* predictor : {"action_conditioned", "adaln"}) {
    const std::string whole = std::string("whole_") + predictor,
                      cut = std::string("cut_") + predictor;
    const Arguments kind = {"--patches.predictor", predictor};
    ASSERT_EQ(run("train_dynamics", rooms(whole, kind)), 0) << said();
    const auto trained = PatchJson::parse(read_bytes(path(whole + "/summary.json")));
    for (const char* name : {"validation_loss", "skill_1", "skill_k", "parameters"}) {
      EXPECT_TRUE(trained.contains(name)) << name;
    }
    ASSERT_EQ(
        run("train_dynamics",
            rooms(cut, joined(kind, {"--training.steps", "2", "--optimisation.total_steps", "4"}))),
        0)
        << said();
    // The encoder may lie elsewhere now.
    fs::create_directories(path("moved"));
    fs::copy(path("two"), path("moved"),
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    ASSERT_EQ(run("train_dynamics", {"--run", path(cut), "--patches.weights", path("moved"),
                                     "--training.steps", "4"}),
              0)
        << said();
    for (const char* file : {"predictor", "optimizer", "frozen_encoder"}) {
      EXPECT_FALSE(weights(whole, file).empty()) << file;
      EXPECT_EQ(weights(whole, file), weights(cut, file)) << predictor << " " << file;
    }
    EXPECT_FALSE(fs::exists(path(whole + "/checkpoints/step-00000004/encoder.safetensors")));
  }
}

TEST_F(PatchPrograms, RefusesWhatDoesNotFit) {
  const auto refused = [&](const Arguments& more, int code, const std::string& thing) {
    refuses("train_dynamics", rooms("bad", more), code, thing);
  };
  refused({"--patches.weights", path("nothing")}, 1, "nothing");
  refused({"--patches.weights", path("three")}, 1, "takes frames of 3 channels, the data's have 2");
  refused({"--patches.size", "30"}, 1, "30 x 30 px do not divide");
  refused({"--action_conditioned.action_width", "7"}, 1, "action_width is 7");
  refused({"--patches.rollout_steps", "5"}, 2, "patches.rollout_steps is 5");
  refused({"--protocol.history", "5"}, 2, "from 4 frames at most");
  refused({"--objective.inverse", "1"}, 2, "objective.inverse");
  refused({"--second.from_step", "2"}, 2, "second.from_step");
  refused({"--data", std::string(JEPA_TEST_FIXTURES) + "/stores/columns.h5"}, 1,
          "no dataset 'action'");
  refuses("train_dynamics", {"--run", path("bad"), "--adaln.depth", "2"}, 2,
          "adaln.depth: needs a frozen encoder");
  // A run does not go on over another encoder.
  ASSERT_EQ(run("train_dynamics", rooms("run", {"--training.steps", "2"})), 0) << said();
  write_tiny_encoder(path("other"), 2, 24, 2);
  refuses("train_dynamics",
          {"--run", path("run"), "--patches.weights", path("other"), "--training.steps", "4"}, 1,
          "trained over another encoder than");
  refuses("plan", {"--run", path("run"), "--patches.weights", path("other")}, 1,
          "trained over another encoder than");
}

TEST_F(PatchPrograms, PlansInPush) {
  ASSERT_EQ(run("collect", {"--world", "push", "--policy", "scripted", "--episodes", "4",
                            "--max_steps", "40", "--out", path("push.h5")}),
            0)
      << said();
  const Arguments quick = {"--episodes",        "2", "--unseen_episodes", "0",
                           "--films",           "0", "--controls",        "random,untrained",
                           "--landscape_side",  "3", "--cem.samples",     "6",
                           "--cem.elites",      "2", "--cem.iterations",  "1",
                           "--horizon.horizon", "2", "--threads",         "1"};
  for (const char* predictor : {"action_conditioned", "adaln"}) {
    SCOPED_TRACE(predictor);
    const std::string folder = std::string("push_") + predictor;
    ASSERT_EQ(run("train_dynamics",
                  rooms(folder, {"--patches.predictor", predictor, "--patches.weights",
                                 path("three"), "--patches.size", "32", "--data", path("push.h5"),
                                 "--protocol.steps", "20", "--protocol.history", "3"})),
              0)
        << said();
    ASSERT_EQ(run("plan", joined({"--run", path(folder)}, quick)), 0) << said();
    const auto planned = PatchJson::parse(read_bytes(path(folder + "/plan/summary.json")));
    EXPECT_EQ(planned.at("world"), "push");
    EXPECT_EQ(planned.at("run"), path(folder));
    EXPECT_TRUE(planned.at("controls").contains("untrained"));
    EXPECT_EQ(planned.at("protocol").at("history"), 3);
    EXPECT_EQ(planned.at("episodes").get<int>() + planned.at("dropped").get<int>(), 2);
    refuses("plan", joined({"--run", path(folder), "--protocol.history", "2"}, quick), 1,
            "protocol.history = 3");
    refuses("plan", joined({"--run", path(folder), "--patches.predictor", "nothing"}, quick), 2,
            "patches.predictor");
  }
  // States are not foreseen.
  ASSERT_EQ(
      run("train_dynamics", rooms("states", {"--patches.states", "true", "--training.steps", "2"})),
      0)
      << said();
  refuses("plan", joined({"--run", path("states")}, quick), 1, "its predictor takes states");
}

}  // namespace
}  // namespace jepa

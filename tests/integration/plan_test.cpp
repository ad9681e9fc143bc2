// plan with published and with shipped weights, as a user runs it.
#include "program_test.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace jepa {
namespace {

using PlanJson = nlohmann::json;

class PlanProgram : public ProgramTest {};

TEST_F(PlanProgram, PublishedWeightsPlanInAWorldThatFits) {
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
  const auto found = PlanJson::parse(read_bytes(path("out/summary.json")));
  EXPECT_EQ(found.at("world"), "push");
  EXPECT_EQ(found.at("planner").at("variant"), "lewm");  // with what was given on top
  EXPECT_EQ(found.at("planner").at("samples"), 8);
  EXPECT_EQ(found.at("planner").at("mean_is_candidate"), true);
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
TEST_F(PlanProgram, TheShippedModelFindsTheDoor) {
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
  const auto found = PlanJson::parse(read_bytes(path("shipped/summary.json")));
  EXPECT_GE(found.at("success_rate").get<double>(), 0.7);
  EXPECT_GT(found.at("success_rate"), found.at("controls").at("straight").at("success_rate"));
  EXPECT_LT(found.at("wall_far").get<double>(), 0.5);
}

}  // namespace
}  // namespace jepa

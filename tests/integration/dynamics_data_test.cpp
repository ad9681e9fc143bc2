// What train_dynamics and plan take from data and from other runs, as a user runs them.
#include "gymnasium_stub.hpp"
#include "program_test.hpp"

#include <jepa/data/clip_store.hpp>
#include <jepa/options.hpp>

#include <cmath>
#include <filesystem>

namespace jepa {
namespace {

class DynamicsData : public ProgramTest {
 protected:
  using Arguments = std::vector<std::string>;

  Arguments small(const std::string& folder, const Arguments& more) const {
    Arguments all = {"--config",
                     std::string(JEPA_SOURCE_DIR) + "/examples/configs/two_rooms_quick.ini",
                     "--run",
                     path(folder),
                     "--model.widths",
                     "4",
                     "--model.kernels",
                     "3",
                     "--model.strides",
                     "2",
                     "--model.pixel_mean",
                     "127.5",
                     "--model.pixel_std",
                     "127.5",
                     "--loader.batch",
                     "2",
                     "--training.steps",
                     "1",
                     "--second.from_step",
                     "0",
                     "--precision",
                     "float32",
                     "--threads",
                     "1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  // Two episodes of four frames, whose actions are 1, 3, 5, 7 and 2, 8, 4, 6.
  void write_actions() const {
    ClipStoreWriter writer(path("actions.h5"), {});
    for (const std::vector<float>& actions :
         {std::vector<float>{1, 3, 5, 7}, std::vector<float>{2, 8, 4, 6}}) {
      RawClip clip{.frames = 4, .height = 8, .width = 8, .channels = 1, .pixels = {}};
      for (int64_t i = 0; i < clip.frames * clip.frame_bytes(); ++i) {
        clip.pixels.push_back(static_cast<uint8_t>(i * 7 % 251));
      }
      clip.signals = {{"action", Signal{.width = 1, .values = actions}}};
      writer.append(clip);
    }
    writer.finish({});
  }
  // Clips of two frames two steps apart: what lies between are the first two actions.
  std::string recipe(const std::string& mode) const {
    const std::string file = path(mode + ".ini");
    write_bytes(file, "kind = files\ndata = " + path("actions.h5") +
                          "\n[clip]\nframes = 2\nframe_step = 2\nsignals = action\naction_mode = " +
                          mode + "\n");
    return file;
  }
  Arguments measured(const Arguments& more, const std::string& word = "measured") const {
    Arguments all = {"--model.action_mean", word, "--model.action_std", word};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  void expect_statistics(const std::string& folder, double mean, double deviation) const {
    const auto config = read_ini(path(folder + "/config.ini"));
    EXPECT_NEAR(std::stod(config.at("model.action_mean")), mean, 1e-6) << folder;
    EXPECT_NEAR(std::stod(config.at("model.action_std")), deviation, 1e-6) << folder;
  }
};

TEST_F(DynamicsData, ActionsAreMeasuredAsTheModelGetsThem) {
  write_actions();
  const std::string store = path("actions.h5");
  const auto train = [&](const std::string& folder, const Arguments& more) {
    ASSERT_EQ(run("train_dynamics", small(folder, measured(more))), 0) << said();
  };
  // All eight rows: 1 to 8.
  train("store", {"--data", store, "--clip.frames", "2", "--model.block", "2"});
  expect_statistics("store", 4.5, std::sqrt(5.25));
  // 1, 3 and 2, 8; their sums 4 and 10; the last ones 3 and 8.
  train("concat", {"--data", recipe("concat"), "--model.block", "2"});
  expect_statistics("concat", 3.5, std::sqrt(7.25));
  train("sum", {"--data", recipe("sum"), "--model.block", "1"});
  expect_statistics("sum", 7, 3);
  train("last", {"--data", recipe("last"), "--model.block", "1"});
  expect_statistics("last", 5.5, 2.5);
  // Of one step's actions, sum and last are the action.
  for (const char* mode : {"sum", "last"}) {
    const Arguments with = {"--data", store, "--clip.frames", "2", "--clip.action_mode", mode};
    auto one = with, two = with;
    one.insert(one.end(), {"--model.block", "1"});
    two.insert(two.end(), {"--model.block", "2"});
    train(std::string("one_") + mode, one);
    expect_statistics(std::string("one_") + mode, 4.5, std::sqrt(5.25));
    refuses("train_dynamics", small("bad", measured(two)), 2,
            std::string("clip.action_mode is ") + mode + ": a block of the model has the actions");
  }
}

TEST_F(DynamicsData, MeasuredIsTheEmptyListAndStays) {
  write_actions();
  const Arguments data = {"--data", path("actions.h5"), "--clip.frames", "2", "--model.block", "2"};
  ASSERT_EQ(run("train_dynamics", small("empty", measured(data, ""))), 0) << said();
  expect_statistics("empty", 4.5, std::sqrt(5.25));
  ASSERT_EQ(run("train_dynamics", small("word", measured(data))), 0) << said();
  // Asked for again it is not measured again.
  auto longer = measured(data);
  longer.insert(longer.end(), {"--training.steps", "2"});
  ASSERT_EQ(run("train_dynamics", small("word", longer)), 0) << said();
  expect_statistics("word", 4.5, std::sqrt(5.25));
  refuses("train_dynamics", small("bad", measured(data, "guessed")), 2, "model.action_mean");
}

TEST_F(DynamicsData, WhatIsNoRunGivesNoEncoder) {
  const std::string file = path("file.safetensors"), nothing = path("nothing");
  write_bytes(file, "weights");
  fs::create_directories(path("folder"));
  const auto refused = [&](const std::string& encoder, const std::string& thing) {
    refuses("train_dynamics", small("bad", {"--encoder", encoder}), 1, thing);
    refuses("plan", {"--run", encoder}, 1, thing);
  };
  refused(file, file + ": is a file, expected the folder of a run or a checkpoint");
  refused(nothing, nothing + ": no such folder, expected a run of train_dynamics");
  refused(path("folder"), "is missing: not a run of train_dynamics");
}

TEST_F(DynamicsData, GymnasiumFramesAreOfTheRunsSize) {
  if (!use_gymnasium_stub()) GTEST_SKIP() << "no Python with numpy";
  ASSERT_EQ(run("collect", {"--world", "gym:Stub/Counter-v0", "--gym.make", "actions=box",
                            "--gym.height", "4", "--gym.width", "6", "--policy", "random",
                            "--episodes", "2", "--out", path("stub.h5")}),
            0)
      << said();
  ASSERT_EQ(run("train_dynamics", small("run", {"--data", path("stub.h5"), "--clip.frames", "3",
                                                "--model.block", "1"})),
            0)
      << said();
  const auto plan = [&](const Arguments& more) {
    Arguments all = {"--run", path("run"), "--out", path("plan")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  refuses("plan", plan({"--gym.height", "5", "--gym.width", "6"}), 1,
          "gym.height = 4, asked for 5");
  refuses("plan", plan({"--gym.width", "12"}), 1, "gym.width = 6, asked for 12");
  // As they come they are not the model's.
  refuses("plan", plan({"--gym.height", "0", "--gym.width", "0"}), 1, "gym:Stub/Counter-v0 has ");
  // Frames fit; what this world lacks is a script that goes ahead of the plan.
  for (const Arguments& size : {Arguments{}, Arguments{"--gym.height", "4", "--gym.width", "6"}}) {
    EXPECT_EQ(run("plan", plan(size)), 2);
    EXPECT_NE(said().find("gym:Stub/Counter-v0 has no script"), std::string::npos) << said();
  }
}

}  // namespace
}  // namespace jepa

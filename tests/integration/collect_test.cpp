// The program collect: the same seed gives the same store, and what was collected before a failure
// is one.
#include "gymnasium_stub.hpp"
#include "program_test.hpp"

#include <jepa/data/clip_store.hpp>
#include <jepa/data/hdf5_file.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

namespace jepa {
namespace {

class CollectTest : public ProgramTest {
 protected:
  // Every dataset and attribute of two stores.
  void expect_same(const std::string& a, const std::string& b) const {
    const Hdf5File one = Hdf5File::open(path(a)), two = Hdf5File::open(path(b));
    ASSERT_EQ(one.datasets(), two.datasets());
    for (const auto& name : one.datasets()) {
      const auto first = one.read(name), second = two.read(name);
      EXPECT_TRUE(first.nan_to_num().equal(second.nan_to_num())) << name;
    }
    auto first = ClipStore(path(a), {}).info().attributes;
    auto second = ClipStore(path(b), {}).info().attributes;
    first.erase("recipe");  // holds the file's name
    second.erase("recipe");
    EXPECT_EQ(first, second);
  }
};

TEST_F(CollectTest, TheSameSeedGivesTheSameStore) {
  for (const std::string world : {"two_rooms", "swm_two_rooms", "dodge", "balls", "push"}) {
    const auto collect = [&](const std::string& out, const std::string& seed) {
      return run("collect", {"--world", world, "--episodes", "3", "--max_steps", "8", "--policy",
                             "held", "--factors", "training", "--seed", seed, "--out", path(out)});
    };
    ASSERT_EQ(collect("a.h5", "3"), 0) << said();
    ASSERT_EQ(collect("b.h5", "3"), 0) << said();
    ASSERT_EQ(collect("c.h5", "4"), 0) << said();
    SCOPED_TRACE(world);
    expect_same("a.h5", "b.h5");
    EXPECT_FALSE(Hdf5File::open(path("a.h5"))
                     .read("pixels")
                     .equal(Hdf5File::open(path("c.h5")).read("pixels")));
  }
  const ClipStore store(path("a.h5"), {.frames = 4, .random_window = false, .signals = "action"});
  EXPECT_EQ(store.size(), 3);
  const auto& attributes = store.info().attributes;
  EXPECT_EQ(attributes.at("policy"), "held");
  EXPECT_EQ(attributes.at("world"), "push");
  EXPECT_NE(attributes.at("recipe").find("held_max = 10"), std::string::npos);
  EXPECT_TRUE(attributes.contains("coverage_contact"));
  for (const char* column : {"return", "length", "success", "factor_radius", "episode"}) {
    EXPECT_EQ(store.column(column).size(0), 3) << column;
  }
}

TEST_F(CollectTest, ValuesOfFramesAreLabelsOfClips) {
  ASSERT_EQ(run("collect", {"--world", "dodge", "--episodes", "2", "--max_steps", "11", "--out",
                            path("a.h5"), "--policy", "swap", "--deflate", "3"}),
            0)
      << said();
  const ClipStore store(
      path("a.h5"),
      {.frames = 4, .clips_per_video = 3, .random_window = false, .signals = "state"});
  const auto labels = store.column("state.0");
  ASSERT_EQ(labels.size(0), 6);
  Random random(0);
  for (int64_t i = 0; i < 6; ++i) {
    const auto clip = store.read(i, random);
    const auto& state = clip.signals.at("state");
    EXPECT_EQ(labels[i].item<float>(), state.values[static_cast<size_t>(3 * state.width)]);
  }
  EXPECT_EQ(store.column("state").size(1), 49);
  EXPECT_THROW(store.column("state.49"), DataError);
  EXPECT_THROW(store.column("state.x"), DataError);
  const ClipStore drawn(path("a.h5"), {.frames = 4});  // anywhere in an episode
  EXPECT_THROW(drawn.column("state"), DataError);
}

TEST_F(CollectTest, WhatWasCollectedBeforeAFailureIsAStore) {
  if (!use_gymnasium_stub()) GTEST_SKIP() << "no Python with numpy";
  const std::vector<std::string> arguments = {
      "--world", "gym:Stub/Counter-v0", "--frames", "1000", "--batch", "2",
      "--out",   path("cut.h5")};
  auto dying = arguments;
  dying.insert(dying.end(), {"--gym.make", "fault=die,at=5"});
  EXPECT_EQ(run("collect", dying), 1);
  const std::string text = said();
  const size_t error = text.find("error: gym:Stub/Counter-v0: ");
  ASSERT_NE(error, std::string::npos) << text;
  EXPECT_EQ(std::count(text.begin() + static_cast<int64_t>(error), text.end(), '\n'), 1) << text;
  EXPECT_NE(text.find("cut.h5 holds the 10 frames collected until then"), std::string::npos);
  const ClipStore store(path("cut.h5"), {.frames = 5, .signals = "action,truncated,state"});
  EXPECT_EQ(store.size(), 2);
  EXPECT_NE(store.info().attributes.at("interrupted").find("exit code 7"), std::string::npos);
  Random random(0);
  EXPECT_EQ(store.read(0, random).signals.at("truncated").values,
            (std::vector<float>{0, 0, 0, 0, 1}));
  fs::remove(path("cut.h5"));
  // Before a single step there is nothing to keep.
  auto broken = arguments;
  broken.insert(broken.end(), {"--gym.make", "fault=constructor"});
  refuses("collect", broken, 1, "no licence for this game");
}

TEST_F(CollectTest, AStopEndsTheWaitForAnEnvironmentThatHangs) {
  if (!use_gymnasium_stub()) GTEST_SKIP() << "no Python with numpy";
  const pid_t child =
      start_program("collect",
                    {"--world", "gym:Stub/Counter-v0", "--gym.make", "fault=hang,length=9,at=8",
                     "--episodes", "6", "--batch", "2", "--out", path("cut.h5")},
                    path("said.txt"));
  std::this_thread::sleep_for(std::chrono::seconds(4));  // it started and hangs, most likely
  kill(child, SIGINT);
  const auto start = std::chrono::steady_clock::now();
  const int code = exit_code_of(child);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  EXPECT_LT(taken.count(), 10);
  if (code == 1) GTEST_SKIP() << "it was not under way yet: " << said();
  EXPECT_EQ(code, 0) << said();
  const ClipStore store(path("cut.h5"), {.frames = 2});
  EXPECT_EQ(store.size(), 2);
  EXPECT_EQ(store.info().attributes.at("interrupted"), "stopped by a signal");
}

TEST_F(CollectTest, WrongOptionsAreOneLine) {
  const std::string out = path("a.h5");
  std::ofstream(path("file.txt")) << "text";
  refuses("collect", {"--episodes", "1", "--out", path("file.txt") + "/a.h5"}, 2,
          path("file.txt") + ": is a file, expected a folder");
  refuses("collect", {"--world", "mars", "--episodes", "1", "--out", out}, 2, "not 'mars'");
  refuses("collect", {"--episodes", "1"}, 2, "option out");
  refuses("collect", {"--out", out}, 2, "options episodes and frames");
  refuses("collect", {"--episodes", "1", "--policy", "clever", "--out", out}, 2, "clever");
  refuses("collect", {"--episodes", "1", "--world", "balls", "--out", out}, 2, "max_steps: balls");
  refuses("collect", {"--episodes", "1", "--factors", "colour", "--out", out}, 2, "colour");
  refuses("collect", {"--episodes", "1", "--world", "gym:", "--out", out}, 2, "needs an");
}

}  // namespace
}  // namespace jepa

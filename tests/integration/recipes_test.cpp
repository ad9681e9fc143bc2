// Two steps of every recipe: width, depth, clip and batch cut down, everything else as written.
#include "program_test.hpp"
#include "small_recipe.hpp"
#include "tiny_encoder.hpp"

#include <jepa/data/clip_store.hpp>
#include <jepa/options.hpp>

#include <filesystem>

namespace jepa {
namespace {

class Recipes : public ProgramTest {
 protected:
  void make_store(const std::string& name, const std::string& frames, const std::string& size) {
    ASSERT_EQ(run("make_data", {"--kind", "digits", "--out", path(name), "--clips", "24",
                                "--generated.frames", frames, "--generated.size", size}),
              0)
        << said();
  }
  // Episodes of robot-like frames: 7 numbers an action, 7 a state.
  void make_poses(const std::string& name) {
    ClipStoreInfo info;
    info.fps = 4;
    ClipStoreWriter writer(path(name), info);
    for (int64_t episode = 0; episode < 6; ++episode) {
      RawClip clip{.frames = 12, .height = 36, .width = 64, .channels = 3, .pixels = {}};
      for (int64_t i = 0; i < clip.frames * clip.frame_bytes(); ++i) {
        clip.pixels.push_back(static_cast<uint8_t>((i / 7 + 31 * episode) % 251));
      }
      Signal signal{.width = 7, .values = {}};
      for (int64_t i = 0; i < 7 * clip.frames; ++i) {
        signal.values.push_back(0.01F * static_cast<float>((i + episode) % 13));
      }
      clip.signals = {{"action", signal}, {"state", signal}};
      writer.append(clip);
    }
    writer.finish({});
  }
};

TEST_F(Recipes, TakeTwoSteps) {
  make_store("small.h5", "8", "32");
  make_store("large.h5", "16", "96");
  int count = 0;
  for (const std::string& file : pretraining_recipes()) {
    SCOPED_TRACE(file);
    const OptionValues recipe = read_ini(file);
    const std::string folder = path("run_" + fs::path(file).filename().string());
    std::vector<std::string> arguments{"--config",
                                       file,
                                       "--loader.batch",
                                       "4",
                                       "--training.steps",
                                       "2",
                                       "--data",
                                       path(crops_clips(recipe) ? "large.h5" : "small.h5"),
                                       "--run",
                                       folder};
    for (const auto& option : cut_down(recipe)) arguments.push_back(option);
    EXPECT_EQ(run("pretrain", arguments), 0) << said();
    const std::string log = read_bytes(folder + "/metrics.jsonl");
    EXPECT_NE(log.find("\"step\":2"), std::string::npos);
    ++count;
  }
  EXPECT_GE(count, 10);
}

// Those over a frozen encoder, whose weights are made here.
TEST_F(Recipes, OverPatchesTakeTwoSteps) {
  make_poses("poses.h5");
  ASSERT_EQ(run("collect", {"--world", "push", "--policy", "scripted", "--episodes", "3",
                            "--max_steps", "40", "--out", path("push.h5")}),
            0)
      << said();
  write_tiny_encoder(path("encoder"), 3, 48);
  int count = 0;
  for (const auto& entry :
       fs::directory_iterator(std::string(JEPA_SOURCE_DIR) + "/examples/configs")) {
    const std::string file = entry.path();
    if (!file.ends_with(".ini")) continue;
    const OptionValues recipe = read_ini(file);
    if (!recipe.contains("patches.weights")) continue;
    SCOPED_TRACE(file);
    const bool poses = recipe.contains("augment.size");
    const std::string folder = path("run_" + entry.path().filename().string());
    std::vector<std::string> arguments{"--config",
                                       file,
                                       "--run",
                                       folder,
                                       "--loader.threads",
                                       "1",
                                       "--loader.batch",
                                       "4",
                                       "--training.steps",
                                       "2",
                                       "--patches.weights",
                                       path("encoder"),
                                       "--data",
                                       path(poses ? "poses.h5" : "push.h5"),
                                       "--validation",
                                       path(poses ? "poses.h5" : "push.h5")};
    const auto add = [&](const std::string& key, const std::string& value) {
      if (!recipe.contains(key)) return;
      arguments.push_back("--" + key);
      arguments.push_back(value);
    };
    for (const std::string predictor : {"action_conditioned", "adaln"}) {
      add(predictor + ".dim", "48");
      add(predictor + ".depth", "2");
      add(predictor + ".heads", "2");
    }
    add("adaln.head_dim", "16");
    add("adaln.mlp_hidden", "64");
    add("patches.size", "48");
    add("augment.size", "48");
    add("optimisation.accumulate", "2");
    EXPECT_EQ(run("train_dynamics", arguments), 0) << said();
    const std::string log = read_bytes(folder + "/metrics.jsonl");
    EXPECT_NE(log.find("\"step\":2"), std::string::npos);
    EXPECT_NE(log.find("validation_loss"), std::string::npos);
    ++count;
  }
  EXPECT_GE(count, 2);
}

}  // namespace
}  // namespace jepa

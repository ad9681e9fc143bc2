// Several processes that a program starts on this machine.
#include "program_test.hpp"
#include "small_recipe.hpp"

#include <jepa/io/safetensors.hpp>
#include <jepa/options.hpp>
#include <jepa/training/process_group.hpp>

#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <cstdio>
#include <map>

namespace jepa {
namespace {

class ProcessesProgram : public ProgramTest {
 protected:
  void SetUp() override {
    if (!has_process_groups()) GTEST_SKIP() << "this LibTorch was built without gloo";
    ASSERT_EQ(run("make_data", {"--clips", "64", "--out", path("digits.h5")}), 0) << said();
  }

  std::vector<std::string> recipe(const std::string& folder, const std::string& batch,
                                  const std::string& processes, const std::string& steps) const {
    return {"--config",
            std::string(JEPA_SOURCE_DIR) + "/examples/configs/plain_digits.ini",
            "--data",
            path("digits.h5"),
            "--run",
            path(folder),
            "--loader.batch",
            batch,
            "--processes",
            processes,
            "--training.steps",
            steps,
            "--encoder.depth",
            "1",
            "--predictor.depth",
            "1",
            "--optimisation.total_steps",
            "8",
            "--training.checkpoint_every",
            "2"};
  }

  /// Lines of error that were said.
  int64_t errors() const {
    int64_t count = 0;
    std::istringstream lines(said());
    for (std::string line; std::getline(lines, line);) count += line.starts_with("error: ") ? 1 : 0;
    return count;
  }

  std::string newest(const std::string& folder) const {
    return fs::exists(path(folder) + "/checkpoints/latest")
               ? read_bytes(path(folder) + "/checkpoints/latest")
               : "";
  }

  void expect_same_weights(const std::string& one, const std::string& two, const std::string& step,
                           const std::string& file = "encoder",
                           const std::set<std::string>& left_out = {},
                           double tolerance = 1e-6) const {
    const auto weights = [&](const std::string& folder) {
      return read_safetensors(path(folder) + "/checkpoints/step-" + step + "/" + file +
                              ".safetensors")
          .tensors;
    };
    const TensorMap expected = weights(one), found = weights(two);
    EXPECT_EQ(expected.size(), found.size());
    for (const auto& [name, value] : expected) {
      if (left_out.contains(name)) continue;
      EXPECT_LT((found.at(name) - value).abs().max().item<double>(), tolerance) << name;
    }
  }
};

TEST_F(ProcessesProgram, TwoEndAsOneDoes) {
  ASSERT_EQ(run("pretrain", recipe("one", "16", "1", "4")), 0) << said();
  ASSERT_EQ(run("pretrain", recipe("two", "8", "2", "4")), 0) << said();
  expect_same_weights("one", "two", "00000004");
  // Two go on as one, and one as two.
  ASSERT_EQ(run("pretrain", recipe("two", "16", "1", "6")), 0) << said();
  ASSERT_EQ(run("pretrain", recipe("one", "8", "2", "6")), 0) << said();
  expect_same_weights("one", "two", "00000006");
}

// One of them on a processor without bfloat16: what is measured by rank 0 holds for both.
TEST_F(ProcessesProgram, TheFirstChoosesThePrecision) {
  const std::string port = std::to_string(free_port());
  std::vector<pid_t> children;
  for (int rank = 0; rank < 2; ++rank) {
    const pid_t child = fork();
    if (child == 0) {
      setenv("RANK", std::to_string(rank).c_str(), 1);
      setenv("WORLD_SIZE", "2", 1);
      setenv("MASTER_PORT", port.c_str(), 1);
      if (rank == 1) setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
      auto options = recipe("auto", "8", "1", "1");
      options.insert(options.end(), {"--precision", "auto", "--timeout", "60"});
      _exit(run("pretrain", options));
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0) << said();
  }
}

TEST_F(ProcessesProgram, KeepMomentsApartAndPutThemTogether) {
  const auto sharded = [&](const char* folder, const char* batch, const char* count,
                           const char* steps) {
    auto options = recipe(folder, batch, count, steps);
    options.insert(options.end(), {"--optimisation.shard_moments", "true"});
    return options;
  };
  ASSERT_EQ(run("pretrain", recipe("one", "16", "1", "4")), 0) << said();
  ASSERT_EQ(run("pretrain", sharded("two", "8", "2", "4")), 0) << said();
  expect_same_weights("one", "two", "00000004");
  expect_same_weights("one", "two", "00000004", "optimizer");
  // The option is free: two sharded go on as one, one goes on as two that are sharded.
  ASSERT_EQ(run("pretrain", sharded("two", "16", "1", "6")), 0) << said();
  ASSERT_EQ(run("pretrain", sharded("one", "8", "2", "6")), 0) << said();
  expect_same_weights("one", "two", "00000006");
}

TEST_F(ProcessesProgram, EncodeTogetherWhatOneEncodes) {
  ASSERT_EQ(run("pretrain", recipe("run", "16", "1", "2")), 0) << said();
  // 64 clips, seven at a time: the last batch and its halves are uneven.
  const auto embed = [&](const char* file, const char* processes) {
    return run("embed", {"--weights", path("run"), "--video", path("digits.h5"), "--batch", "7",
                         "--out", path(file), "--processes", processes});
  };
  ASSERT_EQ(embed("one.safetensors", "1"), 0) << said();
  ASSERT_EQ(embed("two.safetensors", "2"), 0) << said();
  const auto one = read_safetensors(path("one.safetensors")).tensors.at("tokens");
  const auto two = read_safetensors(path("two.safetensors")).tensors.at("tokens");
  ASSERT_EQ(one.sizes(), two.sizes());
  EXPECT_EQ(one.size(0), 64);
  EXPECT_LT((one - two).abs().max().item<double>(), 1e-5);
  // What a probe reads from them.
  const auto probe = [&](const char* file, const char* processes) {
    EXPECT_EQ(run("probe", {"--weights", path("run"), "--train", path("digits.h5"), "--validation",
                            path("digits.h5"), "--test", path("digits.h5"), "--labels", "digit",
                            "--control.draws", "1", "--precision", "float32", "--json", path(file),
                            "--processes", processes}),
              0)
        << said();
    return nlohmann::json::parse(read_bytes(path(file))).at("results");
  };
  const auto alone = probe("one.json", "1"), shared = probe("two.json", "2");
  ASSERT_EQ(alone.size(), shared.size());
  EXPECT_NEAR(alone[0].at("value"), shared[0].at("value"), 0.05);
  EXPECT_EQ(alone[0].at("test_clips"), shared[0].at("test_clips"));
}

TEST_F(ProcessesProgram, TrainDiffusionAsOneDoes) {
  const auto train = [&](const char* folder, const char* batch, const char* processes,
                         const char* steps) {
    return run("train_diffusion", {"--data",
                                   path("digits.h5"),
                                   "--run",
                                   path(folder),
                                   "--loader.batch",
                                   batch,
                                   "--processes",
                                   processes,
                                   "--training.steps",
                                   steps,
                                   "--model.dim",
                                   "32",
                                   "--model.depth",
                                   "1",
                                   "--model.heads",
                                   "2",
                                   "--optimisation.accumulate",
                                   "2",
                                   "--optimisation.total_steps",
                                   "6",
                                   "--precision",
                                   "float32",
                                   "--optimisation.shard_moments",
                                   "true"});
  };
  ASSERT_EQ(train("one", "8", "1", "4"), 0) << said();
  ASSERT_EQ(train("two", "4", "2", "4"), 0) << said();
  expect_same_weights("one", "two", "00000004", "model");
  expect_same_weights("one", "two", "00000004", "average");
  ASSERT_EQ(train("two", "8", "1", "6"), 0) << said();
  ASSERT_EQ(train("one", "4", "2", "6"), 0) << said();
  expect_same_weights("one", "two", "00000006", "model");
}

TEST_F(ProcessesProgram, TrainAnAutoencoderAsOneDoes) {
  const auto train = [&](const char* folder, const char* batch, const char* processes,
                         const char* steps) {
    return run("train_diffusion", {"--stage",
                                   "autoencoder",
                                   "--data",
                                   path("digits.h5"),
                                   "--run",
                                   path(folder),
                                   "--loader.batch",
                                   batch,
                                   "--processes",
                                   processes,
                                   "--training.steps",
                                   steps,
                                   "--autoencoder.width",
                                   "8",
                                   "--optimisation.accumulate",
                                   "2",
                                   "--optimisation.total_steps",
                                   "12",
                                   "--precision",
                                   "float32"});
  };
  // A shift before batch norm does nothing: Adam makes steps of the rounding of its gradient.
  const std::set<std::string> shift = {"encoder_branch_1.bias", "to_latent.bias", "mean"};
  ASSERT_EQ(train("one", "8", "1", "10"), 0) << said();
  ASSERT_EQ(train("two", "4", "2", "10"), 0) << said();
  expect_same_weights("one", "two", "00000010", "model", shift);
  ASSERT_EQ(train("two", "8", "1", "12"), 0) << said();
  ASSERT_EQ(train("one", "4", "2", "12"), 0) << said();
  expect_same_weights("one", "two", "00000012", "model", shift);
}

TEST_F(ProcessesProgram, TrainDynamicsAsOneDoes) {
  const auto train = [&](const std::string& folder, const std::string& batch,
                         const std::string& processes, const std::string& more) {
    std::vector<std::string> arguments{
        "--config",       std::string(JEPA_SOURCE_DIR) + "/examples/configs/two_rooms_quick.ini",
        "--run",          path(folder),
        "--precision",    "float32",
        "--loader.batch", batch,
        "--processes",    processes};
    std::istringstream words(
        "--second.from_step 5 --optimisation.total_steps 5 "
        "--second_optimisation.total_steps 20 --optimisation.eps 1e-6 "
        "--second_optimisation.eps 1e-6 " +
        more);
    for (std::string word; words >> word;) arguments.push_back(word);
    return run("train_dynamics", arguments);
  };
  // Each phase goes on by another number than it began with.
  ASSERT_EQ(train("one", "8", "1", "--training.steps 3"), 0) << said();
  ASSERT_EQ(train("two", "4", "2", "--training.steps 3"), 0) << said();
  expect_same_weights("one", "two", "00000003", "joint_predictor");
  ASSERT_EQ(train("two", "8", "1", "--training.steps 7"), 0) << said();
  ASSERT_EQ(train("one", "4", "2", "--training.steps 7"), 0) << said();
  const std::string sharded = " --second_optimisation.shard_moments true";
  ASSERT_EQ(train("two", "4", "2", "--training.steps 10" + sharded), 0) << said();
  ASSERT_EQ(train("one", "8", "1", "--training.steps 10"), 0) << said();
  for (const char* file : {"encoder", "inverse", "predictor", "optimizer"}) {
    expect_same_weights("one", "two", "00000010", file);
  }
  expect_same_weights("one", "two", "00000010", "buffer", {}, 1e-5);  // latents of up to 5
  EXPECT_EQ(train("no", "4", "2", "--second.batch 15"), 2);
  EXPECT_NE(said().find("second.batch is 15"), std::string::npos) << said();
}

/// Ten steps of every recipe by one process and by two.
class EveryRecipe : public ProgramTest {
 protected:
  void SetUp() override {
    if (!has_process_groups()) GTEST_SKIP() << "this LibTorch was built without gloo";
    make_store("small.h5", "8", "32");
    make_store("large.h5", "16", "96");
  }

  void make_store(const std::string& name, const std::string& frames, const std::string& size) {
    ASSERT_EQ(run("make_data", {"--kind", "digits", "--out", path(name), "--clips", "24",
                                "--generated.frames", frames, "--generated.size", size}),
              0)
        << said();
  }

  /// Runs the recipe in `file` into `folder`.
  void train(const std::string& file, const std::string& folder, int64_t processes) {
    const OptionValues recipe = read_ini(file);
    std::vector<std::string> arguments{
        "--config", file, "--run", path(folder), "--data",
        path(crops_clips(recipe) ? "large.h5" : "small.h5"), "--processes",
        std::to_string(processes), "--loader.batch", std::to_string(kBatch / processes),
        "--precision", "float32", "--training.steps", "10", "--training.checkpoint_every", "100",
        // The rate reaches its height within the ten steps.
        "--optimisation.warmup_steps", "4", "--optimisation.total_steps", "20"};
    // Batch norm over so few clips leaves gradients near zero, of whose rounding Adam makes steps.
    if (recipe.contains("agreement.weight")) {
      arguments.insert(arguments.end(), {"--optimisation.eps", "1e-3"});
    }
    // Its gradients are about 1e-6 here (1.3e-6 apart with eps 1e-8, 1e-7 with 1e-6).
    if (file.ends_with("watch_footage.ini")) {
      arguments.insert(arguments.end(), {"--optimisation.eps", "1e-6"});
    }
    for (const auto& option : cut_down(recipe)) arguments.push_back(option);
    ASSERT_EQ(run("pretrain", arguments), 0) << said();
  }

  /// A recipe of `train_dynamics`; where it has a second phase, that is half of the ten steps. A
  /// predictor begins as the identity, its first layers with next to no gradient: with eps 1e-8
  /// Adam makes steps of its rounding (2.5e-6 apart).
  void train_dynamics(const std::string& file, const std::string& folder, int64_t processes) {
    std::vector<std::string> arguments{"--config",
                                       file,
                                       "--run",
                                       path(folder),
                                       "--processes",
                                       std::to_string(processes),
                                       "--loader.batch",
                                       std::to_string(kBatch / processes),
                                       "--precision",
                                       "float32",
                                       "--training.steps",
                                       "10",
                                       "--training.checkpoint_every",
                                       "100",
                                       "--validation_clips",
                                       "8",
                                       "--wall_cases",
                                       "0",
                                       "--predictor.dropout",  // drawn by each for its own rows
                                       "0",
                                       "--optimisation.warmup_steps",
                                       "4",
                                       "--optimisation.total_steps",
                                       "20",
                                       "--optimisation.eps",
                                       "1e-5"};
    if (read_ini(file).contains("second.from_step")) {
      arguments.insert(
          arguments.end(),
          {"--second.from_step", "5", "--second.batch", "8", "--second_optimisation.warmup_steps",
           "4", "--second_optimisation.total_steps", "40", "--second_optimisation.eps", "1e-5"});
    }
    ASSERT_EQ(run("train_dynamics", arguments), 0) << said();
  }

  /// Without what has a true gradient of zero or next to it, of whose rounding Adam makes steps: a
  /// shift before a batch norm or common to both views, and the keys' shift, which adds the same to
  /// all scores of a query where positions turn the keys not at all (sin-cos) or hardly (the slow
  /// pairs of rotary ones).
  static torch::Tensor that_learns(const std::string& name, const torch::Tensor& value) {
    if (name.starts_with("projector.") && name.ends_with(".bias")) return {};
    if (!name.ends_with(".attn.qkv.bias")) return value;
    const auto parts = value.chunk(3);
    return torch::cat({parts[0], parts[2]});
  }

  /// Weights after the last step, by file and name.
  std::map<std::string, torch::Tensor> weights(const std::string& folder,
                                               const std::string& step) const {
    std::map<std::string, torch::Tensor> all;
    const std::string checkpoint = path(folder) + "/checkpoints/step-" + step;
    for (const auto& entry : fs::directory_iterator(checkpoint)) {
      if (entry.path().extension() != ".safetensors") continue;
      if (entry.path().stem() == "optimizer" || entry.path().stem() == "buffer") continue;
      for (const auto& [name, value] : read_safetensors(entry.path()).tensors) {
        const std::string key = entry.path().stem().string() + "." + name;
        const torch::Tensor kept = that_learns(key, value.to(torch::kFloat64));
        if (kept.defined()) all[key] = kept;
      }
    }
    return all;
  }

  std::vector<double> losses(const std::string& folder) const {
    std::vector<double> all;
    std::istringstream lines(read_bytes(path(folder) + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json.at("type") == "step") all.push_back(json.at("loss"));
    }
    return all;
  }

  void expect_equal(const std::string& one, const std::string& two) const {
    const auto expected = weights(one, "00000010"), found = weights(two, "00000010");
    const auto first = weights(one, "00000000");
    ASSERT_EQ(expected.size(), found.size());
    double largest = 0, apart = 0, moved = 0;
    std::string where;
    for (const auto& [name, value] : expected) {
      largest = std::max(largest, value.abs().max().item<double>());
      if (const auto before = first.find(name); before != first.end()) {  // else of a later phase
        moved = std::max(moved, (value - before->second).abs().max().item<double>());
      }
      const double difference = (value - found.at(name)).abs().max().item<double>();
      if (difference > apart) where = name;
      apart = std::max(apart, difference);
    }
    std::printf("%s: %.1e of the largest weight apart, moved by %.1e\n", one.c_str(),
                apart / largest, moved / largest);
    std::fflush(stdout);  // children would print it again
    EXPECT_LE(apart, kRounding * largest) << where << ", largest weight " << largest;
    EXPECT_GT(moved, 1e-3 * largest);
    const auto these = losses(one), those = losses(two);
    ASSERT_EQ(these.size(), 10);
    ASSERT_EQ(those.size(), 10);
    for (size_t i = 0; i < 10; ++i)
      EXPECT_NEAR(those[i], these[i], kRounding * std::abs(these[i])) << i;
  }

  // Sums of halves are rounded otherwise than those of wholes, by how much hangs on the processor:
  // at most 1.0e-6 was seen on one, 5.0e-6 on another.
  static constexpr double kRounding = 1e-5;

  static constexpr int64_t kBatch = 4;
};

TEST_F(EveryRecipe, IsTheSameOnTwoProcesses) {
  const auto recipes = pretraining_recipes();
  for (const std::string& file : recipes) {
    SCOPED_TRACE(file);
    const std::string name = fs::path(file).stem();
    train(file, name + "_one", 1);
    train(file, name + "_two", 2);
    if (HasFatalFailure()) return;
    expect_equal(name + "_one", name + "_two");
  }
  EXPECT_GE(recipes.size(), 10);
}

TEST_F(EveryRecipe, OfDynamicsIsTheSameOnTwoProcesses) {
  for (const std::string name : {"two_rooms_quick", "ebjepa_two_rooms", "lewm_two_rooms"}) {
    SCOPED_TRACE(name);
    const std::string file = std::string(JEPA_SOURCE_DIR) + "/examples/configs/" + name + ".ini";
    train_dynamics(file, name + "_one", 1);
    train_dynamics(file, name + "_two", 2);
    if (HasFatalFailure()) return;
    expect_equal(name + "_one", name + "_two");
  }
}

TEST_F(ProcessesProgram, RefusesWhatDoesNotDivide) {
  auto options = recipe("odd", "9", "2", "2");
  options.insert(options.end(), {"--optimisation.accumulate", "4"});
  EXPECT_EQ(run("pretrain", options), 2);
  EXPECT_NE(said().find("does not divide over 2 processes"), std::string::npos) << said();
  EXPECT_EQ(errors(), 1) << said();
}

TEST_F(ProcessesProgram, AnotherNumberGoesOnWithTheSameClips) {
  ASSERT_EQ(run("pretrain", recipe("one", "16", "1", "4")), 0) << said();
  ASSERT_EQ(run("pretrain", recipe("two", "8", "2", "2")), 0) << said();
  EXPECT_EQ(run("pretrain", recipe("two", "8", "1", "4")), 2);
  EXPECT_NE(said().find("a step of run " + path("two") + " has 16 clips: give 16"),
            std::string::npos)
      << said();
  // Where none is given, in an ini either, the batch follows.
  ASSERT_EQ(run("pretrain", {"--run", path("two"), "--processes", "1", "--training.steps", "4"}), 0)
      << said();
  expect_same_weights("one", "two", "00000004");
}

TEST_F(ProcessesProgram, ASignalToAllOfThemSavesAndLeaves) {
  const auto options = recipe("told", "8", "2", "100000");
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string before = newest("told");
    const pid_t child =
        start_program("pretrain", options, path("said.txt"), RLIM_INFINITY, /*own_group=*/true);
    for (int i = 0; i < 3000 && newest("told") == before; ++i) usleep(10000);
    EXPECT_NE(newest("told"), before) << said();
    kill(-child, signal);  // as a terminal does, and `timeout`
    EXPECT_EQ(exit_code_of(child), 0) << said();
    EXPECT_EQ(errors(), 0) << said();
  }
}

TEST_F(ProcessesProgram, OneLauncherProcessIsAlone) {
  setenv("RANK", "0", 1);
  setenv("WORLD_SIZE", "1", 1);
  EXPECT_EQ(run("pretrain", recipe("alone", "16", "1", "2")), 0) << said();
  unsetenv("RANK");
  unsetenv("WORLD_SIZE");
}

}  // namespace
}  // namespace jepa

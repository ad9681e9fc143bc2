// The pretrain program as a user meets it: killed and continued, and given what it cannot use.
#include "program_test.hpp"
#include "temporary_folder.hpp"

#include <jepa/io/safetensors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace jepa {
namespace {

class PretrainProgram : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TemporaryFolder>();
    ASSERT_EQ(run("make_data", {"--clips", "64", "--out", path("digits.h5")}), 0) << said();
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static std::string path(const std::string& name) { return folder_->file(name); }
  static std::string said() { return read_bytes(folder_->path() / "said.txt"); }

  static pid_t start(const std::string& program, const std::vector<std::string>& arguments) {
    return start_program(program, arguments, path("said.txt"));
  }
  static int run(const std::string& program, const std::vector<std::string>& arguments,
                 rlim_t file_limit = RLIM_INFINITY) {
    return exit_code_of(start_program(program, arguments, path("said.txt"), file_limit));
  }

  /// Arguments of a small run, and what else is given.
  static std::vector<std::string> small(const std::string& name,
                                        const std::vector<std::string>& more = {}) {
    std::vector<std::string> all{"--run",
                                 path(name),
                                 "--data",
                                 path("digits.h5"),
                                 "--encoder.preset",
                                 "custom",
                                 "--encoder.dim",
                                 "24",
                                 "--encoder.depth",
                                 "1",
                                 "--encoder.heads",
                                 "2",
                                 "--encoder.patch",
                                 "8",
                                 "--predictor.dim",
                                 "12",
                                 "--predictor.depth",
                                 "1",
                                 "--predictor.heads",
                                 "1",
                                 "--loader.batch",
                                 "8",
                                 "--precision",
                                 "float32",
                                 "--threads",
                                 "1",
                                 "--training.checkpoint_every",
                                 "5"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static std::string weights(const std::string& run_name) {
    const fs::path checkpoints = folder_->path() / run_name / "checkpoints";
    std::string name = read_bytes(checkpoints / "latest");
    name.pop_back();  // the line's end
    std::string all;
    for (const char* file : {"encoder", "target_encoder", "predictor", "projector", "optimizer"}) {
      all += read_bytes(checkpoints / name / (std::string(file) + ".safetensors"));
    }
    return all;
  }
  /// Step of the checkpoint that `latest` names; -1: there is none yet.
  static int64_t newest_step(const std::string& run_name) {
    const std::string name = read_bytes(folder_->path() / run_name / "checkpoints/latest");
    return name.starts_with("step-") ? std::stoll(name.substr(5)) : -1;
  }
  /// Expects that `latest` or `best` names a checkpoint with all its files.
  static void expect_whole(const std::string& run_name, const std::string& which) {
    const fs::path checkpoints = folder_->path() / run_name / "checkpoints";
    std::string name = read_bytes(checkpoints / which);
    ASSERT_FALSE(name.empty()) << which;
    name.pop_back();
    for (const char* file :
         {"encoder.safetensors", "target_encoder.safetensors", "predictor.safetensors",
          "optimizer.safetensors", "config.ini", "state.json"}) {
      EXPECT_FALSE(read_bytes(checkpoints / name / file).empty()) << which << ": " << name << file;
    }
    EXPECT_TRUE(read_bytes(checkpoints / name / "state.json").ends_with("}\n")) << which;
  }
  /// Expects exit code `code` and an error line that names `thing`.
  static void expect_error(int found, int code, const std::string& thing) {
    EXPECT_EQ(found, code) << said();
    const std::string text = said();
    const auto at = text.find("error: ");
    ASSERT_NE(at, std::string::npos) << text;
    const std::string line = text.substr(at, text.find('\n', at) - at);
    EXPECT_NE(line.find(thing), std::string::npos) << line;
    EXPECT_EQ(text.find("error: ", at + 1), std::string::npos) << text;
    // After the line: nothing, or where to find the options.
    const std::string rest = text.substr(at + line.size() + 1);
    EXPECT_TRUE(code == 2 ? rest.starts_with("Try '") : rest.empty()) << text;
  }

  inline static std::unique_ptr<TemporaryFolder> folder_;
};

TEST_F(PretrainProgram, KilledFiveTimesEndsAsTheUninterrupted) {
  const std::vector<std::string> steps{"--training.steps",       "400",
                                       "--training.probe_every", "7",
                                       "--agreement.weight",     "0.1",
                                       "--probe.train",          path("digits.h5"),
                                       "--probe.test",           path("digits.h5"),
                                       "--probe.labels",         "digit",
                                       "--probe.train_clips",    "20",
                                       "--probe.test_clips",     "10"};
  ASSERT_EQ(run("pretrain", small("whole", steps)), 0) << said();
  std::mt19937 random(std::random_device{}());
  std::uniform_int_distribution<int> delay(0, 60);
  int killed = 0;
  for (int i = 0; i < 5; ++i) {
    const pid_t child = start("pretrain", small("killed", steps));
    // Somewhere in the middle, at any moment of a step or of a checkpoint.
    for (int wait = 0; wait < 60000 && newest_step("killed") < 60 * i + 20; ++wait) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(delay(random)));
    kill(child, SIGKILL);
    killed += exit_code_of(child) == -SIGKILL ? 1 : 0;
    expect_whole("killed", "latest");
    if (fs::exists(folder_->path() / "killed/checkpoints/best")) expect_whole("killed", "best");
  }
  EXPECT_GE(killed, 4);
  ASSERT_EQ(run("pretrain", small("killed", steps)), 0) << said();
  EXPECT_TRUE(weights("killed") == weights("whole"));
  EXPECT_EQ(read_bytes(folder_->path() / "killed/checkpoints/best"),
            read_bytes(folder_->path() / "whole/checkpoints/best"));
  for (const auto& entry : fs::directory_iterator(folder_->path() / "killed" / "checkpoints")) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("partial")) << entry.path();
  }
}

TEST_F(PretrainProgram, AFinishedRunSaysItsNumbersAgain) {
  const std::vector<std::string> first{"--training.steps", "7", "--json", path("first.json")};
  const std::vector<std::string> again{"--training.steps", "7", "--json", path("again.json")};
  ASSERT_EQ(run("pretrain", small("twice", first)), 0) << said();
  const std::string log = read_bytes(folder_->path() / "twice/metrics.jsonl");
  ASSERT_EQ(run("pretrain", small("twice", again)), 0) << said();
  EXPECT_EQ(read_bytes(folder_->path() / "twice/metrics.jsonl"), log);
  EXPECT_NE(read_bytes(path("first.json")).find("\"rankme\""), std::string::npos);
  EXPECT_EQ(read_bytes(path("again.json")), read_bytes(path("first.json")));
}

TEST_F(PretrainProgram, TheSameCommandContinuesARun) {
  // The shipped recipe, whose numbers are not spelt as they are stored, shortened to fit.
  const std::vector<std::string> recipe{
      "--config",          std::string(JEPA_SOURCE_DIR) + "/examples/configs/moving_digits.ini",
      "--optimisation.lr", "5.25e-4",
      "--fit_minutes",     "0.02"};
  ASSERT_EQ(run("pretrain", small("recipe", recipe)), 0) << said();
  EXPECT_EQ(run("pretrain", small("recipe", recipe)), 0) << said();
  std::ofstream(folder_->path() / "recipe/checkpoints/latest") << "step-99999999\n";
  expect_error(run("pretrain", small("recipe", recipe)), 1, "step-99999999");
}

TEST_F(PretrainProgram, AgreementComparesClips) {
  const auto with = [](const std::string& name, const std::string& accumulate) {
    return small(name, {"--agreement.weight", "1", "--optimisation.accumulate", accumulate,
                        "--training.steps", "3"});
  };
  EXPECT_EQ(run("pretrain", with("thirds", "3")), 0) << said();
  expect_error(run("pretrain", with("ones", "8")), 2, "agreement.weight");
}

TEST_F(PretrainProgram, UsageErrorsNameTheOption) {
  expect_error(run("pretrain", small("u", {"--encoder.dimension", "3"})), 2, "encoder.dimension");
  expect_error(run("pretrain", small("u", {"--training.steps", "many"})), 2, "training.steps");
  expect_error(run("pretrain", small("u", {"--optimisation.beta1", "2"})), 2, "optimisation.beta1");
  std::ofstream(path("bad.ini")) << "[encoder]\ndimension = 3\n";
  expect_error(run("pretrain", small("u", {"--config", path("bad.ini")})), 2, "encoder.dimension");
  std::ofstream(path("broken.ini")) << "[encoder\n";
  expect_error(run("pretrain", small("u", {"--config", path("broken.ini")})), 2, "broken.ini");
  expect_error(run("pretrain", small("u", {"--config", path("none.ini")})), 2, "none.ini");
}

TEST_F(PretrainProgram, BadDataIsNamed) {
  const auto with = [](const std::string& data) { return small("d", {"--data", data}); };
  expect_error(run("pretrain", with(path("missing.h5"))), 1, "missing.h5");
  std::ofstream(path("empty.h5")).flush();
  expect_error(run("pretrain", with(path("empty.h5"))), 1, "empty.h5");
  const std::string whole = read_bytes(path("digits.h5"));
  std::ofstream(path("cut.h5"), std::ios::binary) << whole.substr(0, whole.size() / 2);
  expect_error(run("pretrain", with(path("cut.h5"))), 1, "cut.h5");
  std::ofstream(path("text.mp4")) << "not a video";
  expect_error(run("pretrain", with(path("text.mp4"))), 1, "text.mp4");
}

TEST_F(PretrainProgram, ARunOfAnotherModelIsRefused) {
  ASSERT_EQ(run("pretrain", small("first", {"--training.steps", "5"})), 0) << said();
  expect_error(run("pretrain", small("first", {"--encoder.dim", "48"})), 2, "encoder.dim");
  ASSERT_EQ(run("pretrain", small("second", {"--training.steps", "5", "--encoder.dim", "48"})), 0);
  fs::copy_file(folder_->path() / "second/checkpoints/step-00000005/encoder.safetensors",
                folder_->path() / "first/checkpoints/step-00000005/encoder.safetensors",
                fs::copy_options::overwrite_existing);
  expect_error(run("pretrain", small("first", {"--training.steps", "9"})), 1,
               "encoder.safetensors");
}

// What a run starts from must be the model that the options say, whatever its shapes allow.
TEST_F(PretrainProgram, InitIsOfTheSameModel) {
  const auto with = [](std::vector<std::string> options, const std::string& key,
                       const std::string& value) {
    const auto found = std::find(options.begin(), options.end(), key);
    if (found == options.end()) {
      options.insert(options.end(), {key, value});
    } else {
      *(found + 1) = value;
    }
    return options;
  };
  ASSERT_EQ(
      run("pretrain", small("begun", {"--training.steps", "1", "--encoder.preset", "custom"})), 0)
      << said();
  const auto start = small("from", {"--init", path("begun"), "--training.steps", "0"});
  expect_error(run("pretrain", with(start, "--encoder.heads", "4")), 2,
               "encoder.heads is 2, not 4");
  expect_error(run("pretrain", with(start, "--encoder.positions", "sincos")), 2,
               "encoder.positions is rope, not sincos");
  expect_error(run("pretrain", with(start, "--encoder.rope_layout", "interleaved")), 2,
               "encoder.rope_layout");
  expect_error(run("pretrain", with(start, "--predictor.heads", "2")), 2,
               "predictor.heads is 1, not 2");
  const auto published = with(start, "--init", JEPA_TEST_FIXTURES "/hf_vjepa2");
  expect_error(run("pretrain", published), 2, "/hf_vjepa2: its encoder.");
  EXPECT_EQ(run("pretrain", start), 0) << said();
}

// Weights with fixed tables go on at another size: the table alone is resized.
TEST_F(PretrainProgram, InitAtAnotherSize) {
  const std::vector<std::string> table{
      "--encoder.positions", "sincos", "--predictor.positions", "sincos",
      "--augment.crop",      "centre", "--training.steps"};
  const auto options = [&](const std::string& name, std::vector<std::string> more) {
    more.insert(more.begin(), table.begin(), table.end());
    return small(name, more);
  };
  ASSERT_EQ(run("pretrain", options("large", {"1", "--augment.size", "32"})), 0) << said();
  ASSERT_EQ(
      run("pretrain", options("smaller", {"0", "--augment.size", "16", "--init", path("large")})),
      0)
      << said();
  const auto tensors = [&](const std::string& name, const std::string& step) {
    return read_safetensors(path(name) + "/checkpoints/step-0000000" + step +
                            "/encoder.safetensors")
        .tensors;
  };
  const TensorMap large = tensors("large", "1"), smaller = tensors("smaller", "0");
  ASSERT_EQ(large.size(), smaller.size());
  for (const auto& [key, value] : large) {
    if (key == "pos_embed") {
      EXPECT_EQ(value.size(1), 4 * smaller.at(key).size(1));
      EXPECT_EQ(value.size(2), smaller.at(key).size(2));
    } else {
      EXPECT_TRUE(value.equal(smaller.at(key))) << key;
    }
  }
}

TEST_F(PretrainProgram, AFullDiskLosesNothing) {
  ASSERT_EQ(run("pretrain", small("full", {"--training.steps", "5"})), 0) << said();
  const std::string before = weights("full");
  expect_error(run("pretrain", small("full", {"--training.steps", "40"}), /*file_limit=*/12000), 1,
               "full");
  EXPECT_TRUE(weights("full") == before);
  EXPECT_EQ(run("pretrain", small("full", {"--training.steps", "10"})), 0) << said();
}

TEST_F(PretrainProgram, ALossThatIsNotFiniteKeepsTheLastCheckpoint) {
  const std::vector<std::string> wild{
      "--training.steps", "50", "--optimisation.lr", "1e30", "--optimisation.schedule", "constant"};
  expect_error(run("pretrain", small("wild", wild)), 1,
               "is nan; the step was not taken; the newest checkpoint is ");
  EXPECT_FALSE(weights("wild").empty());
}

}  // namespace
}  // namespace jepa

// Several processes that a program starts on this machine.
#include "program_test.hpp"

#include <jepa/io/safetensors.hpp>
#include <jepa/training/process_group.hpp>

#include <torch/types.h>

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
    return {"--config", std::string(JEPA_SOURCE_DIR) + "/examples/configs/plain_digits.ini",
            "--data", path("digits.h5"), "--run", path(folder), "--loader.batch", batch,
            "--processes", processes, "--training.steps", steps, "--encoder.depth", "1",
            "--predictor.depth", "1", "--optimisation.total_steps", "8",
            "--training.checkpoint_every", "2"};
  }

  void expect_same_weights(const std::string& one, const std::string& two,
                           const std::string& step) const {
    const auto weights = [&](const std::string& folder) {
      return read_safetensors(path(folder) + "/checkpoints/step-" + step + "/encoder.safetensors")
          .tensors;
    };
    const TensorMap expected = weights(one), found = weights(two);
    for (const auto& [name, value] : expected) {
      EXPECT_LT((found.at(name) - value).abs().max().item<double>(), 1e-6) << name;
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

TEST_F(ProcessesProgram, RefusesWhatDoesNotDivide) {
  auto options = recipe("odd", "9", "2", "2");
  options.insert(options.end(), {"--optimisation.accumulate", "4"});
  EXPECT_EQ(run("pretrain", options), 2);
  EXPECT_NE(said().find("does not divide over 2 processes"), std::string::npos) << said();
}

}  // namespace
}  // namespace jepa

// The probe program from the command line: published weights in, a table and JSON out.
#include <jepa/data/clip_store.hpp>

#include "temporary_folder.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace jepa {
namespace {

namespace fs = std::filesystem;

class ProbeProgram : public testing::Test {
 protected:
  void SetUp() override {
    write_store("train", 60, 1);
    write_store("validation", 30, 2);
    write_store("test", 40, 3);
  }

  /// Clips of 8 x 32 x 32 RGB, bright (class 1) or dark; two share a `unit`.
  void write_store(const std::string& name, int64_t count, int64_t seed) const {
    torch::manual_seed(static_cast<uint64_t>(seed));
    const auto bright = torch::randint(2, {count}, torch::kInt64);
    ClipStoreWriter writer(folder_.file(name + ".h5"), {});
    for (int64_t i = 0; i < count; ++i) {
      const auto noise = torch::randint(100, {8 * 32 * 32 * 3}, torch::kInt64) +
                         100 * bright[i].item<int64_t>();
      RawClip clip{8, 32, 32, 3, {}};
      for (const int64_t value : std::vector<int64_t>(
               noise.data_ptr<int64_t>(), noise.data_ptr<int64_t>() + noise.numel())) {
        clip.pixels.push_back(static_cast<uint8_t>(value));
      }
      writer.append(clip);
    }
    writer.finish({{"bright", bright}, {"unit", torch::arange(count).div(2, "floor")}});
  }

  /// Runs the program; its exit code. What it says is in out.txt.
  int run(const std::string& arguments) const {
    const std::string command = std::string(JEPA_PROGRAMS) + "/probe " + arguments + " > '" +
                                folder_.file("out.txt") + "' 2>&1";
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string said() const { return read_bytes(folder_.file("out.txt")); }

  std::string data() const {
    std::string arguments;
    for (const char* split : {"train", "validation", "test"}) {
      arguments += std::string(" --") + split + " " + folder_.file(std::string(split) + ".h5");
    }
    return arguments;
  }

  const std::string weights_ =
      "--weights " JEPA_TEST_FIXTURES "/vjepa1_checkpoint.pth.tar --encoder.heads 3";
  TemporaryFolder folder_;
};

TEST_F(ProbeProgram, ReadsPublishedWeightsAndWritesItsResults) {
  const auto json = folder_.path() / "results.json";
  ASSERT_EQ(run(weights_ + data() + " --labels bright --unit unit --kind linear,knn --loader.threads 0"
                " --resamples 50 --precision float32 --json " + json.string()),
            0)
      << said();
  const auto results = nlohmann::json::parse(read_bytes(json));
  ASSERT_EQ(results["results"].size(), 2U);
  for (const auto& result : results["results"]) {
    EXPECT_EQ(result["dataset"], "test");
    EXPECT_EQ(result["test_units"], 20);
    EXPECT_GT(result["controls"]["raw_pixels"]["value"], 0.9);
    EXPECT_TRUE(result["controls"].contains("random_init"));
    EXPECT_LT(result["controls"]["majority"]["value"], 0.8);
    EXPECT_GT(result["value"], 0.9);
    EXPECT_LE(result["low"], result["value"]);
  }
  EXPECT_NE(said().find("random init"), std::string::npos);
}

TEST_F(ProbeProgram, SaysWhatIsWrong) {
  EXPECT_EQ(run(data()), 2);
  EXPECT_NE(said().find("weights"), std::string::npos);
  EXPECT_EQ(run(weights_ + data() + " --labels bright --kind svm"), 2);
  EXPECT_EQ(run(weights_ + data() + " --labels bright --colour red"), 2);
  EXPECT_NE(said().find("colour"), std::string::npos);
  EXPECT_EQ(run(weights_ + data() + " --labels digit"), 1);
  EXPECT_NE(said().find("digit"), std::string::npos);
  EXPECT_EQ(run("--weights " + folder_.file("none.pt") + data() + " --labels bright"), 1);
  EXPECT_NE(said().find("none.pt"), std::string::npos);
  EXPECT_EQ(run(weights_ + data() + " --labels bright --layer 9"), 2);
}

}  // namespace
}  // namespace jepa

// The probe program from the command line: published weights in, a table and JSON out.
#include "temporary_folder.hpp"

#include <jepa/data/clip_store.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sys/wait.h>

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
      const auto noise =
          torch::randint(100, {8 * 32 * 32 * 3}, torch::kInt64) + 100 * bright[i].item<int64_t>();
      RawClip clip{8, 32, 32, 3, {}};
      for (const int64_t value : std::vector<int64_t>(noise.data_ptr<int64_t>(),
                                                      noise.data_ptr<int64_t>() + noise.numel())) {
        clip.pixels.push_back(static_cast<uint8_t>(value));
      }
      writer.append(clip);
    }
    writer.finish({{"bright", bright}, {"unit", torch::arange(count).div(2, "floor")}});
  }

  /// Runs a program; its exit code. What it says is in out.txt.
  int run(const std::string& arguments, const std::string& program = "probe") const {
    const std::string command = std::string(JEPA_PROGRAMS) + "/" + program + " " + arguments +
                                " > '" + folder_.file("out.txt") + "' 2>&1";
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
  ASSERT_EQ(run(weights_ + data() +
                " --labels bright --unit unit --kind linear,knn --loader.threads 0"
                " --resamples 50 --precision float32 --json " +
                json.string()),
            0)
      << said();
  const auto results = nlohmann::json::parse(read_bytes(json));
  ASSERT_EQ(results["results"].size(), 2U);
  for (const auto& result : results["results"]) {
    EXPECT_EQ(result["dataset"], "test");
    EXPECT_EQ(result["test_units"], 20);
    EXPECT_GT(result["controls"]["raw_pixels"]["value"], 0.9);
    // No run says how the weights began: the published initialisation, and that is said.
    EXPECT_EQ(result["draws"]["initialisation"].size(), 3U);
    EXPECT_NE(std::string(result["control_notes"]["initialisation"]).find("without a run"),
              std::string::npos);
    EXPECT_EQ(result["unit"], "unit");
    EXPECT_NE(std::string(result["control_notes"]["raw_pixels"])
                  .find(result["probe"] == "knn" ? "all pixels: 8 frames of 32 x 32, 3 channels"
                                                 : "averaged down to 8 frames of 4 x 4"),
              std::string::npos)
        << result["control_notes"]["raw_pixels"];
    EXPECT_LT(result["controls"]["majority"]["value"], 0.8);
    EXPECT_GT(result["value"], 0.9);
    EXPECT_LE(result["low"], result["value"]);
  }
  EXPECT_NE(said().find("less initialisation"), std::string::npos);
  EXPECT_NE(said().find("20 units (column unit)"), std::string::npos);
}

TEST_F(ProbeProgram, ARunOfNoStepsIsNotAboveItsControl) {
  int seed = 1;
  for (const char* split : {"train", "validation", "test"}) {
    ASSERT_EQ(run("--kind digits --clips 300 --seed " + std::to_string(seed++) + " --split " +
                      split + " --out " + folder_.file(std::string(split) + ".h5"),
                  "make_data"),
              0)
        << said();
  }
  ASSERT_EQ(run("--run " + folder_.file("run") + " --data " + folder_.file("train.h5") +
                    " --seed 5 --training.steps 0 --loader.batch 8 --encoder.preset custom"
                    " --encoder.dim 48 --encoder.depth 2 --encoder.heads 3 --encoder.patch 8"
                    " --encoder.xavier 1 --predictor.dim 48 --predictor.depth 1"
                    " --predictor.heads 3",
                "pretrain"),
            0)
      << said();
  const std::string json = folder_.file("results.json");
  const auto probe = [&](const std::string& weights) {
    EXPECT_EQ(run("--weights " + weights + data() +
                  " --labels digit,direction,position --kind linear,knn --loader.threads 0"
                  " --resamples 200 --precision float32 --control.published 1 --json " +
                  json),
              0)
        << said();
    return nlohmann::json::parse(read_bytes(json))["results"];
  };
  const auto check = [](const nlohmann::json& results) {
    ASSERT_EQ(results.size(), 6U);
    for (const auto& result : results) {
      const auto& difference = result["differences"]["initialisation"];
      EXPECT_LE(difference["low"], 0) << result;
      EXPECT_GE(difference["high"], 0) << result;
      EXPECT_EQ(result["draws"]["initialisation"].size(), 3U);
      EXPECT_EQ(result["draws"]["initialisation"][0], result["value"]);  // its own start
      EXPECT_TRUE(result["differences"].contains("published_init"));
      EXPECT_EQ(result["unit"], "instance");
    }
  };
  check(probe(folder_.file("run")));
  EXPECT_NE(said().find("Xavier's"), std::string::npos);
  EXPECT_NE(said().find("the first is the run's step 0"), std::string::npos);
  // Where step 0 is gone it is drawn again from the run's seed: the same weights.
  namespace files = std::filesystem;
  const files::path checkpoints = folder_.path() / "run" / "checkpoints";
  files::rename(checkpoints / "step-00000000", checkpoints / "step-00000001");
  write_bytes((checkpoints / "latest").string(), "step-00000001\n");
  check(probe(folder_.file("run")));
  EXPECT_NE(said().find("the first from the run's seed"), std::string::npos);
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

// What examples/models/README.md says of it, on fewer clips: digits clear of its own start.
TEST_F(ProbeProgram, TheShippedDigitsModelKnowsDigits) {
  const auto make = [&](const std::string& split, int64_t clips, int64_t seed) {
    const std::string out = folder_.file(split + ".h5");
    fs::remove(out);
    return run("--kind digits --split " + split + " --clips " + std::to_string(clips) + " --seed " +
                   std::to_string(seed) + " --out " + out,
               "make_data");
  };
  ASSERT_EQ(make("train", 800, 2), 0) << said();
  ASSERT_EQ(make("validation", 200, 3), 0) << said();
  ASSERT_EQ(make("test", 400, 4), 0) << said();
  const std::string json = folder_.file("shipped.json");
  ASSERT_EQ(run("--weights " + std::string(JEPA_SOURCE_DIR) + "/examples/models/digits" + data() +
                " --labels digit,direction --unit instance --kind linear --control.draws 1" +
                " --precision float32 --json " + json),
            0)
      << said();
  const auto results = nlohmann::json::parse(read_bytes(json))["results"];
  ASSERT_EQ(results.size(), 2U);
  for (const auto& result : results) {
    EXPECT_GT(result["differences"]["initialisation"]["low"].get<double>(), 0.0) << result;
  }
}

}  // namespace
}  // namespace jepa

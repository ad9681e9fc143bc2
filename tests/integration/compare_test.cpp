// The compare program on a person's own clip stores: their labels, no judge, paired differences.
#include "temporary_folder.hpp"

#include <eval/diffusion/generative_model.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/training/process_group.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <sys/wait.h>

namespace jepa {
namespace {

class CompareProgram : public testing::Test {
 protected:
  void SetUp() override {
    write_store("train", 40, 1);
    write_store("probe", 60, 2);
    write_store("validation", 40, 3);
    write_store("test", 40, 4);
  }

  /// Clips of 8 x 32 x 32 grey, bright (class 1) or dark, of some `level`; two share a `scene`.
  void write_store(const std::string& name, int64_t count, uint64_t seed) const {
    torch::manual_seed(seed);
    const auto bright = torch::randint(2, {count}, torch::kInt64);
    const auto level = torch::rand({count}) * 50;
    ClipStoreWriter writer(folder_.file(name + ".h5"), {});
    for (int64_t i = 0; i < count; ++i) {
      const auto pixels =
          (torch::rand({8 * 32 * 32}) * 80 + 100 * bright[i] + level[i]).to(torch::kUInt8);
      RawClip clip{8, 32, 32, 1, {}};
      clip.pixels.assign(pixels.data_ptr<uint8_t>(), pixels.data_ptr<uint8_t>() + pixels.numel());
      writer.append(clip);
    }
    writer.finish(
        {{"bright", bright}, {"level", level}, {"scene", torch::arange(count).div(2, "floor")}});
  }

  int run(const std::string& arguments) const {
    const std::string command = std::string(JEPA_PROGRAMS) +
                                "/compare --config '" JEPA_SOURCE_DIR
                                "/examples/configs/compare_digits.ini' --threads 1 --run '" +
                                folder_.file("run") + "' " + arguments + " > '" +
                                folder_.file("out.txt") + "' 2>&1";
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string said() const { return read_bytes(folder_.file("out.txt")); }

  std::string own_data() const {
    std::string arguments = " --data '" + folder_.file("train.h5") + "'";
    for (const char* split : {"probe", "validation", "test"}) {
      const std::string file = folder_.file(std::string(split) + ".h5");
      arguments += std::string(" --") + split + " '" + file + "'";
    }
    return arguments;
  }

  const std::string small_ =
      " --arms jepa,masked_pixels,random_init --budgets 0.02 --seeds 0,1 --arm.batch 4"
      " --arm.decoder_tera 0.01 --sampler.steps 2 --questions.predicted_clips 8"
      " --questions.futures 2 --questions.horizons 1,4 --film.examples 0"
      " --model.dim 24 --model.depth 1 --encoder.dim 24 --encoder.depth 1 --predictor.dim 24"
      " --predictor.depth 1";
  TemporaryFolder folder_;
};

TEST_F(CompareProgram, TakesOnesOwnStoresAndLabels) {
  ASSERT_EQ(run(small_ + own_data() + " --labels bright,level"), 0) << said();
  EXPECT_NE(said().find("told by pixels and features alone"), std::string::npos) << said();
  const auto summary = nlohmann::json::parse(read_bytes(folder_.file("run/summary.json")));
  std::map<std::string, nlohmann::json> rows;
  for (const auto& row : summary.at("rows")) rows[row.at("arm")] = row.at("results");
  for (const char* arm : {"jepa", "masked_pixels"}) {
    SCOPED_TRACE(arm);
    for (const char* name : {"probe/bright", "probe/level", "future/psnr/h4", "future/ssim/h1",
                             "distance/random_mmd"}) {
      EXPECT_TRUE(rows.at(arm).contains(name)) << name;
    }
    EXPECT_FALSE(rows.at(arm).contains("future/digit"));
  }
  EXPECT_GT(rows.at("random_init").at("probe/bright").at("value"), 0.8);
  EXPECT_TRUE(rows.at("copy_last").contains("future/psnr/h4"));
  EXPECT_FALSE(rows.contains("linear"));  // it takes a judge
  // Every pair that has something in common, each over the seeds that both have.
  std::set<std::string> pairs;
  for (const auto& difference : summary.at("differences")) {
    pairs.insert(std::string(difference.at("arm")) + " " + std::string(difference.at("less")));
    EXPECT_EQ(difference.at("seeds"), 2);
    for (const auto& [name, value] : difference.at("results").items()) {
      EXPECT_LE(value.at("low"), value.at("value")) << name;
      EXPECT_GE(value.at("high"), value.at("value")) << name;
    }
  }
  EXPECT_EQ(pairs, (std::set<std::string>{"jepa masked_pixels", "jepa random_init",
                                          "masked_pixels random_init", "jepa copy_last",
                                          "masked_pixels copy_last"}));
  EXPECT_NE(said().find("jepa less random_init, 0.02 TFLOP, paired:  bright"), std::string::npos);
  // Cells from disk give the same differences.
  ASSERT_EQ(run(small_ + own_data() + " --labels bright,level"), 0) << said();
  const auto again = nlohmann::json::parse(read_bytes(folder_.file("run/summary.json")));
  EXPECT_EQ(again.at("differences"), summary.at("differences"));
  // A decoder finds its JEPA in a folder that was moved.
  std::filesystem::rename(folder_.file("run"), folder_.file("moved"));
  const auto decoder =
      eval::diffusion::GenerativeModel::load(folder_.file("moved/cells/jepa-b0.02-n0-s0/decoder"));
  EXPECT_NE(decoder.jepa(), nullptr);
}

TEST_F(CompareProgram, SharesCellsOverProcesses) {
  if (!has_process_groups()) GTEST_SKIP() << "this LibTorch was built without gloo";
  const std::string asked =
      small_ + own_data() + " --labels bright --arms masked_pixels,random_init";
  ASSERT_EQ(run(asked + " --processes 2"), 0) << said();
  const auto cells = [&] {
    const auto all = nlohmann::json::parse(read_bytes(folder_.file("run/summary.json"))).at("rows");
    std::map<std::string, nlohmann::json> scores;
    for (const auto& row : all) {
      if (row.at("results").contains("probe/bright")) {
        scores[row.at("arm")] = row.at("results").at("probe/bright");
      }
    }
    return scores;
  };
  const auto together = cells();
  EXPECT_EQ(together.size(), 2);
  std::filesystem::remove_all(folder_.file("run"));
  ASSERT_EQ(run(asked), 0) << said();
  EXPECT_EQ(together, cells());
}

TEST_F(CompareProgram, SaysWhatIsWrongWithOnesOwnClips) {
  EXPECT_EQ(run(small_ + own_data() + " --labels colour"), 1);
  EXPECT_NE(said().find("colour"), std::string::npos) << said();
  EXPECT_EQ(run(small_ + own_data()), 2);  // no usual label is there
  EXPECT_NE(said().find("bright"), std::string::npos) << said();
  EXPECT_EQ(run(small_ + " --data '" + folder_.file("train.h5") + "' --labels bright"), 2);
  EXPECT_NE(said().find("option probe"), std::string::npos) << said();
  EXPECT_EQ(run(small_ + own_data() + " --labels bright --noises 0,0.5"), 2);
  EXPECT_NE(said().find("noises"), std::string::npos) << said();
}

TEST_F(CompareProgram, LeavesNothingBehindWhereItRefuses) {
  for (const auto& [option, twice] :
       std::vector<std::pair<std::string, std::string>>{{"seeds", "0"}, {"arms", "random_init"}}) {
    EXPECT_EQ(run(small_ + own_data() + " --labels bright --" + option + " " + twice + "," + twice),
              2);
    EXPECT_NE(said().find("error: option " + option + ": " + twice + " is there twice"),
              std::string::npos)
        << said();
    EXPECT_FALSE(std::filesystem::exists(folder_.file("run")));
  }
  // A folder of `watch --events`.
  std::filesystem::create_directories(folder_.file("run/cells/jepa-s0"));
  const std::string config = "precision = auto\nevents = true\n";
  write_bytes(folder_.file("run/config.ini"), config);
  EXPECT_EQ(run(small_ + own_data() + " --labels bright"), 2);
  EXPECT_NE(said().find("holds the cells of another experiment"), std::string::npos) << said();
  EXPECT_EQ(read_bytes(folder_.file("run/config.ini")), config);
}

TEST_F(CompareProgram, TunesOnValidationWithoutLookingAtTheTestClips) {
  std::filesystem::remove(folder_.file("test.h5"));
  write_store("test", 1, 5);
  ASSERT_EQ(run(small_ + own_data() +
                " --labels bright --questions.report_on validation"
                " --arms random_init"),
            0)
      << said();
  const auto summary = nlohmann::json::parse(read_bytes(folder_.file("run/summary.json")));
  EXPECT_EQ(summary.at("report_on"), "validation");
  EXPECT_NE(read_bytes(folder_.file("run/report.html")).find("VALIDATION"), std::string::npos);
}

}  // namespace
}  // namespace jepa

// Two steps of every recipe: width, depth, clip and batch cut down, everything else as written.
#include "program_test.hpp"
#include "small_recipe.hpp"

#include <jepa/options.hpp>

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

}  // namespace
}  // namespace jepa

// Two steps of every recipe: width, depth, clip and batch cut down, everything else as written.
#include "program_test.hpp"

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

  /// What is cut down of `recipe`, as options.
  static std::vector<std::string> cut(const OptionValues& recipe) {
    const auto has = [&](const std::string& key) { return recipe.contains(key); };
    const auto value = [&](const std::string& key) {
      return has(key) ? recipe.at(key) : std::string();
    };
    std::vector<std::string> options{"--loader.batch", "4", "--loader.threads", "1",
                                     "--encoder.preset", "custom", "--encoder.dim", "48",
                                     "--encoder.depth", "4", "--encoder.heads", "2",
                                     "--predictor.dim", "48", "--predictor.depth", "2",
                                     "--training.steps", "2"};
    const auto add = [&](const std::string& key, const std::string& text) {
      options.push_back("--" + key);
      options.push_back(text);
    };
    if (value("predictor.heads") != "0") add("predictor.heads", "2");
    if (has("encoder.output_levels")) add("encoder.output_levels", "0,1,2,3");
    if (has("predictor.embed_hidden")) add("predictor.embed_hidden", "64");
    if (has("optimisation.accumulate")) add("optimisation.accumulate", "2");
    const bool image = value("clip.frames") == "1";
    if (has("clip.frames") && !image) {
      add("clip.frames", "4");
      add("encoder.frames", "4");
    }
    if (has("clip.fps")) {
      add("clip.fps", "0");
    }
    if (has("augment.size")) {
      const std::string size = value("encoder.patch") == "14" ? "84" : "96";
      add("augment.size", size);
      add("encoder.height", size);
      add("encoder.width", size);
    }
    if (has("encoder.pixel_mean") && value("encoder.pixel_mean").find(',') != std::string::npos) {
      add("encoder.pixel_mean", "127.5");  // the digits have one channel
      add("encoder.pixel_std", "63.75");
    }
    return options;
  }
};

TEST_F(Recipes, TakeTwoSteps) {
  make_store("small.h5", "8", "32");
  make_store("large.h5", "16", "96");
  int count = 0;
  for (const auto& entry :
       fs::directory_iterator(std::string(JEPA_SOURCE_DIR) + "/examples/configs")) {
    const std::string file = entry.path().filename();
    if (!file.ends_with(".ini") || file.ends_with("_data.ini") || file.starts_with("compare") ||
        file.starts_with("diffusion") || file.starts_with("scale") ||
        file.find("two_rooms") != std::string::npos) {
      continue;
    }
    if (file.starts_with("ha_")) continue;  // of the program dream
    SCOPED_TRACE(file);
    const OptionValues recipe = read_ini(entry.path());
    std::vector<std::string> arguments{"--config", entry.path()};
    for (const auto& option : cut(recipe)) arguments.push_back(option);
    const bool published = recipe.contains("augment.size");
    arguments.insert(arguments.end(), {"--data", path(published ? "large.h5" : "small.h5"), "--run",
                                       path("run_" + file)});
    if (file == "footage.ini") arguments.insert(arguments.end(), {"--probe.labels", ""});
    EXPECT_EQ(run("pretrain", arguments), 0) << said();
    const std::string log = read_bytes(path("run_" + file) + "/metrics.jsonl");
    EXPECT_NE(log.find("\"step\":2"), std::string::npos);
    ++count;
  }
  EXPECT_GE(count, 10);
}

}  // namespace
}  // namespace jepa

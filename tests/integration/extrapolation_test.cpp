// Creatures, balls and scale as the program compare runs them, as small as they can be: every
// question is asked of every arm, and a run that was killed goes on.
#include "program_test.hpp"

#include <nlohmann/json.hpp>

#include <chrono>
#include <csignal>
#include <map>
#include <thread>

namespace jepa {
namespace {

class Extrapolation : public ProgramTest {
 protected:
  std::vector<std::string> quick(const std::string& config) const {
    return {"--config", std::string(JEPA_SOURCE_DIR) + "/examples/configs/" + config,
            "--quick",  "--threads",
            "1",        "--film.examples",
            "0",        "--run",
            path("run")};
  }
  nlohmann::json summary() const {
    return nlohmann::json::parse(read_bytes(path("run/summary.json")));
  }
  std::map<std::string, nlohmann::json> rows() const {
    std::map<std::string, nlohmann::json> all;
    const auto read = summary();
    for (const auto& row : read.at("rows")) all[row.at("arm")] = row.at("results");
    return all;
  }
};

TEST_F(Extrapolation, CountsLegsOfEveryArm) {
  ASSERT_EQ(run("compare", quick("compare_creatures.ini")), 0) << said();
  const auto by_arm = rows();
  // How far the judge can be trusted: not at all, after so few steps.
  const auto judge = summary().at("judges").at(0);
  EXPECT_EQ(judge.at("label"), "legs");
  EXPECT_EQ(judge.at("clips"), 60);
  EXPECT_FALSE(judge.at("trusted"));
  EXPECT_NE(said().find("says little"), std::string::npos) << said();
  EXPECT_TRUE(by_arm.at("jepa").contains("shift/combination/attentive/legs"));
  for (const char* arm : {"jepa", "pixels", "latents", "masked_pixels", "random_init"}) {
    SCOPED_TRACE(arm);
    for (const char* range : {"", "shift/combination/", "shift/longer/"}) {
      EXPECT_TRUE(by_arm.at(arm).contains(std::string(range) + "probe/legs")) << range;
    }
  }
  for (const char* arm : {"jepa", "pixels", "latents", "masked_pixels", "frozen_random", "truth"}) {
    SCOPED_TRACE(arm);
    for (const char* range : {"future/", "shift/combination/future/", "shift/longer/future/"}) {
      const auto& results = by_arm.at(arm);
      EXPECT_TRUE(results.contains(std::string(range) + "legs")) << range;
      const auto share = [&](const char* pair) {
        const auto found = results.find(std::string(range) + "read/" + pair);
        return found == results.end() ? 0.0 : found->at("value").get<double>();
      };
      EXPECT_NEAR(share("6as6") + share("6as8") + share("6asother"), 1, 1e-9) << range;
    }
  }
  for (const char* arm : {"pixels", "latents"}) {
    EXPECT_TRUE(by_arm.at(arm).contains("prompted/in/legs")) << arm;
    EXPECT_TRUE(by_arm.at(arm).contains("prompted/combination/legs")) << arm;
  }
  EXPECT_FALSE(by_arm.at("jepa").contains("prompted/in/legs"));
  EXPECT_NE(read_bytes(path("run/section.html")).find("Outside the range"), std::string::npos);
}

TEST_F(Extrapolation, AsksBallsNearAndFarAndGoesOnAfterAKill) {
  auto arguments = quick("compare_balls.ini");
  arguments.insert(arguments.end(), {"--arms", "jepa,masked_pixels,random_init"});
  const pid_t child = fork();
  if (child == 0) {
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(99);
    if (std::freopen("/dev/null", "w", stdout) == nullptr) _exit(99);
    const std::string file = std::string(JEPA_PROGRAMS) + "/compare";
    std::vector<const char*> argv{file.c_str()};
    for (const auto& argument : arguments) argv.push_back(argument.c_str());
    argv.push_back(nullptr);
    execv(file.c_str(), const_cast<char* const*>(argv.data()));
    _exit(98);
  }
  // Killed once a cell is done.
  const auto finished = [&] {
    for (const char* arm : {"jepa-b0.03", "masked_pixels-b0.03", "random_init-b0"}) {
      if (fs::exists(path("run/cells/") + arm + "-n0-s0/cell.json")) return true;
    }
    return false;
  };
  for (int i = 0; i < 3000 && !finished(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  ASSERT_TRUE(finished());
  EXPECT_FALSE(fs::exists(path("run/summary.json")));
  ASSERT_EQ(run("compare", arguments), 0) << said();
  const auto by_arm = rows();
  for (const char* factor : {"count", "gravity", "restitution", "radius", "speed"}) {
    for (const char* level : {"_near", "_far"}) {
      const std::string shift = std::string("shift/") + factor + level;
      EXPECT_TRUE(by_arm.at("jepa").contains(shift + "/future/skill")) << shift;
      EXPECT_TRUE(by_arm.at("random_init").contains(shift + "/probe/position")) << shift;
      EXPECT_TRUE(by_arm.at("truth").contains(shift + "/future/position_error")) << shift;
    }
  }
  EXPECT_TRUE(by_arm.at("masked_pixels").contains("shift/horizon_far/future/skill/h50"));
  EXPECT_TRUE(by_arm.at("copy_last").contains("shift/horizon_near/future/position_error/h20"));
}

TEST_F(Extrapolation, FitsErrorsOverCompute) {
  auto arguments = quick("scale_digits.ini");
  arguments.insert(arguments.end(), {"--arms", "jepa,masked_pixels"});
  ASSERT_EQ(run("compare", arguments), 0) << said();
  const auto scale = summary().at("scale");
  std::set<std::string> arms;
  for (const auto& curve : scale) {
    arms.insert(curve.at("arm"));
    ASSERT_EQ(curve.at("points").size(), 2U);
    EXPECT_EQ(curve.at("points")[0].at("sizes").size(), 2U);
    const auto& slope = curve.at("slope");
    EXPECT_LE(slope.at("low").get<double>(), slope.at("high").get<double>());
  }
  EXPECT_EQ(arms, (std::set<std::string>{"jepa", "masked_pixels"}));
  EXPECT_TRUE(fs::exists(path("run/scale_probe_digit.svg")));
}

}  // namespace
}  // namespace jepa

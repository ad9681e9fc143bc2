// The surprise program: a quick run, what it writes, and that it goes on where it was cut off.
#include "temporary_folder.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>

namespace jepa {
namespace {

namespace fs = std::filesystem;

class SurpriseProgram : public testing::Test {
 protected:
  /// @param before such as `timeout`
  int run(const std::string& arguments, const std::string& before = "") const {
    const std::string command =
        before + " " JEPA_PROGRAMS "/surprise --config '" JEPA_SOURCE_DIR
        "/examples/configs/surprise_balls.ini' --quick --threads 1 --run '" + folder_.file("run") +
        "' " + arguments + " > '" + folder_.file("out.txt") + "' 2>&1";
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string said() const { return read_bytes(folder_.file("out.txt")); }
  std::string in_run(const std::string& name) const { return folder_.file("run/" + name); }

  TemporaryFolder folder_;
};

TEST_F(SurpriseProgram, GoesOnAfterBeingKilledAndWritesItsReport) {
  // Killed while it trains or scores, wherever that is.
  EXPECT_NE(run("--arms jepa,pixels", "timeout -s KILL 8"), 0);
  ASSERT_EQ(run("--arms jepa,pixels"), 0) << said();
  const auto summary = nlohmann::json::parse(read_bytes(in_run("summary.json")));
  ASSERT_EQ(summary.at("rows").size(), 5u);  // two arms and three controls
  EXPECT_EQ(summary.at("rows")[0].at("arm"), "jepa");
  const auto& relative = summary.at("rows")[0].at("metrics").at("relative");
  EXPECT_EQ(relative.size(), 13u);  // twelve rules and all of them
  EXPECT_TRUE(fs::exists(in_run("surprise.mp4")));
  EXPECT_NE(read_bytes(in_run("report.html")).find("untrained"), std::string::npos);

  // What is there is not done again; what was lost is, and comes out the same.
  const std::string kept = in_run("cells/jepa-s0/test-c6-hoop.safetensors");
  const std::string lost = in_run("cells/pixels-s0/test-c6-candle.safetensors");
  const auto time = fs::last_write_time(kept);
  const std::string before = read_bytes(lost);
  fs::remove(lost);
  ASSERT_EQ(run("--arms jepa,pixels"), 0) << said();
  EXPECT_EQ(fs::last_write_time(kept), time);
  EXPECT_EQ(read_bytes(lost), before);

  EXPECT_EQ(run("--arms jepa,pixels --world.side 64"), 2);  // another run
  EXPECT_NE(said().find("world.side"), std::string::npos) << said();
}

}  // namespace
}  // namespace jepa

// What a grid of cells is asked for, and whose cells a folder holds.
#include "temporary_folder.hpp"

#include <eval/comparison/grid.hpp>
#include <eval/comparison/own_cells.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <filesystem>

namespace jepa::eval::comparison {
namespace {

TEST(Grid, NoCellCountsAsTwo) {
  const auto said = [](const auto& change) {
    ComparisonOptions options;
    options.arms = "jepa,random_init";
    options.questions.world = "digits";
    change(options);
    return message_of<ConfigError>([&] { plan_cells(options); });
  };
  EXPECT_EQ(said([](ComparisonOptions&) {}), "");
  EXPECT_EQ(said([](ComparisonOptions& o) { o.arms = "random_init,jepa,random_init"; }),
            "option arms: random_init is there twice");
  EXPECT_EQ(said([](ComparisonOptions& o) {
              o.seeds = {0, 1, 0};
            }),
            "option seeds: 0 is there twice");
  // As folders are called: these two would be one.
  EXPECT_EQ(said([](ComparisonOptions& o) {
              o.budgets = {0.5, 0.50000001};
            }),
            "option budgets: 0.5 is there twice");
  EXPECT_EQ(said([](ComparisonOptions& o) {
              o.noises = {0.3, 0.3};
            }),
            "option noises: 0.3 is there twice");
  EXPECT_EQ(said([](ComparisonOptions& o) {
              o.widths = {96, 96};
            }),
            "option widths: 96 is there twice");
}

TEST(Grid, KnowsWhoseCellsAFolderHolds) {
  const TemporaryFolder folder;
  const std::string run = folder.file("run");
  const auto refused = [&](const std::string& asked, const std::string& not_asked = "") {
    return !message_of<ConfigError>([&] {
              require_own_cells("run", run, asked, not_asked);
            }).empty();
  };
  EXPECT_FALSE(refused("budgets"));
  std::filesystem::create_directories(run + "/cells");
  EXPECT_TRUE(refused("budgets"));
  write_bytes(run + "/config.ini", "budgets = 0\nevents = false\nbenchmark =\n");
  EXPECT_FALSE(refused("budgets"));
  EXPECT_FALSE(refused("budgets", "benchmark"));
  EXPECT_TRUE(refused("events"));
  EXPECT_TRUE(refused("light_share", "benchmark"));
  write_bytes(run + "/config.ini", "light_share = 0.25\nbenchmark = intphys\n");
  EXPECT_FALSE(refused("benchmark"));
  EXPECT_TRUE(refused("light_share", "benchmark"));
}

TEST(Grid, KnowsSharesByTheirNames) {
  const auto column = torch::arange(6);
  const auto mean = probes::UnitScores::of_values(torch::rand({6}, torch::kFloat64), column, 6);
  const probes::UnitScores quantity(torch::rand({6, 1}), torch::rand({6, 1}), column, 6);
  const Scores scores{{"probe/digit", mean}, {"probe/velocity", quantity}};
  for (const char* name :
       {"probe/digit", "future/digit", "future/coverage/h4", "shift/horizon_far/future/direction",
        "ceiling/legs", "prompted/in/read/6as8", "future/read/6asother"}) {
    EXPECT_TRUE(is_share(name, scores)) << name;
  }
  for (const char* name :
       {"probe/velocity", "future/position_error/h4", "future/psnr/h1", "future/energy/h2",
        "distance/judge_mmd", "cost/train_tflop", "shift/horizon_far/future/skill/h2"}) {
    EXPECT_FALSE(is_share(name, scores)) << name;
  }
}

TEST(Grid, IntervalsOfSharesEndWhereSharesDo) {
  // Two seeds that differ: Student's t of one degree of freedom is 12.7.
  std::vector<CellRecord> cells;
  const auto add = [&](const std::string& arm, int64_t seed, double value) {
    CellRecord cell{.arm = arm, .tera = 1, .seed = seed};
    for (const char* name : {"future/digit", "future/position_error"}) {
      const auto values = torch::full({10}, value, torch::kFloat64);
      cell.scores.insert_or_assign(name,
                                   probes::UnitScores::of_values(values, torch::arange(10), 10));
      cell.results[name] = {value, value, value};
    }
    cells.push_back(std::move(cell));
  };
  add("jepa", 0, 0.3);
  add("jepa", 1, 0.8);
  add("pixels", 0, 0.7);
  add("pixels", 1, 0.2);
  const auto row = summarise(cells).front().results;
  EXPECT_EQ(row.at("future/digit").low, 0);
  EXPECT_EQ(row.at("future/digit").high, 1);
  EXPECT_LT(row.at("future/position_error").low, -1);
  EXPECT_GT(row.at("future/position_error").high, 2);
  const auto less = paired_differences(cells).front().results;
  EXPECT_EQ(less.at("future/digit").low, -1);
  EXPECT_EQ(less.at("future/digit").high, 1);
  EXPECT_LT(less.at("future/position_error").low, -2);
  EXPECT_GT(less.at("future/position_error").high, 2);
}

}  // namespace
}  // namespace jepa::eval::comparison

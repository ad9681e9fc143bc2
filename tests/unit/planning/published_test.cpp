#include "temporary_folder.hpp"

#include <eval/planning/eb_jepa.hpp>
#include <eval/planning/le_world_model.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>
#include <fstream>
#include <functional>

namespace jepa::eval::planning {
namespace {

std::string fixture(const std::string& name) {
  return std::string(JEPA_TEST_FIXTURES) + "/" + name;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "";
}

TEST(Published, EbJepaRollsOut) {
  auto model = load_eb_jepa(fixture("ebjepa_checkpoint.pth.tar"), 17, 17);
  const torch::NoGradGuard no_grad;
  const auto start = model.encode(torch::rand({3, 2, 17, 17})).unsqueeze(1);
  EXPECT_EQ(model.rollout(start, {}, torch::randn({3, 4, 2})).size(1), 4);
  EXPECT_FALSE(model.inverse.is_empty());
}

TEST(Published, WrongFilesAreNamed) {
  EXPECT_NE(message_of([] { load_eb_jepa(fixture("vjepa2_checkpoint.pt")); }).find("is missing"),
            std::string::npos);
  // Frames of another size need another first matrix.
  EXPECT_NE(message_of([] { load_eb_jepa(fixture("ebjepa_checkpoint.pth.tar"), 65, 65); })
                .find("mlp.weight"),
            std::string::npos);
  EXPECT_NE(message_of([] { load_le_world_model(fixture("ebjepa_checkpoint.pth.tar")); })
                .find("config.json"),
            std::string::npos);
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  EXPECT_NE(message_of([&] { load_le_world_model(folder); }).find("weights.pt"),
            std::string::npos);
  std::filesystem::copy_file(fixture("lewm_checkpoint/weights.pt"), folder + "/weights.pt");
  std::ofstream(folder + "/config.json") << "{\"predictor\": {}}";
  EXPECT_NE(message_of([&] { load_le_world_model(folder); }).find("predictor.heads"),
            std::string::npos);
}

TEST(Published, ActionsOfAnotherWidthAreRefused) {
  auto model = load_le_world_model(fixture("lewm_checkpoint"));
  const torch::NoGradGuard no_grad;
  const auto latents = torch::randn({2, 24});
  const auto costs =
      goal_costs(model, latents.unsqueeze(1), {}, latents, le_world_model_cost());
  EXPECT_THROW(costs(torch::zeros({2, 3, 5, 2})), DataError);
  EXPECT_EQ(costs(torch::zeros({2, 3, 5, 6})).sizes(), (std::vector<int64_t>{2, 3}));
}

}  // namespace
}  // namespace jepa::eval::planning

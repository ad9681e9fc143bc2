#include "temporary_folder.hpp"

#include <eval/planning/eb_jepa.hpp>
#include <eval/planning/le_world_model.hpp>
#include <eval/planning/published.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/nn/init.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
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
  EXPECT_NE(message_of([] {
              load_eb_jepa(fixture("ebjepa_checkpoint.pth.tar"), 65, 65);
            }).find("mlp.weight"),
            std::string::npos);
  EXPECT_NE(message_of([] {
              load_le_world_model(fixture("ebjepa_checkpoint.pth.tar"));
            }).find("config.json"),
            std::string::npos);
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  EXPECT_NE(message_of([&] { load_le_world_model(folder); }).find("weights.pt"), std::string::npos);
  std::filesystem::copy_file(fixture("lewm_checkpoint/weights.pt"), folder + "/weights.pt");
  std::ofstream(folder + "/config.json") << "{\"predictor\": {}}";
  EXPECT_NE(message_of([&] { load_le_world_model(folder); }).find("predictor.heads"),
            std::string::npos);
}

TEST(Published, ActionsOfAnotherWidthAreRefused) {
  auto model = load_le_world_model(fixture("lewm_checkpoint"));
  const torch::NoGradGuard no_grad;
  const auto latents = torch::randn({2, 24});
  const auto costs = goal_costs(model, latents.unsqueeze(1), {}, latents, le_world_model_cost());
  EXPECT_THROW(costs(torch::zeros({2, 3, 5, 2})), DataError);
  EXPECT_EQ(costs(torch::zeros({2, 3, 5, 6})).sizes(), (std::vector<int64_t>{2, 3}));
}

// Windows run whole at each step, as published.
torch::Tensor run_again(LeWorldModel& model, const torch::Tensor& past,
                        const torch::Tensor& actions) {
  const int64_t known = past.size(1), window = model.options.predictor.frames;
  const auto embedded = model.action_encoder->forward(actions);
  auto latents = past;
  for (int64_t end = known; end <= actions.size(1); ++end) {
    const int64_t length = std::min(window, end);
    const auto next = model.predict(latents.narrow(1, end - length, length),
                                    embedded.narrow(1, end - length, length));
    latents = torch::cat({latents, next.narrow(1, length - 1, 1)}, 1);
  }
  return latents.narrow(1, known, latents.size(1) - known);
}

TEST(Published, LeWorldModelRollsOutAsWindowByWindow) {
  auto fixture_model = load_le_world_model(fixture("lewm_checkpoint"));
  // Heads of 16 numbers take the kernel for short windows.
  LeWorldModelOptions wide;
  wide.encoder = fixture_model.options.encoder;
  wide.predictor = {.dim = 24, .depth = 3, .heads = 2, .head_dim = 16, .mlp_hidden = 40};
  wide.action_width = 6;
  LeWorldModel other(wide);
  for (const auto& [name, module] : other.modules()) {
    for (auto& p : module->parameters()) torch::nn::init::normal_(p, 0, 0.3);
    for (auto& b : module->buffers()) {
      if (b.is_floating_point()) b.fill_(1);
    }
  }
  other.train(false);
  const torch::NoGradGuard no_grad;
  for (LeWorldModel* model : {&fixture_model, &other}) {
    for (const int64_t known : {1, 2, 3, 5}) {
      const auto past = torch::randn({150, known, 24});
      const auto before = known > 1 ? torch::randn({150, known - 1, 6}) : torch::Tensor();
      const auto actions = torch::randn({150, 5, 6});
      const auto all = known > 1 ? torch::cat({before, actions}, 1) : actions;
      const auto expected = run_again(*model, past, all);
      const auto got = model->rollout(past, before, actions);
      EXPECT_LT((got - expected).abs().max().item<double>(),
                1e-5 * expected.abs().max().item<double>())
          << known;
    }
  }
}

TEST(Published, CheckpointsActInWorldsThatFit) {
  const torch::NoGradGuard no_grad;
  const auto frames = [](int64_t channels, int64_t side) {
    return torch::randint(256, {2, channels, side, side}, torch::kUInt8);
  };
  auto jepa = open_published(fixture("ebjepa_checkpoint.pth.tar"), {"small", {2, 17, 17}, 2});
  EXPECT_EQ(jepa.kind, "eb_jepa");
  EXPECT_EQ(jepa.block, 1);
  const auto past = jepa.model->encode(frames(2, 17)).unsqueeze(1);
  EXPECT_EQ(jepa.model->rollout(past, {}, torch::randn({2, 4, 2})).size(1), 4);

  auto lewm = open_published(fixture("lewm_checkpoint"), {"push", {3, 96, 96}, 2});
  EXPECT_EQ(lewm.kind, "lewm");
  EXPECT_EQ(lewm.block, 3);  // 6 numbers, 2 a step
  EXPECT_EQ(lewm.longest_history, 3);
  EXPECT_FALSE(lewm.horizon.hold);
  EXPECT_EQ(lewm.model->encode(frames(3, 96)).sizes(), at::IntArrayRef({2, 24}));

  const auto refusal = [](const std::string& name, const ActedWorld& world) {
    return message_of([&] { open_published(fixture(name), world); });
  };
  const std::string jepa_file = "ebjepa_checkpoint.pth.tar";
  EXPECT_NE(refusal(jepa_file, {"rooms", {2, 17, 17}, 3}).find("takes actions of 2 numbers"),
            std::string::npos);
  EXPECT_NE(refusal(jepa_file, {"rooms", {3, 17, 17}, 2}).find("takes frames of 2 channels"),
            std::string::npos);
  EXPECT_NE(refusal(jepa_file, {"rooms", {2, 65, 65}, 2}).find("mlp.weight"), std::string::npos);
  EXPECT_NE(refusal("lewm_checkpoint", {"arm", {3, 96, 96}, 4}).find("blocks of 6 numbers"),
            std::string::npos);
  EXPECT_NE(refusal("lewm_checkpoint", {"rooms", {2, 65, 65}, 2}).find("3 channels"),
            std::string::npos);
  EXPECT_NE(refusal("nothing", {"rooms", {2, 65, 65}, 2}).find("no such file"), std::string::npos);
}

}  // namespace
}  // namespace jepa::eval::planning

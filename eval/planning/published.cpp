#include <eval/planning/eb_jepa.hpp>
#include <eval/planning/le_world_model.hpp>
#include <eval/planning/published.hpp>
#include <eval/worlds/two_rooms.hpp>
#include <jepa/errors.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <filesystem>
#include <functional>

namespace jepa::eval::planning {
namespace {

namespace fs = std::filesystem;

// A model behind what prepares frames for it.
class Prepared : public WorldModel {
 public:
  Prepared(std::unique_ptr<WorldModel> model,
           std::function<torch::Tensor(const torch::Tensor&)> prepare)
      : model_(std::move(model)), prepare_(std::move(prepare)) {}

  torch::Tensor encode(const torch::Tensor& frames) override {
    return model_->encode(prepare_(frames));
  }
  torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor& past_actions,
                        const torch::Tensor& actions) override {
    return model_->rollout(past, past_actions, actions);
  }
  int64_t action_width() const override { return model_->action_width(); }

 private:
  std::unique_ptr<WorldModel> model_;
  std::function<torch::Tensor(const torch::Tensor&)> prepare_;
};

// LeWorldModel's: [0, 1], ImageNet's statistics, then the size.
torch::Tensor imagenet_frames(const torch::Tensor& frames, int64_t size) {
  const auto statistics = [](double r, double g, double b) {
    return torch::tensor({r, g, b}, torch::kFloat32).view({1, 3, 1, 1});
  };
  const auto x = (frames.to(torch::kFloat32) / 255 - statistics(0.485, 0.456, 0.406)) /
                 statistics(0.229, 0.224, 0.225);
  if (x.size(2) == size && x.size(3) == size) return x;
  return at::_upsample_bilinear2d_aa(x, {size, size}, /*align_corners=*/false);
}

void check_channels(const std::string& path, int64_t takes, const ActedWorld& world) {
  if (takes == world.frame.at(0)) return;
  throw CheckpointError(c10::str(path, ": takes frames of ", takes, " channels, ", world.name,
                                 "'s have ", world.frame.at(0)));
}

PublishedModel open_eb_jepa(const std::string& path, const ActedWorld& world) {
  auto model = std::make_unique<EbJepa>(load_eb_jepa(path, world.frame.at(1), world.frame.at(2)));
  check_channels(path, model->encoder->options().channels, world);
  if (model->action_width() != world.action_width) {
    throw CheckpointError(c10::str(path, ": takes actions of ", model->action_width(), " numbers, ",
                                   world.name, "'s have ", world.action_width));
  }
  PublishedModel published;
  published.model = std::make_unique<Prepared>(std::move(model), worlds::normalise_two_rooms);
  published.kind = "eb_jepa";
  published.variant = "eb_jepa";
  published.longest_step = cem_variant(published.variant).max_norm;
  published.horizon = {.horizon = 90, .block = 1, .execute = 1, .warm_start = false};
  published.cost = {.over_time = "sum", .include_start = true};
  return published;
}

PublishedModel open_le_world_model(const std::string& path, const ActedWorld& world) {
  auto model = std::make_unique<LeWorldModel>(load_le_world_model(path));
  const auto o = model->options;
  check_channels(path, o.encoder.channels, world);
  if (o.action_width % world.action_width != 0) {
    throw CheckpointError(c10::str(path, ": takes blocks of ", o.action_width, " numbers, which ",
                                   world.name, "'s actions of ", world.action_width,
                                   " do not divide"));
  }
  PublishedModel published;
  const int64_t size = o.encoder.size;
  published.model = std::make_unique<Prepared>(
      std::move(model), [size](const torch::Tensor& x) { return imagenet_frames(x, size); });
  published.kind = "lewm";
  published.block = o.action_width / world.action_width;
  published.longest_history = o.predictor.frames;
  published.variant = "lewm";
  published.horizon = {
      .horizon = 5, .block = published.block, .hold = false, .execute = 5, .warm_start = false};
  published.cost = le_world_model_cost();
  return published;
}

}  // namespace

PublishedModel open_published(const std::string& path, const ActedWorld& world) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) throw CheckpointError(path + ": no such file");
  const bool folder = fs::is_directory(path, ignored);
  if (folder || fs::exists(fs::path(path).parent_path() / "config.json", ignored)) {
    return open_le_world_model(path, world);
  }
  return open_eb_jepa(path, world);
}

}  // namespace jepa::eval::planning

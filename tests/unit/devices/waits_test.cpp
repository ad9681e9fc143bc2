// How often the host waits for the device in a step: once, to read what was measured.
#include "counting_device.hpp"
#include "tiny_recipe.hpp"

#include <encoders/registry.hpp>
#include <eval/diffusion/autoencoder.hpp>
#include <eval/diffusion/training.hpp>
#include <eval/dynamics/training.hpp>
#include <eval/dynamics/two_rooms_clips.hpp>
#include <eval/training/recipe.hpp>
#include <jepa/generator.hpp>
#include <jepa/training/pretraining.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa {
namespace {

using Waits = std::map<std::string, int>;
using Texts = std::map<std::string, std::string>;

Waits reads(int count) { return {{"copy to the host", count}}; }

ClipBatch some_clips(int64_t count, int64_t frames, int64_t size) {
  auto generator = seeded_generator(1);
  return {.clips = torch::randint(0, 256, {count, 1, frames, size, size}, generator, torch::kUInt8),
          .indices = torch::arange(count)};
}

/// Of the second step: the first one fills tables.
Waits waits_of_a_step(TrainingTask& task, const ClipBatch& batch) {
  Texts texts;
  task.step(batch, /*watched=*/false, texts);
  take_waits();
  task.step(batch, /*watched=*/false, texts);
  return take_waits();
}

TEST(CountingDevice, Counts) {
  const auto x = torch::ones({3}).to(kCountingDevice);
  EXPECT_EQ(take_waits(), (Waits{{"blocking copy to the device", 1}}));
  torch::ones({3}).to(kCountingDevice, /*non_blocking=*/true);
  auto y = (2 * x).requires_grad_();
  (y * y).sum().backward();
  EXPECT_EQ(take_waits(), Waits{});
  EXPECT_EQ(y.grad().sum().item<float>(), 12);
  EXPECT_EQ(take_waits(), (Waits{{"aten::_local_scalar_dense", 1}}));
  x.gt(0).nonzero();
  x.cpu();
  EXPECT_EQ(take_waits(), (Waits{{"aten::nonzero", 1}, {"copy to the host", 1}}));
}

class MaskedPredictionStep : public testing::TestWithParam<std::string> {};

TEST_P(MaskedPredictionStep, WaitsOnce) {
  eval::training::Recipe recipe = tiny_recipe();
  recipe.optimisation.clip_gradient = 1;
  const std::string kind = GetParam();
  if (kind == "accumulate") recipe.optimisation.accumulate = 2;
  if (kind == "vicreg" || kind == "sigreg") recipe.objective.regulariser.kind = kind;
  if (kind == "content") recipe.objective.target_norm = "content";
  if (kind == "sincos") {
    recipe.encoder.vit.positions = "sincos";
    recipe.predictor.masked.positions = "sincos";
  }
  if (kind == "agreement") {
    recipe.objective.agreement.weight = 0.1;
    recipe.objective.agreement.width = 16;
  }
  recipe = recipe.fitted({1, 1, 4, 16, 16});
  Trainer trainer = recipe.make_trainer(3, kCountingDevice, torch::kFloat32);
  const MaskSamplers samplers = recipe.samplers();
  MaskedPrediction task(trainer, samplers, {});
  EXPECT_EQ(waits_of_a_step(task, some_clips(4, 4, 16)), reads(1));
}

INSTANTIATE_TEST_SUITE_P(Recipes, MaskedPredictionStep,
                         testing::Values("plain", "sincos", "accumulate", "vicreg", "sigreg",
                                         "content", "agreement"),
                         [](const auto& info) { return info.param; });

TEST(DiffusionStep, WaitsOnce) {
  using namespace eval::diffusion;
  const DiffusionTransformerOptions options{
      .dim = 32, .depth = 1, .heads = 2, .tubelet = 2, .patch = 8, .words = 5};
  DiffusionTransformer model(options), average(options);
  for (auto* each : {&model, &average}) {
    (*each)->initialise(seeded_generator(1));
    (*each)->to(kCountingDevice);
  }
  const auto prepare = [](const ClipBatch& batch, int64_t) {
    return DiffusionTask::Example{
        to_unit_range(batch.clips, kCountingDevice),
        Condition{torch::zeros({batch.size(), 3}, torch::kInt64), {}}.to(kCountingDevice)};
  };
  DiffusionTask task(model, average, {}, {.total_steps = 10, .clip_gradient = 1, .accumulate = 2},
                     0, prepare, {});
  EXPECT_EQ(waits_of_a_step(task, some_clips(4, 8, 16)), reads(1));
}

TEST(AutoencoderStep, WaitsOnce) {
  using namespace eval::diffusion;
  Autoencoder model(AutoencoderOptions{.width = 4, .latent_channels = 2});
  model->initialise(seeded_generator(1));
  model->to(kCountingDevice);
  AutoencoderTask task(model, {.total_steps = 10}, 0, {});
  EXPECT_EQ(waits_of_a_step(task, some_clips(2, 4, 16)), reads(1));
}

TEST(DynamicsStep, WaitsOnceAnUpdate) {
  using namespace eval::dynamics;
  ModelOptions shape;
  shape.encoder = {.channels = 2,
                   .height = 65,
                   .width = 65,
                   .widths = {4},
                   .kernels = {7},
                   .strides = {4},
                   .dim = 6};
  shape.action_width = 2;
  shape.inverse_hidden = 8;
  DynamicsModel model(shape, {.hidden = 16, .layers = 1});
  model.initialise(1);
  model.encoder->to(kCountingDevice);
  model.predictor->to(kCountingDevice);
  model.inverse->to(kCountingDevice);
  DynamicsTrainingOptions options;
  options.weights.sigreg = 1;
  options.second = {.from_step = 2,
                    .predictor = {.hidden = 8, .layers = 1},
                    .updates = 3,
                    .batch = 4,
                    .buffer = 20};
  DynamicsTask task(model, options, {});
  const LoaderOptions loader{.batch = 4, .threads = 0, .shuffle = false};
  const auto source = std::make_shared<TwoRoomsClips>(TwoRoomsClipOptions{.frames = 4});
  const ClipBatch batch = ClipLoader(source, loader, 1).next();
  EXPECT_EQ(waits_of_a_step(task, batch), reads(1));
  EXPECT_EQ(waits_of_a_step(task, batch), reads(3));
  EXPECT_TRUE(task.second_phase());
}

}  // namespace
}  // namespace jepa

#include "operation_counter.hpp"
#include "temporary_folder.hpp"

#include <eval/diffusion/autoencoder.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/safetensors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <filesystem>

namespace jepa::eval::diffusion {
namespace {

AutoencoderOptions tiny_autoencoder() {
  return {.channels = 1, .width = 8, .halvings = 2, .latent_channels = 4};
}

Autoencoder fresh_autoencoder(const AutoencoderOptions& options = tiny_autoencoder()) {
  Autoencoder model(options);
  model->initialise(seeded_generator(1));
  return model;
}

/// Bright squares on black.
ClipBatch squares(int64_t count) {
  auto clips = torch::zeros({count, 1, 4, 16, 16}, torch::kUInt8);
  for (int64_t i = 0; i < count; ++i) {
    clips[i].narrow(2, i * 3 % 9, 6).narrow(3, i * 5 % 9, 6).fill_(220);
  }
  return {clips, torch::arange(count)};
}

AutoencoderTask task(const Autoencoder& model) {
  OptimisationOptions optimisation{.schedule = "constant", .total_steps = 100, .lr = 5e-3};
  return AutoencoderTask(model, optimisation, 3, squares(8).clips);
}

std::map<std::string, std::string> texts;

TEST(Autoencoder, HalvesTimeAndSides) {
  const torch::NoGradGuard no_grad;
  auto model = fresh_autoencoder();
  for (const auto& sizes : std::vector<std::vector<int64_t>>{{2, 1, 4, 16, 16}, {1, 1, 8, 8, 24}}) {
    const auto latents = model->encode(torch::randn(sizes));
    EXPECT_EQ(latents.sizes(),
              (std::vector<int64_t>{sizes[0], 4, sizes[2] / 2, sizes[3] / 4, sizes[4] / 4}));
    EXPECT_EQ(model->decode(latents).sizes(), sizes);
  }
  EXPECT_THROW(model->encode(torch::zeros({1, 1, 3, 16, 16})), DataError);
  EXPECT_THROW(model->encode(torch::zeros({1, 1, 4, 16, 14})), DataError);
  EXPECT_THROW(model->encode(torch::zeros({1, 3, 4, 16, 16})), DataError);
  EXPECT_THROW(Autoencoder(AutoencoderOptions{.halvings = 0}), ConfigError);
}

TEST(Autoencoder, FittedStatisticsNormaliseItsLatents) {
  const torch::NoGradGuard no_grad;
  auto model = fresh_autoencoder();
  const auto clips = torch::randn({6, 1, 4, 16, 16});
  model->fit_statistics(model->encode(clips));
  const auto flat = model->encode(clips).transpose(0, 1).flatten(1);
  EXPECT_LT(flat.mean(1).abs().max().item<double>(), 1e-4);
  EXPECT_LT((flat.std(1) - 1).abs().max().item<double>(), 1e-3);
}

TEST(Autoencoder, CountsItsOperations) {
  const torch::NoGradGuard no_grad;
  auto model = fresh_autoencoder();
  const auto clips = torch::randn({1, 1, 8, 16, 32});
  torch::Tensor latents;
  const double encoding = OperationCounter::count([&] { latents = model->encode(clips); });
  const double decoding = OperationCounter::count([&] { model->decode(latents); });
  EXPECT_NEAR(model->encode_flops(8, 16, 32) / encoding, 1, 0.02);
  EXPECT_NEAR(model->decode_flops(8, 16, 32) / decoding, 1, 0.02);
}

TEST(Autoencoder, LearnsAndKeepsItsStatistics) {
  auto model = fresh_autoencoder();
  auto training = task(model);
  const double before = training.evaluate().at("psnr");
  for (int i = 0; i < 60; ++i) training.step(squares(8), false, texts);
  const auto metrics = training.evaluate();
  EXPECT_GT(metrics.at("psnr"), before + 6);
  EXPECT_EQ(metrics.at("psnr"), metrics.at("score"));
  const torch::NoGradGuard no_grad;
  const auto latents =
      model->encode(squares(8).clips.to(torch::kFloat32) / 127.5 - 1).transpose(0, 1).flatten(1);
  EXPECT_LT(latents.mean(1).abs().max().item<double>(), 0.5);
  EXPECT_NEAR(latents.std(1).mean().item<double>(), 1, 0.3);
}

TEST(Autoencoder, ResumesBitForBitAndLoads) {
  const TemporaryFolder folder;
  auto whole = fresh_autoencoder();
  auto whole_task = task(whole);
  for (int i = 0; i < 3; ++i) whole_task.step(squares(4), false, texts);
  for (const auto& [name, tensors] : whole_task.tensors()) {
    write_safetensors(folder.file(name + ".safetensors"), tensors);
  }
  for (int i = 0; i < 3; ++i) whole_task.step(squares(4), false, texts);

  Autoencoder resumed(tiny_autoencoder());
  auto resumed_task = task(resumed);
  resumed_task.restore(3, folder.file(""));
  EXPECT_EQ(resumed_task.steps_done(), 3);
  for (int i = 0; i < 3; ++i) resumed_task.step(squares(4), false, texts);
  for (const auto& item : whole->named_parameters()) {
    EXPECT_TRUE(item.value().equal(resumed->named_parameters()[item.key()])) << item.key();
  }
  for (const auto& item : whole->named_buffers()) {
    EXPECT_TRUE(item.value().equal(resumed->named_buffers()[item.key()])) << item.key();
  }

  const std::string path = folder.file("");
  EXPECT_NE(message_of<CheckpointError>([&] { load_autoencoder(path); }).find("config.ini"),
            std::string::npos);
  write_bytes(path + "config.ini",
              "[autoencoder]\nwidth = 8\nlatent_channels = 4\n[other]\nx = 1\n");
  write_safetensors(path + "model.safetensors", resumed_task.tensors().at("model"));
  auto loaded = load_autoencoder(path);
  const torch::NoGradGuard no_grad;
  const auto clips = torch::randn({1, 1, 4, 16, 16});
  EXPECT_TRUE(loaded->encode(clips).equal(resumed->encode(clips)));
  EXPECT_FALSE(loaded->parameters().front().requires_grad());
  std::filesystem::remove(path + "model.safetensors");
  EXPECT_NE(message_of<CheckpointError>([&] { load_autoencoder(path); }).find("model.safetensors"),
            std::string::npos);
}

}  // namespace
}  // namespace jepa::eval::diffusion

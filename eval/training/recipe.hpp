// A JEPA as a recipe: everything between an ini file and a trainer.
#pragma once

#include <encoders/registry.hpp>
#include <jepa/masking.hpp>
#include <jepa/training/trainer.hpp>
#include <predictors/registry.hpp>

#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::training {

/// What a JEPA is and how it learns.
struct Recipe {
  encoders::EncoderOptions encoder;
  predictors::PredictorOptions predictor;
  std::vector<MaskOptions> masks;
  OptimisationOptions optimisation;
  ObjectiveOptions objective;

  Objective extra = {};            ///< terms beside those of `objective`, such as a person's own
  Processes* processes = nullptr;  ///< that train together; null: this one alone

  /// The options as sections of an ini file.
  std::vector<OptionSection> sections();
  /// The same for clips of sizes [B, C, T, H, W], its preset resolved.
  Recipe fitted(at::IntArrayRef clip_sizes) const;
  std::vector<std::unique_ptr<MaskSampler>> samplers() const;
  /// Encoder, its target and predictor with their first weights, ready to be trained. The predictor
  /// is as wide as what it predicts: latents, or a patch's pixels.
  Trainer make_trainer(uint64_t seed, torch::Device device, torch::ScalarType precision) const;
};

/// V-JEPA's short-range and long-range masks.
std::vector<MaskOptions> default_masks();

/// The recipe that an ini file describes; sections that a trainer does not ask for ([loader],
/// [training], ...) are passed over.
/// @throws ConfigError naming the file, key or line
Recipe read_recipe(const std::string& path);

}  // namespace jepa::eval::training

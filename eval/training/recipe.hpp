// A JEPA as a recipe: everything between an ini file and a trainer.
#pragma once

#include <encoders/registry.hpp>
#include <jepa/masking.hpp>
#include <jepa/training/trainer.hpp>
#include <predictors/registry.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::training {

/// V-JEPA's short-range and long-range masks.
std::vector<MaskOptions> default_masks();

/// What a JEPA is and how it learns.
struct Recipe {
  encoders::EncoderOptions encoder;
  predictors::PredictorOptions predictor;
  std::vector<MaskOptions> masks = default_masks();
  OptimisationOptions optimisation;
  ObjectiveOptions objective;

  /// Makes a term for an encoder whose tokens are `dim` wide; weights of its own, where it has any,
  /// are functions of the run's seed.
  using MakeTerm = std::function<std::shared_ptr<ObjectiveTerm>(int64_t dim, uint64_t seed)>;
  std::vector<MakeTerm> extra = {};  ///< terms beside those of `objective`, such as a person's own
  Processes* processes = nullptr;    ///< that train together; null: this one alone

  /// Takes as many masks as `given` has sections [mask.N]; V-JEPA's two where it has none.
  /// @throws ConfigError where a number is left out
  void take_masks(const OptionValues& given);
  /// The options as sections of an ini file.
  std::vector<OptionSection> sections();
  /// The same for clips of sizes [B, C, T, H, W], its preset resolved.
  Recipe fitted(at::IntArrayRef clip_sizes) const;
  std::vector<std::unique_ptr<MaskSampler>> samplers() const;
  /// Encoder, its target and predictor with their first weights, ready to be trained. The predictor
  /// is as wide as what it predicts: latents, or a patch's pixels.
  Trainer make_trainer(uint64_t seed, torch::Device device, torch::ScalarType precision) const;
};

/// The recipe that an ini file describes. Sections that only a run has ([loader], [training], ...)
/// and keys of none (seed, data, ...) are passed over.
/// @throws ConfigError naming the file, key or line; for a section that no recipe has, too
Recipe read_recipe(const std::string& path);

}  // namespace jepa::eval::training

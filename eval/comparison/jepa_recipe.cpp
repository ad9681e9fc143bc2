#include <eval/comparison/jepa_recipe.hpp>
#include <jepa/random.hpp>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <string>

namespace jepa::eval::comparison {

std::vector<MaskOptions> default_masks() {
  MaskOptions short_range;
  MaskOptions long_range;
  long_range.blocks = 2;
  long_range.spatial_scale = {0.7, 0.7};
  return {short_range, long_range};
}

std::vector<OptionSection> JepaRecipe::sections() {
  std::vector<OptionSection> sections{
      {"encoder", "", [this](OptionVisitor& visit) { encoder.describe(visit); }},
      {"predictor", "", [this](OptionVisitor& visit) { predictor.describe(visit); }}};
  for (size_t i = 0; i < masks.size(); ++i) {
    sections.push_back({"mask." + std::to_string(i + 1), i == 0 ? "one mask a section" : "",
                        [this, i](OptionVisitor& visit) { masks[i].describe(visit); }});
  }
  sections.push_back(
      {"optimisation", "", [this](OptionVisitor& visit) { optimisation.describe(visit); }});
  sections.push_back(
      {"objective", "", [this](OptionVisitor& visit) { objective.describe(visit); }});
  sections.push_back({"regulariser", "on the context encoder's tokens",
                      [this](OptionVisitor& visit) { objective.regulariser.describe(visit); }});
  sections.push_back({"agreement", "between two views of each clip",
                      [this](OptionVisitor& visit) { objective.agreement.describe(visit); }});
  return sections;
}

JepaRecipe JepaRecipe::fitted(at::IntArrayRef clip_sizes) const {
  JepaRecipe recipe = *this;
  auto& vit = recipe.encoder.vit;
  vit = encoders::resolve(vit, recipe.encoder.preset);
  recipe.encoder.preset = "custom";
  vit.channels = clip_sizes[1];
  vit.frames = clip_sizes[2];
  vit.height = clip_sizes[3];
  vit.width = clip_sizes[4];
  return recipe;
}

std::vector<std::unique_ptr<MaskSampler>> JepaRecipe::samplers() const {
  std::vector<std::unique_ptr<MaskSampler>> samplers;
  for (const auto& mask : masks) samplers.push_back(make_mask_sampler(mask));
  return samplers;
}

Trainer JepaRecipe::make_trainer(uint64_t seed, torch::Device device,
                                 torch::ScalarType precision) const {
  Encoder online = encoders::make_encoder(encoder);
  Encoder target = encoders::make_encoder(encoder);
  const auto& vit = encoder.vit;
  const int64_t tubelet = vit.frames == 1 ? 1 : vit.tubelet;
  const predictors::ModelShape shape{
      .encoder_width = online->output_width(),
      .target_width = objective.targets == "pixels" ? vit.channels * tubelet * vit.patch * vit.patch
                                                    : target->output_width(),
      .encoder_heads = vit.heads,
      .masks = static_cast<int64_t>(masks.size()),
      .grid = vit.grid()};
  Predictor masked = predictors::make_predictor(predictor, shape);
  online->initialise(at::make_generator<at::CPUGeneratorImpl>(stream_seed(seed, "encoder", 0)));
  masked->initialise(at::make_generator<at::CPUGeneratorImpl>(stream_seed(seed, "predictor", 0)));
  copy_parameters(*online, *target);
  return Trainer(online, target, masked,
                 {.optimisation = optimisation,
                  .objective = objective,
                  .pixels = encoder.pixels,
                  .device = device,
                  .precision = precision,
                  .seed = seed});
}

}  // namespace jepa::eval::comparison

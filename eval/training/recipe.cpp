#include <eval/training/recipe.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <torch/types.h>

#include <set>
#include <string>

namespace jepa::eval::training {

std::vector<MaskOptions> default_masks() {
  MaskOptions short_range;
  MaskOptions long_range;
  long_range.blocks = 2;
  long_range.spatial_scale = {0.7, 0.7};
  return {short_range, long_range};
}

void Recipe::take_masks(const OptionValues& given) {
  masks = default_masks();
  const int64_t count = count_numbered(given, "mask");
  if (count > 0) masks.resize(static_cast<size_t>(count));
}

std::vector<OptionSection> Recipe::sections() {
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

Recipe Recipe::fitted(at::IntArrayRef clip_sizes) const {
  Recipe recipe = *this;
  recipe.encoder = encoder.fitted(clip_sizes).resolved();
  recipe.encoder.preset = "custom";
  return recipe;
}

std::vector<std::unique_ptr<MaskSampler>> Recipe::samplers() const {
  std::vector<std::unique_ptr<MaskSampler>> samplers;
  for (const auto& mask : masks) samplers.push_back(make_mask_sampler(mask));
  return samplers;
}

Trainer Recipe::make_trainer(uint64_t seed, torch::Device device,
                             torch::ScalarType precision) const {
  Encoder online = encoders::make_encoder(encoder);
  Encoder target = encoders::make_encoder(encoder);
  const int64_t patch_values = encoder.clip_sizes()[1] * online->patch().size();
  const predictors::ModelShape shape{
      .encoder_width = online->output_width(),
      .target_width = objective.targets == "pixels" ? patch_values : target->output_width(),
      .encoder_heads = online->heads(),
      .masks = static_cast<int64_t>(masks.size()),
      .grid = online->clip_grid()};
  Predictor masked = predictors::make_predictor(predictor, shape);
  online->initialise(seeded_generator(seed, "encoder"));
  masked->initialise(seeded_generator(seed, "predictor"));
  Objective terms = make_objective(objective, online->output_width(), seed);
  for (const auto& make : extra) terms.push_back(make(online->output_width(), seed));
  return Trainer(online, target, masked,
                 {.optimisation = optimisation,
                  .objective = objective,
                  .pixels = encoder.pixels,
                  .device = device,
                  .precision = precision,
                  .seed = seed,
                  .processes = processes},
                 terms);
}

namespace {

/// What `pretrain` has beside a recipe.
bool of_a_run(const std::string& section) {
  static const std::set<std::string> names{"augment", "clip",  "collapse",
                                           "loader",  "probe", "training"};
  return names.contains(section);
}

OptionValues recipe_values(Recipe& recipe, const OptionValues& all) {
  recipe.take_masks(all);
  std::set<std::string> ours;
  for (const auto& section : recipe.sections()) ours.insert(section.name);
  OptionValues wanted;
  for (const auto& [key, value] : all) {
    const size_t dot = key.rfind('.');
    if (dot == std::string::npos || of_a_run(key.substr(0, dot))) continue;
    if (!ours.contains(key.substr(0, dot))) {
      throw ConfigError("key " + key + ": a recipe has no section [" + key.substr(0, dot) + "]");
    }
    wanted[key] = value;
  }
  return wanted;
}

}  // namespace

Recipe read_recipe(const std::string& path) {
  Recipe recipe;
  const OptionValues all = read_ini(path);
  try {
    const OptionValues wanted = recipe_values(recipe, all);
    apply_options(recipe.sections(), wanted);
  } catch (const ConfigError& error) {
    throw ConfigError(path + ": " + error.what());
  }
  return recipe;
}

}  // namespace jepa::eval::training

// A recipe small enough to take steps of in a moment.
#pragma once

#include <eval/training/recipe.hpp>

namespace jepa {

inline eval::training::Recipe tiny_recipe() {
  eval::training::Recipe recipe;
  recipe.encoder.preset = "custom";
  recipe.encoder.vit.dim = 24;
  recipe.encoder.vit.depth = 2;
  recipe.encoder.vit.heads = 2;
  recipe.encoder.vit.patch = 4;
  recipe.encoder.vit.tubelet = 2;
  recipe.predictor.masked.dim = 24;
  recipe.predictor.masked.depth = 1;
  recipe.predictor.masked.heads = 2;
  MaskOptions mask;
  mask.blocks = 2;
  recipe.masks = {mask, mask};
  recipe.optimisation.total_steps = 10;
  return recipe;
}

}  // namespace jepa

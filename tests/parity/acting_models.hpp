// Action-conditioned models of the shapes that fixtures name.
#pragma once

#include "case.hpp"

#include <eval/planning/eb_jepa.hpp>
#include <eval/planning/le_world_model.hpp>

namespace parity {

/// [B, T, D] as eb_jepa lays states out: [B, D, T, 1, 1].
inline torch::Tensor as_maps(const torch::Tensor& states) {
  return states.transpose(1, 2).unsqueeze(-1).unsqueeze(-1);
}

inline jepa::encoders::ImpalaOptions impala(const Case& test, const std::string& prefix) {
  const auto& first =
      test.tensor("weights/" + prefix + "encoder.stack_blocks.0.initial_conv.weight");
  return {.channels = first.size(1),
          .height = test.size("height"),
          .width = test.size("width"),
          .stacks = test.config().at("stacks").get<std::vector<int64_t>>(),
          .blocks = test.size("blocks"),
          .dim = test.size("dim")};
}

/// eb_jepa's model with the weights at `weights/<prefix>`.
inline jepa::eval::planning::EbJepa eb_jepa(const Case& test, const std::string& prefix) {
  const std::string idm = prefix + "regularizer.idm_loss_fn.idm.";
  const bool inverse = test.has("weights/" + idm + "model.0.weight");
  jepa::eval::planning::EbJepa model(impala(test, prefix), test.size("actions"),
                                     inverse ? test.size("idm_hidden") : 1);
  test.load(*model.encoder, prefix + "encoder.");
  test.load(*model.predictor, prefix + "predictor.");
  if (inverse) test.load(*model.inverse, idm);
  return model;
}

/// LeWorldModel with the weights of the fixture.
inline jepa::eval::planning::LeWorldModel le_world_model(const Case& test) {
  jepa::eval::planning::LeWorldModelOptions options;
  options.encoder = {
      .channels = test.tensor("in/pixels").size(2),
      .size = test.size("image"),
      .patch = test.size("patch"),
      .dim = test.size("hidden"),
      .depth = test.size("layers"),
      .heads = test.size("heads"),
      .mlp_hidden =
          test.tensor("weights/encoder.encoder.layer.0.intermediate.dense.weight").size(0)};
  options.predictor = {.dim = test.size("embed"),
                       .depth = test.size("pred_depth"),
                       .heads = test.size("pred_heads"),
                       .head_dim = test.size("pred_dim_head"),
                       .mlp_hidden = test.size("pred_mlp"),
                       .frames = test.size("history")};
  options.action_width = test.size("action_dim") * test.size("frameskip");
  options.smoothed = test.size("smoothed_dim");
  options.action_scale = test.size("mlp_scale");
  options.projector_hidden = test.size("proj_hidden");
  options.sigreg_knots = test.size("knots");
  jepa::eval::planning::LeWorldModel model(options);
  for (const auto& [name, module] : model.modules()) test.load(*module, name + ".");
  return model;
}

}  // namespace parity

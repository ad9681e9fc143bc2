#include "case.hpp"
#include "models.hpp"

#include <encoders/vision_transformer.hpp>
#include <eval/probes/attentive.hpp>
#include <jepa/objectives/latent_regression.hpp>
#include <predictors/action_conditioned.hpp>
#include <predictors/masked.hpp>

#include <torch/types.h>
#include <torch/utils.h>

namespace parity {

using jepa::Mask;
using jepa::encoders::VisionTransformer;
using jepa::predictors::MaskedPredictor;

namespace {

/// Tensors `prefix`0, `prefix`1, ...
std::vector<torch::Tensor> numbered(const Case& test, const std::string& prefix) {
  std::vector<torch::Tensor> found;
  while (test.has(prefix + std::to_string(found.size()))) {
    found.push_back(test.tensor(prefix + std::to_string(found.size())));
  }
  return found;
}

}  // namespace

void ijepa_step(Case& test) {
  const auto image = test.clip("in/image").unsqueeze(2);  // [B, C, 1, H, W]
  const auto options = image_encoder(test);
  VisionTransformer encoder(options);
  VisionTransformer target_encoder(options);
  MaskedPredictor predictor(image_predictor(test), model_shape(options, 1));
  test.load(*encoder, "encoder/");
  test.load(*target_encoder, "target_encoder/");
  test.load(*predictor, "predictor/");

  // Each context is shown with every target block.
  const auto contexts = numbered(test, "in/context_mask.");
  std::vector<torch::Tensor> targets;
  for (const auto& target : numbered(test, "in/target_mask.")) {
    targets.insert(targets.end(), contexts.size(), target);
  }
  const Mask mask{torch::cat(contexts), torch::cat(targets)};
  const auto grid = encoder->grid(image.sizes());
  const auto context =
      encoder->encode(jepa::gather_tokens(encoder->embed(image), mask.context), grid, mask.context);
  const auto prediction = predictor->forward(context, mask, grid, 0).target;
  torch::Tensor wanted;
  {
    const torch::NoGradGuard no_grad;
    wanted =
        jepa::gather_tokens(jepa::normalise_targets(target_encoder->forward(image)), mask.target);
    test.forward("encoder_full", encoder->forward(image));
  }
  const auto loss = jepa::latent_regression(prediction, wanted, jepa::LatentLoss::smooth_l1);
  loss.backward();
  test.forward("context_tokens", context);
  test.forward("predictions", prediction);
  test.forward("targets", wanted);
  test.forward("loss", loss.view({1}), kLossTolerance);
  test.gradients(*encoder, "encoder/");
  test.gradients(*predictor, "predictor/");
}

void vjepa2_nonsquare(Case& test) {
  VisionTransformer encoder(video_encoder(test, "rope"));
  test.load(*encoder, "encoder/");
  const torch::NoGradGuard no_grad;
  test.forward("tokens", encoder->forward(test.clip("in/clip")));
}

void vjepa21_step(Case& test) {
  const auto options = levels_encoder(test);
  VisionTransformer encoder(options);
  VisionTransformer target_encoder(options);
  auto shape = model_shape(options, 1);
  shape.encoder_width = encoder->output_width();
  MaskedPredictor predictor(levels_predictor(test), shape);
  test.load(*encoder, "encoder/");
  test.load(*target_encoder,
            test.names("weights/target_encoder/").empty() ? "encoder/" : "target_encoder/");
  test.load(*predictor, "predictor/");

  const auto clip = test.clip("in/clip");
  const auto grid = encoder->grid(clip.sizes());
  const Mask mask{test.tensor("in/context_mask"), test.tensor("in/target_mask")};
  const auto context =
      encoder->encode(jepa::gather_tokens(encoder->embed(clip), mask.context), grid, mask.context);
  const auto prediction = predictor->forward(context, mask, grid, 0);
  torch::Tensor wanted;
  {
    const torch::NoGradGuard no_grad;
    test.forward("encoder_levels", encoder->forward(clip));
    wanted =
        jepa::normalise_targets(target_encoder->forward(clip), target_encoder->output_levels());
    encoder->set_all_levels(false);
    test.forward("encoder", encoder->forward(clip));
    test.forward("encoder_image", encoder->forward(test.clip("in/image")));
    encoder->set_all_levels(true);
  }
  const auto distances = jepa::context_sqrt_distances(mask, grid);
  const auto predicted = jepa::latent_regression(
      prediction.target, jepa::gather_tokens(wanted, mask.target), jepa::LatentLoss::l1);
  const auto seen =
      jepa::weighted_context_loss(prediction.context, jepa::gather_tokens(wanted, mask.context),
                                  distances, jepa::LatentLoss::l1);
  (predicted + test.config().at("context_weight").get<double>() * seen).backward();
  test.forward("predictions", prediction.target);
  test.forward("context_predictions", prediction.context);
  test.forward("sqrt_distance", distances);
  test.forward("loss", torch::stack({predicted, seen}), kLossTolerance);
  test.gradients(*encoder, "encoder/");
  test.gradients(*predictor, "predictor/");
}

void vjepa2_ac(Case& test) {
  const auto& tokens = test.tensor("in/tokens");
  const bool extrinsics = test.config().at("extrinsics").get<bool>();
  jepa::predictors::ActionConditionedPredictor predictor(
      jepa::predictors::ActionConditionedOptions{
          .dim = test.size("pdim"),
          .depth = test.size("pdepth"),
          .heads = test.size("pheads"),
          .mlp_ratio = mlp_ratio(test, "predictor_blocks.0"),
          .action_width = test.tensor("in/actions").size(2),
          .state_width = test.tensor("in/states").size(2),
          .extrinsics_width = test.tensor("weights/extrinsics_encoder.weight").size(1),
          .use_extrinsics = extrinsics},
      tokens.size(2));
  test.load(*predictor, "");
  const jepa::predictors::Conditions conditions{
      test.tensor("in/actions"), test.tensor("in/states"),
      extrinsics ? test.tensor("in/extrinsics") : torch::Tensor()};
  const int64_t side = test.size("crop") / test.size("patch");
  const jepa::TokenGrid grid{tokens.size(1) / (side * side), side, side};
  {
    const torch::NoGradGuard no_grad;
    test.forward("tokens", predictor->forward(tokens, conditions, grid));
  }
  const auto loss = jepa::predictors::action_conditioned_loss(predictor, tokens, conditions, grid,
                                                              test.size("auto_steps"));
  (loss.teacher_forced + loss.rollout).backward();
  test.forward("teacher_forced", loss.teacher_forced_frames);
  test.forward("rollout", loss.rollout_frames);
  test.forward("loss", torch::stack({loss.teacher_forced, loss.rollout}), kLossTolerance);
  test.gradients(*predictor, "");
}

void attentive_probe(Case& test) {
  const auto& tokens = test.tensor("in/tokens");
  jepa::eval::probes::AttentiveProbe probe(
      jepa::nn::AttentivePoolerOptions{
          .dim = tokens.size(2),
          .heads = test.size("heads"),
          .depth = test.size("depth"),
          .queries = test.tensor("weights/pooler.query_tokens").size(1),
          .mlp_ratio = mlp_ratio(test, "pooler.cross_attention_block")},
      test.size("classes"));
  // Old checkpoints carry an output projection that nothing uses.
  test.load(*probe, "",
            {"pooler.cross_attention_block.xattn.proj.weight",
             "pooler.cross_attention_block.xattn.proj.bias"});
  const torch::NoGradGuard no_grad;
  test.forward("logits", probe->forward(tokens));
}

}  // namespace parity

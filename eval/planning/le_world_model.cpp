#include <eval/planning/history.hpp>
#include <eval/planning/le_world_model.hpp>
#include <jepa/objectives/sigreg.hpp>

#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::eval::planning {
namespace {

constexpr int64_t kRowsAtOnce = 128;  // of a rollout: activations stay in the second cache

}  // namespace

LeWorldModel::LeWorldModel(const LeWorldModelOptions& given)
    : options(given),
      encoder(given.encoder),
      predictor(given.predictor),
      action_encoder(given.action_width, given.predictor.dim, given.smoothed, given.action_scale),
      projector(given.encoder.dim, given.projector_hidden, given.predictor.dim),
      pred_proj(given.predictor.dim, given.projector_hidden, given.predictor.dim) {}

torch::Tensor LeWorldModel::encode(const torch::Tensor& frames) {
  return projector->forward(encoder->frames(frames));
}

torch::Tensor LeWorldModel::predict(const torch::Tensor& latents, const torch::Tensor& actions) {
  return pred_proj->forward(predictor->forward(latents, actions));
}

torch::Tensor LeWorldModel::rollout(const torch::Tensor& past, const torch::Tensor& past_actions,
                                    const torch::Tensor& actions) {
  return rollout_in_parts(past, rollout_actions(past, past_actions, actions), kRowsAtOnce,
                          [&](const torch::Tensor& rows, const torch::Tensor& all) {
                            return adaln_rollout(predictor, rows, action_encoder->forward(all),
                                                 [&](const torch::Tensor& predicted) {
                                                   return pred_proj->forward(predicted);
                                                 });
                          });
}

LeWorldModelLoss LeWorldModel::loss(const torch::Tensor& pixels, const torch::Tensor& actions,
                                    int64_t ahead, double sigreg_weight,
                                    const torch::Tensor& directions) {
  const int64_t frames = pixels.size(1), history = frames - ahead;
  TORCH_CHECK(ahead >= 1 && history >= 1 && history <= options.predictor.frames,
              "LeWorldModel: ", frames, " frames with ", ahead, " ahead");
  LeWorldModelLoss loss;
  loss.latents = encode(pixels.flatten(0, 1)).unflatten(0, {pixels.size(0), frames});
  loss.actions = action_encoder->forward(actions.nan_to_num(0));
  loss.predicted = predict(loss.latents.narrow(1, 0, history), loss.actions.narrow(1, 0, history));
  loss.prediction = (loss.predicted - loss.latents.narrow(1, ahead, history)).square().mean();
  loss.sigreg =
      sigreg(loss.latents.transpose(0, 1), directions, /*scale_by_n=*/true, options.sigreg_knots);
  loss.total = loss.prediction + sigreg_weight * loss.sigreg;
  return loss;
}

std::vector<std::pair<std::string, std::shared_ptr<torch::nn::Module>>> LeWorldModel::modules()
    const {
  return {{"encoder", encoder.ptr()},
          {"predictor", predictor.ptr()},
          {"action_encoder", action_encoder.ptr()},
          {"projector", projector.ptr()},
          {"pred_proj", pred_proj.ptr()}};
}

void LeWorldModel::train(bool on) {
  for (const auto& [name, module] : modules()) module->train(on);
}

}  // namespace jepa::eval::planning

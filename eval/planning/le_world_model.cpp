#include <eval/planning/le_world_model.hpp>
#include <jepa/objectives/sigreg.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

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
  const int64_t known = past.size(1);
  TORCH_CHECK(known == 1 || (past_actions.defined() && past_actions.size(1) == known - 1),
              "LeWorldModel: ", known, " past latents need the ", known - 1,
              " actions between them");
  const auto all = known == 1 ? actions : torch::cat({past_actions, actions}, 1);
  std::vector<torch::Tensor> parts;
  for (int64_t start = 0; start < past.size(0); start += kRowsAtOnce) {
    const int64_t count = std::min(kRowsAtOnce, past.size(0) - start);
    parts.push_back(imagine(past.narrow(0, start, count), all.narrow(0, start, count)));
  }
  return parts.size() == 1 ? parts.front() : torch::cat(parts);
}

// A window grows until it is full: until then each latent keeps its place, and keys and values of
// the earlier ones are at hand. A full window moves on, which changes every place in it.
torch::Tensor LeWorldModel::imagine(const torch::Tensor& past, const torch::Tensor& actions) {
  const int64_t known = past.size(1), window = options.predictor.frames;
  const int64_t total = actions.size(1) + 1;  // latents at the end
  const auto signals = predictor->signals(action_encoder->forward(actions));
  const auto of = [&](int64_t from, int64_t count) {
    std::vector<torch::Tensor> part;
    for (const auto& one : signals) part.push_back(one.narrow(1, from, count));
    return part;
  };
  auto latents = past;
  predictors::AdaLnPredictor::ContainedType::Window growing;
  for (int64_t end = known; end < total; ++end) {  // latents so far
    torch::Tensor next;
    if (end <= window) {
      const int64_t from = growing.frames;
      next = predictor->extend(growing, latents.narrow(1, from, end - from), of(from, end - from));
    } else {
      predictors::AdaLnPredictor::ContainedType::Window whole;
      next = predictor->extend(whole, latents.narrow(1, end - window, window),
                               of(end - window, window));
    }
    latents = torch::cat({latents, pred_proj->forward(next)}, 1);
  }
  return latents.narrow(1, known, total - known);
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

#include <eval/planning/eb_jepa.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/torch_pickle.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/objectives/vicreg.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::eval::planning {
namespace {

const torch::Tensor& need(const TensorMap& weights, const std::string& key,
                          const std::string& source, int64_t dims) {
  const auto found = weights.find(key);
  if (found == weights.end()) throw CheckpointError(source + ": '" + key + "' is missing");
  if (found->second.dim() != dims) {
    throw CheckpointError(c10::str(source, ": '", key, "' has shape ", found->second.sizes(), ", ",
                                   dims, " dimensions are expected"));
  }
  return found->second;
}

// The weights behind `prefix`, which is cut off.
TensorMap part(const TensorMap& weights, const std::string& prefix) {
  TensorMap found;
  for (const auto& [key, value] : weights) {
    if (key.starts_with(prefix)) found[key.substr(prefix.size())] = value;
  }
  return found;
}

encoders::ImpalaOptions read_shape(const TensorMap& weights, const std::string& source,
                                   int64_t height, int64_t width) {
  encoders::ImpalaOptions options{.height = height, .width = width, .stacks = {}, .blocks = 0};
  const auto stack = [](size_t s) { return c10::str("encoder.stack_blocks.", s, "."); };
  options.channels = need(weights, stack(0) + "initial_conv.weight", source, 4).size(1);
  for (size_t s = 0; weights.contains(stack(s) + "initial_conv.weight"); ++s) {
    options.stacks.push_back(need(weights, stack(s) + "initial_conv.weight", source, 4).size(0));
  }
  while (weights.contains(c10::str(stack(0), "blocks.", options.blocks, ".conv1.weight"))) {
    ++options.blocks;
  }
  options.dim = need(weights, "encoder.mlp.weight", source, 2).size(0);
  return options;
}

}  // namespace

EbJepa::EbJepa(const encoders::ImpalaOptions& shape, int64_t action_width, int64_t inverse_hidden)
    : encoder(shape),
      predictor(predictors::GruPredictorOptions{.dim = shape.dim, .action_width = action_width},
                encoder->final_norm()),
      inverse(predictors::InverseDynamicsOptions{
          .dim = shape.dim, .action_width = action_width, .hidden = inverse_hidden}) {}

torch::Tensor EbJepa::encode(const torch::Tensor& frames) { return encoder->frames(frames); }

torch::Tensor EbJepa::rollout(const torch::Tensor& past, const torch::Tensor&,
                              const torch::Tensor& actions) {
  return predictor->rollout(past.select(1, past.size(1) - 1), actions);
}

EbJepaLoss EbJepa::loss(const torch::Tensor& clip, const torch::Tensor& actions, int64_t steps,
                        const EbJepaWeights& weights) {
  const int64_t frames = clip.size(2);
  TORCH_CHECK(steps >= 1 && steps < frames && actions.size(1) >= frames - 1, "EbJepa: ", steps,
              " steps and actions ", actions.sizes(), " for ", frames, " frames");
  EbJepaLoss loss;
  loss.states = encoder->embed(clip);
  const auto later = predictor->rollout(loss.states.select(1, 0), actions.narrow(1, 0, steps));
  loss.predicted = torch::cat({loss.states.narrow(1, 0, 1), later}, 1);
  loss.prediction = (later - loss.states.narrow(1, 1, steps)).square().mean();

  const auto samples = loss.states.flatten(0, 1);
  loss.variance = variance_hinge(samples);
  loss.covariance = covariance_penalty(samples, CovarianceScale::pairs);
  const auto before = loss.states.narrow(1, 0, frames - 1);
  const auto after = loss.states.narrow(1, 1, frames - 1);
  loss.similarity = (after - before).square().mean();
  loss.inverse_actions = inverse->forward(before, after);
  loss.inverse = (loss.inverse_actions - actions.narrow(1, 0, frames - 1)).square().mean();
  loss.regulariser = weights.covariance * loss.covariance + weights.variance * loss.variance +
                     weights.similarity * loss.similarity + weights.inverse * loss.inverse;
  loss.total = loss.regulariser + loss.prediction;
  return loss;
}

EbJepa eb_jepa_from(const TensorMap& weights, const std::string& source, int64_t height,
                    int64_t width) {
  const std::string idm = "regularizer.idm_loss_fn.idm.";
  const auto shape = read_shape(weights, source, height, width);
  const int64_t action_width = need(weights, "predictor.rnn.weight_ih_l0", source, 2).size(1);
  const bool inverse = weights.contains(idm + "model.0.weight");
  EbJepa model(shape, action_width,
               inverse ? need(weights, idm + "model.0.weight", source, 2).size(0) : 1);
  for (const char* name : {".weight", ".bias"}) {
    const auto& one = need(weights, std::string("encoder.final_ln") + name, source, 1);
    const auto& other = need(weights, std::string("predictor.final_ln") + name, source, 1);
    if (!torch::equal(one, other)) {
      throw CheckpointError(source +
                            ": encoder.final_ln and predictor.final_ln differ, but are one");
    }
  }
  load_into(*model.encoder, part(weights, "encoder."), source);
  load_into(*model.predictor, part(weights, "predictor."), source);
  if (inverse) {
    load_into(*model.inverse, part(weights, idm), source);
  } else {
    model.inverse = nullptr;
  }
  return model;
}

EbJepa load_eb_jepa(const std::string& path, int64_t height, int64_t width) {
  const auto file = read_torch_file(path);
  TensorMap weights = part(file.tensors, "model_state_dict/");
  if (weights.empty()) weights = file.tensors;
  TensorMap plain;
  for (const auto& [key, value] : weights) {
    std::string name = key;
    const std::string wrapper = "_orig_mod.";
    for (size_t at = name.find(wrapper); at != std::string::npos; at = name.find(wrapper)) {
      name.erase(at, wrapper.size());
    }
    plain[name] = value;
  }
  return eb_jepa_from(plain, path, height, width);
}

}  // namespace jepa::eval::planning

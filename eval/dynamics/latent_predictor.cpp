#include <eval/dynamics/latent_predictor.hpp>
#include <eval/planning/history.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <predictors/recurrent.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace jepa::eval::dynamics {
namespace {

// The present latent tells all.
class MarkovPredictor : public LatentPredictor {
 public:
  explicit MarkovPredictor(std::shared_ptr<predictors::LatentDynamicsImpl> step)
      : step_(std::move(step)) {}

  int64_t history() const override { return 1; }
  torch::Tensor predict(const torch::Tensor& latents, const torch::Tensor& actions) override {
    return step_->forward(latents.flatten(0, 1), actions.flatten(0, 1)).view(latents.sizes());
  }
  torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor& actions) override {
    const int64_t before = past.size(1) - 1;
    return step_->rollout(past.select(1, before),
                          actions.narrow(1, before, actions.size(1) - before));
  }
  std::map<std::string, std::shared_ptr<torch::nn::Module>> modules() const override {
    return {{"predictor", step_}};
  }
  void initialise(uint64_t seed, const std::string& stream) override {
    step_->initialise(seeded_generator(seed, stream + "predictor"));
  }

 private:
  std::shared_ptr<predictors::LatentDynamicsImpl> step_;
};

// Positions count from the window's start.
class WindowPredictor : public LatentPredictor {
 public:
  WindowPredictor(const predictors::AdaLnOptions& options, int64_t action_width)
      : options_(options), adaln_(options), action_encoder_(action_width, options.dim) {}

  int64_t history() const override { return options_.frames; }

  torch::Tensor predict(const torch::Tensor& latents, const torch::Tensor& actions) override {
    TORCH_CHECK(latents.dim() == 3 && latents.size(2) == options_.tokens * options_.dim,
                "AdaLN predictor: latents [B, T, ", options_.tokens * options_.dim,
                "] expected, got ", latents.sizes());
    const auto tokens =
        latents.reshape({latents.size(0), latents.size(1) * options_.tokens, options_.dim});
    return adaln_->forward(tokens, action_encoder_->forward(actions))
        .to(torch::kFloat32)
        .reshape(latents.sizes());
  }

  torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor& actions) override {
    const bool drops = adaln_->is_training() && options_.dropout > 0;
    if (options_.tokens == 1 && !drops) {
      return planning::adaln_rollout(
          adaln_, past, action_encoder_->forward(actions),
          [](const torch::Tensor& next) { return next.to(torch::kFloat32); });
    }
    const int64_t known = past.size(1);
    std::vector<torch::Tensor> all = past.unbind(1);
    for (int64_t end = known; end <= actions.size(1); ++end) {
      const int64_t seen = std::min(end, options_.frames);
      const std::vector<torch::Tensor> last(all.end() - seen, all.end());
      const auto next = predict(torch::stack(last, 1), actions.narrow(1, end - seen, seen));
      all.push_back(next.select(1, seen - 1));
    }
    return torch::stack(std::vector<torch::Tensor>(all.begin() + known, all.end()), 1);
  }

  std::map<std::string, std::shared_ptr<torch::nn::Module>> modules() const override {
    return {{"predictor", adaln_.ptr()}, {"action_encoder", action_encoder_.ptr()}};
  }

  void initialise(uint64_t seed, const std::string& stream) override {
    adaln_->initialise(seeded_generator(seed, stream + "predictor"));
    action_encoder_->initialise(seeded_generator(seed, stream + "action encoder"));
  }

 private:
  predictors::AdaLnOptions options_;
  predictors::AdaLnPredictor adaln_;
  predictors::ActionEncoder action_encoder_;
};

}  // namespace

void LatentPredictor::to(torch::Device device) {
  for (const auto& [name, module] : modules()) module->to(device);
}

void LatentPredictor::train(bool on) {
  for (const auto& [name, module] : modules()) module->train(on);
}

torch::Tensor teacher_forced_error(LatentPredictor& predictor, const torch::Tensor& latents,
                                   const torch::Tensor& later, const torch::Tensor& actions) {
  const int64_t before = actions.size(1);
  const int64_t longest = predictor.history() > 1 ? predictor.history() : before;
  const int64_t window = std::min(before, longest);
  const int64_t windows = (before + window - 1) / window;
  std::vector<torch::Tensor> errors;
  for (int64_t start = 0; start < before; start += window) {
    // The last may overlap, and counts what the one before it has not.
    const int64_t from = std::min(start, before - window), counted = from + window - start;
    const auto next =
        predictor.predict(latents.narrow(1, from, window), actions.narrow(1, from, window));
    const auto off = next.narrow(1, start - from, counted) - later.narrow(1, start, counted);
    // Exactly 1 where windows divide the clip.
    const double share = static_cast<double>(counted * windows) / static_cast<double>(before);
    errors.push_back(off.square().mean() * share);
  }
  return errors.size() == 1 ? errors.front() : torch::stack(errors).mean();
}

void PredictorShape::describe(OptionVisitor& visit) {
  visit("kind", kind,
        {.help = "residual: MLP on the present latent; gru: it is the hidden state; adaln: causal "
                 "transformer over the last `frames`",
         .choices = {"residual", "gru", "adaln"}});
  visit("hidden", hidden, {.help = "residual: width of the predictor's hidden layers", .min = 1});
  visit("layers", layers, {.help = "residual: hidden layers", .min = 1});
  visit("depth", adaln.depth, {.help = "adaln: blocks", .min = 1});
  visit("heads", adaln.heads, {.help = "adaln: attention heads", .min = 1});
  visit("head_dim", adaln.head_dim, {.help = "adaln: width of a head", .min = 1});
  visit("mlp_hidden", adaln.mlp_hidden, {.help = "adaln: hidden width of the MLP", .min = 1});
  visit("frames", adaln.frames, {.help = "adaln: longest history", .min = 1});
  visit("dropout", adaln.dropout,
        {.help = "adaln: share dropped in training", .min = 0, .max = 0.99});
}

std::shared_ptr<LatentPredictor> make_latent_predictor(const PredictorShape& shape, int64_t dim,
                                                       int64_t action_width) {
  std::shared_ptr<LatentPredictor> made;
  if (shape.kind == "adaln") {
    auto options = shape.adaln;
    options.dim = dim;
    return make_adaln_predictor(options, action_width);
  }
  if (shape.kind == "gru") {
    made = std::make_shared<MarkovPredictor>(
        predictors::GruPredictor(
            predictors::GruPredictorOptions{.dim = dim, .action_width = action_width})
            .ptr());
  } else if (shape.kind == "residual") {
    made = std::make_shared<MarkovPredictor>(
        predictors::ResidualMlp(predictors::ResidualMlpOptions{.dim = dim,
                                                               .action_width = action_width,
                                                               .hidden = shape.hidden,
                                                               .layers = shape.layers})
            .ptr());
  } else {
    throw ConfigError("no predictor '" + shape.kind + "': residual, gru or adaln");
  }
  made->train(false);
  return made;
}

std::shared_ptr<LatentPredictor> make_adaln_predictor(const predictors::AdaLnOptions& options,
                                                      int64_t action_width) {
  auto made = std::make_shared<WindowPredictor>(options, action_width);
  made->train(false);
  return made;
}

}  // namespace jepa::eval::dynamics

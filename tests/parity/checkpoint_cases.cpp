#include "case.hpp"

#include <encoders/published.hpp>
#include <eval/probes/attentive.hpp>
#include <jepa/io/weights.hpp>
#include <predictors/published.hpp>

#include <torch/types.h>
#include <torch/utils.h>

namespace parity {

/// A published PyTorch checkpoint beside the fixture, and what its encoder gives.
void checkpoint_expected(Case& test) {
  const auto file =
      jepa::WeightFile::open(test.folder() + "/" + test.config().at("file").get<std::string>());
  const auto clip = test.clip("in/clip");
  auto loaded = jepa::encoders::load_encoder(file, {.heads = test.size("heads")});
  const torch::NoGradGuard no_grad;
  test.forward("tokens", loaded.encoder->forward(clip));
}

/// A Hugging Face folder: encoder, predictor on all tokens, classifier.
void hugging_face_expected(Case& test) {
  const auto file = jepa::WeightFile::open(test.folder() + "/" +
                                           test.config().at("directory").get<std::string>());
  const torch::NoGradGuard no_grad;
  const auto clip = test.clip("in/clip").transpose(1, 2).contiguous();  // [B, T, C, H, W] there
  auto loaded = jepa::encoders::load_encoder(file);
  const auto tokens = loaded.encoder->forward(clip);
  test.forward("tokens", tokens);

  const auto grid = loaded.encoder->grid(clip.sizes());
  const auto ids = torch::arange(grid.size(), torch::kInt64).unsqueeze(0).repeat({clip.size(0), 1});
  auto predictor = jepa::predictors::load_predictor(file, loaded.family, 0, *loaded.encoder);
  test.forward("predicted", predictor.predictor->forward(tokens, {ids, ids}, grid, 0).target);

  const auto weights = file.weights("probe");
  jepa::eval::probes::AttentiveProbe probe(
      jepa::nn::AttentivePoolerOptions{.dim = tokens.size(2),
                                       .heads = file.number("num_attention_heads", 0),
                                       .depth = file.number("num_pooler_layers", 3) + 1,
                                       .eps = 1e-6},
      weights.at("linear.weight").size(0));
  jepa::load_into(*probe, weights, file.path());
  test.forward("logits", probe->forward(tokens));
}

}  // namespace parity

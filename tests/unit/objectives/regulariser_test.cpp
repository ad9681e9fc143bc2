// The regulariser's views of tokens: each must see exactly the collapse it is there to stop.
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/objectives/regulariser.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa {
namespace {

constexpr int64_t kSamples = 32, kKept = 6, kFeatures = 8;
const TokenGrid kGrid{2, 2, 3};

struct Tokens {
  torch::Tensor ids, position, clip, noise;
};

/// Tokens at random ids, as three parts of unit variance each.
Tokens parts() {
  torch::manual_seed(5);
  Tokens result;
  result.ids =
      torch::rand({kSamples, kGrid.size()}).argsort(int64_t{1}).slice(1, 0, kKept).contiguous();
  result.position =
      torch::randn({kGrid.size(), kFeatures}).index({torch::indexing::TensorIndex(result.ids)});
  result.clip = torch::randn({kSamples, 1, kFeatures}).expand({kSamples, kKept, kFeatures});
  result.noise = torch::randn({kSamples, kKept, kFeatures});
  return result;
}

double variance_term(const torch::Tensor& tokens, const torch::Tensor& ids, const char* on) {
  const RegulariserOptions options{.kind = "vicreg", .on = on, .gamma = 1.0};
  return regularise(tokens, ids, kGrid, options, {}).variance.item<double>();
}

TEST(Regulariser, EachViewSeesItsCollapse) {
  const auto t = parts();
  // 0.99: the hinge at no variance at all (gamma less the square root of eps).
  EXPECT_NEAR(variance_term(t.position, t.ids, "token_residual"), 0.99, 1e-3);
  EXPECT_LT(variance_term(t.position, t.ids, "tokens"), 0.5);
  EXPECT_NEAR(variance_term(t.clip, t.ids, "token_rest"), 0.99, 0.35);
  EXPECT_LT(variance_term(t.clip, t.ids, "token_residual"), 0.3);
  EXPECT_LT(variance_term(t.clip, t.ids, "pooled"), 0.3);
  EXPECT_LT(variance_term(t.noise, t.ids, "token_rest"), 0.3);
}

TEST(Regulariser, RowsHaveTheDocumentedShape) {
  const auto t = parts();
  EXPECT_EQ(regularised_rows(t.noise, t.ids, kGrid, "pooled").sizes(),
            (at::IntArrayRef{kSamples, kFeatures}));
  for (const char* on : {"tokens", "token_residual", "token_rest"}) {
    EXPECT_EQ(regularised_rows(t.noise, t.ids, kGrid, on).sizes(),
              (at::IntArrayRef{kSamples * kKept, kFeatures}));
  }
  const auto rest = regularised_rows(t.noise, t.ids, kGrid, "token_rest");
  EXPECT_LT(rest.view({kSamples, kKept, kFeatures}).mean(1).abs().max().item<double>(), 1e-6);
}

TEST(Regulariser, LossIsTheWeightedSumAndCarriesGradient) {
  const auto t = parts();
  const auto tokens = (0.1 * t.noise).requires_grad_();
  const RegulariserOptions options{
      .kind = "vicreg", .variance_weight = 3, .covariance_weight = 0.5, .gamma = 0.7};
  const auto terms = regularise(tokens, t.ids, kGrid, options, {});
  EXPECT_NEAR(terms.loss.item<double>(),
              3 * terms.variance.item<double>() + 0.5 * terms.covariance.item<double>(), 1e-6);
  EXPECT_FALSE(terms.variance.requires_grad());
  EXPECT_FALSE(terms.sigreg.defined());
  terms.loss.backward();
  EXPECT_GT(tokens.grad().abs().max().item<double>(), 0);
}

TEST(Regulariser, SigregIsReproducibleFromItsGenerator) {
  const auto t = parts();
  const RegulariserOptions options{.kind = "sigreg", .sigreg_weight = 2, .slices = 16};
  const auto run = [&] { return regularise(t.noise, t.ids, kGrid, options, seeded_generator(9)); };
  const auto terms = run();
  EXPECT_EQ(terms.loss.item<double>(), run().loss.item<double>());
  EXPECT_NEAR(terms.loss.item<double>(), 2 * terms.sigreg.item<double>(), 1e-7);
}

TEST(Regulariser, NoneIsNothingAndUnknownNamesAreErrors) {
  const auto t = parts();
  EXPECT_FALSE(regularise(t.noise, t.ids, kGrid, {.kind = "none"}, {}).loss.defined());
  EXPECT_THROW(regularise(t.noise, t.ids, kGrid, {.kind = "barlow"}, {}), ConfigError);
  EXPECT_THROW(regularise(t.noise, t.ids, kGrid, {.kind = "vicreg", .on = "frames"}, {}),
               ConfigError);
}

}  // namespace
}  // namespace jepa

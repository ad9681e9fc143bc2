// What is not finite comes out of our kernels as it comes out of LibTorch's.
#include <jepa/generator.hpp>
#include <jepa/nn/attention_kernel.hpp>
#include <jepa/nn/layers.hpp>
#include <jepa/nn/mlp.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <limits>

namespace jepa::nn {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void expect_alike(const torch::Tensor& ours, const torch::Tensor& theirs) {
  EXPECT_TRUE(torch::equal(ours.isnan(), theirs.isnan()));
  EXPECT_TRUE(torch::equal(ours.isinf(), theirs.isinf()));
  const auto finite = theirs.isfinite();
  EXPECT_TRUE(torch::allclose(torch::where(finite, ours, 0.0), torch::where(finite, theirs, 0.0),
                              1e-4, 1e-5));
}

torch::Tensor softmax_attention(const torch::Tensor& qkv) {
  const auto parts = qkv.permute({2, 0, 3, 1, 4}).unbind(0);  // each [B, heads, N, d]
  const auto scores =
      parts[0].matmul(parts[1].transpose(-1, -2)) / std::sqrt(static_cast<double>(qkv.size(4)));
  return at::softmax(scores, -1).matmul(parts[2]).transpose(1, 2).flatten(2);
}

TEST(NonFinite, PassesThroughAttentionAtEverySize) {
  const torch::NoGradGuard no_grad;
  for (const int64_t tokens : {1, 5, 16, 40, 1024}) {
    for (const float value : {std::nanf(""), kInfinity, -kInfinity}) {
      for (const int64_t part : {0, 1, 2}) {
        SCOPED_TRACE(testing::Message() << tokens << " tokens, part " << part << ", " << value);
        auto qkv = torch::randn({2, tokens, 3, 2, 8}, seeded_generator(1));
        qkv[1][tokens / 2][part][0][3] = value;
        ASSERT_TRUE(attention_kernel_fits(qkv));
        expect_alike(attention_kernel(qkv, {}), softmax_attention(qkv));
      }
    }
  }
}

TEST(NonFinite, ReachesTheGradientsOfAttention) {
  auto qkv = torch::randn({1, 20, 3, 2, 8}, seeded_generator(1));
  qkv[0][7][0][1][3] = std::nanf("");
  auto ours = qkv.clone().requires_grad_(true), theirs = qkv.clone().requires_grad_(true);
  attention_kernel(ours, {}).sum().backward();
  softmax_attention(theirs).sum().backward();
  EXPECT_TRUE(torch::equal(ours.grad().isnan(), theirs.grad().isnan()));
}

TEST(NonFinite, PassesThroughTheMlp) {
  Mlp mlp(8, 16, "gelu");
  initialise_layers(*mlp, seeded_generator(1));
  auto x = torch::randn({1, 40, 8}, seeded_generator(2));
  x[0][3][2] = std::nanf("");
  x[0][9][2] = kInfinity;
  x[0][17][2] = -kInfinity;
  const auto theirs = at::linear(at::gelu(at::linear(x, mlp->fc1->weight, mlp->fc1->bias)),
                                 mlp->fc2->weight, mlp->fc2->bias);
  EXPECT_TRUE(torch::equal(mlp->forward(x).isfinite(), theirs.isfinite()));
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(torch::equal(mlp->forward(x).isfinite(), theirs.isfinite()));
}

}  // namespace
}  // namespace jepa::nn

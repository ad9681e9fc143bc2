#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/nn/attention_kernel.hpp>
#include <jepa/nn/attentive_pooler.hpp>
#include <jepa/nn/block.hpp>
#include <jepa/nn/patch_embedding.hpp>

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/init.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::nn {
namespace {

torch::Tensor explicit_attention(const torch::Tensor& q, const torch::Tensor& k,
                                 const torch::Tensor& v, const torch::Tensor& mask) {
  auto scores = torch::matmul(q, k.transpose(-2, -1)) / std::sqrt(double(q.size(-1)));
  if (mask.defined()) scores = scores.masked_fill(mask.logical_not(), -INFINITY);
  return torch::matmul(scores.softmax(-1), v);
}

/// What an attention layer computes, spelled out.
torch::Tensor explicit_layer(Attention& layer, const torch::Tensor& x, int64_t heads,
                             const RotaryTable& rotary, const torch::Tensor& mask) {
  const auto parts = layer->qkv->forward(x).chunk(3, -1);
  const auto split = [&](const torch::Tensor& t) {
    return t.reshape({t.size(0), t.size(1), heads, -1}).transpose(1, 2);
  };
  auto q = split(parts[0]);
  auto k = split(parts[1]);
  if (rotary.defined()) {
    q = rotate(q, rotary);
    k = rotate(k, rotary);
  }
  const auto out = explicit_attention(q, k, split(parts[2]), mask);
  return layer->proj->forward(out.transpose(1, 2).reshape(x.sizes()));
}

struct AttentionShape {
  int64_t batch, tokens, heads, head_dim;
  bool rotary, mask;
};

class AttentionPaths : public testing::TestWithParam<AttentionShape> {};

TEST_P(AttentionPaths, OutputAndGradientsAreThoseOfTheFormula) {
  const auto p = GetParam();
  torch::manual_seed(3);
  const int64_t dim = p.heads * p.head_dim;
  Attention layer(dim, p.heads);
  initialise_layers(*layer, seeded_generator(1));
  {
    const torch::NoGradGuard no_grad;
    layer->qkv->weight.mul_(10);  // scores far from uniform
    layer->qkv->bias.normal_();
  }
  RotaryTable rotary;
  if (p.rotary) {
    rotary = rotary_table(grid_positions({1, 1, p.tokens}, 0), p.head_dim, RotaryLayout::kTiled)
                 .at(torch::randint(p.tokens, {p.batch, p.tokens}, torch::kInt64));
  }
  const auto mask =
      p.mask ? torch::ones({p.tokens, p.tokens}, torch::kBool).tril() : torch::Tensor();
  const auto weight = torch::randn({p.batch, p.tokens, dim});
  std::vector<std::vector<torch::Tensor>> results;
  for (const bool ours : {true, false}) {
    torch::manual_seed(4);
    const auto x = torch::randn({p.batch, p.tokens, dim}).requires_grad_();
    const auto y =
        ours ? layer->forward(x, rotary, mask) : explicit_layer(layer, x, p.heads, rotary, mask);
    const auto grads = torch::autograd::grad(
        {(y * weight).sum()}, {x, layer->qkv->weight, layer->qkv->bias, layer->proj->weight});
    results.push_back({y.detach(), grads[0], grads[1], grads[2], grads[3]});
  }
  for (size_t i = 0; i < results[0].size(); ++i) {
    const double scale = results[1][i].abs().max().item<double>();
    EXPECT_LT((results[0][i] - results[1][i]).abs().max().item<double>(), 1e-5 * scale) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionPaths,
                         testing::Values(AttentionShape{3, 5, 2, 7, false, false},
                                         AttentionShape{2, 1, 1, 4, true, false},
                                         AttentionShape{4, 64, 3, 32, false, false},
                                         AttentionShape{2, 48, 3, 16, true, false},
                                         AttentionShape{2, 400, 2, 24, true, false},
                                         AttentionShape{1, 700, 1, 64, false, false},
                                         AttentionShape{2, 33, 2, 12, true, true}));

TEST(Attention, WithoutGradientGivesTheSame) {
  Attention layer(24, 2);
  initialise_layers(*layer, seeded_generator(1));
  const auto x = torch::randn({2, 9, 24});
  const auto with = layer->forward(x).detach();
  const torch::NoGradGuard no_grad;
  EXPECT_LT((with - layer->forward(x)).abs().max().item<double>(), 1e-6);
}

TEST(Attention, ThreadsShareTheHeadsAndChangeNothing) {
  torch::manual_seed(5);
  const auto qkv = torch::randn({5, 23, 3, 3, 8});
  ASSERT_TRUE(attention_kernel_fits(qkv));
  const auto weight = torch::randn({5, 23, 24});
  const auto run = [&](int threads) {
    const int before = torch::get_num_threads();
    torch::set_num_threads(threads);
    const auto x = qkv.clone().requires_grad_();
    const auto y = attention_kernel(x, {});
    const auto grad = torch::autograd::grad({(y * weight).sum()}, {x})[0];
    torch::set_num_threads(before);
    return std::vector<torch::Tensor>{y.detach(), grad};
  };
  const auto one = run(1), three = run(3);
  EXPECT_TRUE(torch::equal(one[0], three[0]));
  EXPECT_TRUE(torch::equal(one[1], three[1]));
}

TEST(Block, CheckpointingGivesTheSameGradients) {
  torch::manual_seed(5);
  Block block(BlockOptions{.dim = 24, .heads = 2, .mlp_hidden = 48});
  initialise_layers(*block, seeded_generator(1));
  const auto start = torch::randn({3, 7, 24});
  const auto keep = draw_drop_path(0.5, start);
  std::vector<std::vector<torch::Tensor>> gradients;
  for (const bool checkpointing : {false, true}) {
    block->zero_grad();
    const auto x = start.clone().requires_grad_();
    run_block(block, x, {}, {}, keep, checkpointing).pow(2).sum().backward();
    gradients.push_back({x.grad().clone()});
    for (const auto& p : block->parameters()) gradients.back().push_back(p.grad().clone());
  }
  ASSERT_EQ(gradients[0].size(), 13u);
  for (size_t i = 0; i < gradients[0].size(); ++i) {
    EXPECT_TRUE(torch::allclose(gradients[0][i], gradients[1][i], 1e-6, 1e-7)) << i;
  }
}

TEST(Block, CheckpointingTrainsParametersOnPlainInput) {
  // The input needs no gradient, the parameters do.
  Block block(BlockOptions{.dim = 8, .heads = 1, .mlp_hidden = 8});
  initialise_layers(*block, seeded_generator(1));
  run_block(block, torch::randn({1, 3, 8}), {}, {}, {}, true).sum().backward();
  for (const auto& p : block->named_parameters())
    EXPECT_TRUE(p.value().grad().defined()) << p.key();
}

TEST(Block, DropPathDropsWholeSamplesAndKeepsTheMean) {
  torch::manual_seed(6);
  const auto keep = draw_drop_path(0.25, torch::empty({4000, 1, 1}));
  EXPECT_NEAR(keep.mean().item<double>(), 1.0, 0.03);
  const auto values = std::get<0>(torch::_unique2(keep));
  EXPECT_TRUE(torch::allclose(values, torch::tensor({0.0, 1 / 0.75}, torch::kFloat32)));
  EXPECT_FALSE(draw_drop_path(0, torch::empty({1})).defined());
}

TEST(Mlp, SwigluFollowsItsFormula) {
  Mlp mlp(6, 8, "swiglu");
  initialise_layers(*mlp, seeded_generator(1));
  const auto x = torch::randn({2, 6});
  const auto a = torch::linear(x, mlp->fc1->weight);
  const auto expected =
      torch::linear(a * torch::sigmoid(a) * torch::linear(x, mlp->fc2->weight), mlp->fc3->weight);
  EXPECT_TRUE(torch::allclose(mlp->forward(x), expected, 1e-5, 1e-7));
  EXPECT_EQ(wide_swiglu_width(4096), 2736);
  EXPECT_THROW(Mlp(6, 8, "relu"), ConfigError);
}

TEST(Mlp, OntoAResidualIsTheFormulaAndItsGradients) {
  for (const int64_t hidden : {5, 16, 40}) {
    torch::manual_seed(10);
    Mlp mlp(6, hidden);
    for (auto& p : mlp->parameters()) torch::nn::init::normal_(p, 0, 1);
    const auto start = torch::randn({2, 3, 6}) * 2;
    const auto weight = torch::randn({2, 3, 6});
    std::vector<std::vector<torch::Tensor>> gradients;
    std::vector<torch::Tensor> outputs;
    for (const bool fused : {true, false}) {
      const auto x = start.clone().requires_grad_();
      const auto residual = start.flip(0).clone().requires_grad_();
      outputs.push_back(fused ? mlp->forward_onto(residual, x) : residual + mlp->forward(x));
      auto inputs = mlp->parameters();
      inputs.push_back(x);
      inputs.push_back(residual);
      gradients.push_back(torch::autograd::grad({(outputs.back() * weight).sum()}, inputs));
    }
    const torch::NoGradGuard no_grad;
    outputs.push_back(mlp->forward_onto(start.flip(0), start));
    EXPECT_TRUE(torch::allclose(outputs[0], outputs[1], 1e-5, 1e-5));
    EXPECT_TRUE(torch::allclose(outputs[2], outputs[1], 1e-5, 1e-5));
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      EXPECT_TRUE(torch::allclose(gradients[0][i], gradients[1][i], 1e-5, 1e-5)) << i;
    }
  }
}

TEST(Mlp, TrainsAroundFrozenWeights) {
  Mlp mlp(6, 16);
  initialise_layers(*mlp, seeded_generator(1));
  mlp->fc1->weight.set_requires_grad(false);
  mlp->forward_onto(torch::randn({1, 2, 6}), torch::randn({1, 2, 6})).sum().backward();
  EXPECT_FALSE(mlp->fc1->weight.grad().defined());
  EXPECT_TRUE(mlp->fc2->weight.grad().defined());
}

TEST(PatchEmbedding, IsTheStridedConvolution) {
  torch::manual_seed(7);
  PatchEmbedding patches(3, 10, 2, 4, false);
  initialise_layers(*patches, seeded_generator(1));
  const auto clip = torch::randn({2, 3, 6, 8, 12});
  const auto weight = patches->named_parameters()["proj.weight"];
  const auto bias = patches->named_parameters()["proj.bias"];
  const auto expected = torch::conv3d(clip, weight, bias, {2, 4, 4}).flatten(2).transpose(1, 2);
  EXPECT_TRUE(torch::allclose(patches->forward(clip), expected, 1e-5, 1e-6));
}

TEST(Initialise, HasTheDeviationAndIsReproducible) {
  Linear a(300, 200);
  Linear b(300, 200);
  initialise_layers(*a, seeded_generator(9));
  initialise_layers(*b, seeded_generator(9));
  EXPECT_TRUE(torch::equal(a->weight, b->weight));
  EXPECT_NEAR(a->weight.std().item<double>(), 0.02, 2e-4);
  EXPECT_LT(std::abs(a->weight.mean().item<double>()), 5e-4);
  EXPECT_EQ(a->bias.abs().max().item<double>(), 0);
}

TEST(AttentivePooler, DoesNotCareForTheOrderOfTokens) {
  AttentivePooler pooler(AttentivePoolerOptions{.dim = 16, .heads = 2, .depth = 3, .queries = 2});
  pooler->initialise(seeded_generator(1));
  const auto tokens = torch::randn({2, 6, 16});
  const auto pooled = pooler->forward(tokens);
  ASSERT_EQ(pooled.sizes(), (std::vector<int64_t>{2, 2, 16}));
  EXPECT_TRUE(torch::allclose(pooled, pooler->forward(tokens.flip(1)), 1e-5, 1e-6));
}

}  // namespace
}  // namespace jepa::nn

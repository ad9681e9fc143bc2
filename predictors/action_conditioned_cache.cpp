// Rollouts of the action-conditioned predictor with keys and values kept.
#include <predictors/action_conditioned.hpp>

#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::predictors {
namespace {

template <class Layer>
Layer& child(const nn::Block& block, const char* name) {
  return *block->named_children()[name]->as<Layer>();
}

// One block over `x` [B, n, dim] that stands at `from` of the sequence; keys and values of what
// stands before come from the cache, those of `x` go into it.
torch::Tensor run_cached(const nn::Block& block, int64_t heads, const torch::Tensor& x,
                         const nn::RotaryTable& rotary, const torch::Tensor& mask, int64_t from,
                         torch::Tensor& keys, torch::Tensor& values) {
  auto& attention = child<nn::AttentionImpl>(block, "attn");
  const int64_t count = x.size(1);
  const auto parts = attention.qkv->forward(child<nn::LayerNormImpl>(block, "norm1").forward(x))
                         .view({x.size(0), count, 3, heads, -1})
                         .permute({2, 0, 3, 1, 4})
                         .unbind(0);
  keys.narrow(2, from, count).copy_(nn::rotate(parts[1], rotary));
  values.narrow(2, from, count).copy_(parts[2]);
  const auto seen = nn::attend(nn::rotate(parts[0], rotary), keys.narrow(2, 0, from + count),
                               values.narrow(2, 0, from + count), mask);
  const auto y = attention.proj->forward_onto(x, seen.transpose(1, 2).reshape(x.sizes()));
  auto& mlp = child<nn::MlpImpl>(block, "mlp");
  return mlp.forward_onto(y, child<nn::LayerNormImpl>(block, "norm2").forward(y));
}

}  // namespace

ActionConditionedPredictorImpl::Cache ActionConditionedPredictorImpl::Cache::repeat(
    int64_t times) const {
  Cache copy = *this;
  for (auto& k : copy.keys) k = k.repeat_interleave(times, 0);
  for (auto& v : copy.values) v = v.repeat_interleave(times, 0);
  return copy;
}

ActionConditionedPredictorImpl::Cache ActionConditionedPredictorImpl::start_cache(
    int64_t batch, int64_t steps, int64_t h, int64_t w) const {
  TORCH_CHECK(batch >= 1 && steps >= 1 && h >= 1 && w >= 1, "start_cache: ", batch, " rows of ",
              steps, " frames of ", h, " x ", w, " tokens");
  const torch::NoGradGuard no_grad;
  Cache cache;
  cache.frame = {1, h, w};
  cache.capacity = steps;
  const auto options = embed_->weight.options().requires_grad(false);
  cache.rotary = rotary({steps, h, w}, options.device());
  const std::vector<int64_t> sizes = {batch, options_.heads,
                                      steps * (conditions_per_step() + h * w),
                                      options_.dim / options_.heads};
  for (int64_t i = 0; i < options_.depth; ++i) {
    cache.keys.push_back(torch::empty(sizes, options));
    cache.values.push_back(torch::empty(sizes, options));
  }
  return cache;
}

torch::Tensor ActionConditionedPredictorImpl::extend(Cache& cache, const torch::Tensor& tokens,
                                                     const Conditions& conditions) {
  const torch::NoGradGuard no_grad;
  const int64_t size = cache.frame.frame_size();
  const TokenGrid grid{tokens.size(1) / size, cache.frame.h, cache.frame.w};
  TORCH_CHECK(grid.t >= 1 && cache.steps + grid.t <= cache.capacity, "extend: ", grid.t,
              " frames after ", cache.steps, " do not fit a cache of ", cache.capacity);
  TORCH_CHECK(tokens.size(0) == cache.keys.front().size(0), "extend: tokens ", tokens.sizes(),
              " for a cache of ", cache.keys.front().size(0), " rows");
  const int64_t per_step = conditions_per_step() + size;
  const int64_t from = cache.steps * per_step;
  auto x = sequence(tokens, conditions, grid);
  const nn::RotaryTable here = {cache.rotary.cos.narrow(0, from, x.size(1)),
                                cache.rotary.sin.narrow(0, from, x.size(1))};
  torch::Tensor mask;  // one frame sees all that there is
  if (grid.t > 1) {
    const auto step =
        torch::arange(cache.steps + grid.t, torch::kInt64).repeat_interleave(per_step);
    mask = step.narrow(0, from, x.size(1)).unsqueeze(1).ge(step.unsqueeze(0)).to(x.device());
  }
  for (size_t i = 0; i < blocks_.size(); ++i) {
    x = run_cached(blocks_[i], options_.heads, x, here, mask, from, cache.keys[i],
                   cache.values[i]);
  }
  cache.steps += grid.t;
  x = x.unflatten(1, {grid.t, per_step}).narrow(2, conditions_per_step(), size);
  return proj_->forward(norm_->forward(x)).flatten(1, 2);
}

}  // namespace jepa::predictors

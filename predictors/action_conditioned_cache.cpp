// Rollouts of the action-conditioned predictor with keys and values kept.
#include <predictors/action_conditioned.hpp>

#include <ATen/ATen.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::predictors {
namespace {

template <class Layer>
Layer& child(const nn::Block& block, const char* name) {
  return *block->named_children()[name]->as<Layer>();
}

using Cache = ActionConditionedPredictorImpl::Cache;

// What the queries [B * times, heads, n, d] see of keys that `times` rows have in common
// [B, heads, m, d], joined with what they see of their own: softmax over both, from each part's
// logarithm of the sum of exponentials.
torch::Tensor attend_both(const torch::Tensor& q, const torch::Tensor& common_keys,
                          const torch::Tensor& common_values, const torch::Tensor& keys,
                          const torch::Tensor& values, const torch::Tensor& mask) {
  const int64_t rows = common_keys.size(0), times = q.size(0) / rows;
  const int64_t heads = q.size(1), count = q.size(2);
  if (!q.device().is_cpu()) {
    const auto all = [&](const torch::Tensor& shared, const torch::Tensor& own) {
      return torch::cat({shared.repeat_interleave(times, 0), own}, 2);
    };
    const auto seen = mask.defined()
                          ? torch::cat({mask.new_ones({count, common_keys.size(2)}), mask}, 1)
                          : torch::Tensor();
    return nn::attend(q, all(common_keys, keys), all(common_values, values), seen);
  }
  std::optional<torch::Tensor> given;
  if (mask.defined()) given = q.new_zeros(mask.sizes()).masked_fill(mask.logical_not(), -INFINITY);
  const auto [own, own_sum] =
      at::_scaled_dot_product_flash_attention_for_cpu(q, keys, values, 0.0, false, given);
  const auto joined = q.view({rows, times, heads, count, -1}).transpose(1, 2).flatten(2, 3);
  const auto [past, past_sum] =
      at::_scaled_dot_product_flash_attention_for_cpu(joined, common_keys, common_values);
  const auto apart = [&](const torch::Tensor& x) {
    return x.unflatten(2, {times, count}).transpose(1, 2).flatten(0, 1);
  };
  const auto share = at::sigmoid(apart(past_sum.unsqueeze(-1)) - own_sum.unsqueeze(-1));
  return at::lerp(own, apart(past), share.to(own.scalar_type()));
}

// Block `i` over `x` [B, n, dim] that stands at `from` of the cache's own sequence; keys and values
// of what stands before come from the cache, those of `x` go into it.
torch::Tensor run_cached(const nn::Block& block, int64_t heads, const torch::Tensor& x,
                         const nn::RotaryTable& rotary, const torch::Tensor& mask, int64_t from,
                         Cache& cache, size_t i) {
  auto& attention = child<nn::AttentionImpl>(block, "attn");
  const int64_t count = x.size(1);
  const auto parts = attention.qkv->forward(child<nn::LayerNormImpl>(block, "norm1").forward(x))
                         .view({x.size(0), count, 3, heads, -1})
                         .permute({2, 0, 3, 1, 4})
                         .unbind(0);
  cache.keys[i].narrow(2, from, count).copy_(nn::rotate(parts[1], rotary));
  cache.values[i].narrow(2, from, count).copy_(parts[2]);
  const auto keys = cache.keys[i].narrow(2, 0, from + count);
  const auto values = cache.values[i].narrow(2, 0, from + count);
  const auto q = nn::rotate(parts[0], rotary);
  const auto seen = cache.common == 0 ? nn::attend(q, keys, values, mask)
                                      : attend_both(q.contiguous(), cache.common_keys[i],
                                                    cache.common_values[i], keys, values, mask);
  const auto y = attention.proj->forward_onto(x, seen.transpose(1, 2).reshape(x.sizes()));
  auto& mlp = child<nn::MlpImpl>(block, "mlp");
  return mlp.forward_onto(y, child<nn::LayerNormImpl>(block, "norm2").forward(y));
}

}  // namespace

Cache ActionConditionedPredictorImpl::branch(const Cache& history, int64_t times,
                                             int64_t room) const {
  TORCH_CHECK(history.common == 0 && history.steps >= 1 && times >= 1 && room >= 1,
              "branch: a history of 1 or more frames that is no branch itself, 1 or more rows, "
              "room for 1 or more frames");
  const torch::NoGradGuard no_grad;
  Cache cache = history;
  cache.times = times;
  cache.common = history.steps;
  cache.capacity = history.steps + room;
  cache.rotary =
      rotary({cache.capacity, history.frame.h, history.frame.w}, history.keys.front().device());
  const int64_t per_step = conditions_per_step() + history.frame.frame_size();
  const auto part = [&](const std::vector<torch::Tensor>& all, std::vector<torch::Tensor>& past,
                        std::vector<torch::Tensor>& own) {
    past.clear();
    own.clear();
    for (const auto& one : all) {
      auto sizes = one.sizes().vec();
      sizes[0] *= times;
      sizes[2] = room * per_step;
      past.push_back(one.narrow(2, 0, history.steps * per_step));
      own.push_back(one.new_empty(sizes));
    }
  };
  part(history.keys, cache.common_keys, cache.keys);
  part(history.values, cache.common_values, cache.values);
  return cache;
}

Cache ActionConditionedPredictorImpl::start_cache(int64_t batch, int64_t steps, int64_t h,
                                                  int64_t w) const {
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
  const int64_t own = cache.steps - cache.common;
  auto x = sequence(tokens, conditions, grid);
  const nn::RotaryTable here = {cache.rotary.cos.narrow(0, from, x.size(1)),
                                cache.rotary.sin.narrow(0, from, x.size(1))};
  torch::Tensor mask;  // one frame sees all that there is
  if (grid.t > 1) {
    const auto step = torch::arange(own + grid.t, torch::kInt64).repeat_interleave(per_step);
    mask =
        step.narrow(0, own * per_step, x.size(1)).unsqueeze(1).ge(step.unsqueeze(0)).to(x.device());
  }
  for (size_t i = 0; i < blocks_.size(); ++i) {
    x = run_cached(blocks_[i], options_.heads, x, here, mask, own * per_step, cache, i);
  }
  cache.steps += grid.t;
  x = x.unflatten(1, {grid.t, per_step}).narrow(2, conditions_per_step(), size);
  return proj_->forward(norm_->forward(x)).flatten(1, 2);
}

}  // namespace jepa::predictors

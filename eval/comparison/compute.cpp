#include <eval/comparison/compute.hpp>

namespace jepa::eval::comparison {

double trunk_flops(const nn::BlockOptions& block, int64_t depth, int64_t tokens) {
  return static_cast<double>(depth) * nn::block_flops(block, tokens);
}

double alternating_trunk_flops(const nn::BlockOptions& block, int64_t depth, int64_t frames,
                               int64_t positions) {
  const double space = static_cast<double>(frames) * nn::block_flops(block, positions);
  const double time = static_cast<double>(positions) * nn::block_flops(block, frames);
  const int64_t odd = depth / 2;
  return static_cast<double>(depth - odd) * space + static_cast<double>(odd) * time;
}

double cross_attention_flops(int64_t dim, int64_t queries, int64_t memory) {
  return linear_flops(2 * queries, dim, dim) +  // query and output projections
         linear_flops(2 * memory, dim, dim) +   // keys and values
         2 * linear_flops(queries, dim, memory);
}

double modulation_flops(int64_t dim, int64_t depth, int64_t conditions) {
  return linear_flops(conditions, dim, (6 * depth + 2) * dim);
}

double diffusion_flops(const DiffusionShape& shape) {
  const int64_t dim = shape.block.dim, tokens = shape.tokens();
  const int64_t input = shape.input_values > 0 ? shape.input_values : shape.patch_values;
  double flops = shape.alternating ? alternating_trunk_flops(shape.block, shape.depth, shape.frames,
                                                             shape.positions)
                                   : trunk_flops(shape.block, shape.depth, tokens);
  flops += linear_flops(tokens, input + shape.latent_values, dim);
  flops += linear_flops(tokens, dim, shape.patch_values);
  flops += modulation_flops(dim, shape.depth, shape.conditions);
  flops += linear_flops(shape.conditions, shape.time_features + dim, dim);  // time network
  if (shape.prompt_tokens > 0) {
    flops += static_cast<double>(shape.depth) *
             cross_attention_flops(dim, tokens, shape.prompt_tokens);
  }
  return flops;
}

}  // namespace jepa::eval::comparison

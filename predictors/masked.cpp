#include <jepa/errors.hpp>
#include <predictors/masked.hpp>

#include <c10/util/StringUtil.h>
#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace jepa::predictors {
namespace {

constexpr double kModalityDeviation = 1e-6;
constexpr double kMaskTokenDeviation = 0.02;

nn::BlockOptions block_options(const MaskedPredictorOptions& options) {
  return {.dim = options.dim,
          .heads = options.heads,
          .mlp_hidden = static_cast<int64_t>(options.dim * options.mlp_ratio + 1e-6)};
}

void require(bool good, const std::string& message) {
  if (!good) throw ConfigError("predictor: " + message);
}

MaskedPredictorOptions resolve(MaskedPredictorOptions options, const ModelShape& shape) {
  require(shape.encoder_width > 0, "the encoder's width must be given");
  if (options.heads == 0) options.heads = shape.encoder_heads;
  if (options.mask_tokens == 0) options.mask_tokens = shape.masks;
  require(options.dim > 0 && options.depth > 0 && options.heads > 0,
          "dim, depth and heads must be given");
  require(options.dim % options.heads == 0,
          c10::str("dim ", options.dim, " does not divide over ", options.heads, " heads"));
  require(options.positions == "rope" || options.positions == "sincos",
          "positions: expected rope or sincos, found '" + options.positions + "'");
  require(options.mask_token_index < options.mask_tokens,
          c10::str("mask_token_index ", options.mask_token_index, " is not among ",
                   options.mask_tokens, " mask tokens"));
  require(options.pooled_masks.empty() || (options.positions == "sincos" && !options.context_head),
          "pooled_masks are for sincos positions and no context_head");
  return options;
}

}  // namespace

void MaskedPredictorOptions::describe(OptionVisitor& visit) {
  visit("dim", dim, {.help = "token width", .min = 1});
  visit("depth", depth, {.help = "blocks", .min = 1});
  visit("heads", heads, {.help = "attention heads; 0: as the encoder", .min = 0});
  visit("mlp_ratio", mlp_ratio, {.help = "hidden width over token width", .min = 0.01});
  visit("positions", positions,
        {.help = "rotary or fixed absolute positions", .choices = {"rope", "sincos"}});
  visit("uniform_power", uniform_power,
        {.help = "sin-cos: equal widths for time, height and width"});
  visit("rope_layout", rope_layout,
        {.help = "rotary frequencies over a head", .choices = {"tiled", "interleaved"}});
  visit("rope_reference", rope_reference,
        {.help = "stretch rotary positions to this many patches a side; 0: no", .min = 0});
  visit("mask_tokens", mask_tokens, {.help = "mask tokens; 0: one per mask", .min = 0});
  visit("mask_token_index", mask_token_index,
        {.help = "mask token in use; -1: the mask's own number", .min = -1});
  visit("single_mask_token", single_mask_token, {.help = "I-JEPA: one, random at first"});
  visit("depth_rescale", depth_rescale, {.help = "initial residual weights over sqrt(2 * layer)"});
  visit("xavier", xavier,
        {.help = "initial matrices of Xavier's scale instead of 0.02, which suits wide models"});
  visit("checkpointing", checkpointing, {.help = "recompute blocks in backward to save memory"});
  visit("embed_hidden", embed_hidden,
        {.help = "V-JEPA 2.1: hidden width of the input projection; 0: none", .min = 0});
  visit("pooled_masks", pooled_masks,
        {.help = "masks (from 0) for which it sees but the mean of the context tokens", .min = 0});
  visit("context_head", context_head, {.help = "V-JEPA 2.1: predict context tokens too"});
  visit("modality_embedding", modality_embedding,
        {.help = "V-JEPA 2.1: vectors that tell images from video"});
}

MaskedPredictorImpl::MaskedPredictorImpl(MaskedPredictorOptions options, const ModelShape& shape)
    : options_(resolve(std::move(options), shape)), shape_(shape) {
  const auto& o = options_;
  if (shape_.target_width == 0) shape_.target_width = shape_.encoder_width;
  if (o.embed_hidden == 0) {
    embed_ = {register_module("predictor_embed", nn::Linear(shape.encoder_width, o.dim))};
  } else {
    // Published names 0 and 2: an activation stands between.
    auto parts = register_module("predictor_embed", std::make_shared<torch::nn::Module>());
    embed_ = {parts->register_module("0", nn::Linear(shape.encoder_width, o.embed_hidden)),
              parts->register_module("2", nn::Linear(o.embed_hidden, o.dim))};
  }
  if (o.single_mask_token) {
    mask_tokens_ = {register_parameter("mask_token", torch::empty({1, 1, o.dim}))};
  } else {
    auto list = register_module("mask_tokens", std::make_shared<torch::nn::Module>());
    for (int64_t i = 0; i < o.mask_tokens; ++i) {
      mask_tokens_.push_back(
          list->register_parameter(std::to_string(i), torch::empty({1, 1, o.dim})));
    }
  }
  if (o.modality_embedding) {
    image_modality_ = register_parameter("img_mod_embed", torch::empty({1, 1, o.dim}));
    video_modality_ = register_parameter("video_mod_embed", torch::empty({1, 1, o.dim}));
  }
  if (o.positions == "sincos") {
    const auto& grid = shape.grid;
    const auto table = grid.t == 1 ? nn::sincos_2d(o.dim, grid.h, grid.w)
                                   : nn::sincos_3d(o.dim, grid, o.uniform_power);
    pos_embed_ = register_buffer("predictor_pos_embed", table.unsqueeze(0));
  } else {
    rotary_ =
        nn::RotaryPositions(o.dim / o.heads, nn::rotary_layout(o.rope_layout), o.rope_reference);
  }
  blocks_ = nn::make_blocks(*this, "predictor_blocks", o.depth, block_options(o));
  norm_ = register_module("predictor_norm", nn::LayerNorm(o.dim));
  proj_ = register_module("predictor_proj", nn::Linear(o.dim, shape_.target_width));
  if (o.context_head) {
    proj_context_ =
        register_module("predictor_proj_context", nn::Linear(o.dim, shape_.target_width));
  }
}

torch::Tensor MaskedPredictorImpl::embed_context(const torch::Tensor& context) {
  auto x = embed_[0]->forward(context);
  if (embed_.size() == 2) x = embed_[1]->forward(at::gelu(x));
  return x;
}

const torch::Tensor& MaskedPredictorImpl::mask_token(int64_t mask_index) const {
  if (options_.single_mask_token) return mask_tokens_[0];
  const int64_t index = options_.mask_token_index < 0 ? mask_index : options_.mask_token_index;
  TORCH_CHECK(index >= 0 && index < static_cast<int64_t>(mask_tokens_.size()),
              "MaskedPredictor: mask ", index, " of ", mask_tokens_.size(), " mask tokens");
  return mask_tokens_[index];
}

Prediction MaskedPredictorImpl::forward(const torch::Tensor& context, const Mask& mask,
                                        const TokenGrid& grid, int64_t mask_index) {
  TORCH_CHECK(context.dim() == 3 && context.size(2) == shape_.encoder_width &&
                  context.size(0) == mask.context.size(0) &&
                  context.size(1) == mask.context.size(1),
              "MaskedPredictor: context [", mask.context.size(0), ", ", mask.context.size(1), ", ",
              shape_.encoder_width, "] expected, got ", context.sizes());
  const int64_t repeats = mask.targets_per_context();
  const int64_t hidden = mask.target.size(1);
  const auto& pooled_masks = options_.pooled_masks;
  const bool pooled =
      std::find(pooled_masks.begin(), pooled_masks.end(), mask_index) != pooled_masks.end();
  const int64_t kept = pooled ? 1 : mask.context.size(1);

  auto x = embed_context(pooled ? context.mean(1, /*keepdim=*/true) : context);
  auto targets = mask_token(mask_index).expand({mask.target.size(0), hidden, -1});
  if (pos_embed_.defined()) {
    const auto table = nn::resize_positions(pos_embed_, shape_.grid, grid)[0];
    if (!pooled) x = x + table.index_select(0, mask.context.flatten()).view_as(x);
    targets = targets + table.index_select(0, mask.target.flatten()).view(targets.sizes());
  }
  // The context is embedded once and shared by all target sets.
  if (repeats > 1) x = x.repeat({repeats, 1, 1});
  x = torch::cat({x, targets}, 1);
  if (options_.modality_embedding) x = x + (grid.t == 1 ? image_modality_ : video_modality_);

  // No order by id: without a causal mask attention does not care.
  nn::RotaryTable rotary;
  if (!pos_embed_.defined()) {
    const auto context_ids = repeats > 1 ? mask.context.repeat({repeats, 1}) : mask.context;
    rotary = rotary_.table(grid, torch::cat({context_ids, mask.target}, 1), x.device());
  }
  for (auto& block : blocks_) {
    x = nn::run_block(block, x, rotary, {}, {}, options_.checkpointing);
  }
  Prediction prediction;
  prediction.target = proj_->forward(norm_->forward(x.narrow(1, kept, hidden)));
  if (options_.context_head) {
    prediction.context = proj_context_->forward(norm_->forward(x.narrow(1, 0, kept)));
  }
  return prediction;
}

void MaskedPredictorImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, generator, options_.xavier);
  const torch::NoGradGuard no_grad;
  for (auto& token : mask_tokens_) {
    if (options_.single_mask_token) {
      nn::truncated_normal(token, kMaskTokenDeviation, generator);
    } else {
      token.zero_();
    }
  }
  for (auto* modality : {&image_modality_, &video_modality_}) {
    if (modality->defined()) modality->normal_(0, kModalityDeviation, generator);
  }
  if (!options_.depth_rescale) return;
  for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i]->rescale(static_cast<int64_t>(i) + 1);
}

double MaskedPredictorImpl::flops(int64_t context_tokens, int64_t target_tokens) const {
  const auto& o = options_;
  const double inner = o.embed_hidden;
  const double input = o.embed_hidden == 0 ? static_cast<double>(shape_.encoder_width) * o.dim
                                           : inner * (shape_.encoder_width + o.dim);
  const double output = static_cast<double>(o.dim) * shape_.target_width;
  const double projected = target_tokens + (o.context_head ? context_tokens : 0);
  return 2 * (context_tokens * input + projected * output) +
         o.depth * nn::block_flops(block_options(o), context_tokens + target_tokens);
}

}  // namespace jepa::predictors

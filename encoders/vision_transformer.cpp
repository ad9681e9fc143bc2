#include <encoders/vision_transformer.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace jepa::encoders {
namespace {

constexpr double kModalityDeviation = 1e-6;

bool has_rotary(const std::string& positions) { return positions == "rope" || positions == "both"; }

bool has_sincos(const std::string& positions) {
  return positions == "sincos" || positions == "both";
}

void require(bool good, const std::string& message) {
  if (!good) throw ConfigError("encoder: " + message);
}

/// What does not depend on the clips.
void check_blocks(const VisionTransformerOptions& options) {
  require(options.dim > 0 && options.depth > 0 && options.heads > 0,
          "dim, depth and heads must be given (or a preset)");
  require(options.dim % options.heads == 0,
          c10::str("dim ", options.dim, " does not divide over ", options.heads, " heads"));
  require(has_rotary(options.positions) || has_sincos(options.positions),
          "positions: expected rope, sincos or both, found '" + options.positions + "'");
  for (size_t i = 0; i < options.output_levels.size(); ++i) {
    const int64_t level = options.output_levels[i];
    require(level >= (i == 0 ? 0 : options.output_levels[i - 1] + 1) && level < options.depth,
            c10::str("output_levels must ascend within 0 to ", options.depth - 1));
  }
}

void check_clips(const VisionTransformerOptions& options) {
  require(options.patch > 0 && options.height % options.patch == 0 &&
              options.width % options.patch == 0,
          c10::str("a clip of ", options.height, " x ", options.width,
                   " does not divide into patches of ", options.patch));
  require(options.frames == 1 || (options.tubelet > 0 && options.frames % options.tubelet == 0),
          c10::str(options.frames, " frames do not divide into tubelets of ", options.tubelet));
}

}  // namespace

void VisionTransformerOptions::describe(OptionVisitor& visit) {
  visit("dim", dim, {.help = "token width; 0: from the preset", .min = 0});
  visit("depth", depth, {.help = "blocks; 0: from the preset", .min = 0});
  visit("heads", heads, {.help = "attention heads; 0: from the preset", .min = 0});
  visit("mlp_ratio", mlp_ratio,
        {.help = "hidden width over token width; 0: from the preset", .min = 0});
  visit("channels", channels, {.help = "colour channels", .min = 1});
  visit("frames", frames, {.help = "frames of a clip; 1: images", .unit = "frames", .min = 1});
  visit("height", height, {.help = "height of a clip", .unit = "pixels", .min = 1});
  visit("width", width, {.help = "width of a clip", .unit = "pixels", .min = 1});
  visit("patch", patch, {.help = "side of a patch", .unit = "pixels", .min = 1});
  visit("tubelet", tubelet, {.help = "frames in one patch", .unit = "frames", .min = 1});
  visit("positions", positions,
        {.help = "rotary or fixed absolute positions", .choices = {"rope", "sincos", "both"}});
  visit("uniform_power", uniform_power,
        {.help = "sin-cos: equal widths for time, height and width"});
  visit("rope_layout", rope_layout,
        {.help = "rotary frequencies over a head", .choices = {"tiled", "interleaved"}});
  visit("rope_reference", rope_reference,
        {.help = "stretch rotary positions to this many patches a side; 0: no", .min = 0});
  visit("activation", activation,
        {.help = "of the feed-forward half", .choices = {"gelu", "swiglu"}});
  visit("wide_swiglu", wide_swiglu, {.help = "SwiGLU with two thirds of the hidden width"});
  visit("drop_path", drop_path,
        {.help = "share of dropped branches in the last block", .min = 0, .max = 0.99});
  visit("xavier", xavier,
        {.help = "initial matrices of Xavier's scale instead of 0.02, which suits wide models"});
  visit("depth_rescale", depth_rescale, {.help = "initial residual weights over sqrt(2 * layer)"});
  visit("checkpointing", checkpointing, {.help = "recompute blocks in backward to save memory"});
  visit("output_levels", output_levels,
        {.help = "V-JEPA 2.1: blocks whose outputs are given", .min = 0});
  visit("image_embedding", image_embedding,
        {.help = "V-JEPA 2.1: own patch embedding for images, modality vectors"});
}

const std::vector<VisionTransformerPreset>& vision_transformer_presets() {
  static const std::vector<VisionTransformerPreset> presets = {
      {"vit_tiny", 192, 12, 3, 4},
      {"vit_small", 384, 12, 6, 4},
      {"vit_base", 768, 12, 12, 4},
      {"vit_large", 1024, 24, 16, 4},
      {"vit_huge", 1280, 32, 16, 4},
      {"vit_giant", 1408, 40, 16, 48.0 / 11},
      {"vit_giant_xformers", 1408, 40, 22, 48.0 / 11},
      {"vit_gigantic", 1664, 48, 16, 64.0 / 13},
      {"vit_gigantic_xformers", 1664, 48, 26, 64.0 / 13},
  };
  return presets;
}

nn::BlockOptions block_options(const VisionTransformerOptions& options) {
  // The small term undoes rounding in ratios like 48/11.
  int64_t hidden = static_cast<int64_t>(options.dim * options.mlp_ratio + 1e-6);
  if (options.activation == "swiglu" && options.wide_swiglu) {
    hidden = nn::wide_swiglu_width(hidden);
  }
  return {.dim = options.dim,
          .heads = options.heads,
          .mlp_hidden = hidden,
          .activation = options.activation};
}

VisionTransformerOptions resolve(VisionTransformerOptions options, const std::string& name) {
  if (name != "custom") {
    const auto& presets = vision_transformer_presets();
    const auto preset = std::find_if(presets.begin(), presets.end(),
                                     [&](const auto& row) { return name == row.name; });
    require(preset != presets.end(), "unknown preset '" + name + "'");
    if (options.dim == 0) options.dim = preset->dim;
    if (options.depth == 0) options.depth = preset->depth;
    if (options.heads == 0) options.heads = preset->heads;
    if (options.mlp_ratio == 0) options.mlp_ratio = preset->mlp_ratio;
  }
  if (options.mlp_ratio == 0) options.mlp_ratio = 4;
  check_blocks(options);
  return options;
}

VisionTransformerImpl::VisionTransformerImpl(VisionTransformerOptions options)
    : options_(resolve(std::move(options), "custom")) {
  const auto& o = options_;
  check_clips(o);
  set_clip_sizes({1, o.channels, o.frames, o.height, o.width});
  set_heads(o.heads);
  const bool image = o.frames == 1;
  patch_embed_ = register_module("patch_embed",
                                 nn::PatchEmbedding(o.channels, o.dim, o.tubelet, o.patch, image));
  if (o.image_embedding) {
    require(!image, "image_embedding is for video encoders");
    patch_embed_img_ = register_module("patch_embed_img",
                                       nn::PatchEmbedding(o.channels, o.dim, 1, o.patch, false));
    image_modality_ = register_parameter("img_mod_embed", torch::empty({1, 1, o.dim}));
    video_modality_ = register_parameter("video_mod_embed", torch::empty({1, 1, o.dim}));
  }
  if (has_sincos(o.positions)) {
    const auto table = image ? nn::sincos_2d(o.dim, o.grid().h, o.grid().w)
                             : nn::sincos_3d(o.dim, o.grid(), o.uniform_power);
    pos_embed_ = register_buffer("pos_embed", table.unsqueeze(0));
  }
  if (has_rotary(o.positions)) {
    rotary_ =
        nn::RotaryPositions(o.dim / o.heads, nn::rotary_layout(o.rope_layout), o.rope_reference);
  }
  blocks_ = nn::make_blocks(*this, "blocks", o.depth, block_options(o));
  if (o.output_levels.empty()) {
    norm_ = register_module("norm", nn::LayerNorm(o.dim));
  } else {
    auto norms = register_module("norms_block", torch::nn::ModuleList());
    for (size_t i = 0; i < o.output_levels.size(); ++i) {
      level_norms_.emplace_back(o.dim);
      norms->push_back(level_norms_.back());
    }
  }
}

int64_t VisionTransformerImpl::output_levels() const {
  return all_levels_ && !level_norms_.empty() ? static_cast<int64_t>(level_norms_.size()) : 1;
}

int64_t VisionTransformerImpl::output_width() const { return options_.dim * output_levels(); }

TokenGrid VisionTransformerImpl::grid(at::IntArrayRef clip_sizes) const {
  const auto& o = options_;
  TORCH_CHECK(clip_sizes.size() == 5, "VisionTransformer: a clip [B, C, T, H, W] expected, got ",
              clip_sizes);
  const bool image = o.frames == 1 || (o.image_embedding && clip_sizes[2] == 1);
  const int64_t tubelet = image ? 1 : o.tubelet;
  if (clip_sizes[1] != o.channels || clip_sizes[2] < tubelet || clip_sizes[2] % tubelet != 0 ||
      (o.frames == 1 && clip_sizes[2] != 1) || clip_sizes[3] < o.patch ||
      clip_sizes[3] % o.patch != 0 || clip_sizes[4] < o.patch || clip_sizes[4] % o.patch != 0) {
    throw DataError(c10::str("a clip of ", clip_sizes[1], " channels, ", clip_sizes[2], " frames, ",
                             clip_sizes[3], " x ", clip_sizes[4],
                             " pixels does not divide into patches of ", o.channels, " channels, ",
                             tubelet, " frames, ", o.patch, " x ", o.patch));
  }
  return {clip_sizes[2] / tubelet, clip_sizes[3] / o.patch, clip_sizes[4] / o.patch};
}

torch::Tensor VisionTransformerImpl::embed(const torch::Tensor& clip) {
  const TokenGrid tokens_on = grid(clip.sizes());
  if (options_.image_embedding) {
    const bool image = clip.size(2) == 1;
    auto& patches = image ? patch_embed_img_ : patch_embed_;
    return patches->forward(clip) + (image ? image_modality_ : video_modality_);
  }
  const auto tokens = patch_embed_->forward(clip);
  if (!pos_embed_.defined()) return tokens;
  return tokens + nn::resize_positions(pos_embed_, options_.grid(), tokens_on);
}

template <class Visit>
void VisionTransformerImpl::run_blocks(torch::Tensor tokens, const TokenGrid& grid,
                                       const torch::Tensor& ids, int64_t last, Visit visit) {
  const auto rotary = rotary_.table(grid, ids, tokens.device());
  for (int64_t i = 0; i <= last; ++i) {
    const double rate = options_.drop_path * i / std::max<int64_t>(options_.depth - 1, 1);
    const auto keep = is_training() ? nn::draw_drop_path(rate, tokens) : torch::Tensor();
    tokens = nn::run_block(blocks_[i], tokens, rotary, {}, keep, options_.checkpointing);
    visit(i, tokens);
  }
}

torch::Tensor VisionTransformerImpl::encode(const torch::Tensor& tokens, const TokenGrid& grid,
                                            const torch::Tensor& ids) {
  TORCH_CHECK(tokens.dim() == 3 && tokens.size(2) == options_.dim,
              "VisionTransformer: tokens [B, K, ", options_.dim, "] expected, got ",
              tokens.sizes());
  TORCH_CHECK(tokens.size(1) == (ids.defined() ? ids.size(1) : grid.size()),
              "VisionTransformer: ", tokens.size(1), " tokens do not match their ids");
  const auto& levels = options_.output_levels;
  std::vector<torch::Tensor> outputs;
  torch::Tensor last_output;
  run_blocks(tokens, grid, ids, levels.empty() ? options_.depth - 1 : levels.back(),
             [&](int64_t layer, const torch::Tensor& output) {
               last_output = output;
               if (output_levels() > 1 && layer == levels[outputs.size()]) {
                 outputs.push_back(level_norms_[outputs.size()]->forward(output));
               }
             });
  if (outputs.empty()) {
    return (levels.empty() ? norm_ : level_norms_.back())->forward(last_output);
  }
  return torch::cat(outputs, -1);
}

std::vector<torch::Tensor> VisionTransformerImpl::layers(const torch::Tensor& clip,
                                                         const std::vector<int64_t>& layers) {
  TORCH_CHECK(!layers.empty() && std::is_sorted(layers.begin(), layers.end()) &&
                  layers.front() >= 0 && layers.back() < options_.depth,
              "VisionTransformer: layers must ascend within 0 to ", options_.depth - 1);
  std::vector<torch::Tensor> outputs;
  run_blocks(embed(clip), grid(clip.sizes()), {}, layers.back(),
             [&](int64_t layer, const torch::Tensor& output) {
               if (!std::binary_search(layers.begin(), layers.end(), layer)) return;
               const bool last = layer == options_.depth - 1;
               auto& norm = level_norms_.empty() ? norm_ : level_norms_.back();
               outputs.push_back(last ? norm->forward(output) : output);
             });
  return outputs;
}

void VisionTransformerImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, generator, options_.xavier);
  const torch::NoGradGuard no_grad;
  for (auto* modality : {&image_modality_, &video_modality_}) {
    if (modality->defined()) modality->normal_(0, kModalityDeviation, generator);
  }
  if (!options_.depth_rescale) return;
  for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i]->rescale(static_cast<int64_t>(i) + 1);
}

int64_t VisionTransformerImpl::min_frames() const {
  return options_.frames == 1 || options_.image_embedding ? 1 : options_.tubelet;
}

ActivationShape VisionTransformerImpl::activations() const {
  return {.dim = options_.dim, .depth = options_.depth, .checkpointing = options_.checkpointing};
}

std::string VisionTransformerImpl::initialisation() const {
  return options_.xavier ? "Xavier's" : "the published one, deviation 0.02";
}

std::string VisionTransformerImpl::description() const {
  const auto& o = options_;
  return c10::str("width ", o.dim, ", depth ", o.depth, ", heads ", o.heads, ", patch ", o.patch,
                  o.frames == 1 ? "" : c10::str(", tubelet ", o.tubelet), ", ", o.positions,
                  " positions");
}

double VisionTransformerImpl::flops(int64_t tokens) const {
  const auto& o = options_;
  const double pixels =
      static_cast<double>(o.channels * (o.frames == 1 ? 1 : o.tubelet) * o.patch * o.patch);
  return 2.0 * tokens * pixels * o.dim + o.depth * nn::block_flops(block_options(o), tokens);
}

}  // namespace jepa::encoders

#include <jepa/errors.hpp>
#include <jepa/io/name_map.hpp>
#include <jepa/io/published.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>

namespace jepa {
namespace {

bool has_prefix(const TensorMap& tensors, const std::string& prefix) {
  const auto found = tensors.lower_bound(prefix);
  return found != tensors.end() && found->first.starts_with(prefix);
}

// Layers `PREFIX0.`, `PREFIX1.`, ...
int64_t count_layers(const TensorMap& tensors, const std::string& prefix) {
  int64_t count = 0;
  while (has_prefix(tensors, prefix + std::to_string(count) + ".")) ++count;
  return count;
}

// The sizes of a tensor that must be there with `dims` dimensions, none of them empty.
at::IntArrayRef sizes_of(const WeightFile& file, const std::string& module, const std::string& key,
                         int64_t dims) {
  const TensorMap& tensors = file.stored(module);
  const auto found = tensors.find(key);
  if (found == tensors.end()) {
    throw CheckpointError(file.path() + ": the " + module + " has no '" + key + "'");
  }
  const at::Tensor& tensor = found->second;
  if (tensor.dim() != dims || tensor.numel() == 0) {
    throw CheckpointError(c10::str(file.path(), ": '", key, "' of the ", module, " has shape ",
                                   tensor.sizes(), ", expected ", dims, " dimensions"));
  }
  return tensor.sizes();
}

int64_t optional_size(const WeightFile& file, const std::string& module, const std::string& key,
                      int64_t dims, int64_t dim) {
  if (!file.stored(module).contains(key)) return 0;
  return sizes_of(file, module, key, dims)[static_cast<size_t>(dim)];
}

// Hidden width of the blocks PREFIX0 to PREFIX(depth-1), after checking that all have the sizes of
// a model of width `dim`: building it then takes no more memory than the file has.
int64_t checked_hidden_width(const WeightFile& file, const std::string& module,
                             const std::string& prefix, int64_t depth, int64_t dim) {
  const bool other = file.hugging_face();
  const std::string attention = other ? ".attention.query.weight" : ".attn.qkv.weight";
  const std::string first = prefix + "0.mlp.fc1.weight";
  const int64_t hidden = sizes_of(file, module, first, 2)[0];
  const auto expect = [&](const std::string& key, int64_t rows) {
    const at::IntArrayRef sizes = sizes_of(file, module, key, 2);
    if (sizes[0] == rows && sizes[1] == dim) return;
    throw CheckpointError(c10::str(file.path(), ": '", key, "' of the ", module, " has shape ",
                                   sizes, ", expected [", rows, ", ", dim, "]"));
  };
  for (int64_t i = 0; i < depth; ++i) {
    const std::string block = prefix + std::to_string(i);
    expect(block + attention, other ? dim : 3 * dim);
    expect(block + ".mlp.fc1.weight", hidden);
  }
  return hidden;
}

int64_t count_mask_tokens(const WeightFile& file) {
  if (!file.has("predictor")) return 0;
  const TensorMap& predictor = file.stored("predictor");
  if (file.hugging_face()) return optional_size(file, "predictor", "embeddings.mask_tokens", 4, 0);
  int64_t count = 0;
  while (predictor.contains("mask_tokens." + std::to_string(count))) ++count;
  return count;
}

}  // namespace

const std::vector<std::string>& model_family_names() {
  static const std::vector<std::string> names = {"ijepa", "vjepa", "vjepa2", "vjepa2_ac",
                                                 "vjepa21"};
  return names;
}

const std::string& to_string(ModelFamily family) {
  return model_family_names()[static_cast<size_t>(family)];
}

ModelFamily parse_model_family(const std::string& name) {
  const auto& names = model_family_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    throw ConfigError("family '" + name + "': expected " + c10::Join(", ", names));
  }
  return static_cast<ModelFamily>(found - names.begin());
}

ModelFamily detect_family(const WeightFile& file, const std::string& encoder) {
  if (file.hugging_face()) return ModelFamily::vjepa2;
  const TensorMap& weights = file.stored(encoder);
  if (has_prefix(weights, "norms_block.")) return ModelFamily::vjepa21;
  if (file.has("predictor") && has_prefix(file.stored("predictor"), "action_encoder.")) {
    return ModelFamily::vjepa2_ac;
  }
  if (!weights.contains("pos_embed") || count_mask_tokens(file) > 2) return ModelFamily::vjepa2;
  const auto patches = weights.find("patch_embed.proj.weight");
  const bool flat = patches != weights.end() && patches->second.dim() == 4;
  return flat ? ModelFamily::ijepa : ModelFamily::vjepa;
}

int64_t published_heads(int64_t dim) {
  constexpr std::pair<int64_t, int64_t> table[] = {{192, 3},   {384, 6},   {768, 12}, {1024, 16},
                                                   {1280, 16}, {1408, 22}, {1664, 26}};
  for (const auto& [width, heads] : table) {
    if (width == dim) return heads;
  }
  return 0;
}

std::vector<int64_t> published_levels(int64_t depth, int64_t count) {
  if (depth == 48 && count == 4) return {11, 23, 37, 47};
  std::vector<int64_t> levels;
  for (int64_t part = 1; part <= count; ++part) levels.push_back(depth * part / count - 1);
  return levels;
}

PublishedEncoder describe_encoder(const WeightFile& file, const std::string& module) {
  const bool other = file.hugging_face();
  const std::string patches =
      other ? "embeddings.patch_embeddings.proj.weight" : "patch_embed.proj.weight";
  const std::string blocks = other ? "layer." : "blocks.";
  const TensorMap& weights = file.stored(module);
  const auto found = weights.find(patches);
  const bool flat = found != weights.end() && found->second.dim() == 4;
  const at::IntArrayRef sizes = sizes_of(file, module, patches, flat ? 4 : 5);
  PublishedEncoder shape;
  shape.dim = sizes[0];
  shape.channels = sizes[1];
  shape.tubelet = flat ? 0 : sizes[2];
  shape.patch = sizes.back();
  if (sizes[sizes.size() - 2] != shape.patch) {
    throw CheckpointError(c10::str(file.path(), ": patches of shape ", sizes, " are not square"));
  }
  shape.depth = count_layers(weights, blocks);
  shape.mlp_hidden = checked_hidden_width(file, module, blocks, shape.depth, shape.dim);
  shape.gated = weights.contains(blocks + "0.mlp.fc3.weight");
  shape.heads = file.number("num_attention_heads", published_heads(shape.dim));
  shape.positions = optional_size(file, module, "pos_embed", 3, 1);
  shape.norm_levels = count_layers(weights, "norms_block.");
  shape.image_patches = has_prefix(weights, "patch_embed_img.");
  return shape;
}

PublishedPredictor describe_predictor(const WeightFile& file, ModelFamily family,
                                      int64_t encoder_heads) {
  const bool other = file.hugging_face();
  const std::string module = "predictor";
  const TensorMap& weights = file.stored(module);
  const bool deep_embed = weights.contains("predictor_embed.2.weight");
  const std::string embed = other        ? "embeddings.predictor_embeddings.weight"
                            : deep_embed ? "predictor_embed.2.weight"
                                         : "predictor_embed.weight";
  const std::string blocks = other ? "layer." : "predictor_blocks.";
  const at::IntArrayRef sizes = sizes_of(file, module, embed, 2);
  PublishedPredictor shape;
  shape.dim = sizes[0];
  shape.encoder_width = sizes[1];
  if (deep_embed) {
    shape.embed_hidden = sizes[1];
    shape.encoder_width = sizes_of(file, module, "predictor_embed.0.weight", 2)[1];
  }
  shape.target_width =
      sizes_of(file, module, other ? "proj.weight" : "predictor_proj.weight", 2)[0];
  shape.depth = count_layers(weights, blocks);
  shape.mlp_hidden = checked_hidden_width(file, module, blocks, shape.depth, shape.dim);
  shape.single_mask_token = weights.contains("mask_token");
  shape.mask_tokens = shape.single_mask_token ? 1 : count_mask_tokens(file);
  shape.context_head = has_prefix(weights, "predictor_proj_context.");
  shape.modality_embedding = weights.contains("video_mod_embed");
  shape.positions = optional_size(file, module, "predictor_pos_embed", 3, 1);
  shape.action_width = optional_size(file, module, "action_encoder.weight", 2, 1);
  shape.state_width = optional_size(file, module, "state_encoder.weight", 2, 1);
  shape.extrinsics_width = optional_size(file, module, "extrinsics_encoder.weight", 2, 1);
  // Published: V-JEPA 2 and 2.1 have 12 at width 384, 2-AC 16 at 1024, the others the encoder's.
  const bool own = family == ModelFamily::vjepa2 || family == ModelFamily::vjepa21;
  const int64_t by_family = family == ModelFamily::vjepa2_ac ? 16 : own ? 12 : encoder_heads;
  shape.heads = file.number("pred_num_attention_heads", by_family);
  return shape;
}

TensorMap family_weights(const WeightFile& file, const std::string& module,
                         std::optional<ModelFamily> family) {
  TensorMap weights = file.weights(module);
  if (family && family != ModelFamily::ijepa && family != ModelFamily::vjepa) {
    weights.erase("pos_embed");
    weights.erase("predictor_pos_embed");
  }
  return weights;
}

void require_finite(const TensorMap& weights, const std::string& source) {
  for (const auto& [key, tensor] : weights) {
    if (!tensor.is_floating_point() || tensor.numel() == 0) continue;
    // The extremes carry NaN and infinity, and take no memory of the tensor's size.
    const auto narrow = tensor.element_size() < 2 ? tensor.to(at::kFloat) : tensor.detach();
    const auto [low, high] = at::aminmax(narrow);
    if (std::isfinite(low.to(at::kDouble).item<double>()) &&
        std::isfinite(high.to(at::kDouble).item<double>())) {
      continue;
    }
    throw CheckpointError(source + ": '" + key +
                          "' holds NaN or infinity; --encoder.allow_non_finite takes it as it is");
  }
}

}  // namespace jepa

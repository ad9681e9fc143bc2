#include <jepa/errors.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/printable.hpp>
#include <predictors/published.hpp>

#include <c10/util/StringUtil.h>

#include <algorithm>

namespace jepa::predictors {
namespace {

// The options of the run that wrote the file.
PredictorOptions run_options(const WeightFile& file) {
  PredictorOptions options;
  OptionValues values;
  for (const auto& [key, value] : file.options()) {
    if (key.starts_with("predictor.")) values[key] = value;
  }
  apply_options({{"predictor", "", [&](OptionVisitor& visit) { options.describe(visit); }}},
                values);
  return options;
}

// Read off the tensors.
PredictorOptions published_options(const StoredPredictor& stored, int64_t heads) {
  const PublishedPredictor& found = stored.shape;
  PredictorOptions result;
  MaskedPredictorOptions& options = result.masked;
  options.dim = found.dim;
  options.depth = found.depth;
  options.heads = heads > 0 ? heads : found.heads;
  options.mlp_ratio = static_cast<double>(found.mlp_hidden) / static_cast<double>(found.dim);
  const bool absolute = stored.family == ModelFamily::ijepa || stored.family == ModelFamily::vjepa;
  options.positions = absolute ? "sincos" : "rope";
  if (stored.family == ModelFamily::vjepa21) options.rope_layout = "interleaved";
  options.mask_tokens = found.mask_tokens;
  options.mask_token_index = !absolute && found.mask_tokens > 1 ? 1 : -1;
  options.single_mask_token = found.single_mask_token;
  options.embed_hidden = found.embed_hidden;
  options.context_head = found.context_head;
  options.modality_embedding = found.modality_embedding;
  return result;
}

}  // namespace

StoredPredictor read_predictor(const WeightFile& file, std::optional<ModelFamily> family,
                               int64_t heads, int64_t encoder_heads) {
  const bool run = !file.options().empty();
  TORCH_CHECK(run || family.has_value(), "read_predictor: published weights have a family");
  if (!run && family == ModelFamily::vjepa2_ac) {
    throw ConfigError(file.path() + ": its predictor is action-conditioned, not masked");
  }
  StoredPredictor stored;
  stored.path = file.path();
  stored.family = family;
  const TensorMap& tensors = file.stored("predictor");
  if (!run || tensors.contains("predictor_embed.weight") ||
      tensors.contains("predictor_embed.0.weight")) {
    stored.shape = describe_predictor(file, family.value_or(ModelFamily::vjepa2), encoder_heads);
    stored.masks = std::max<int64_t>(stored.shape.mask_tokens, 1);
  } else {
    while (file.options().contains(c10::str("mask.", stored.masks + 1, ".kind"))) ++stored.masks;
  }
  stored.options = run ? run_options(file) : published_options(stored, heads);
  stored.knows_heads = run || file.notes().contains("pred_num_attention_heads") ||
                       published_heads(stored.shape.encoder_width) > 0;
  stored.weights = family_weights(file, "predictor", family);
  return stored;
}

LoadedPredictor load_predictor(const WeightFile& file, std::optional<ModelFamily> family,
                               int64_t heads, const EncoderImpl& encoder) {
  const StoredPredictor stored = read_predictor(file, family, heads, encoder.heads());
  const bool shown = stored.shape.dim > 0;
  const int64_t width = encoder.output_width();
  const ModelShape shape{.encoder_width = shown ? stored.shape.encoder_width : width,
                         .target_width = shown ? stored.shape.target_width : width,
                         .encoder_heads = encoder.heads(),
                         .masks = stored.masks,
                         .grid = encoder.clip_grid()};
  LoadedPredictor loaded{make_predictor(stored.options, shape), stored.options};
  require_finite(stored.weights, stored.path);
  load_into(*loaded.predictor, stored.weights, stored.path, Fill::adopt);
  loaded.predictor->eval();
  return loaded;
}

ActionConditionedPredictor load_action_conditioned(const WeightFile& file, int64_t heads) {
  const PublishedPredictor found = describe_predictor(file, ModelFamily::vjepa2_ac, 0);
  if (found.action_width == 0 || found.state_width == 0 || found.extrinsics_width == 0) {
    throw CheckpointError(file.path() +
                          ": no action, state or extrinsics encoder: not a V-JEPA 2-AC predictor");
  }
  ActionConditionedOptions options;
  options.dim = found.dim;
  options.depth = found.depth;
  options.heads = heads > 0 ? heads : found.heads;
  options.mlp_ratio = static_cast<double>(found.mlp_hidden) / static_cast<double>(found.dim);
  options.action_width = found.action_width;
  options.state_width = found.state_width;
  options.extrinsics_width = found.extrinsics_width;
  ActionConditionedPredictor predictor(options, found.encoder_width);
  const TensorMap weights = family_weights(file, "predictor", ModelFamily::vjepa2_ac);
  require_finite(weights, file.path());
  load_into(*predictor, weights, file.path(), Fill::adopt);
  predictor->eval();
  return predictor;
}

void require_same_predictor(const StoredPredictor& stored, const PredictorOptions& own,
                            int64_t encoder_heads) {
  const auto values = [&](PredictorOptions options) {
    if (options.masked.heads == 0) options.masked.heads = encoder_heads;
    return dump_options(
        {{"predictor", "", [&](OptionVisitor& visit) { options.describe(visit); }}});
  };
  const bool run = !stored.family;
  const OptionValues theirs = values(stored.options);
  const OptionValues ours = values(own);
  for (const auto& [key, value] : theirs) {
    const std::string name = key.substr(key.find('.') + 1);
    // Their effect is in the shapes of the weights, or ends with the initialisation.
    const bool free = name == "mask_tokens" || name == "depth_rescale" || name == "xavier" ||
                      name == "checkpointing" || name == "mlp_ratio" ||
                      (name == "heads" && !stored.knows_heads);
    const bool published = name == "heads" || name == "positions" || name == "rope_layout";
    const auto found = ours.find(key);
    if (free || !(run || published) || found == ours.end() || found->second == value) continue;
    throw ConfigError(stored.path + ": its " + key + " is " + printable(value) + ", not " +
                      found->second + "; give --" + key + " " + printable(value));
  }
}

}  // namespace jepa::predictors

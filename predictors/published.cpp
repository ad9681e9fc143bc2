#include <jepa/errors.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/printable.hpp>
#include <predictors/published.hpp>

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

}  // namespace

PredictorOptions predictor_options(const WeightFile& file, std::optional<ModelFamily> family,
                                   int64_t heads, int64_t encoder_heads) {
  if (!file.options().empty()) return run_options(file);
  TORCH_CHECK(family.has_value(), "predictor_options: the family of published weights is needed");
  if (family == ModelFamily::vjepa2_ac) {
    throw ConfigError(file.path() + ": its predictor is action-conditioned, not masked");
  }
  const PublishedPredictor found = describe_predictor(file, *family, encoder_heads);
  PredictorOptions result;
  MaskedPredictorOptions& options = result.masked;
  options.dim = found.dim;
  options.depth = found.depth;
  options.heads = heads > 0 ? heads : found.heads;
  options.mlp_ratio = static_cast<double>(found.mlp_hidden) / static_cast<double>(found.dim);
  const bool absolute = family == ModelFamily::ijepa || family == ModelFamily::vjepa;
  options.positions = absolute ? "sincos" : "rope";
  if (family == ModelFamily::vjepa21) options.rope_layout = "interleaved";
  options.mask_tokens = found.mask_tokens;
  options.mask_token_index = !absolute && found.mask_tokens > 1 ? 1 : -1;
  options.single_mask_token = found.single_mask_token;
  options.embed_hidden = found.embed_hidden;
  options.context_head = found.context_head;
  options.modality_embedding = found.modality_embedding;
  return result;
}

LoadedPredictor load_predictor(const WeightFile& file, std::optional<ModelFamily> family,
                               int64_t heads, int64_t encoder_heads, const TokenGrid& grid) {
  LoadedPredictor loaded;
  loaded.options = predictor_options(file, family, heads, encoder_heads);
  const PublishedPredictor found =
      describe_predictor(file, family.value_or(ModelFamily::vjepa2), encoder_heads);
  const ModelShape shape{.encoder_width = found.encoder_width,
                         .target_width = found.target_width,
                         .encoder_heads = encoder_heads,
                         .masks = std::max<int64_t>(found.mask_tokens, 1),
                         .grid = grid};
  loaded.predictor = make_predictor(loaded.options, shape);
  const TensorMap weights = family_weights(file, "predictor", family);
  require_finite(weights, file.path());
  load_into(*loaded.predictor, weights, file.path(), Fill::adopt);
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

void require_same_predictor(const WeightFile& file, std::optional<ModelFamily> family,
                            const PredictorOptions& own, int64_t encoder_heads) {
  const auto values = [&](PredictorOptions options) {
    if (options.masked.heads == 0) options.masked.heads = encoder_heads;
    return dump_options({{"predictor", "", [&](OptionVisitor& visit) { options.describe(visit); }}});
  };
  const bool run = !file.options().empty();
  // Heads that neither the file nor its family tells are the reader's own choice.
  const bool told = run || file.notes().contains("pred_num_attention_heads") ||
                    published_heads(describe_predictor(file, *family, 0).encoder_width) > 0;
  const int64_t heads = told ? 0 : own.masked.heads > 0 ? own.masked.heads : encoder_heads;
  const OptionValues theirs = values(predictor_options(file, family, heads, encoder_heads));
  const OptionValues ours = values(own);
  for (const auto& [key, value] : theirs) {
    const std::string name = key.substr(key.find('.') + 1);
    // Their effect is in the shapes of the weights, or ends with the initialisation.
    const bool free = name == "mask_tokens" || name == "depth_rescale" || name == "xavier" ||
                      name == "checkpointing" || name == "mlp_ratio";
    const bool published = name == "heads" || name == "positions" || name == "rope_layout";
    const auto found = ours.find(key);
    if (free || !(run || published) || found == ours.end() || found->second == value) continue;
    throw ConfigError(file.path() + ": its " + key + " is " + printable(value) + ", not " +
                      found->second + "; give --" + key + " " + printable(value));
  }
}

}  // namespace jepa::predictors

#include <encoders/published.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/weights.hpp>

#include <c10/util/StringUtil.h>

#include <cmath>

namespace jepa::encoders {
namespace {

// Nominal clip where the file does not say: the published 16 frames, 16 patches a side.
constexpr int64_t kNominalFrames = 16;
constexpr int64_t kNominalSide = 16;

// The options of the run that wrote the file.
EncoderOptions run_options(const WeightFile& file) {
  EncoderOptions options;
  OptionValues values;
  for (const auto& [key, value] : file.options()) {
    if (key.starts_with("encoder.")) values[key] = value;
  }
  apply_options({{"encoder", "", [&](OptionVisitor& visit) { options.describe(visit); }}}, values);
  options.vit = resolve(options.vit, options.preset);
  options.preset = "custom";
  return options;
}

// Grid of a stored position table of `tokens` tokens.
TokenGrid table_grid(const WeightFile& file, const PublishedEncoder& shape, at::IntArrayRef clip) {
  const int64_t tubelet = std::max<int64_t>(shape.tubelet, 1);
  if (clip.size() == 5) {
    const TokenGrid grid{clip[2] / tubelet, clip[3] / shape.patch, clip[4] / shape.patch};
    if (grid.size() == shape.positions) return grid;
  }
  const int64_t steps = shape.tubelet == 0 ? 1 : kNominalFrames / tubelet;
  const int64_t per_step = steps > 0 ? shape.positions / steps : 0;
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(per_step))));
  if (steps * side * side != shape.positions || side == 0) {
    throw CheckpointError(c10::str(file.path(), ": cannot tell the grid of the ", shape.positions,
                                   " positions; encode a clip of the size it was trained on"));
  }
  return {steps, side, side};
}

void set_positions(const WeightFile& file, ModelFamily family, const PublishedEncoder& shape,
                   at::IntArrayRef clip, VisionTransformerOptions& vit) {
  if (family == ModelFamily::ijepa || family == ModelFamily::vjepa) {
    if (shape.positions == 0) {
      throw CheckpointError(file.path() + ": no 'pos_embed', which " + to_string(family) +
                            " models have");
    }
    const TokenGrid grid = table_grid(file, shape, clip);
    vit.positions = "sincos";
    vit.frames = shape.tubelet == 0 ? 1 : grid.t * shape.tubelet;
    vit.height = grid.h * shape.patch;
    vit.width = grid.w * shape.patch;
    return;
  }
  vit.positions = "rope";
  vit.frames = file.number("frames_per_clip", kNominalFrames);
  if (vit.frames % shape.tubelet != 0) vit.frames = kNominalSide * shape.tubelet;
  vit.height = vit.width = file.number("crop_size", kNominalSide * shape.patch);
  if (family == ModelFamily::vjepa21) {
    vit.rope_layout = "interleaved";
    vit.rope_reference = 256 / shape.patch;  // 16 at the published patch of 16
  }
}

}  // namespace

void LoadOptions::describe(OptionVisitor& visit) {
  std::vector<std::string> families = model_family_names();
  families.insert(families.begin(), "auto");
  visit("family", family,
        {.help = "of published weights; auto: as the file shows", .choices = families});
  visit("heads", heads, {.help = "attention heads; 0: from the file or its width", .min = 0});
}

std::optional<ModelFamily> family_of(const WeightFile& file, const std::string& module,
                                     const LoadOptions& choices) {
  if (choices.family != "auto") return parse_model_family(choices.family);
  const auto recorded = file.options().find("published.family");
  if (recorded != file.options().end()) return parse_model_family(recorded->second);
  if (!file.options().empty()) return std::nullopt;
  return detect_family(file, module);
}

EncoderOptions encoder_options(const WeightFile& file, const std::string& module,
                               std::optional<ModelFamily> family, const LoadOptions& choices,
                               at::IntArrayRef clip) {
  if (!file.options().empty()) return run_options(file);
  TORCH_CHECK(family.has_value(), "encoder_options: the family of published weights is needed");
  const PublishedEncoder shape = describe_encoder(file, module);
  EncoderOptions options{.preset = "custom"};
  VisionTransformerOptions& vit = options.vit;
  vit.dim = shape.dim;
  vit.depth = shape.depth;
  vit.heads = choices.heads > 0 ? choices.heads : shape.heads;
  if (vit.heads == 0) {
    throw ConfigError(c10::str(file.path(), ": a width of ", shape.dim,
                               " is not a published one; give --encoder.heads"));
  }
  vit.mlp_ratio = static_cast<double>(shape.mlp_hidden) / static_cast<double>(shape.dim);
  vit.activation = shape.gated ? "swiglu" : "gelu";
  vit.wide_swiglu = false;  // the hidden width is the file's own
  vit.channels = shape.channels;
  vit.patch = shape.patch;
  if (family != ModelFamily::ijepa && shape.tubelet == 0) {
    throw CheckpointError(file.path() + ": 2D patches, which only I-JEPA models have");
  }
  if (shape.tubelet > 0) vit.tubelet = shape.tubelet;
  set_positions(file, *family, shape, clip, vit);
  for (int64_t level = 1; level <= shape.norm_levels; ++level) {
    vit.output_levels.push_back(shape.depth * level / shape.norm_levels - 1);
  }
  vit.image_embedding = shape.image_patches;
  return options;
}

LoadedEncoder load_encoder(const WeightFile& file, const LoadOptions& choices,
                           at::IntArrayRef clip) {
  LoadedEncoder loaded;
  const std::string other = choices.which == "encoder" ? "target_encoder" : "encoder";
  loaded.module = file.has(choices.which) ? choices.which : other;
  loaded.family = family_of(file, loaded.module, choices);
  loaded.options = encoder_options(file, loaded.module, loaded.family, choices, clip);
  loaded.encoder = make_encoder(loaded.options);
  load_into(*loaded.encoder, family_weights(file, loaded.module, loaded.family), file.path(),
            Fill::adopt);
  loaded.encoder->eval();
  if (auto* vit = dynamic_cast<VisionTransformerImpl*>(loaded.encoder.get())) {
    vit->set_all_levels(false);
  }
  const VisionTransformerOptions& vit = loaded.options.vit;
  loaded.summary = c10::str(file.path(), ": ",
                            loaded.family ? to_string(*loaded.family) : "a run of this library",
                            !loaded.family             ? ""
                            : choices.family == "auto" ? " (detected)"
                                                       : " (chosen)",
                            ", ", loaded.module, ", width ", vit.dim, ", depth ", vit.depth,
                            ", heads ", vit.heads, choices.heads > 0 ? " (chosen)" : "", ", patch ",
                            vit.patch, vit.frames == 1 ? "" : c10::str(", tubelet ", vit.tubelet),
                            ", ", vit.positions, " positions");
  return loaded;
}

}  // namespace jepa::encoders

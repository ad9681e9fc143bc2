#include <encoders/published.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/nn/positions.hpp>
#include <jepa/printable.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>

#include <algorithm>

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
  if (options.type == "vision_transformer") {
    options.vit = resolve(options.vit, options.preset);
    options.preset = "custom";
  }
  return options;
}

// First row of `table` [N, D] where `column`, the sine of a coordinate, is not zero: how many
// tokens pass before that coordinate moves.
int64_t first_step(const torch::Tensor& table, int64_t column) {
  if (column >= table.size(1)) return table.size(0);
  const auto moved = table.select(1, column).to(at::kFloat).abs() > 1e-3;
  return moved.any().item<bool>() ? moved.to(at::kByte).argmax().item<int64_t>() : table.size(0);
}

// The grid of a stored position table, read off its columns: they come in the order time, row,
// column (2D: column, row), each axis starting with the sine of the coordinate itself.
void set_table_grid(const WeightFile& file, const torch::Tensor& table,
                    const PublishedEncoder& shape, VisionTransformerOptions& vit) {
  const int64_t tokens = table.size(0), dim = table.size(1);
  const bool flat = shape.tubelet == 0;
  for (const bool uniform : {true, false}) {
    const int64_t rows_start = flat || !uniform ? dim / 2 : 2 * ((dim + 5) / 6);
    const int64_t frame = flat ? tokens : std::max<int64_t>(first_step(table, 0), 1);
    const int64_t w = std::clamp<int64_t>(first_step(table, rows_start), 1, frame);
    const TokenGrid grid{tokens / frame, frame / w, w};
    const int64_t divisor = flat ? 4 : uniform ? 1 : 8;  // each axis has sines and cosines
    if (grid.size() != tokens || dim % divisor != 0) continue;
    const auto expected =
        flat ? nn::sincos_2d(dim, grid.h, grid.w) : nn::sincos_3d(dim, grid, uniform);
    if (!expected.allclose(table.to(at::kFloat), 1e-2, 1e-2)) continue;
    vit.uniform_power = uniform;
    vit.frames = flat ? 1 : grid.t * shape.tubelet;
    vit.height = grid.h * shape.patch;
    vit.width = grid.w * shape.patch;
    return;
  }
  throw CheckpointError(c10::str(file.path(), ": 'pos_embed' of ", tokens,
                                 " tokens is not a sin-cos table of any grid"));
}

void set_positions(const WeightFile& file, const std::string& module, ModelFamily family,
                   const PublishedEncoder& shape, VisionTransformerOptions& vit) {
  if (family == ModelFamily::ijepa || family == ModelFamily::vjepa) {
    if (shape.positions == 0) {
      throw CheckpointError(file.path() + ": no 'pos_embed', which " + to_string(family) +
                            " models have");
    }
    vit.positions = "sincos";
    set_table_grid(file, file.stored(module).at("pos_embed").flatten(0, 1), shape, vit);
    return;
  }
  vit.positions = "rope";
  vit.frames = file.number("frames_per_clip", kNominalFrames);
  // Frames beyond the last whole tubelet are not embedded, a few too few are held.
  if (vit.frames > 0) vit.frames = std::max(vit.frames - vit.frames % shape.tubelet, shape.tubelet);
  vit.height = vit.width = file.number("crop_size", kNominalSide * shape.patch);
  if (family == ModelFamily::vjepa21) {
    vit.rope_layout = "interleaved";
    vit.rope_reference = 256 / shape.patch;  // 16 at the published patch of 16
  }
}

// As chosen, as a converted file says, as the tensors show; none for a run.
std::optional<ModelFamily> family_of(const WeightFile& file, const std::string& module,
                                     const LoadOptions& choices) {
  if (choices.family != "auto") return parse_model_family(choices.family);
  const auto recorded = file.options().find("published.family");
  if (recorded != file.options().end()) return parse_model_family(recorded->second);
  if (!file.options().empty()) return std::nullopt;
  return detect_family(file, module);
}

// Read off the tensors.
void set_published_options(const WeightFile& file, const LoadOptions& choices,
                           StoredEncoder& stored) {
  const PublishedEncoder shape = describe_encoder(file, stored.module);
  EncoderOptions& options = stored.options;
  options.preset = "custom";
  VisionTransformerOptions& vit = options.vit;
  vit.dim = shape.dim;
  vit.depth = shape.depth;
  stored.knows_heads = shape.heads > 0;
  vit.heads = choices.heads > 0 ? choices.heads
              : shape.heads > 0 ? shape.heads
                                : choices.unknown_heads;
  if (vit.heads == 0) {
    throw ConfigError(c10::str(file.path(), ": a width of ", shape.dim,
                               " is not a published one; give --encoder.heads"));
  }
  vit.mlp_ratio = static_cast<double>(shape.mlp_hidden) / static_cast<double>(shape.dim);
  vit.activation = shape.gated ? "swiglu" : "gelu";
  vit.wide_swiglu = false;  // the hidden width is the file's own
  vit.channels = shape.channels;
  vit.patch = shape.patch;
  if (stored.family != ModelFamily::ijepa && shape.tubelet == 0) {
    throw CheckpointError(file.path() + ": 2D patches, which only I-JEPA models have");
  }
  if (shape.tubelet > 0) vit.tubelet = shape.tubelet;
  set_positions(file, stored.module, *stored.family, shape, vit);
  vit.output_levels = published_levels(shape.depth, shape.norm_levels);
  vit.image_embedding = shape.image_patches;
  options.pixels = PixelStatistics::imagenet();
}

ClipOptions stored_clips(const WeightFile& file, const StoredEncoder& stored) {
  const auto sizes = stored.options.clip_sizes();
  ClipOptions clip{.frames = sizes[2], .random_window = false, .channels = sizes[1]};
  if (stored.family == ModelFamily::vjepa) {
    clip.frame_step = 4;
  } else if (stored.family && clip.frames > 1) {
    clip.fps = 4;
  }
  OptionValues values;
  for (const char* key : {"clip.frame_step", "clip.fps", "clip.short_side"}) {
    const auto found = file.options().find(key);
    if (found != file.options().end()) values.insert(*found);
  }
  apply_options({{"clip", "", [&](OptionVisitor& visit) { clip.describe(visit); }}}, values);
  return clip;
}

}  // namespace

void LoadOptions::describe(OptionVisitor& visit) {
  std::vector<std::string> families = model_family_names();
  families.insert(families.begin(), "auto");
  visit("family", family,
        {.help = "of published weights; auto: as the file shows", .choices = families});
  visit("heads", heads, {.help = "attention heads; 0: from the file or its width", .min = 0});
  visit("allow_non_finite", allow_non_finite, {.help = "take weights with NaN or infinity"});
}

StoredEncoder read_encoder(const WeightFile& file, const LoadOptions& choices) {
  StoredEncoder stored;
  stored.path = file.path();
  const std::string other = choices.which == "encoder" ? "target_encoder" : "encoder";
  stored.module = file.has(choices.which) ? choices.which : other;
  stored.family = family_of(file, stored.module, choices);
  if (file.options().empty()) {
    set_published_options(file, choices, stored);
  } else {
    stored.options = run_options(file);
  }
  stored.clip = stored_clips(file, stored);
  stored.weights = family_weights(file, stored.module, stored.family);
  return stored;
}

LoadedEncoder load_encoder(const WeightFile& file, const LoadOptions& choices) {
  LoadedEncoder loaded{read_encoder(file, choices), Encoder(nullptr), ""};
  loaded.encoder = make_encoder(loaded.options);
  if (!choices.allow_non_finite) require_finite(loaded.weights, loaded.path);
  load_into(*loaded.encoder, loaded.weights, loaded.path, Fill::adopt);
  loaded.weights.clear();
  loaded.encoder->eval();
  loaded.encoder->set_all_levels(false);
  const bool detected = loaded.family && choices.family == "auto";
  loaded.summary = c10::str(loaded.path, ": ",
                            loaded.family ? to_string(*loaded.family) : "a run of this library",
                            detected        ? " (detected)"
                            : loaded.family ? " (chosen)"
                                            : "",
                            ", ", loaded.module, ", ", loaded.encoder->description(),
                            choices.heads > 0 ? "; heads as chosen" : "");
  return loaded;
}

void require_same_encoder(const StoredEncoder& stored, const EncoderOptions& own) {
  const auto values = [](EncoderOptions options) {
    options.vit = resolve(options.vit, options.preset);
    return dump_options({{"encoder", "", [&](OptionVisitor& visit) { options.describe(visit); }}});
  };
  const OptionValues theirs = values(stored.options), ours = values(own);
  std::vector<std::string> free = {"preset",    "frames",        "height", "width",
                                   "drop_path", "depth_rescale", "xavier", "checkpointing"};
  // Their effect is in the shapes of the weights, which are compared as they are loaded.
  if (stored.family) free.insert(free.end(), {"mlp_ratio", "wide_swiglu"});
  const VisionTransformerOptions& vit = stored.options.vit;
  if (!stored.knows_heads) free.push_back("heads");
  if (vit.frames == 1 && own.vit.frames == 1) free.push_back("tubelet");
  if (vit.positions == "rope") free.push_back("uniform_power");
  if (vit.positions == "sincos") {
    free.insert(free.end(), {"rope_layout", "rope_reference"});
  }
  for (const auto& [key, value] : theirs) {
    const std::string name = key.substr(key.find('.') + 1);
    if (std::find(free.begin(), free.end(), name) != free.end()) continue;
    const auto found = ours.find(key);
    if (found == ours.end() || found->second == value) continue;
    throw ConfigError(stored.path + ": its " + key + " is " + printable(value) + ", not " +
                      found->second + "; give --" + key + " " + printable(value));
  }
}

void resize_table(TensorMap& weights, const std::string& key, const TokenGrid& from,
                  const TokenGrid& to) {
  const auto table = weights.find(key);
  if (table == weights.end() || from == to) return;
  if (table->second.dim() != 3 || table->second.size(1) != from.size()) return;
  table->second = nn::resize_positions(table->second.to(at::kFloat), from, to);
}

std::string describe_clips(const ClipOptions& clip) {
  const std::string length = clip.frames == 0 ? "whole episodes" : c10::str(clip.frames, " frames");
  if (clip.fps > 0) return c10::str("clips of ", length, " at ", clip.fps, " a second");
  const int64_t step = clip.frame_step, last = step % 10;
  const bool teens = step / 10 % 10 == 1;
  const char* ending = teens ? "th" : last == 1 ? "st" : last == 2 ? "nd" : last == 3 ? "rd" : "th";
  return "clips of " + length + ", every " + (step == 1 ? "" : c10::str(step, ending, " ")) +
         "frame";
}

}  // namespace jepa::encoders

#include <encoders/registry.hpp>
#include <jepa/errors.hpp>

#include <utility>

namespace jepa::encoders {
namespace {

std::vector<EncoderEntry>& entries() {
  static std::vector<EncoderEntry> table = {
      {"vision_transformer",
       [](const EncoderOptions& options) {
         std::shared_ptr<EncoderImpl> encoder =
             std::make_shared<VisionTransformerImpl>(resolve(options.vit, options.preset));
         return Encoder(std::move(encoder));
       }},
      {"convolutional",
       [](const EncoderOptions& options) {
         ConvolutionalOptions shape = options.convolutional;
         shape.channels = options.vit.channels;
         shape.height = options.vit.height;
         shape.width = options.vit.width;
         std::shared_ptr<EncoderImpl> encoder = std::make_shared<ConvolutionalImpl>(shape);
         return Encoder(std::move(encoder));
       }},
  };
  return table;
}

}  // namespace

const std::vector<EncoderEntry>& encoder_table() { return entries(); }

void add_encoder(EncoderEntry entry) {
  for (const auto& there : entries()) {
    if (there.name == entry.name) {
      throw ConfigError("encoder '" + entry.name + "': the name is taken");
    }
  }
  entries().push_back(std::move(entry));
}

void EncoderOptions::describe(OptionVisitor& visit) {
  std::vector<std::string> types;
  for (const auto& entry : encoder_table()) types.push_back(entry.name);
  visit("type", type, {.help = "kind of encoder", .choices = types});
  std::vector<std::string> presets = {"custom"};
  for (const auto& row : vision_transformer_presets()) presets.emplace_back(row.name);
  visit("preset", preset, {.help = "published shape", .choices = presets});
  vit.describe(visit);
  visit("conv_stages", convolutional.stages,
        {.help = "convolutional: channels of each stage, which halves the sides", .min = 1});
  visit("conv_blocks", convolutional.blocks,
        {.help = "convolutional: residual blocks a stage", .min = 0});
  visit("conv_groups", convolutional.groups,
        {.help = "convolutional: groups of the group norms", .min = 1});
  visit("conv_dim", convolutional.dim, {.help = "convolutional: token width", .min = 1});
  visit("conv_tokens", convolutional.tokens,
        {.help = "convolutional: one token a frame, or one for each place left",
         .choices = {"frame", "grid"}});
  visit("pixel_mean", pixels.mean, {.help = "taken off pixels 0..255, one value or one a channel"});
  visit("pixel_std", pixels.std, {.help = "what they are then divided by"});
}

EncoderOptions EncoderOptions::resolved() const {
  EncoderOptions options = *this;
  // Of other encoders a preset says no more than it has to.
  if (type == "vision_transformer" || preset != "custom") options.vit = resolve(vit, preset);
  return options;
}

EncoderOptions EncoderOptions::fitted(at::IntArrayRef clip_sizes) const {
  TORCH_CHECK(clip_sizes.size() == 5, "sizes [B, C, T, H, W] of clips expected, got ", clip_sizes);
  EncoderOptions options = *this;
  options.vit.channels = clip_sizes[1];
  options.vit.frames = clip_sizes[2];
  options.vit.height = clip_sizes[3];
  options.vit.width = clip_sizes[4];
  return options;
}

std::vector<int64_t> EncoderOptions::clip_sizes() const {
  return {1, vit.channels, vit.frames, vit.height, vit.width};
}

Encoder make_encoder(const EncoderOptions& options) {
  std::string names;
  for (const auto& entry : encoder_table()) {
    if (entry.name == options.type) {
      Encoder encoder = entry.make(options);
      if (encoder->clip_sizes().empty()) encoder->set_clip_sizes(options.clip_sizes());
      if (encoder->heads() == 0) encoder->set_heads(options.vit.heads);
      return encoder;
    }
    names += (names.empty() ? "" : ", ") + entry.name;
  }
  throw ConfigError("encoder.type: expected one of " + names + ", found '" + options.type + "'");
}

}  // namespace jepa::encoders

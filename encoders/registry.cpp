#include <encoders/registry.hpp>
#include <jepa/errors.hpp>

namespace jepa::encoders {

void EncoderOptions::describe(OptionVisitor& visit) {
  visit("type", type, {.help = "kind of encoder", .choices = {"vision_transformer"}});
  std::vector<std::string> presets = {"custom"};
  for (const auto& row : vision_transformer_presets()) presets.emplace_back(row.name);
  visit("preset", preset, {.help = "published shape", .choices = presets});
  vit.describe(visit);
  visit("pixel_mean", pixels.mean, {.help = "taken off pixels 0..255, one value or one a channel"});
  visit("pixel_std", pixels.std, {.help = "what they are then divided by"});
}

Encoder make_encoder(const EncoderOptions& options) {
  if (options.type == "vision_transformer") {
    std::shared_ptr<EncoderImpl> encoder =
        std::make_shared<VisionTransformerImpl>(resolve(options.vit, options.preset));
    return Encoder(std::move(encoder));
  }
  throw ConfigError("encoder.type: expected vision_transformer, found '" + options.type + "'");
}

}  // namespace jepa::encoders

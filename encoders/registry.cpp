#include <encoders/registry.hpp>
#include <jepa/errors.hpp>

namespace jepa::encoders {

std::vector<EncoderEntry>& encoder_table() {
  static std::vector<EncoderEntry> table = {
      {"vision_transformer",
       [](const EncoderOptions& options) {
         std::shared_ptr<EncoderImpl> encoder =
             std::make_shared<VisionTransformerImpl>(resolve(options.vit, options.preset));
         return Encoder(std::move(encoder));
       }},
  };
  return table;
}

void EncoderOptions::describe(OptionVisitor& visit) {
  std::vector<std::string> types;
  for (const auto& entry : encoder_table()) types.push_back(entry.name);
  visit("type", type, {.help = "kind of encoder", .choices = types});
  std::vector<std::string> presets = {"custom"};
  for (const auto& row : vision_transformer_presets()) presets.emplace_back(row.name);
  visit("preset", preset, {.help = "published shape", .choices = presets});
  vit.describe(visit);
  visit("pixel_mean", pixels.mean, {.help = "taken off pixels 0..255, one value or one a channel"});
  visit("pixel_std", pixels.std, {.help = "what they are then divided by"});
}

Encoder make_encoder(const EncoderOptions& options) {
  std::string names;
  for (const auto& entry : encoder_table()) {
    if (entry.name == options.type) return entry.make(options);
    names += (names.empty() ? "" : ", ") + entry.name;
  }
  throw ConfigError("encoder.type: expected one of " + names + ", found '" + options.type + "'");
}

}  // namespace jepa::encoders

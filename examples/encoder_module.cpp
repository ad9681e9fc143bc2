#include <examples/encoder_module.hpp>

namespace jepa::examples {

void EncoderModule::describe(OptionVisitor& visit, const std::string& what) {
  visit("module", module,
        {.help = what + "; auto: the one that the run probed as it trained, else target_encoder",
         .choices = {"auto", "encoder", "target_encoder"}});
}

std::string EncoderModule::of(const WeightFile& weights) const {
  if (module != "auto") return module;
  const auto probed = weights.options().find("training.probe_module");
  return probed != weights.options().end() ? probed->second : "target_encoder";
}

}  // namespace jepa::examples

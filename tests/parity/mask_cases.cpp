#include "case.hpp"

#include <jepa/generator.hpp>
#include <jepa/masking.hpp>

#include <torch/types.h>

namespace parity {
namespace {

std::vector<double> range(const nlohmann::json& value) { return value.get<std::vector<double>>(); }

}  // namespace

void ijepa_masks(Case& test) {
  const auto& config = test.config();
  const int64_t side = test.size("input") / test.size("patch");
  const int64_t batch = test.size("batch");
  const int64_t contexts = config.value("nenc", 1);
  const auto sampler =
      jepa::make_mask_sampler({.kind = "multiblock2d",
                               .blocks = test.size("npred"),
                               .spatial_scale = range(config.at("pred_mask_scale")),
                               .aspect_ratio = range(config.at("aspect_ratio")),
                               .contexts = contexts,
                               .context_scale = range(config.at("enc_mask_scale")),
                               .min_keep = test.size("min_keep"),
                               .allow_overlap = config.value("allow_overlap", false),
                               .cut = "prefix"});
  auto positions = jepa::seeded_generator(static_cast<uint64_t>(test.size("torch_seed")));
  for (int64_t i = 0; i < test.size("iterations"); ++i) {
    const auto mask = sampler->sample(batch, {1, side, side}, i, positions);
    for (int64_t c = 0; c < contexts; ++c) {
      test.equal(c10::str("iteration.", i, ".context.", c),
                 mask.context.narrow(0, c * batch, batch));
    }
    for (int64_t m = 0; m < mask.targets_per_context(); ++m) {
      test.equal(c10::str("iteration.", i, ".target.", m),
                 mask.target.narrow(0, m * contexts * batch, batch));
    }
  }
}

void vjepa_masks(Case& test) {
  const auto& config = test.config();
  const auto flag = [&](const char* name) { return config.value(name, false); };
  const int64_t side = test.size("crop") / test.size("patch");
  const jepa::TokenGrid grid{test.size("frames") / config.value("tubelet", 2), side, side};
  std::vector<std::unique_ptr<jepa::MaskSampler>> samplers;
  for (const auto& mask : config.at("masks")) {
    const auto max_keep = mask.value("max_keep", nlohmann::json());
    const auto either = [&](const char* name) { return flag(name) || mask.value(name, false); };
    samplers.push_back(
        jepa::make_mask_sampler({.kind = "multiblock3d",
                                 .blocks = mask.at("num_blocks").get<int64_t>(),
                                 .spatial_scale = range(mask.at("spatial_scale")),
                                 .temporal_scale = range(mask.at("temporal_scale")),
                                 .aspect_ratio = range(mask.at("aspect_ratio")),
                                 .max_temporal_keep = mask.value("max_temporal_keep", 1.0),
                                 .max_keep = max_keep.is_null() ? 0 : max_keep.get<int64_t>(),
                                 .full_complement = either("full_complement") ||
                                                    test.kind() == "vjepa2_masks_full_complement",
                                 .pred_full_complement = either("pred_full_complement"),
                                 .inv_block = either("inv_block"),
                                 .cut = "prefix"}));
  }
  // All masks place their blocks by one generator, in turn.
  auto positions = jepa::seeded_generator(static_cast<uint64_t>(test.size("torch_seed")));
  for (int64_t i = 0; i < test.size("iterations"); ++i) {
    for (size_t m = 0; m < samplers.size(); ++m) {
      const auto mask = samplers[m]->sample(test.size("batch"), grid, i, positions);
      test.equal(c10::str("iteration.", i, ".mask.", m, ".context"), mask.context);
      test.equal(c10::str("iteration.", i, ".mask.", m, ".target"), mask.target);
    }
  }
}

}  // namespace parity

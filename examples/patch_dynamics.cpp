#include <examples/dynamics_data.hpp>
#include <examples/patch_dynamics.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

namespace jepa::examples {

using namespace eval::dynamics;

namespace {

// Of a small model alone.
constexpr std::array kSmall = {"encoder",
                               "wall_cases",
                               "objective.",
                               "predictor.",
                               "second.",
                               "second_optimisation.",
                               "model.widths",
                               "model.kernels",
                               "model.strides",
                               "model.dim",
                               "model.inverse_hidden",
                               "model.pixel_"};
// Of a model of patches alone.
constexpr std::array kPatches = {"patches.", "action_conditioned.", "adaln."};

template <class Names>
bool among(const std::string& key, const Names& names) {
  return std::any_of(names.begin(), names.end(), [&](const char* name) {
    const std::string part = name;
    return part.back() == '.' || part.back() == '_' ? key.starts_with(part) : key == part;
  });
}

}  // namespace

void require_options_of_model(const OptionValues& given, bool patches) {
  for (const auto& [key, value] : given) {
    if (patches && among(key, kSmall)) {
      throw ConfigError("option " + key + ": not of a model over a frozen encoder of patches " +
                        "(patches.weights)");
    }
    if (!patches && among(key, kPatches) && key != "patches.weights") {
      throw ConfigError("option " + key + ": needs a frozen encoder, patches.weights");
    }
  }
}

std::unique_ptr<PatchDynamicsModel> make_patch_model(const Program& program, RunShape& shape,
                                                     const ClipBatch& some) {
  const auto frames = shape.model.fitted(some.clips.sizes(), actions_between(some).size(2));
  const auto states = some.signals.find("state");
  auto model = std::make_unique<PatchDynamicsModel>(
      frames, shape.patches, states == some.signals.end() ? 0 : states->second.size(2));
  const int64_t shown = some.clips.size(2) - 1;
  const int64_t longest = model->window() > 0 ? std::min(model->window(), shown) : shown;
  require_history(shape.protocol.history, longest);
  if (model->window() == 0 && shape.patches.rollout_steps > shown) {
    throw ConfigError(c10::str("option patches.rollout_steps is ", shape.patches.rollout_steps,
                               ": clips of ", shown + 1, " frames show ", shown));
  }
  model->precision = program.precision;
  model->initialise(static_cast<uint64_t>(program.common.seed));
  model->to(program.device);
  shape.model = model->options;
  shape.patches = model->patches;
  std::printf("frozen encoder     %s\n", model->summary.c_str());
  std::printf("tokens of a frame  %lld x %lld of %lld numbers\n",
              static_cast<long long>(model->grid.h), static_cast<long long>(model->grid.w),
              static_cast<long long>(model->width));
  return model;
}

}  // namespace jepa::examples

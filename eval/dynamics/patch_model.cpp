#include <eval/dynamics/patch_model.hpp>
#include <eval/planning/history.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/weight_file.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/objectives/latent_regression.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace jepa::eval::dynamics {
namespace {

constexpr int64_t kFramesAtOnce = 64;     // of the encoder
constexpr int64_t kTokensAtOnce = 32768;  // of a rollout's rows, history included

void describe_patches(PatchOptions& o, OptionVisitor& visit) {
  visit("weights", o.weights,
        {.help = "frozen encoder (published weights or a run): a predictor of its patch tokens is "
                 "trained on top; empty: the small model that [model] describes"});
  visit("module", o.module,
        {.help = "which encoder of the weights", .choices = {"encoder", "target_encoder"}});
  o.load.describe(visit);
  visit("size", o.size,
        {.help = "frames are scaled to this many pixels a side; 0: as they are",
         .unit = "px",
         .min = 0,
         .max = 4096});
  visit("predictor", o.predictor,
        {.help = "V-JEPA 2-AC's, or AdaLN over patches (DINO-WM, jepa-wms)",
         .choices = {"action_conditioned", "adaln"}});
  visit("states", o.states,
        {.help = "action_conditioned: the clips' signal `state` stands beside the actions; false: "
                 "zeros (a planner knows no states)"});
  visit("rollout_steps", o.rollout_steps,
        {.help = "action_conditioned: frames of the loss's rollout", .min = 1});
}

// Bits of all weights, each tensor's counted by its place.
int64_t weight_bits(const torch::nn::Module& module) {
  uint64_t sum = 0, place = 1;
  for (const auto& [name, tensor] : state_dict(module)) {
    const auto bits = tensor.detach().to(torch::kCPU, torch::kFloat32).contiguous().view(at::kInt);
    sum += place * static_cast<uint64_t>(bits.sum(torch::kInt64).item<int64_t>());
    place += 2;
  }
  return static_cast<int64_t>(sum);
}

// 0 becomes `found`; anything else must be it.
void take_size(const char* option, int64_t& known, int64_t found, const char* of) {
  if (known != 0 && known != found) {
    throw DataError(c10::str("option ", option, " is ", known, ", but ", of, " has ", found));
  }
  known = found;
}

}  // namespace

std::vector<OptionSection> PatchOptions::sections() {
  return {{"patches", "a frozen encoder of patches instead of a small one that is trained",
           [this](OptionVisitor& visit) { describe_patches(*this, visit); }},
          {"action_conditioned", "with --patches.predictor action_conditioned",
           [this](OptionVisitor& visit) { action_conditioned.describe(visit); }},
          {"adaln", "with --patches.predictor adaln",
           [this](OptionVisitor& visit) { adaln.describe(visit); }}};
}

PatchDynamicsModel::PatchDynamicsModel(const ModelOptions& frames, const PatchOptions& given,
                                       int64_t state_width)
    : options(frames), patches(given) {
  auto choices = patches.load;
  choices.which = patches.module;
  auto loaded = encoders::load_encoder(WeightFile::open(patches.weights), choices);
  encoder = loaded.encoder;
  pixels = loaded.options.pixels;
  summary = loaded.summary;
  for (auto& parameter : encoder->parameters()) parameter.set_requires_grad(false);
  width = encoder->output_width() / encoder->output_levels();  // the last level's
  fit_frames();
  make_predictor(state_width);
}

void PatchDynamicsModel::fit_frames() {
  const auto& frame = options.encoder;
  const int64_t channels = encoder->clip_sizes()[1];
  if (frame.channels != channels) {
    throw DataError(c10::str(patches.weights, ": the encoder takes frames of ", channels,
                             " channels, the data's have ", frame.channels));
  }
  const TokenGrid patch = encoder->patch();
  const int64_t h = patches.size > 0 ? patches.size : frame.height;
  const int64_t w = patches.size > 0 ? patches.size : frame.width;
  if (h < patch.h || w < patch.w || h % patch.h != 0 || w % patch.w != 0) {
    throw DataError(c10::str(patches.weights, ": frames of ", h, " x ", w,
                             " px do not divide into the encoder's patches of ", patch.h, " x ",
                             patch.w, " (option patches.size scales them)"));
  }
  grid = encoder->grid({1, channels, encoder->min_frames(), h, w});
  if (grid.t != 1) {
    throw ConfigError(c10::str(patches.weights, ": ", encoder->min_frames(),
                               " frames, the fewest that the encoder takes, make ", grid.t,
                               " time steps; one is needed"));
  }
}

void PatchDynamicsModel::make_predictor(int64_t state_width) {
  if (patches.predictor == "adaln") {
    if (patches.states) throw ConfigError("option patches.states: adaln takes no states");
    auto& o = patches.adaln;
    take_size("adaln.dim", o.dim, width, "a token of the encoder");
    take_size("adaln.tokens", o.tokens, grid.frame_size(), "a frame of the encoder");
    adaln = make_adaln_predictor(o, action_width());
  } else {
    auto& o = patches.action_conditioned;
    if (o.use_extrinsics) {
      throw ConfigError("option action_conditioned.use_extrinsics: clips have no camera poses");
    }
    take_size("action_conditioned.action_width", o.action_width, action_width(),
              "a block of the data's actions");
    if (patches.states && state_width > 0) {
      take_size("action_conditioned.state_width", o.state_width, state_width,
                "a state of the data");
    }
    if (o.state_width == 0) o.state_width = 1;  // zeros
    action_conditioned = predictors::ActionConditionedPredictor(o, width);
  }
  for (const auto& [name, module] : trained()) module->eval();
}

std::map<std::string, std::shared_ptr<torch::nn::Module>> PatchDynamicsModel::trained() const {
  if (adaln != nullptr) return adaln->modules();
  return {{"predictor", action_conditioned.ptr()}};
}

void PatchDynamicsModel::initialise(uint64_t seed) {
  if (adaln != nullptr) return adaln->initialise(seed);
  action_conditioned->initialise(seeded_generator(seed, "predictor"));
}

std::unique_ptr<PatchDynamicsModel> PatchDynamicsModel::untrained(uint64_t seed) const {
  auto fresh = std::make_unique<PatchDynamicsModel>(*this);
  fresh->make_predictor(0);
  fresh->initialise(seed);
  fresh->to(device());
  return fresh;
}

void PatchDynamicsModel::to(torch::Device device) {
  encoder->to(device);
  for (const auto& [name, module] : trained()) module->to(device);
}

int64_t PatchDynamicsModel::encoder_fingerprint() const { return weight_bits(*encoder); }

torch::Tensor PatchDynamicsModel::encode(const torch::Tensor& frames) {
  TORCH_CHECK(frames.dim() == 4, "encode: [N, C, H, W] expected, got ", frames.sizes());
  return encode_clips(frames.unsqueeze(2)).squeeze(1);
}

torch::Tensor PatchDynamicsModel::encode_clips(const torch::Tensor& clips) {
  const torch::NoGradGuard no_grad;
  const auto& o = options.encoder;
  if (clips.dim() != 5 || clips.size(1) != o.channels || clips.size(3) != o.height ||
      clips.size(4) != o.width || clips.scalar_type() != torch::kUInt8) {
    throw DataError(c10::str("the model takes frames of ", o.channels, " x ", o.height, " x ",
                             o.width, " (channels, height, width), found ", clips.sizes()));
  }
  const auto frames = clips.transpose(1, 2).flatten(0, 1);  // [B * T, C, H, W]
  const auto where = device();
  const AutocastScope autocast(where, precision);
  std::vector<torch::Tensor> parts;
  for (int64_t start = 0; start < frames.size(0); start += kFramesAtOnce) {
    const int64_t count = std::min(kFramesAtOnce, frames.size(0) - start);
    auto x = to_device(frames.narrow(0, start, count), where).to(torch::kFloat32);
    if (patches.size > 0) {
      x = at::_upsample_bilinear2d_aa(x, {patches.size, patches.size}, /*align_corners=*/false);
    }
    const auto clip = pixels.normalise(x.unsqueeze(2), where)
                          .expand({-1, -1, encoder->min_frames(), -1, -1})
                          .contiguous();
    parts.push_back(normalise_targets(encoder->forward(clip).to(torch::kFloat32)).flatten(1));
  }
  const auto all = parts.size() == 1 ? parts.front() : torch::cat(parts);
  return all.view({clips.size(0), clips.size(2), all.size(1)});
}

torch::Tensor PatchDynamicsModel::tokens(const torch::Tensor& latents) const {
  const int64_t size = grid.frame_size();
  TORCH_CHECK(latents.dim() == 3 && latents.size(2) == size * width,
              "PatchDynamicsModel: latents [B, T, ", size * width, "] expected, got ",
              latents.sizes());
  return latents.reshape({latents.size(0), latents.size(1) * size, width});
}

predictors::Conditions PatchDynamicsModel::conditions(const torch::Tensor& actions,
                                                      const torch::Tensor& states) const {
  const int64_t steps = actions.size(1);
  return {actions,
          states.defined()
              ? states.narrow(1, 0, steps)
              : torch::zeros({actions.size(0), steps, patches.action_conditioned.state_width},
                             actions.options()),
          {}};
}

torch::Tensor PatchDynamicsModel::predict(const torch::Tensor& latents,
                                          const torch::Tensor& actions,
                                          const torch::Tensor& states) {
  const AutocastScope autocast(latents.device(), precision);
  if (adaln != nullptr) return adaln->predict(latents, actions);
  const auto next = normalise_targets(action_conditioned->forward(
      tokens(latents), conditions(actions, states), {latents.size(1), grid.h, grid.w}));
  return next.to(torch::kFloat32).reshape(latents.sizes());
}

torch::Tensor PatchDynamicsModel::imagine(const torch::Tensor& past, const torch::Tensor& actions,
                                          const torch::Tensor& states, int64_t steps) {
  const int64_t known = past.size(1);
  TORCH_CHECK(actions.size(1) >= known + steps - 1, "PatchDynamicsModel: ", steps, " frames after ",
              known, " need ", known + steps - 1, " actions, got ", actions.sizes());
  const AutocastScope autocast(past.device(), precision);
  if (adaln != nullptr) return adaln->rollout(past, actions.narrow(1, 0, known + steps - 1));
  const auto given = conditions(actions, states);
  const auto frames =
      at::GradMode::is_enabled()
          ? predictors::rollout(action_conditioned, tokens(past), given, grid, steps)
          : predictors::cached_rollout(action_conditioned, tokens(past), given, grid, steps);
  return frames.to(torch::kFloat32).reshape({past.size(0), steps, past.size(2)});
}

torch::Tensor PatchDynamicsModel::rollout(const torch::Tensor& past,
                                          const torch::Tensor& past_actions,
                                          const torch::Tensor& actions) {
  const int64_t known = past.size(1), steps = actions.size(1);
  const at::AutoGradMode gradient(at::GradMode::is_enabled() && actions.requires_grad());
  const auto all = to_device(planning::rollout_actions(past, past_actions, actions), past.device());
  const int64_t rows = std::max<int64_t>(1, kTokensAtOnce / (grid.frame_size() * (known + steps)));
  return planning::rollout_in_parts(past, all, rows,
                                    [&](const torch::Tensor& from, const torch::Tensor& with) {
                                      return imagine(from, with, {}, steps);
                                    });
}

PatchLoss patch_loss(PatchDynamicsModel& model, const torch::Tensor& latents,
                     const torch::Tensor& actions, const torch::Tensor& states) {
  const int64_t before = actions.size(1);
  TORCH_CHECK(latents.dim() == 3 && latents.size(1) == before + 1 &&
                  actions.size(2) == model.action_width(),
              "patch_loss: latents [B, T, n * D] and actions [B, T - 1, ", model.action_width(),
              "] expected, got ", latents.sizes(), " and ", actions.sizes());
  PatchLoss loss;
  const AutocastScope autocast(latents.device(), model.precision);
  if (model.adaln == nullptr) {
    const int64_t steps = model.patches.rollout_steps;
    if (steps > before) {
      throw ConfigError(c10::str("option patches.rollout_steps is ", steps, ", but clips have ",
                                 before + 1, " frames"));
    }
    const auto frames =
        latents.reshape({latents.size(0), latents.size(1) * model.grid.frame_size(), model.width});
    const auto terms = predictors::action_conditioned_loss(
        model.action_conditioned, frames, model.conditions(actions, states),
        {latents.size(1), model.grid.h, model.grid.w}, steps);
    loss.one_step = terms.teacher_forced;
    loss.rollout = terms.rollout;
    loss.total = loss.one_step + loss.rollout;
    return loss;
  }
  loss.one_step = loss.total =
      teacher_forced_error(*model.adaln, latents, latents.narrow(1, 1, before), actions);
  return loss;
}

}  // namespace jepa::eval::dynamics

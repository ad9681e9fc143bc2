#include <jepa/errors.hpp>
#include <jepa/nn/shared_tables.hpp>
#include <jepa/objectives/latent_regression.hpp>
#include <predictors/action_conditioned.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <string>
#include <tuple>

namespace jepa::predictors {
namespace {

nn::BlockOptions block_options(const ActionConditionedOptions& options) {
  return {.dim = options.dim,
          .heads = options.heads,
          .mlp_hidden = static_cast<int64_t>(options.dim * options.mlp_ratio + 1e-6)};
}

}  // namespace

void ActionConditionedOptions::describe(OptionVisitor& visit) {
  visit("dim", dim, {.help = "token width", .min = 1});
  visit("depth", depth, {.help = "blocks", .min = 1});
  visit("heads", heads, {.help = "attention heads", .min = 1});
  visit("mlp_ratio", mlp_ratio, {.help = "hidden width over token width", .min = 0.01});
  visit("action_width", action_width,
        {.help = "numbers in an action; 0: as the data have", .min = 0});
  visit("state_width", state_width, {.help = "numbers in a state; 0: as the data have", .min = 0});
  visit("extrinsics_width", extrinsics_width, {.help = "numbers in a camera pose", .min = 1});
  visit("use_extrinsics", use_extrinsics, {.help = "condition on the camera pose"});
  visit("rope_side", rope_side,
        {.help = "scale rotary positions to this many patches a side; 0: no", .min = 0});
  visit("checkpointing", checkpointing, {.help = "recompute blocks in backward to save memory"});
}

Conditions Conditions::part(int64_t start, int64_t steps) const {
  const auto cut = [&](const torch::Tensor& t) {
    return t.defined() ? t.narrow(1, start, steps) : t;
  };
  return {cut(actions), cut(states), cut(extrinsics)};
}

ActionConditionedPredictorImpl::ActionConditionedPredictorImpl(ActionConditionedOptions options,
                                                               int64_t encoder_width)
    : options_(options), encoder_width_(encoder_width) {
  const auto& o = options_;
  if (encoder_width <= 0 || o.dim % o.heads != 0) {
    throw ConfigError(c10::str("predictor: dim ", o.dim, ", heads ", o.heads, " and encoder width ",
                               encoder_width, " do not fit together"));
  }
  if (o.action_width < 1 || o.state_width < 1) {
    throw ConfigError(c10::str("predictor: actions of ", o.action_width, " numbers and states of ",
                               o.state_width, ", 1 or more expected"));
  }
  embed_ = register_module("predictor_embed", nn::Linear(encoder_width, o.dim));
  action_encoder_ = register_module("action_encoder", nn::Linear(o.action_width, o.dim));
  state_encoder_ = register_module("state_encoder", nn::Linear(o.state_width, o.dim));
  // Always there, as published; only used with use_extrinsics.
  extrinsics_encoder_ =
      register_module("extrinsics_encoder", nn::Linear(o.extrinsics_width, o.dim));
  blocks_ = nn::make_blocks(*this, "predictor_blocks", o.depth, block_options(o));
  norm_ = register_module("predictor_norm", nn::LayerNorm(o.dim));
  proj_ = register_module("predictor_proj", nn::Linear(o.dim, encoder_width));
}

std::shared_ptr<const ActionConditionedPredictorImpl::Tables>
ActionConditionedPredictorImpl::tables(const TokenGrid& grid, torch::Device device) const {
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, std::string>;
  // Few: masks for all trainable lengths would take gigabytes.
  static nn::SharedTables<Key, Tables> shared(/*most=*/8);
  const int64_t extra = conditions_per_step();
  return shared.get(
      {grid.t, grid.h, grid.w, extra, options_.dim / options_.heads, options_.rope_side,
       device.str()},
      [&] {
        const auto step =
            torch::arange(grid.t, torch::kInt64).repeat_interleave(extra + grid.frame_size());
        return Tables{step.unsqueeze(1).ge(step.unsqueeze(0)).to(device), rotary(grid, device)};
      });
}

nn::RotaryTable ActionConditionedPredictorImpl::rotary(const TokenGrid& grid,
                                                       torch::Device device) const {
  const int64_t extra = conditions_per_step();
  const auto step =
      torch::arange(grid.t, torch::kInt64).repeat_interleave(extra + grid.frame_size());
  // Condition tokens turn with their time step alone: row and column 0 are no turn at all.
  const double rows = options_.rope_side == 0 ? 1.0 : double(options_.rope_side) / grid.h;
  const double columns = options_.rope_side == 0 ? 1.0 : double(options_.rope_side) / grid.w;
  const auto positions = nn::grid_positions({1, grid.h, grid.w}, 0);
  const auto none = torch::zeros({extra});
  const auto table = nn::rotary_table(
      {step.to(torch::kFloat32), torch::cat({none, positions[1] * rows}).repeat({grid.t}),
       torch::cat({none, positions[2] * columns}).repeat({grid.t})},
      options_.dim / options_.heads, nn::RotaryLayout::kTiled);
  return {table.cos.to(device), table.sin.to(device)};
}

torch::Tensor ActionConditionedPredictorImpl::sequence(const torch::Tensor& tokens,
                                                       const Conditions& conditions,
                                                       const TokenGrid& grid) {
  TORCH_CHECK(
      tokens.dim() == 3 && tokens.size(1) == grid.size() && tokens.size(2) == encoder_width_,
      "ActionConditionedPredictor: tokens [B, ", grid.size(), ", ", encoder_width_,
      "] expected, got ", tokens.sizes());
  TORCH_CHECK(conditions.actions.size(1) == grid.t && conditions.states.size(1) == grid.t,
              "ActionConditionedPredictor: actions and states of ", grid.t, " steps expected, got ",
              conditions.actions.sizes(), " and ", conditions.states.sizes());
  const int64_t batch = tokens.size(0);

  std::vector<torch::Tensor> step = {action_encoder_->forward(conditions.actions).unsqueeze(2),
                                     state_encoder_->forward(conditions.states).unsqueeze(2)};
  if (options_.use_extrinsics) {
    TORCH_CHECK(conditions.extrinsics.defined(), "ActionConditionedPredictor: no extrinsics given");
    step.push_back(extrinsics_encoder_->forward(conditions.extrinsics).unsqueeze(2));
  }
  step.push_back(embed_->forward(tokens).view({batch, grid.t, grid.frame_size(), options_.dim}));
  return torch::cat(step, 2).flatten(1, 2);
}

torch::Tensor ActionConditionedPredictorImpl::forward(const torch::Tensor& tokens,
                                                      const Conditions& conditions,
                                                      const TokenGrid& grid) {
  const auto tables = this->tables(grid, tokens.device());
  const int64_t extra = conditions_per_step();
  auto x = sequence(tokens, conditions, grid);
  for (auto& block : blocks_) {
    x = nn::run_block(block, x, tables->rotary, tables->mask, {}, options_.checkpointing);
  }
  x = x.unflatten(1, {grid.t, extra + grid.frame_size()}).narrow(2, extra, grid.frame_size());
  return proj_->forward(norm_->forward(x)).flatten(1, 2);
}

void ActionConditionedPredictorImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, std::move(generator));
  for (size_t i = 0; i < blocks_.size(); ++i) blocks_[i]->rescale(static_cast<int64_t>(i) + 1);
}

double ActionConditionedPredictorImpl::flops(const TokenGrid& grid) const {
  const double dim = static_cast<double>(options_.dim);
  const double tokens = static_cast<double>(grid.size());
  double conditions = static_cast<double>(options_.action_width + options_.state_width);
  if (options_.use_extrinsics) conditions += static_cast<double>(options_.extrinsics_width);
  // Attention is counted in full: the mask hides scores, but they are computed.
  return 2 * dim * (2 * tokens * encoder_width_ + static_cast<double>(grid.t) * conditions) +
         options_.depth *
             nn::block_flops(block_options(options_), grid.size() + grid.t * conditions_per_step());
}

torch::Tensor teacher_forced(ActionConditionedPredictor& predictor, const torch::Tensor& frames,
                             const Conditions& conditions, const TokenGrid& grid) {
  TORCH_CHECK(grid.t >= 2, "teacher_forced: at least two frames expected");
  const TokenGrid before{grid.t - 1, grid.h, grid.w};
  return normalise_targets(
      predictor->forward(frames.narrow(1, 0, before.size()), conditions.first(before.t), before));
}

torch::Tensor rollout(ActionConditionedPredictor& predictor, const torch::Tensor& known,
                      const Conditions& conditions, const TokenGrid& grid, int64_t steps) {
  const int64_t frame = grid.frame_size();
  const int64_t first = known.size(1) / frame;
  TORCH_CHECK(first >= 1 && known.size(1) == first * frame, "rollout: whole frames of ", frame,
              " tokens expected, got ", known.sizes());
  auto frames = known;
  for (int64_t n = first; n < first + steps; ++n) {
    const auto next = predictor->forward(frames, conditions.first(n), {n, grid.h, grid.w});
    frames = torch::cat({frames, normalise_targets(next.narrow(1, (n - 1) * frame, frame))}, 1);
  }
  return frames.narrow(1, known.size(1), steps * frame);
}

torch::Tensor cached_rollout(ActionConditionedPredictor& predictor, const torch::Tensor& known,
                             const Conditions& conditions, const TokenGrid& grid, int64_t steps) {
  const torch::NoGradGuard no_grad;
  const int64_t frame = grid.frame_size();
  const int64_t first = known.size(1) / frame;
  TORCH_CHECK(first >= 1 && known.size(1) == first * frame && steps >= 1,
              "cached_rollout: whole frames of ", frame, " tokens expected, got ", known.sizes());
  auto cache = predictor->start_cache(known.size(0), first + steps - 1, grid.h, grid.w);
  auto given = known;
  std::vector<torch::Tensor> frames;
  for (int64_t n = 0; n < steps; ++n) {
    const int64_t taken = cache.steps, length = given.size(1) / frame;
    const auto next = predictor->extend(cache, given, conditions.part(taken, length));
    given = normalise_targets(next.narrow(1, (length - 1) * frame, frame));
    frames.push_back(given);
  }
  return torch::cat(frames, 1);
}

ActionConditionedLoss action_conditioned_loss(ActionConditionedPredictor& predictor,
                                              const torch::Tensor& frames,
                                              const Conditions& conditions, const TokenGrid& grid,
                                              int64_t rollout_steps) {
  TORCH_CHECK(rollout_steps >= 1 && rollout_steps < grid.t, "action_conditioned_loss: 1 to ",
              grid.t - 1, " rollout steps expected, got ", rollout_steps);
  const int64_t frame = grid.frame_size();
  ActionConditionedLoss loss;
  loss.teacher_forced_frames = teacher_forced(predictor, frames, conditions, grid);
  const auto second = loss.teacher_forced_frames.narrow(1, 0, frame);
  loss.rollout_frames = second;
  if (rollout_steps > 1) {
    const auto known = torch::cat({frames.narrow(1, 0, frame), second}, 1);
    loss.rollout_frames =
        torch::cat({second, rollout(predictor, known, conditions, grid, rollout_steps - 1)}, 1);
  }
  loss.teacher_forced = latent_regression(
      loss.teacher_forced_frames, frames.narrow(1, frame, (grid.t - 1) * frame), LatentLoss::l1);
  loss.rollout = latent_regression(loss.rollout_frames,
                                   frames.narrow(1, frame, rollout_steps * frame), LatentLoss::l1);
  return loss;
}

}  // namespace jepa::predictors

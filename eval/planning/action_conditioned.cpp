#include <eval/planning/action_conditioned.hpp>
#include <jepa/errors.hpp>
#include <jepa/objectives/latent_regression.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <array>
#include <memory>

namespace jepa::eval::planning {
namespace {

using predictors::ActionConditionedPredictor;
using predictors::Conditions;
using Cache = ActionConditionedPredictor::ContainedType::Cache;

// Rotation matrices [N, 3, 3] of turns about the fixed axes x, then y, then z, [N, 3].
torch::Tensor rotation(const torch::Tensor& euler) {
  const auto c = euler.cos().unbind(1), s = euler.sin().unbind(1);
  const auto row = [](const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& d) {
    return torch::stack({a, b, d}, 1);
  };
  return torch::stack(
      {row(c[2] * c[1], c[2] * s[1] * s[0] - s[2] * c[0], c[2] * s[1] * c[0] + s[2] * s[0]),
       row(s[2] * c[1], s[2] * s[1] * s[0] + c[2] * c[0], s[2] * s[1] * c[0] - c[2] * s[0]),
       row(-s[1], c[1] * s[0], c[1] * c[0])},
      1);
}

torch::Tensor euler_angles(const torch::Tensor& r) {
  const auto at = [&](int64_t i, int64_t k) { return r.select(1, i).select(1, k); };
  return torch::stack({at::atan2(at(2, 1), at(2, 2)), at::asin((-at(2, 0)).clamp(-1, 1)),
                       at::atan2(at(1, 0), at(0, 0))},
                      1);
}

// What the costs of one decision hold on to.
struct Decision {
  ActionConditionedPredictor model;
  PatchHistory history;
  torch::Tensor goal;
  StateUpdate update;
  Cache cache;  // of all frames but the last, which the first action leaves
  int64_t frames = 0;

  int64_t size() const { return history.frame.frame_size(); }
  Conditions conditions(const torch::Tensor& states, const torch::Tensor& actions) const {
    Conditions c{actions, states, {}};
    if (!history.extrinsics.defined()) return c;
    const int64_t times = states.size(0) / history.extrinsics.size(0);
    c.extrinsics = history.extrinsics.repeat_interleave(times, 0).unsqueeze(1).expand(
        {-1, states.size(1), -1});
    return c;
  }
  // States before each of the actions [N, H, A], from the present one [N, W].
  torch::Tensor states(torch::Tensor state, const torch::Tensor& actions) const {
    std::vector<torch::Tensor> all = {state};
    for (int64_t t = 0; t + 1 < actions.size(1); ++t) {
      all.push_back(state = update(state, actions.select(1, t)));
    }
    return torch::stack(all, 1);
  }
};

// The last of `steps` imagined frames, [B * S, n, D].
torch::Tensor imagine_cached(Decision& d, const torch::Tensor& states, const torch::Tensor& actions,
                             int64_t samples) {
  const int64_t size = d.size(), steps = actions.size(1), past = d.frames - 1;
  const auto& grid = d.history.frame;
  Cache cache = past > 0 ? d.model->branch(d.cache, samples, steps)
                         : d.model->start_cache(actions.size(0), steps, grid.h, grid.w);
  auto frame = d.history.frames.narrow(1, past * size, size).repeat_interleave(samples, 0);
  for (int64_t t = 0; t < steps; ++t) {
    const auto next = d.model->extend(
        cache, frame, d.conditions(states.narrow(1, t, 1), actions.narrow(1, t, 1)));
    frame = normalise_targets(next);
  }
  return frame;
}

torch::Tensor imagine_again(Decision& d, const torch::Tensor& states, const torch::Tensor& actions,
                            int64_t samples) {
  const int64_t steps = actions.size(1), past = d.frames - 1;
  const auto each = [&](const torch::Tensor& x) { return x.repeat_interleave(samples, 0); };
  const auto before = d.history.states.narrow(1, 0, past);
  const auto all_states = torch::cat({each(before), states}, 1);
  const auto all_actions = past == 0 ? actions : torch::cat({each(d.history.actions), actions}, 1);
  const auto& grid = d.history.frame;
  const auto frames = predictors::rollout(d.model, each(d.history.frames),
                                          d.conditions(all_states, all_actions), grid, steps);
  return frames.narrow(1, (steps - 1) * d.size(), d.size());
}

void check_history(const Decision& d) {
  const auto& h = d.history;
  const auto& o = d.model->options();
  const int64_t size = d.size();
  const auto wrong = [](const char* what, const torch::Tensor& found) {
    throw DataError(c10::str("planning: ", what, " have another shape than the model's, ",
                             found.defined() ? c10::str(found.sizes()) : "none"));
  };
  if (size < 1 || h.frames.dim() != 3 || h.frames.size(1) < size || h.frames.size(1) % size != 0) {
    wrong("frames of the history", h.frames);
  }
  const int64_t frames = h.frames.size(1) / size, rows = h.frames.size(0);
  if (h.states.sizes() != at::IntArrayRef({rows, frames, o.state_width})) {
    wrong("states of the history", h.states);
  }
  if (frames > 1 && (!h.actions.defined() ||
                     h.actions.sizes() != at::IntArrayRef({rows, frames - 1, o.action_width}))) {
    wrong("actions of the history", h.actions);
  }
  if (d.goal.sizes() != at::IntArrayRef({rows, size, h.frames.size(2)})) {
    wrong("tokens of the goal", d.goal);
  }
}

}  // namespace

torch::Tensor moved_pose(const torch::Tensor& state, const torch::Tensor& action) {
  TORCH_CHECK(state.dim() == 2 && state.size(1) == 7 && action.sizes() == state.sizes(),
              "moved_pose: states and actions [N, 7] expected, got ", state.sizes(), " and ",
              action.sizes());
  const auto turned = at::bmm(rotation(action.narrow(1, 3, 3)), rotation(state.narrow(1, 3, 3)));
  return torch::cat({state.narrow(1, 0, 3) + action.narrow(1, 0, 3), euler_angles(turned),
                     (state.narrow(1, 6, 1) + action.narrow(1, 6, 1)).clamp(0, 1)},
                    1);
}

CostFunction action_conditioned_costs(ActionConditionedPredictor model, const PatchHistory& history,
                                      const torch::Tensor& goal, StateUpdate update, bool cached) {
  const torch::NoGradGuard no_grad;
  auto d = std::make_shared<Decision>(
      Decision{std::move(model), history, goal, std::move(update), {}, 0});
  check_history(*d);
  const int64_t size = d->size();
  d->frames = history.frames.size(1) / size;
  const int64_t past = d->frames - 1;
  if (cached && past > 0) {
    d->cache = d->model->start_cache(goal.size(0), past, history.frame.h, history.frame.w);
    d->model->extend(d->cache, history.frames.narrow(1, 0, past * size),
                     d->conditions(history.states.narrow(1, 0, past), history.actions));
  }
  return [d, past, cached](const torch::Tensor& candidates) {
    const torch::NoGradGuard no_grad;
    const auto& o = d->model->options();
    if (candidates.dim() != 4 || candidates.size(0) != d->goal.size(0) ||
        candidates.size(3) != o.action_width) {
      throw DataError(c10::str("planning: candidates ", candidates.sizes(), ", the model takes ",
                               d->goal.size(0), " episodes with actions of ", o.action_width));
    }
    const int64_t samples = candidates.size(1);
    const auto actions = candidates.flatten(0, 1);
    const auto present = d->history.states.select(1, past).repeat_interleave(samples, 0);
    const auto states = d->states(present, actions);
    const auto last = cached ? imagine_cached(*d, states, actions, samples)
                             : imagine_again(*d, states, actions, samples);
    const auto each = last.unflatten(0, {candidates.size(0), samples});
    return (each - d->goal.unsqueeze(1)).abs().mean({2, 3});
  };
}

}  // namespace jepa::eval::planning

#include <eval/dynamics/diagnostics.hpp>
#include <eval/probes/linear.hpp>
#include <eval/worlds/two_rooms.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::dynamics {
namespace {

constexpr int64_t kClipsAtOnce = 64;

torch::Tensor encode_in_parts(DynamicsModel& model, const torch::Tensor& clips) {
  std::vector<torch::Tensor> parts;
  for (int64_t start = 0; start < clips.size(0); start += kClipsAtOnce) {
    parts.push_back(
        model.encode_clips(clips.narrow(0, start, std::min(kClipsAtOnce, clips.size(0) - start))));
  }
  return torch::cat(parts);
}

double error_of(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).square().mean().item<double>();
}

// One block ahead of each frame but the last, from it and those before it that the model looks back
// over: [B, T - 1, D].
torch::Tensor one_ahead(DynamicsModel& model, const torch::Tensor& z,
                        const torch::Tensor& actions) {
  const int64_t blocks = actions.size(1), seen = std::min(model.history(), blocks);
  std::vector<torch::Tensor> parts;
  for (int64_t t = 1; t < seen; ++t) {  // frames with fewer before them
    parts.push_back(
        model.rollout(z.narrow(1, 0, t), actions.narrow(1, 0, t - 1), actions.narrow(1, t - 1, 1)));
  }
  const auto windows = [seen](const torch::Tensor& x) {
    return x.unfold(1, seen, 1).transpose(2, 3).flatten(0, 1);  // [B * n, seen, width]
  };
  const auto with = windows(actions);
  const auto next = model.rollout(windows(z.narrow(1, 0, blocks)), with.narrow(1, 0, seen - 1),
                                  with.narrow(1, seen - 1, 1));
  parts.push_back(next.view({z.size(0), blocks - seen + 1, z.size(2)}));
  return parts.size() == 1 ? parts.front() : torch::cat(parts, 1);
}

double pixels_off(const torch::Tensor& read, const torch::Tensor& truth) {
  return (read - truth).narrow(-1, 0, 2).norm(2, {-1}).mean().item<double>();
}

}  // namespace

void add_skill(StepMetrics& metrics, const char* name, double error, double copied) {
  const double skill = 1 - error / copied;
  if (std::isfinite(skill)) metrics[name] = skill;
}

torch::Tensor actions_between(const ClipBatch& batch) {
  const auto found = batch.signals.find(kActionSignal);
  if (found == batch.signals.end()) {
    throw DataError(c10::str("the clips have no signal '", kActionSignal,
                             "': a model of dynamics needs actions (option clip.signals)"));
  }
  const int64_t frames = batch.clips.size(2);
  if (frames < 2) throw DataError("clips of one frame have no action between frames");
  return found->second.narrow(1, 0, frames - 1);
}

HeldOutClips held_out(const ClipBatch& batch) {
  const auto state = batch.signals.find("state");
  return {batch.clips, actions_between(batch),
          state == batch.signals.end() ? torch::Tensor() : state->second};
}

StateProbe fit_probe(const torch::Tensor& latents, const torch::Tensor& states) {
  const int64_t clips = latents.size(0);
  TORCH_CHECK(clips >= 8, "fit_probe: 8 clips or more are needed, got ", clips);
  const auto part = [&](int64_t start, int64_t end) {
    return probes::LabelledFeatures{latents.narrow(0, start, end - start).flatten(0, 1),
                                    states.narrow(0, start, end - start).flatten(0, 1), 0};
  };
  const auto candidates = probes::fit_ridge(part(0, clips / 2), probes::ridge_grid());
  const auto& chosen = probes::choose_candidate(candidates, part(clips / 2, clips * 3 / 4));
  StateProbe probe;
  probe.read = [predict = chosen.predict](const torch::Tensor& x) {
    auto sizes = x.sizes().vec();
    const auto read = predict(x.reshape({-1, x.size(-1)}));
    sizes.back() = read.size(-1);
    return read.view(sizes);
  };
  const auto test = part(clips * 3 / 4, clips);
  const auto read = probe.read(test.features);
  for (int64_t s = 0; s < states.size(2); ++s) {
    probe.r2.push_back(
        probes::prediction_score(read.narrow(1, s, 1), test.labels.narrow(1, s, 1), 0));
  }
  return probe;
}

StepMetrics measure(DynamicsModel& model, const HeldOutClips& held,
                    const std::vector<std::string>& names, StateProbe* probe) {
  const torch::NoGradGuard no_grad;
  const auto z = encode_in_parts(model, held.clips);
  const int64_t blocks = held.actions.size(1);
  const auto actions = model.options.model_actions(held.actions);
  const auto later = z.narrow(1, 1, blocks);
  const auto one = one_ahead(model, z, actions);
  const auto imagined = model.rollout(z.narrow(1, 0, 1), {}, actions);
  const auto last = [&](const torch::Tensor& x) { return x.select(1, x.size(1) - 1); };
  StepMetrics metrics;
  add_skill(metrics, "skill_1", error_of(one, later), error_of(z.narrow(1, 0, blocks), later));
  add_skill(metrics, "skill_k", error_of(last(imagined), last(z)),
            error_of(z.select(1, 0), last(z)));
  const auto within = (z - z.mean(1, /*keepdim=*/true)).square().mean();
  const auto all = (z - z.mean({0, 1})).square().mean();
  metrics["within_clip"] = (within / all).item<double>();
  if (!held.states.defined()) return metrics;
  const auto found = fit_probe(z, held.states);
  for (size_t s = 0; s < found.r2.size(); ++s) {
    metrics["r2_" + (s < names.size() ? names[s] : std::to_string(s))] = found.r2[s];
  }
  if (held.states.size(2) >= 2) {
    metrics["error_1"] = pixels_off(found.read(one), held.states.narrow(1, 1, blocks));
    metrics["error_k"] = pixels_off(found.read(last(imagined)), last(held.states));
  }
  if (probe != nullptr) *probe = found;
  return metrics;
}

namespace {

using worlds::Point;

struct Push {
  worlds::RoomLayout layout;
  Point start;
  double direction = 1;  // of x
};

enum class PushKind { far, near, door };

// A wall that training shows, the dot beside it, the door as far away as `kind` says.
Push draw_push(const worlds::TwoRooms& world, PushKind kind, Random& random) {
  const auto& g = world.geometry();
  const auto value = [&](const worlds::FactorRange& range) {
    for (;;) {
      const double found =
          range.low +
          static_cast<double>(random.below(static_cast<int64_t>(range.high - range.low) + 1));
      if (found < range.gap_low || found > range.gap_high) return found;
    }
  };
  for (;;) {
    Push push;
    const auto& factors = world.info().factors;
    push.layout = {value(factors[0].training), value(factors[1].training)};
    push.direction = random.uniform() < 0.5 ? 1 : -1;
    const double away = static_cast<double>(g.wall_width / 2) + random.uniform(2, 7);
    push.start = {push.layout.wall - push.direction * away,
                  random.uniform(g.low() + 1, g.high() - 1)};
    if (kind == PushKind::door) push.start[1] = push.layout.door + random.uniform(-1, 1);
    const double from_door = std::abs(push.start[1] - push.layout.door);
    const bool fits = kind == PushKind::far    ? from_door > 10
                      : kind == PushKind::near ? from_door >= 6 && from_door <= 10
                                               : true;
    if (fits) return push;
  }
}

constexpr int64_t kPushSteps = 10;  // then as many again, for the depth

// How far beyond the wall's middle [px].
double depth_of(const Push& push, double x) { return push.direction * (x - push.layout.wall); }

// Shares that are beyond the wall after the first steps, and mean depths after all.
struct Pushed {
  double crossed = 0, truly_crossed = 0, depth = 0, true_depth = 0;
};

Pushed push_at(DynamicsModel& model, const StateProbe& probe, PushKind kind, int64_t cases,
               uint64_t seed) {
  const worlds::TwoRooms world(1);
  const auto& g = world.geometry();
  Random random(seed, "wall test", static_cast<uint64_t>(kind));
  auto frames = torch::empty({cases, 2, g.size, g.size}, torch::kUInt8);
  std::vector<float> steps;
  std::vector<Push> pushes;
  Pushed found;
  const double share = 1.0 / static_cast<double>(cases);
  for (int64_t i = 0; i < cases; ++i) {
    const Push push = draw_push(world, kind, random);
    pushes.push_back(push);
    worlds::draw_two_rooms<double>(g, push.layout, push.start,
                                   frames.mutable_data_ptr<uint8_t>() + i * frames.stride(0));
    Point at = push.start;
    for (int64_t s = 0; s < 2 * kPushSteps; ++s) {
      if (s == kPushSteps && depth_of(push, at[0]) > 0) found.truly_crossed += share;
      at = worlds::push_back_step(g, push.layout, at, {push.direction, 0}, [&] {
        const double x = random.normal();
        return Point{x, random.normal()};
      });
      steps.push_back(static_cast<float>(push.direction));
      steps.push_back(0);
    }
    found.true_depth += share * depth_of(push, at[0]);
  }
  const int64_t blocks = kPushSteps / model.options.block;
  const auto actions = model.options.model_actions(
      torch::tensor(steps).view({cases, 2 * blocks, model.action_width()}));
  const auto z = model.encode(frames).unsqueeze(1);
  const auto read = probe.read(model.rollout(z, {}, actions)).to(torch::kFloat64).contiguous();
  for (int64_t i = 0; i < cases; ++i) {
    const auto depth = [&](int64_t block) {
      return depth_of(pushes[static_cast<size_t>(i)], read[i][block][0].item<double>());
    };
    if (depth(blocks - 1) > 0) found.crossed += share;
    found.depth += share * depth(2 * blocks - 1);
  }
  return found;
}

}  // namespace

bool wall_test_takes(int64_t block) { return kPushSteps % block == 0; }

WallTest wall_test(DynamicsModel& model, const StateProbe& probe, int64_t cases, uint64_t seed) {
  const torch::NoGradGuard no_grad;
  if (model.options.action_width != 2 || !wall_test_takes(model.options.block)) {
    throw DataError(c10::str("wall test: a model of two rooms with blocks that divide ", kPushSteps,
                             " steps is needed, found actions of ", model.options.action_width,
                             " numbers in blocks of ", model.options.block));
  }
  WallTest test{.cases = cases};
  const auto push = [&](PushKind kind, double& share, double& true_share) {
    const Pushed found = push_at(model, probe, kind, cases, seed);
    share = found.crossed;
    true_share = found.truly_crossed;
    return found;
  };
  const Pushed far = push(PushKind::far, test.far, test.true_far);
  test.depth = far.depth;
  test.true_depth = far.true_depth;
  push(PushKind::near, test.near, test.true_near);
  push(PushKind::door, test.door, test.true_door);
  return test;
}

StepMetrics named(const WallTest& test) {
  return {{"wall_far", test.far},     {"wall_far_true", test.true_far},
          {"wall_near", test.near},   {"wall_near_true", test.true_near},
          {"wall_door", test.door},   {"wall_door_true", test.true_door},
          {"wall_depth", test.depth}, {"wall_depth_true", test.true_depth}};
}

}  // namespace jepa::eval::dynamics

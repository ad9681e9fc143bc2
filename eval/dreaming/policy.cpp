#include <eval/dreaming/policy.hpp>
#include <eval/probes/metrics.hpp>
#include <jepa/random.hpp>

#include <ATen/ATen.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::dreaming {
namespace {

class HeldRandom : public Policy {
 public:
  HeldRandom(GameInfo info, int64_t hold) : info_(std::move(info)), hold_(hold) {}

  void start(int64_t episodes, uint64_t seed) override {
    random_.clear();
    for (int64_t i = 0; i < episodes; ++i) {
      random_.emplace_back(seed, "held", static_cast<uint64_t>(i));
    }
    left_.assign(episodes, 0);
    held_ = torch::zeros({episodes, info_.action_width});
  }

  torch::Tensor act(const torch::Tensor&, const torch::Tensor& rows, int64_t) override {
    for (int64_t r = 0; r < rows.size(0); ++r) {
      const int64_t i = rows.const_data_ptr<int64_t>()[r];
      if (left_[i]-- > 0) continue;
      float* action = held_.mutable_data_ptr<float>() + i * info_.action_width;
      for (int64_t a = 0; a < info_.action_width; ++a) {
        action[a] = static_cast<float>(random_[i].uniform(-1, 1));
      }
      left_[i] = random_[i].below(hold_);
    }
    return game_actions(info_, held_.index_select(0, rows));
  }

 private:
  GameInfo info_;
  int64_t hold_;
  std::vector<Random> random_;
  std::vector<int64_t> left_;
  torch::Tensor held_;
};

/// The same action for every episode, by the decision's number.
class Scripted : public Policy {
 public:
  Scripted(GameInfo info, std::function<double(int64_t)> script)
      : info_(std::move(info)), script_(std::move(script)) {}
  void start(int64_t, uint64_t) override {}
  torch::Tensor act(const torch::Tensor&, const torch::Tensor& rows, int64_t decision) override {
    return game_actions(info_, torch::full({rows.size(0), info_.action_width}, script_(decision)));
  }

 private:
  GameInfo info_;
  std::function<double(int64_t)> script_;
};

}  // namespace

std::unique_ptr<Policy> held_random(const GameInfo& info, int64_t hold) {
  return std::make_unique<HeldRandom>(info, hold);
}

std::unique_ptr<Policy> constant_action(const GameInfo& info, double action) {
  return std::make_unique<Scripted>(info, [action](int64_t) { return action; });
}

std::unique_ptr<Policy> side_swapping(const GameInfo& info, int64_t period) {
  return std::make_unique<Scripted>(
      info, [period](int64_t decision) { return decision / period % 2 == 0 ? 1.0 : -1.0; });
}

void Scores::add(const Scores& more) {
  const auto behind = [](const torch::Tensor& these, const torch::Tensor& those) {
    return these.defined() ? torch::cat({these, those}) : those;
  };
  scores = behind(scores, more.scores);
  lived = behind(lived, more.lived);
  decisions += more.decisions;
  frames += more.frames;
}

Scores play(Game& game, Policy& policy, uint64_t seed, int64_t first,
            const std::function<void(const Played&)>& seen, int64_t limit, int64_t different) {
  const torch::NoGradGuard no_grad;
  const int64_t batch = game.batch();
  if (limit == 0) limit = game.info().limit();
  game.reset(seed, first, different);
  policy.start(batch, stream_seed(seed, "policy", static_cast<uint64_t>(first)));
  Scores result{.scores = torch::zeros({batch}, torch::kFloat64),
                .lived = torch::zeros({batch}, torch::kFloat64)};
  auto rows = torch::arange(batch, torch::kInt64);
  for (int64_t decision = 0; decision < limit && rows.size(0) > 0; ++decision) {
    torch::Tensor pixels;
    if (seen || policy.sees()) pixels = game.pixels(rows);
    const auto actions = policy.act(pixels, rows, decision);
    auto all = torch::zeros({batch, game.info().action_width});
    all.index_copy_(0, rows, actions);
    const Decision next = game.step(all);
    result.scores += next.reward;
    result.lived += next.lived;
    result.decisions += rows.size(0);
    result.frames += next.frames;
    if (seen) seen({rows, pixels, actions, next});
    rows = rows.masked_select(next.done.index_select(0, rows).logical_not());
  }
  return result;
}

Scores play_episodes(const MakeGame& make, Policy& policy, uint64_t seed, int64_t count,
                     int64_t batch) {
  if (batch == 0) batch = make(1)->info().side_by_side;
  Scores all;
  for (int64_t first = 0; first < count; first += batch) {
    const auto game = make(std::min(batch, count - first));
    all.add(play(*game, policy, seed, first));
  }
  return all;
}

ScoreInterval score_interval(const torch::Tensor& scores) {
  ScoreInterval result;
  const auto values = scores.to(torch::kFloat64);
  const int64_t count = values.numel();
  result.episodes = count;
  result.mean = result.low = result.high = values.mean().item<double>();
  if (count < 2) return result;
  const auto n = static_cast<double>(count);
  result.deviation = values.std().item<double>();
  const double half = probes::student_t_quantile(n - 1, 0.975) * result.deviation / std::sqrt(n);
  result.low -= half;
  result.high += half;
  return result;
}

}  // namespace jepa::eval::dreaming

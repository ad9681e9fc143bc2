#include <eval/worlds/collection.hpp>
#include <jepa/errors.hpp>
#include <jepa/stopped.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <cmath>
#include <limits>

namespace jepa::eval::worlds {
namespace {

constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

// One episode as it grows.
struct Recording {
  std::vector<uint8_t> pixels;
  std::vector<double> state, action, block;
  std::vector<float> reward, terminated, truncated;
  double block_reward = 0;
  int64_t steps = 0;
  bool open = true, success = false, ever = false;
  bool ended = false, by_limit = false;  // by the step made last
};

class Batch {
 public:
  Batch(World& world, const CollectionOptions& options, int64_t limit, int64_t first)
      : world_(world), options_(options), limit_(limit), first_(first) {
    width_ = world.info().action_width;
    states_ = static_cast<int64_t>(world.info().state.size());
    recordings_.resize(static_cast<size_t>(world.batch()));
    look();
  }

  bool open() const {
    for (const auto& one : recordings_) {
      if (one.open) return true;
    }
    return false;
  }

  // A block of steps of all episodes that go on, then a frame of each.
  void run_block(Policy& policy) {
    for (int64_t step = 0; step < options_.block; ++step) {
      const torch::Tensor actions =
          policy.act(world_).to(torch::kCPU, torch::kFloat64).contiguous();
      const Transition got = world_.step(actions);
      bool going = false;
      for (size_t i = 0; i < recordings_.size(); ++i) {
        take_step(i, actions, got);
        going = going || (recordings_[i].open && !recordings_[i].ended);
      }
      if (!going) break;
    }
    look();
  }

  CollectedEpisode take(int64_t i) {
    Recording& one = recordings_[static_cast<size_t>(i)];
    const auto& frame = world_.info().frame;
    CollectedEpisode episode;
    episode.number = first_ + i;
    const auto length = static_cast<int64_t>(one.reward.size());
    if (one.open) one.truncated.back() = 1;  // cut
    one.action.resize(static_cast<size_t>(length * options_.block * width_), kNone);
    const auto signal = [](int64_t width, const auto& values) {
      return Signal{width, {values.begin(), values.end()}};
    };
    episode.clip = {length, frame[1], frame[2], frame[0], std::move(one.pixels)};
    auto& signals = episode.clip.signals;
    signals[kActionSignal] = signal(options_.block * width_, one.action);
    signals["reward"] = signal(1, one.reward);
    signals["terminated"] = signal(1, one.terminated);
    signals["truncated"] = signal(1, one.truncated);
    if (states_ > 0) signals["state"] = signal(states_, one.state);
    episode.state = torch::tensor(one.state, torch::kFloat64).view({length, states_});
    episode.actions = torch::tensor(one.action, torch::kFloat64).view({length, -1});
    // Less those of a block that the world's failure cut off.
    episode.steps = one.steps - static_cast<int64_t>(one.block.size()) / width_;
    for (const float reward : one.reward) episode.total += reward;
    episode.success = one.success;
    episode.ever = one.ever;
    const auto factors = world_.factor_values()[i].contiguous();
    episode.factors.assign(factors.const_data_ptr<double>(),
                           factors.const_data_ptr<double>() + factors.numel());
    return episode;
  }

 private:
  void take_step(size_t i, const torch::Tensor& actions, const Transition& got) {
    Recording& one = recordings_[i];
    if (!one.open || one.ended) return;
    const double* row = actions.const_data_ptr<double>() + static_cast<int64_t>(i) * width_;
    one.block.insert(one.block.end(), row, row + width_);
    one.block_reward += got.reward.const_data_ptr<float>()[i];
    ++one.steps;
    const bool done = got.done.const_data_ptr<bool>()[i];
    const bool late = one.steps >= limit_;
    one.ended = done || late;
    one.by_limit = done ? got.truncated.const_data_ptr<bool>()[i] : late;
  }

  // Adds what is seen now to every episode that goes on; closes those that have ended.
  void look() {
    const torch::Tensor pixels = world_.pixels().permute({0, 2, 3, 1}).contiguous();
    const torch::Tensor state = states_ > 0 ? world_.state() : torch::Tensor();
    const torch::Tensor success = world_.success();
    const int64_t bytes = pixels[0].numel();
    for (size_t i = 0; i < recordings_.size(); ++i) {
      Recording& one = recordings_[i];
      if (!one.open) continue;
      const auto row = static_cast<int64_t>(i);
      if (!one.reward.empty()) {
        one.block.resize(static_cast<size_t>(options_.block * width_), kNone);
        one.action.insert(one.action.end(), one.block.begin(), one.block.end());
      }
      const uint8_t* frame = pixels.const_data_ptr<uint8_t>() + row * bytes;
      one.pixels.insert(one.pixels.end(), frame, frame + bytes);
      if (states_ > 0) {
        const double* values = state.const_data_ptr<double>() + row * states_;
        one.state.insert(one.state.end(), values, values + states_);
      }
      one.reward.push_back(static_cast<float>(one.block_reward));
      one.terminated.push_back(one.ended && !one.by_limit ? 1.0F : 0.0F);
      one.truncated.push_back(one.ended && one.by_limit ? 1.0F : 0.0F);
      one.success = success.const_data_ptr<bool>()[i];
      one.ever = one.ever || one.success;
      one.block.clear();
      one.block_reward = 0;
      one.open = !one.ended;
    }
  }

  World& world_;
  const CollectionOptions& options_;
  int64_t limit_, first_, width_ = 0, states_ = 0;
  std::vector<Recording> recordings_;
};

}  // namespace

void collect_episodes(World& world, Policy& policy, const CollectionOptions& options,
                      const std::function<void(CollectedEpisode&)>& take,
                      const std::function<bool()>& stop) {
  if ((options.episodes > 0) == (options.frames > 0)) {
    throw ConfigError("collect: expected a number of episodes or of frames, and not both");
  }
  if (options.block < 1) throw ConfigError("collect: a block is one step at least");
  int64_t limit = options.max_steps > 0 ? options.max_steps : world.info().step_limit;
  if (limit == 0) {
    if (!world.info().name.starts_with("gym:")) {
      throw ConfigError("max_steps: " + world.info().name + " never ends by itself");
    }
    limit = std::numeric_limits<int64_t>::max();
  }
  int64_t episodes = 0, frames = 0;
  const auto enough = [&] {
    return options.episodes > 0 ? episodes >= options.episodes : frames >= options.frames;
  };
  while (!enough() && !(stop && stop())) {
    try {
      world.reset(options.seed, options.ranges, episodes);
    } catch (const Stopped&) {
      return;  // nothing runs
    }
    policy.begin(world, options.seed, episodes);
    Batch batch(world, options, limit, episodes);
    const auto hand_over = [&] {
      for (int64_t i = 0; i < world.batch() && !enough(); ++i) {
        CollectedEpisode episode = batch.take(i);
        if (episode.clip.frames < 2) continue;  // nothing happened
        ++episodes;
        frames += episode.clip.frames;
        take(episode);
      }
    };
    try {
      while (batch.open() && !(stop && stop())) batch.run_block(policy);
    } catch (const Stopped&) {
      hand_over();
      return;
    } catch (const DataError&) {
      hand_over();
      throw;
    }
    hand_over();
  }
}

}  // namespace jepa::eval::worlds

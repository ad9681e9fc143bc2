#include <eval/dreaming/episodes.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/text_values.hpp>
#include <jepa/random.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <memory>

namespace jepa::eval::dreaming {
namespace {

/// What one slot of a game went through.
struct Track {
  std::vector<torch::Tensor> frames, actions;
  std::vector<float> rewards;
  bool dead = false;
};

void add_track(Episodes& to, std::vector<torch::Tensor>& frames,
               std::vector<torch::Tensor>& actions, std::vector<float>& rewards, Track& track) {
  to.offsets.push_back(to.offsets.back() + static_cast<int64_t>(track.frames.size()));
  to.dead.push_back(track.dead);
  frames.push_back(torch::stack(track.frames));
  track.actions.push_back(torch::zeros_like(track.actions.front()));
  actions.push_back(torch::stack(track.actions));
  track.rewards.push_back(0);
  rewards.insert(rewards.end(), track.rewards.begin(), track.rewards.end());
}

torch::Tensor signal_tensor(const Signal& signal, int64_t frames) {
  return torch::from_blob(const_cast<float*>(signal.values.data()), {frames, signal.width}).clone();
}

void check_clip(const std::string& path, const RawClip& clip, const GameInfo& info) {
  if (clip.channels != info.frame[0] || clip.height != info.frame[1] ||
      clip.width != info.frame[2]) {
    throw DataError(c10::str(path, ": frames of ", clip.height, " x ", clip.width, " x ",
                             clip.channels, ", but ", info.name, " shows ", info.frame[1], " x ",
                             info.frame[2], " x ", info.frame[0]));
  }
  const int64_t width = clip.signals.at("action").width;
  if (width != info.action_width) {
    throw DataError(c10::str(path, ": actions of ", width, " numbers, but ", info.name, " takes ",
                             info.action_width));
  }
}

}  // namespace

int64_t Episodes::decisions() const { return offsets.back() - size(); }

torch::Tensor Episodes::scores() const {
  auto result = torch::zeros({size()}, torch::kFloat64);
  for (int64_t e = 0; e < size(); ++e) {
    result[e] = rewards.slice(0, offsets[e], offsets[e + 1]).sum().to(torch::kFloat64);
  }
  return result;
}

bool is_held_out(int64_t episode, double held_out) {
  return episode % std::max<int64_t>(2, std::llround(1 / held_out)) == 0;
}

Episodes join(const std::vector<Episodes>& parts) {
  Episodes all;
  all.offsets = {0};
  std::vector<torch::Tensor> frames, actions, rewards;
  for (const auto& part : parts) {
    if (part.frames.sizes().slice(1) != parts.front().frames.sizes().slice(1) ||
        part.actions.size(1) != parts.front().actions.size(1)) {
      throw DataError(c10::str("episodes of frames ", part.frames.sizes().slice(1), " beside ",
                               parts.front().frames.sizes().slice(1)));
    }
    const int64_t before = all.offsets.back();
    for (size_t e = 1; e < part.offsets.size(); ++e)
      all.offsets.push_back(before + part.offsets[e]);
    all.dead.insert(all.dead.end(), part.dead.begin(), part.dead.end());
    frames.push_back(part.frames);
    actions.push_back(part.actions);
    rewards.push_back(part.rewards);
  }
  all.frames = torch::cat(frames);
  all.actions = torch::cat(actions);
  all.rewards = torch::cat(rewards);
  return all;
}

Episodes collect_episodes(const MakeGame& make, Policy& policy, uint64_t seed, int64_t count,
                          Scores& scores, int64_t batch) {
  if (batch == 0) batch = make(1)->info().side_by_side;
  Episodes result;
  result.offsets = {0};
  std::vector<torch::Tensor> frames, actions;
  std::vector<float> rewards;
  for (int64_t first = 0; first < count; first += batch) {
    const auto game = make(std::min(batch, count - first));
    std::vector<Track> tracks(game->batch());
    const Scores some = play(*game, policy, seed, first, [&](const Played& played) {
      for (int64_t r = 0; r < played.rows.size(0); ++r) {
        const int64_t i = played.rows.const_data_ptr<int64_t>()[r];
        Track& track = tracks[i];
        track.frames.push_back(played.pixels[r].clone());
        track.actions.push_back(played.actions[r].clone());
        track.rewards.push_back(played.decision.reward[i].item<float>());
        track.dead = played.decision.dead[i].item<bool>();
      }
    });
    const auto last = game->pixels(torch::arange(game->batch(), torch::kInt64));
    for (int64_t i = 0; i < game->batch(); ++i) {
      tracks[i].frames.push_back(last[i]);
      add_track(result, frames, actions, rewards, tracks[i]);
    }
    scores.add(some);
  }
  result.frames = torch::cat(frames);
  result.actions = torch::cat(actions);
  result.rewards = torch::tensor(rewards);
  return result;
}

void write_episodes(const std::string& path, const Episodes& episodes, const GameInfo& info,
                    const std::map<std::string, std::string>& attributes) {
  ClipStoreWriter writer(path, {.attributes = attributes});
  for (int64_t e = 0; e < episodes.size(); ++e) {
    const int64_t from = episodes.offsets[e], to = episodes.offsets[e + 1];
    const auto pixels = episodes.frames.slice(0, from, to).permute({0, 2, 3, 1}).contiguous();
    RawClip clip{.frames = to - from,
                 .height = pixels.size(1),
                 .width = pixels.size(2),
                 .channels = pixels.size(3),
                 .pixels = {pixels.const_data_ptr<uint8_t>(),
                            pixels.const_data_ptr<uint8_t>() + pixels.numel()}};
    const auto keep = [&](const char* name, const torch::Tensor& values) {
      const auto flat = values.to(torch::kFloat32).contiguous();
      const float* data = flat.const_data_ptr<float>();
      clip.signals[name] = {flat.numel() / clip.frames, {data, data + flat.numel()}};
    };
    keep("action", sent_actions(info, episodes.actions.slice(0, from, to)));
    // In a store a reward stands with the frame that it came with.
    keep("reward", torch::cat({torch::zeros({1}), episodes.rewards.slice(0, from, to - 1)}));
    auto terminated = torch::zeros({to - from});
    if (episodes.dead[e] != 0) terminated[to - from - 1] = 1;
    keep("terminated", terminated);
    writer.append(clip);
  }
  writer.finish({});
}

namespace {

/// What a store says of its world and of the frames between two of its own.
void require_same_game(const std::string& path, const std::map<std::string, std::string>& notes,
                       const GameInfo& info) {
  const auto value = [&](const char* name) { return value_or_empty(notes, name); };
  if (const auto world = value("world"); !world.empty() && world != info.name) {
    throw DataError(path + ": episodes of " + world + ", the game is " + info.name);
  }
  std::string apart = value("repeat");  // dream's own; collect counts in steps of the environment
  if (apart.empty()) apart = value("frame_skip");
  if (apart.empty() && value("generator") == "jepa collect") apart = "1";
  if (!apart.empty() && apart != std::to_string(info.repeat)) {
    throw DataError(c10::str(path, ": its frames are ", apart, " apart, the game's ", info.repeat,
                             " (world.repeat)"));
  }
}

/// `values` of an episode. @throws DataError where one is not a number
torch::Tensor finite(const torch::Tensor& values, const std::string& path, const char* column,
                     int64_t episode) {
  if (values.isfinite().all().item<bool>()) return values;
  throw DataError(c10::str(path, ": column '", column, "' of episode ", episode,
                           " has values that are not finite"));
}

}  // namespace

Episodes read_episodes(const std::string& path, const GameInfo& info, int64_t most) {
  const ClipStore whole(path, {});
  require_same_game(path, whole.info().attributes, info);
  const auto names = whole.signals();
  const auto has = [&](const char* name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (!has("action")) throw DataError(path + ": has no column 'action' of one row a frame");
  ClipOptions options{.signals = "action"};
  const bool rewarded = has("reward"), told = has("terminated");
  if (rewarded) options.signals += ",reward";
  if (told) options.signals += ",terminated";
  const ClipStore store(path, options);
  Episodes result;
  result.offsets = {0};
  std::vector<torch::Tensor> frames, actions, rewards;
  const int64_t count = most > 0 ? std::min(most, store.size()) : store.size();
  for (int64_t e = 0; e < count; ++e) {
    Random unused(0);
    const RawClip clip = store.read(e, unused);
    check_clip(path, clip, info);
    if (clip.frames < 2) continue;  // nothing was decided in it
    frames.push_back(torch::from_blob(const_cast<uint8_t*>(clip.pixels.data()),
                                      {clip.frames, clip.height, clip.width, clip.channels},
                                      torch::kUInt8)
                         .permute({0, 3, 1, 2})
                         .contiguous()
                         .clone());
    const auto sent = signal_tensor(clip.signals.at("action"), clip.frames);
    const auto taken =
        received_actions(info, finite(sent.narrow(0, 0, clip.frames - 1), path, "action", e), path);
    actions.push_back(torch::cat({taken, torch::zeros({1, info.action_width})}));
    const auto came = rewarded ? signal_tensor(clip.signals.at("reward"), clip.frames).select(1, 0)
                               : torch::full({clip.frames}, static_cast<double>(info.repeat));
    rewards.push_back(torch::cat({finite(came.slice(0, 1), path, "reward", e), torch::zeros({1})}));
    result.dead.push_back(
        told ? signal_tensor(clip.signals.at("terminated"), clip.frames).gt(0).any().item<bool>()
             : clip.frames - 1 < info.limit());
    result.offsets.push_back(result.offsets.back() + clip.frames);
  }
  if (frames.empty()) throw DataError(path + ": has no episode with a decision in it");
  result.frames = torch::cat(frames);
  result.actions = torch::cat(actions);
  result.rewards = torch::cat(rewards);
  return result;
}

}  // namespace jepa::eval::dreaming

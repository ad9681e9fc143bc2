#include <eval/dreaming/dream.hpp>
#include <eval/dreaming/model_training.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/random.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::dreaming {
namespace {

using predictors::MixtureDensityRnn;

constexpr int64_t kContext = 8;  // true decisions before an imagined window

std::vector<std::pair<int64_t, int64_t>> random_windows(const LatentEpisodes& episodes,
                                                        int64_t count, int64_t length,
                                                        Random& random) {
  const int64_t decisions = episodes.offsets.back() - episodes.size();
  std::vector<std::pair<int64_t, int64_t>> starts;
  for (int64_t i = 0; i < count; ++i) {
    // A decision as likely as any other; its window is moved back where the episode ends before.
    int64_t left = random.below(decisions);
    int64_t e = 0;
    for (; left >= episodes.offsets[e + 1] - episodes.offsets[e] - 1; ++e) {
      left -= episodes.offsets[e + 1] - episodes.offsets[e] - 1;
    }
    const int64_t latest = episodes.offsets[e + 1] - episodes.offsets[e] - 1 - length;
    starts.emplace_back(e, std::max<int64_t>(0, std::min(left, latest)));
  }
  return starts;
}

/// Chance that the dream ended in imagined windows.
torch::Tensor dies_in_dream(MixtureDensityRnn& model, const LatentEpisodes& episodes,
                            const std::vector<std::pair<int64_t, int64_t>>& starts, int64_t window,
                            double temperature, double death_weight, uint64_t seed) {
  const auto some = cut_windows(episodes, starts, kContext + window);
  const auto batch = static_cast<int64_t>(starts.size());
  auto generator = seeded_generator(seed, "dreamed recall");
  auto state = model->start(batch);
  model->forward(some.latents.narrow(1, 0, kContext), some.actions.narrow(1, 0, kContext), state);
  auto latent = some.latents.select(1, kContext);
  auto alive = torch::ones({batch});
  for (int64_t t = 0; t < window; ++t) {
    const auto next =
        model->imagine(latent, some.actions.select(1, kContext + t), temperature, state, generator);
    latent = next.latent.squeeze(1);
    alive = alive * (1 - chance_of_end(next, death_weight).squeeze(1));
  }
  return 1 - alive;
}

/// A draw that nothing flows back through.
torch::Tensor draw(const predictors::Mixture& mixture, at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  const auto sizes = mixture.means.sizes().slice(0, 3);
  return predictors::sample_mixture(mixture, 1.0, at::rand(sizes, generator, torch::kFloat32),
                                    at::randn(sizes, generator, torch::kFloat32))
      .latent;
}

/// What M says of every decision of a window, of the last `imagined` ones from its own draws.
torch::Tensor read_window(MixtureDensityRnn& model, const Windows& window, int64_t imagined,
                          at::Generator generator) {
  const int64_t length = window.actions.size(1), taught = length - imagined;
  auto state = model->start(window.actions.size(0));
  std::vector<torch::Tensor> outputs = {model->forward(window.latents.narrow(1, 0, taught),
                                                       window.actions.narrow(1, 0, taught), state)};
  for (int64_t t = taught; t < length; ++t) {
    const auto before = model->mixture(outputs.back().narrow(1, outputs.back().size(1) - 1, 1));
    outputs.push_back(
        model->forward(draw(before, generator), window.actions.narrow(1, t, 1), state));
  }
  return torch::cat(outputs, 1);
}

double share(const torch::Tensor& of) {
  return of.numel() == 0 ? 0.0 : of.to(torch::kFloat64).mean().item<double>();
}

}  // namespace

void ModelOptions::describe(OptionVisitor& visit) {
  visit("hidden", hidden, {.help = "width of the LSTM", .min = 1, .max = 8192});
  visit("mixtures", mixtures, {.help = "normals a latent dimension", .min = 1, .max = 100});
  visit("steps", steps, {.help = "of training, in each round", .min = 1});
  visit("batch", batch, {.help = "windows a step", .min = 1});
  visit("sequence", sequence, {.help = "longest window", .unit = "decisions", .min = 2});
  visit("lr", lr, {.help = "falls to a tenth, cosine", .min = 0});
  visit("done_weight", done_weight, {.help = "of decisions that end an episode", .min = 0});
  visit("done_share", done_share, {.help = "of the termination loss", .min = 0});
  visit("noise", noise, {.help = "on latents in training, deviation", .min = 0});
  visit("imagined", imagined,
        {.help = "last decisions of a window in which M is fed its own draws", .min = 0});
  visit("mirror", mirror, {.help = "train on mirrored episodes too (games of left and right)"});
  visit("held_out", held_out, {.help = "share of episodes for recall", .min = 0.01, .max = 0.5});
  visit("recall_window", recall_window,
        {.help = "up to an end in which it counts as foreseen", .unit = "decisions", .min = 1});
}

LatentEpisodes LatentEpisodes::select(const std::vector<int64_t>& chosen) const {
  LatentEpisodes result;
  result.offsets = {0};
  std::vector<torch::Tensor> some_latents, some_actions;
  for (const int64_t e : chosen) {
    some_latents.push_back(latents.slice(0, offsets[e], offsets[e + 1]));
    some_actions.push_back(actions.slice(0, offsets[e], offsets[e + 1]));
    result.offsets.push_back(result.offsets.back() + offsets[e + 1] - offsets[e]);
    result.dead.push_back(dead[e]);
  }
  result.latents = torch::cat(some_latents);
  result.actions = torch::cat(some_actions);
  return result;
}

LatentSplit split_episodes(const LatentEpisodes& episodes, double held_out) {
  if (episodes.size() < 2) {
    throw DataError("one episode is not enough: M needs some to train on and some held out");
  }
  std::vector<int64_t> kept, out;
  for (int64_t e = 0; e < episodes.size(); ++e)
    (is_held_out(e, held_out) ? out : kept).push_back(e);
  return {episodes.select(kept), episodes.select(out)};
}

torch::Tensor first_latents(const LatentEpisodes& episodes) {
  const std::vector<int64_t> rows(episodes.offsets.begin(), episodes.offsets.end() - 1);
  return episodes.latents.index_select(0, torch::tensor(rows, torch::kInt64));
}

LatentEpisodes encode_episodes(VisionImpl& vision, const Episodes& episodes, bool mirrored,
                               const StopRequest& stop) {
  return {vision.encode(episodes.frames, mirrored, stop),
          mirrored ? -episodes.actions : episodes.actions, episodes.offsets, episodes.dead};
}

LatentEpisodes join(const LatentEpisodes& first, const LatentEpisodes& second) {
  LatentEpisodes all = first;
  all.latents = torch::cat({first.latents, second.latents});
  all.actions = torch::cat({first.actions, second.actions});
  for (size_t e = 1; e < second.offsets.size(); ++e) {
    all.offsets.push_back(first.offsets.back() + second.offsets[e]);
  }
  all.dead.insert(all.dead.end(), second.dead.begin(), second.dead.end());
  return all;
}

Windows cut_windows(const LatentEpisodes& episodes,
                    const std::vector<std::pair<int64_t, int64_t>>& starts, int64_t length) {
  const auto batch = static_cast<int64_t>(starts.size());
  auto rows = torch::zeros({batch, length + 1}, torch::kInt64);
  auto done = torch::zeros({batch, length}), counted = torch::zeros({batch, length});
  for (int64_t b = 0; b < batch; ++b) {
    const auto [episode, first] = starts[b];
    const int64_t last = episodes.offsets[episode + 1] - 1;  // its row of the end
    for (int64_t t = 0; t <= length; ++t) {
      const int64_t row = episodes.offsets[episode] + first + t;
      rows.mutable_data_ptr<int64_t>()[b * (length + 1) + t] = std::min(row, last);
      if (t == length || row >= last) continue;
      counted.mutable_data_ptr<float>()[b * length + t] = 1;
      if (row + 1 == last && episodes.dead[episode] != 0) {
        done.mutable_data_ptr<float>()[b * length + t] = 1;
      }
    }
  }
  const auto flat = rows.flatten();
  const auto action_rows = rows.narrow(1, 0, length).flatten();
  return {episodes.latents.index_select(0, flat).view({batch, length + 1, -1}),
          episodes.actions.index_select(0, action_rows).view({batch, length, -1}), done, counted};
}

MixtureDensityRnn make_model(const ModelOptions& options, int64_t latent, int64_t action_width) {
  if (options.imagined >= options.sequence) {
    throw ConfigError(c10::str("option model.imagined: ", options.imagined,
                               " of a window's decisions, model.sequence is ", options.sequence));
  }
  return MixtureDensityRnn(predictors::MixtureDensityOptions{.latent = latent,
                                                             .action_width = action_width,
                                                             .hidden = options.hidden,
                                                             .mixtures = options.mixtures});
}

ModelLoss train_model(MixtureDensityRnn& model, const ModelOptions& options,
                      const LatentEpisodes& episodes, uint64_t seed,
                      const TrainingProgress& progress) {
  model->train();
  const auto means = fit(
      "model", model.ptr(), {.steps = options.steps, .lr = options.lr},
      [&](int64_t step) -> std::vector<torch::Tensor> {
        Random random(seed, "windows", static_cast<uint64_t>(step));
        auto some =
            cut_windows(episodes, random_windows(episodes, options.batch, options.sequence, random),
                        options.sequence);
        if (options.noise > 0) {
          // Without it the densities of what hardly varies grow without bound, and with them their
          // share of the gradient.
          auto generator = seeded_generator(seed, "noise", static_cast<uint64_t>(step));
          some.latents +=
              options.noise * at::randn(some.latents.sizes(), generator, torch::kFloat32);
        }
        const auto mixture = model->mixture(
            read_window(model, some, options.imagined,
                        seeded_generator(seed, "imagined windows", static_cast<uint64_t>(step))));
        const auto count = some.counted.sum();
        const auto target = some.latents.narrow(1, 1, options.sequence);
        const auto density =
            (predictors::mixture_nll(mixture, target).mean(-1) * some.counted).sum() / count;
        const auto termination =
            (predictors::done_cross_entropy(mixture, some.done, options.done_weight) * some.counted)
                .sum() /
            count;
        return {density + options.done_share * termination, density, termination};
      },
      progress);
  model->eval();
  return {.density = means[1], .termination = means[2]};
}

Recall recall_of(const std::vector<torch::Tensor>& predicted, const std::vector<char>& dead,
                 int64_t window) {
  TORCH_CHECK(predicted.size() == dead.size(), "recall_of: ", predicted.size(), " episodes and ",
              dead.size(), " ends");
  Recall result;
  int64_t foreseen = 0, alarms = 0, outside = 0;
  for (size_t e = 0; e < predicted.size(); ++e) {
    const int64_t count = predicted[e].size(0);
    const int64_t near = dead[e] != 0 ? std::min(window, count) : 0;
    outside += count - near;
    alarms += predicted[e].narrow(0, 0, count - near).sum().item<int64_t>();
    if (dead[e] == 0) continue;
    ++result.deaths;
    foreseen += predicted[e].narrow(0, count - near, near).any().item<bool>() ? 1 : 0;
  }
  if (result.deaths > 0) {
    result.recall = static_cast<double>(foreseen) / static_cast<double>(result.deaths);
  }
  if (outside > 0) {
    result.false_alarms = 1000 * static_cast<double>(alarms) / static_cast<double>(outside);
  }
  return result;
}

Recall termination_recall(MixtureDensityRnn& model, const LatentEpisodes& episodes, int64_t window,
                          double death_weight) {
  const torch::NoGradGuard no_grad;
  // The logit at which a dream ends, or is as likely to.
  const double threshold = death_weight > 0 ? std::log(death_weight) : 0;
  std::vector<torch::Tensor> predicted;
  for (int64_t e = 0; e < episodes.size(); ++e) {
    const int64_t from = episodes.offsets[e], count = episodes.offsets[e + 1] - from - 1;
    auto state = model->start(1);
    const auto output = model->forward(episodes.latents.narrow(0, from, count).unsqueeze(0),
                                       episodes.actions.narrow(0, from, count).unsqueeze(0), state);
    predicted.push_back(output.select(2, 0).gt(threshold).squeeze(0));
  }
  return recall_of(predicted, episodes.dead, window);
}

DreamedRecall dreamed_recall(MixtureDensityRnn& model, const LatentEpisodes& episodes,
                             int64_t window, double temperature, double death_weight,
                             uint64_t seed) {
  const torch::NoGradGuard no_grad;
  std::vector<std::pair<int64_t, int64_t>> ends, before;
  for (int64_t e = 0; e < episodes.size(); ++e) {
    const int64_t count = episodes.offsets[e + 1] - episodes.offsets[e] - 1;
    if (episodes.dead[e] == 0 || count < 2 * window + kContext) continue;
    ends.emplace_back(e, count - window - kContext);
    before.emplace_back(e, count - 2 * window - kContext);
  }
  DreamedRecall result{.deaths = static_cast<int64_t>(ends.size())};
  if (ends.empty()) return result;
  result.recall =
      share(dies_in_dream(model, episodes, ends, window, temperature, death_weight, seed));
  result.false_share =
      share(dies_in_dream(model, episodes, before, window, temperature, death_weight, seed + 1));
  return result;
}

}  // namespace jepa::eval::dreaming

// Every arm asked about every kind of event, cell by cell, so that what was cut off goes on.
#include <encoders/published.hpp>
#include <eval/physics/surprise_models.hpp>
#include <eval/probes/metrics.hpp>
#include <eval/probes/saved_probe.hpp>
#include <eval/watching/events.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/safetensors.hpp>
#include <jepa/stopped.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <filesystem>

namespace jepa::eval::watching {
namespace {

namespace fs = std::filesystem;
using physics::Metric;
using physics::RuleValues;

constexpr uint64_t kBootstrap = 11;
constexpr uint64_t kUntrained = 2000;  // first seed

/// A digest of films.
std::string identity_of(const std::vector<torch::Tensor>& films) {
  TensorMap all;
  for (size_t i = 0; i < films.size(); ++i) all[std::to_string(i)] = films[i];
  return probes::tensor_identity(all);
}

/// The event films of one kind and the stretches that they were made of.
struct KindFilms {
  std::vector<torch::Tensor> films;  ///< uint8 [C, T, H, W]
  std::string identity;
  std::vector<int64_t> stretches;
};

/// One arm and draw, whose model is made when it is first asked.
struct Draw {
  std::string arm;
  int64_t number = 0;
  std::string identity;  ///< of the weights, where they have a part in it
  std::function<physics::SurpriseModel()> make;
};

std::vector<Draw> draws_of(const EventOptions& options, const WatchOptions& watch,
                           const WatchedModel& model, torch::Device device) {
  const auto& asked = model.surprise;
  const auto file = WeightFile::open(watch.weights);
  TensorMap weights;
  for (const auto& module : file.modules()) {
    for (const auto& [name, tensor] : file.stored(module)) weights[module + "/" + name] = tensor;
  }
  // Untrained networks go with them: their shape is the model's.
  const std::string identity = probes::tensor_identity(weights);
  const int64_t patch = encoders::load_encoder(file, {.which = "encoder"}).options.vit.patch;
  const auto tubelet = asked.tubelet, window = asked.window;
  const std::string shape = c10::str("windows of ", window, ", tokens of ", tubelet, " x ", patch);
  std::vector<Draw> draws{{"jepa", 0, identity, [&model] { return model.surprise; }}};
  for (int64_t i = 0; i < options.untrained; ++i) {
    draws.push_back({"untrained", i, identity, [i, &watch, window, device] {
                       return physics::untrained_surprise(
                           watch.weights, window, kUntrained + static_cast<uint64_t>(i), device);
                     }});
  }
  draws.push_back(
      {"copy_last", 0, shape, [=] { return physics::copy_last_surprise(window, tubelet, patch); }});
  draws.push_back({"pixel_difference", 0, shape,
                   [=] { return physics::pixel_difference_surprise(window, tubelet, patch); }});
  draws.push_back({"change_of_difference", 0, shape,
                   [=] { return change_of_difference(window, tubelet, patch); }});
  return draws;
}

/// Surprise of every window of films, by the mean and the largest of its tokens: [films, windows,
/// 2].
torch::Tensor score(const physics::SurpriseModel& model, const std::vector<torch::Tensor>& films,
                    int64_t past, const comparison::ComparisonHooks& hooks) {
  std::vector<torch::Tensor> parts;
  constexpr size_t kAtOnce = 8;
  for (size_t i = 0; i < films.size(); i += kAtOnce) {
    stop_if_asked(hooks.stop, "events");
    const std::vector<torch::Tensor> some(
        films.begin() + static_cast<std::ptrdiff_t>(i),
        films.begin() + static_cast<std::ptrdiff_t>(std::min(i + kAtOnce, films.size())));
    const auto surprise =
        physics::surprise_of(model, torch::stack(some), {.past = past, .stride = 1});
    parts.push_back(torch::stack({surprise.windows, surprise.tokens.flatten(2).amax(2)}, 2));
  }
  return torch::cat(parts).to(torch::kFloat64);
}

/// The scores of a draw, kept on disk: of what is lawful, then of each kind. What was scored of
/// other weights or other films is scored again.
class Scores {
 public:
  Scores(const std::string& run, Draw draw, int64_t past, const comparison::ComparisonHooks& hooks)
      : folder_(c10::str(run, "/cells/", draw.arm, "-s", draw.number)),
        draw_(std::move(draw)),
        past_(past),
        hooks_(hooks) {}

  /// @param identity of the films
  torch::Tensor of(const std::string& what, const std::vector<torch::Tensor>& films,
                   const std::string& identity) {
    const std::string path = folder_ + "/" + what + ".safetensors";
    const std::map<std::string, std::string> basis{{"model", draw_.identity}, {"films", identity}};
    if (fs::exists(path)) {
      const auto file = read_safetensors(path);
      const auto kept = file.tensors.at("surprise").clone();
      // Earlier versions did not say what they had scored.
      const bool same = file.metadata.empty() || file.metadata == basis;
      if (same && kept.size(0) == static_cast<int64_t>(films.size())) return kept;
      hooks_.say(c10::str(draw_.arm, " ", draw_.number, ", ", what,
                          ": scores are of another model or other footage, scored again"));
    }
    if (!model_.tokens) model_ = draw_.make();
    const auto made = score(model_, films, past_, hooks_);
    fs::create_directories(folder_);
    write_safetensors(path, {{"surprise", made}}, basis);
    return made;
  }

 private:
  std::string folder_;
  Draw draw_;
  int64_t past_;
  const comparison::ComparisonHooks& hooks_;
  physics::SurpriseModel model_;
};

std::map<std::string, Metric> asked_metrics() {
  return {{"auroc", Metric::kAuroc},
          {"auroc_max", Metric::kAurocMax},
          {"relative", Metric::kRelative},
          {"relative_max", Metric::kRelativeMax}};
}

using Kinds = std::vector<torch::Tensor>;  // of one draw: [stretches, windows, 2, 2] of each

/// Kinds are spliced into the same stretches, which are drawn once for all of them: of each kind,
/// how often its own were, double [R, its stretches].
std::vector<torch::Tensor> shared_resamples(const std::vector<KindFilms>& kinds, int64_t stretches,
                                            int64_t resamples) {
  const auto drawn = probes::resample_units(stretches, resamples, kBootstrap);
  std::vector<torch::Tensor> counts;
  for (const auto& kind : kinds) {
    auto own = drawn.index_select(1, torch::tensor(kind.stretches)).to(torch::kFloat64);
    own.masked_fill_(own.sum(1, /*keepdim=*/true).eq(0), 1);  // none of its own: all of them
    counts.push_back(own);
  }
  return counts;
}

EventTable summarise(const std::vector<torch::Tensor>& counts,
                     const std::vector<std::pair<std::string, Kinds>>& scored) {
  std::vector<std::string> arms;
  std::map<std::string, std::map<std::string, std::vector<RuleValues>>> values;  // arm, metric
  for (const auto& [arm, kinds] : scored) {
    if (std::find(arms.begin(), arms.end(), arm) == arms.end()) arms.push_back(arm);
    for (const auto& [name, metric] : asked_metrics()) {
      values[arm][name].push_back(physics::measure(kinds, metric, 0, counts));
    }
  }
  EventTable table;
  for (const auto& kind : scored.front().second) table.stretches.push_back(kind.size(0));
  table.windows = scored.front().second.front().size(1);
  for (const auto& arm : arms) {
    EventRow row{.arm = arm, .draws = static_cast<int64_t>(values[arm]["auroc"].size())};
    for (const auto& [name, draws] : values[arm])
      row.metrics[name] = physics::pooled(draws, kBootstrap);
    if (arm == arms.front()) {
      for (const auto& other : arms) {
        if (other == arm) continue;
        row.less[other] =
            physics::pooled_difference(values[arm]["auroc"], values[other]["auroc"], kBootstrap);
      }
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace

void EventOptions::describe(OptionVisitor& visit) {
  visit("events", events,
        {.help = "splice events into the held-out end of each video, and ask who finds them"});
  visit("from", from,
        {.help = "share of each video where the held-out part starts", .min = 0, .max = 0.95});
  visit("untrained", untrained,
        {.help = "networks with the model's own initialisation, as a control", .min = 1});
  visit("segments", segments, {.help = "stretches of footage at most; 0: all", .min = 0});
  visit("resamples", resamples, {.help = "of the bootstrap over stretches", .min = 10});
}

OptionValues EventOptions::quick() {
  return {{"untrained", "2"}, {"segments", "6"}, {"resamples", "100"}};
}

EventTable run_events(const EventOptions& options, const WatchOptions& watch,
                      const WatchedModel& model, const Footage& footage, torch::Device device,
                      const comparison::ComparisonHooks& hooks) {
  const int64_t window = model.surprise.window;
  const int64_t past = watch.known_frames(window, model.surprise.tubelet);
  physics::require_past(model.surprise, past);
  const auto stretches = find_stretches(footage, window, past, options.segments);
  if (stretches.empty()) {
    throw ConfigError(
        c10::str(watch.video, ": no video has ", 2 * window - 1 - past, " held-out frames"));
  }
  std::vector<torch::Tensor> lawful;
  for (const auto& stretch : stretches)
    lawful.push_back(lawful_film(footage, stretch, window, past));
  std::vector<KindFilms> kinds;
  for (const auto& kind : event_kinds()) {
    KindFilms films;
    for (size_t i = 0; i < stretches.size(); ++i) {
      const auto film = spliced_film(kind, footage, stretches[i], window, past);
      if (!film) continue;
      films.films.push_back(*film);
      films.stretches.push_back(static_cast<int64_t>(i));
    }
    if (films.films.empty()) {
      throw ConfigError(watch.video + ": nowhere room for the event '" + kind + "'");
    }
    films.identity = identity_of(films.films);
    kinds.push_back(std::move(films));
  }
  const std::string plain_identity = identity_of(lawful);
  std::vector<std::pair<std::string, Kinds>> scored;
  for (auto& draw : draws_of(options, watch, model, device)) {
    hooks.say(c10::str("cell ", draw.arm, " ", draw.number));
    const std::string arm = draw.arm;
    Scores scores(watch.out, std::move(draw), past, hooks);
    const auto plain = scores.of("lawful", lawful, plain_identity);
    Kinds all;
    for (size_t i = 0; i < kinds.size(); ++i) {
      const auto with = scores.of(event_kinds()[i], kinds[i].films, kinds[i].identity);
      const auto without = plain.index_select(0, torch::tensor(kinds[i].stretches));
      all.push_back(torch::stack({without, with}, 2));  // as FilmKind has them
    }
    scored.emplace_back(arm, std::move(all));
  }
  return summarise(
      shared_resamples(kinds, static_cast<int64_t>(stretches.size()), options.resamples), scored);
}

}  // namespace jepa::eval::watching

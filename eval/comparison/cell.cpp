#include <eval/comparison/cell.hpp>
#include <eval/comparison/distance.hpp>
#include <eval/comparison/prediction_metrics.hpp>
#include <eval/comparison/recorder.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/json_text.hpp>

#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <set>
#include <utility>

namespace jepa::eval::comparison {
namespace {

constexpr int64_t kConfusedClasses = 4;  // at most

std::string at_horizon(const char* name, int64_t horizon) {
  return std::string(name) + "/h" + std::to_string(horizon);
}

/// Gaussians are fitted to this many directions: far fewer than there are clips.
int64_t kept_dimensions(int64_t clips) { return std::clamp<int64_t>(clips / 8, 1, 64); }

/// The mean of distances measured in one space, between the smallest and the largest.
void add_distances(const FeatureSpace& space, const std::vector<FeatureDistance>& distances,
                   Results& results) {
  const auto set = [&](const char* name, double FeatureDistance::*kind) {
    probes::Estimate all{0, distances[0].*kind, distances[0].*kind};
    for (const auto& distance : distances) {
      all.value += distance.*kind / static_cast<double>(distances.size());
      all.low = std::min(all.low, distance.*kind);
      all.high = std::max(all.high, distance.*kind);
    }
    results[space.name + name] = all;
  };
  set("_frechet", &FeatureDistance::frechet);
  set("_mmd", &FeatureDistance::mmd);
}

}  // namespace

bool is_share(const std::string& result, const Scores& scores) {
  const auto holds = [&](const char* part) { return result.find(part) != std::string::npos; };
  if (holds("probe/") || holds("attentive/")) {
    const auto found = scores.find(result);
    return found != scores.end() && found->second.classes();
  }
  if (holds("read/")) return true;
  std::string name = result;
  const size_t horizon = name.rfind("/h");
  if (horizon != std::string::npos &&
      name.find_first_not_of("0123456789", horizon + 2) == std::string::npos) {
    name.resize(horizon);
  }
  name = name.substr(name.rfind('/') + 1);  // all of it where there is no /
  static const std::set<std::string> kShares{"coverage", "direction", "digit", "legs", "count"};
  return kShares.contains(name);
}

std::string results_json(const Results& results) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [name, value] : results) {
    json[name] = {{"value", value.value}, {"low", value.low}, {"high", value.high}};
  }
  return json_text(json);
}

namespace {

/// Values [B, T'] at the horizons that are reported and there.
void add_horizons(Recorder& record, const char* name, const torch::Tensor& values,
                  const QuestionOptions& options) {
  for (const int64_t h : options.horizons) {
    if (h <= values.size(1)) record.mean(at_horizon(name, h), values.select(1, h - 1));
  }
}

/// Classes that some clips have, where they are few enough for a table of what is read as what.
std::vector<int64_t> few_classes(const torch::Tensor& classes) {
  const auto distinct = std::get<0>(at::_unique(classes));
  if (distinct.size(0) > kConfusedClasses) return {};
  return {distinct.data_ptr<int64_t>(), distinct.data_ptr<int64_t>() + distinct.size(0)};
}

}  // namespace

void record_confusion(Recorder& record, const torch::Tensor& read, const torch::Tensor& truth,
                      const std::string& prefix) {
  const auto classes = few_classes(truth);
  for (const int64_t of : classes) {
    const auto asked = truth.eq(of);
    auto other = torch::ones(truth.sizes(), torch::kFloat64);
    for (const int64_t as : classes) {
      const auto share = read.eq(as).to(torch::kFloat64).mean(0);
      other -= share;
      record.mean(c10::str(prefix, of, "as", as), share, asked);
    }
    record.mean(c10::str(prefix, of, "asother"), other.clamp_min(0), asked);
  }
}

namespace {

void judge_futures(const torch::Tensor& futures, const torch::Tensor& clips,
                   const ClipSource& source, Judge& judge, const QuestionOptions& options,
                   Recorder& record) {
  const int64_t batch = clips.size(0), horizon = futures.size(3);
  const auto truth = true_centres(source, torch::arange(batch), clips.size(2))
                         .slice(1, clips.size(2) - horizon);       // [B, T', 2]
  const auto direction = nearest_direction(line_velocity(truth));  // of these frames
  const auto classes = source.column(judge->options().label).narrow(0, 0, batch);
  std::vector<torch::Tensor> centres, read_classes, directions;
  for (int64_t k = 0; k < futures.size(0); ++k) {
    const JudgeReading read = read_clips(judge, futures[k]);
    centres.push_back(read.centres);
    read_classes.push_back(read.classes);
    directions.push_back(read.direction.eq(direction).to(torch::kFloat64));
  }
  const auto places = torch::stack(centres);          // [K, B, T', 2]
  const auto errors = position_error(places, truth);  // [K, B, T']
  const auto said = torch::stack(read_classes);       // [K, B]
  record.mean(judge->options().label, said.eq(classes).to(torch::kFloat64).mean(0));
  record_confusion(record, said, classes, "read/");
  record.mean("direction", torch::stack(directions).mean(0));
  record.mean("position_error", errors.mean(0).mean(1));
  const std::map<const char*, torch::Tensor> by_frame{
      {"position_error", errors.mean(0)},
      {"best_position_error", best_of_k(errors)},
      {"mean_position_error", position_error(mean_future(places), truth)},
      {"coverage", coverage(places, truth, options.radius)},
      {"energy", energy_score(places, truth)}};
  for (const auto& [name, values] : by_frame) add_horizons(record, name, values, options);
}

}  // namespace

Results measure_futures(const torch::Tensor& futures, const torch::Tensor& clips,
                        const ClipSource& source, Judge& judge, const QuestionOptions& options,
                        Scores* scores) {
  Recorder record(source, clips.size(0), options.labels, scores);
  const auto real = clips.slice(2, clips.size(2) - futures.size(3));
  const auto frames = futures.to(torch::kFloat32);
  const auto each = real.unsqueeze(0).expand_as(futures);
  add_horizons(record, "psnr", psnr(frames, each).mean(0), options);
  add_horizons(record, "mean_psnr", psnr(mean_future(futures), real), options);
  add_horizons(record, "ssim", ssim(frames, each).mean(0), options);
  if (!judge.is_empty()) judge_futures(futures, clips, source, judge, options, record);
  return record.results;
}

std::map<std::string, Results> measure_trivial(const torch::Tensor& clips, const ClipSource& source,
                                               Judge& judge, const QuestionOptions& options,
                                               int64_t context_frames,
                                               std::map<std::string, Scores>* scores) {
  const auto context = clips.narrow(2, 0, context_frames);
  const int64_t horizon = clips.size(2) - context_frames;
  std::map<std::string, Results> trivial;
  const auto measure = [&](const std::string& name, const torch::Tensor& frames) {
    trivial[name] = measure_futures(frames.unsqueeze(0), clips, source, judge, options,
                                    scores == nullptr ? nullptr : &(*scores)[name]);
  };
  measure("copy_last", copy_last_frame(context, horizon));
  if (judge.is_empty()) return trivial;
  // A line through the places that the judge reads off the context, and its last frame moved so.
  const auto centres = read_clips(judge, context).centres;
  measure("linear", extrapolate_frames(context, line_velocity(centres), horizon));
  const auto truth =
      true_centres(source, torch::arange(clips.size(0)), clips.size(2)).slice(1, context_frames);
  const auto errors = position_error(extrapolate_centres(centres, horizon), truth);
  Recorder record(source, clips.size(0), options.labels, nullptr);
  add_horizons(record, "line_position_error", errors, options);
  trivial["linear"].merge(record.results);
  measure("truth", clips.slice(2, context_frames));
  return trivial;
}

FeatureSpace judge_space(Judge judge) {
  return {"judge", [judge](const torch::Tensor& clips) mutable {
            const JudgeReading read = read_clips(judge, clips);
            return torch::cat({read.logits, read.velocity, read.centres.mean(1)}, 1);
          }};
}

FeatureSpace random_space(const training::Recipe& general, at::IntArrayRef clip_sizes) {
  const training::Recipe recipe = general.fitted(clip_sizes);
  Encoder encoder = encoders::make_encoder(recipe.encoder);
  encoder->initialise(seeded_generator(0, "distance"));
  encoder->eval();
  return {"random", [encoder, pixels = recipe.encoder.pixels](const torch::Tensor& clips) mutable {
            const torch::NoGradGuard no_grad;
            return probes::pool_tokens(encoder->forward(pixels.normalise(clips)), "mean_max");
          }};
}

Results measure_distances(const torch::Tensor& frames, const torch::Tensor& real,
                          const std::vector<FeatureSpace>& spaces) {
  const int64_t count = frames.size(0);
  TORCH_CHECK(real.size(0) % count == 0, "distances of ", count, " clips from ", real.size(0),
              " real ones: sets of equal size are wanted, since distances depend on it");
  Results results;
  for (const auto& space : spaces) {
    const auto drawn = space.features(frames);
    std::vector<FeatureDistance> distances;
    for (const auto& part : space.features(real).split(count)) {
      distances.push_back(feature_distance(part, drawn, kept_dimensions(count)));
    }
    add_distances(space, distances, results);
  }
  return results;
}

Results distance_floor(const torch::Tensor& real, const std::vector<FeatureSpace>& spaces) {
  Results results;
  for (const auto& space : spaces) {
    add_distances(space,
                  real_floor(space.features(real), kRecorderSeed, /*repeats=*/8,
                             kept_dimensions(real.size(0) / 2)),
                  results);
  }
  return results;
}

}  // namespace jepa::eval::comparison

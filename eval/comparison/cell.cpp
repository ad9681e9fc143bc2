#include <eval/comparison/cell.hpp>
#include <eval/comparison/distance.hpp>
#include <eval/comparison/prediction_metrics.hpp>
#include <eval/probes/linear.hpp>
#include <eval/probes/protocol.hpp>
#include <eval/probes/token_cache.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/random.hpp>

#include <nlohmann/json.hpp>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <utility>

namespace jepa::eval::comparison {
namespace {

constexpr int64_t kResamples = 1000;
constexpr uint64_t kResampleSeed = 0;

std::string at_horizon(const char* name, int64_t horizon) {
  return std::string(name) + "/h" + std::to_string(horizon);
}

/// Gaussians are fitted to this many directions: far fewer than there are clips.
int64_t kept_dimensions(int64_t clips) { return std::clamp<int64_t>(clips / 8, 1, 64); }

/// The mean of distances measured in one space, between the smallest and the largest.
void add_distances(const FeatureSpace& space, const std::vector<FeatureDistance>& distances,
                   Results& results) {
  const auto set = [&](const char* name, double FeatureDistance::* kind) {
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

/// The probe that does best on validation over all features and decays.
struct Chosen {
  size_t feature = 0;
  probes::Candidate candidate;
  double score = -1e300;
};

/// Of equals the later one, as choose_candidate(): deeper features, stronger decays.
Chosen choose(const std::vector<torch::Tensor>& train, const torch::Tensor& train_labels,
              const std::vector<torch::Tensor>& validation, const torch::Tensor& validation_labels,
              int64_t classes) {
  Chosen best;
  for (size_t f = 0; f < train.size(); ++f) {
    const probes::LabelledFeatures fit{train[f], train_labels, classes};
    const auto candidates = classes > 0 ? probes::fit_logistic(fit, probes::logistic_grid())
                                        : probes::fit_ridge(fit, probes::ridge_grid());
    for (const auto& candidate : candidates) {
      const double score =
          probes::prediction_score(candidate.predict(validation[f]), validation_labels, classes);
      if (probes::replaces(score, best.score)) best = {f, candidate, score};
    }
  }
  return best;
}

/// Estimates by name, and what they rest on where that is wanted.
class Recorder {
 public:
  Recorder(torch::Tensor units, int64_t unit_count, Scores* scores)
      : units_(std::move(units)),
        unit_count_(unit_count),
        counts_(probes::resample_units(unit_count, kResamples, kResampleSeed)),
        scores_(scores) {}

  void add(const std::string& name, const probes::UnitScores& scores) {
    results[name] = probes::estimate(scores, counts_);
    if (scores_ != nullptr) scores_->insert_or_assign(name, scores);
  }
  /// The mean of one value a clip [n].
  void mean(const std::string& name, const torch::Tensor& values) {
    add(name, probes::UnitScores::of_values(values.to(torch::kFloat64), units_, unit_count_));
  }
  /// Predictions of classes or quantities.
  void predicted(const std::string& name, const torch::Tensor& said, const torch::Tensor& truth) {
    add(name, probes::UnitScores(said, truth, units_, unit_count_));
  }

  Results results;

 private:
  torch::Tensor units_;
  int64_t unit_count_;
  torch::Tensor counts_;
  Scores* scores_;
};

/// For the first `clips` of a source.
Recorder recorder(const ClipSource& source, int64_t clips, const QuestionOptions& options,
                  Scores* scores) {
  const auto names = probes::split_names(options.labels);
  const auto units = probes::choose_units(source, "auto", names);
  int64_t count = 0;
  const auto numbers = probes::number_units(units.numbers.narrow(0, 0, clips), count);
  return Recorder(numbers, count, scores);
}

}  // namespace

std::string results_json(const Results& results) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [name, value] : results) {
    json[name] = {{"value", value.value}, {"low", value.low}, {"high", value.high}};
  }
  return json.dump();
}

Results measure_features(const Arm& arm, const QuestionClips& clips, const QuestionOptions& options,
                         std::map<std::string, std::string>& layers, Scores* scores) {
  const LoaderOptions loader{.batch = 64};
  const auto pooled = [&](const std::shared_ptr<const ClipSource>& source) {
    return probes::over_clips(source, loader, [&](const torch::Tensor& batch) {
      auto features = arm.features(batch);
      for (auto& tokens : features) tokens = probes::pool_tokens(tokens, "mean_max");
      return features;
    });
  };
  const auto train = pooled(clips.probe);
  const auto validation = pooled(clips.validation);
  const auto test = pooled(clips.test);
  Recorder record = recorder(*clips.test, clips.test->size(), options, scores);
  std::map<size_t, std::vector<Question>> by_feature;
  const auto report = [&](const std::string& name, const torch::Tensor& prediction,
                          const Question& question) {
    record.predicted(name + question.label, probes::decide(prediction, question.classes),
                     probes::label_column(*clips.test, question.label));
  };
  for (const auto& question : make_questions(clips, options)) {
    const Chosen chosen =
        choose(train, probes::label_column(*clips.probe, question.label), validation,
               probes::label_column(*clips.validation, question.label), question.classes);
    report("probe/", chosen.candidate.predict(test[chosen.feature]), question);
    layers["probe/" + question.label] = arm.feature_names[chosen.feature];
    by_feature[chosen.feature].push_back(question);
  }
  if (!options.attentive) return record.results;
  for (const auto& [feature, asked] : by_feature) {
    const auto tokens = [&, feature = feature](const std::shared_ptr<const ClipSource>& source) {
      probes::TokenCache cache("");
      probes::for_each_batch(source, loader, [&](const torch::Tensor& batch) {
        cache.append(arm.features(batch)[feature]);
      });
      return cache.finish();
    };
    const auto raw = tokens(clips.probe);
    // Inner layers have no norm behind them: a few large channels would be all the pooler sees.
    const auto standardise = probes::Standardiser::of_moments(probes::token_moments(raw));
    const auto standardised = [&](const probes::TokenRows& all) {
      probes::TokenCache cache("");
      for (int64_t at = 0; at < all.size(); at += loader.batch) {
        cache.append(standardise(all.slice(at, at + loader.batch)));
      }
      return cache.finish();
    };
    const auto fit_on = standardised(raw);
    const auto choose_on = standardised(tokens(clips.validation));
    const auto report_on = standardised(tokens(clips.test));
    for (const auto& question : asked) {
      const auto candidates =
          probes::fit_attentive(fit_on, probes::label_column(*clips.probe, question.label),
                                question.classes, options.attentive_probe);
      const auto& chosen = probes::choose_candidate(
          candidates,
          [&](const probes::Candidate& candidate) {
            return probes::predict_rows(candidate, choose_on);
          },
          probes::label_column(*clips.validation, question.label), question.classes);
      report("attentive/", probes::predict_rows(chosen, report_on), question);
    }
  }
  return record.results;
}

namespace {

/// Values [B, T'] at the horizons that are reported and there.
void add_horizons(Recorder& record, const char* name, const torch::Tensor& values,
                  const QuestionOptions& options) {
  for (const int64_t h : options.horizons) {
    if (h <= values.size(1)) record.mean(at_horizon(name, h), values.select(1, h - 1));
  }
}

void judge_futures(const torch::Tensor& futures, const torch::Tensor& clips,
                   const ClipSource& source, Judge& judge, const QuestionOptions& options,
                   Recorder& record) {
  const int64_t batch = clips.size(0), horizon = futures.size(3);
  const auto truth = true_centres(source, torch::arange(batch), clips.size(2))
                         .slice(1, clips.size(2) - horizon);  // [B, T', 2]
  const auto direction = nearest_direction(line_velocity(truth));  // of these frames
  const auto classes = source.column(judge->options().label).narrow(0, 0, batch);
  std::vector<torch::Tensor> centres, digits, directions;
  for (int64_t k = 0; k < futures.size(0); ++k) {
    const JudgeReading read = read_clips(judge, futures[k]);
    centres.push_back(read.centres);
    digits.push_back(read.classes.eq(classes).to(torch::kFloat64));
    directions.push_back(read.direction.eq(direction).to(torch::kFloat64));
  }
  const auto places = torch::stack(centres);          // [K, B, T', 2]
  const auto errors = position_error(places, truth);  // [K, B, T']
  record.mean("digit", torch::stack(digits).mean(0));
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
  Recorder record = recorder(source, clips.size(0), options, scores);
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
  Recorder record = recorder(source, clips.size(0), options, nullptr);
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
  encoder->initialise(at::make_generator<at::CPUGeneratorImpl>(stream_seed(0, "distance", 0)));
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
                  real_floor(space.features(real), kResampleSeed, /*repeats=*/8,
                             kept_dimensions(real.size(0) / 2)),
                  results);
  }
  return results;
}

}  // namespace jepa::eval::comparison

#include <eval/comparison/cell.hpp>
#include <eval/comparison/distance.hpp>
#include <eval/comparison/prediction_metrics.hpp>
#include <eval/probes/linear.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/data/memory_source.hpp>
#include <jepa/errors.hpp>
#include <jepa/random.hpp>

#include <nlohmann/json.hpp>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace jepa::eval::comparison {
namespace {

constexpr int64_t kResamples = 1000;
constexpr uint64_t kResampleSeed = 0;

/// A label and how many classes it has; 0: it is a quantity.
struct Question {
  const char* label;
  int64_t classes;
};

std::vector<Question> questions(const QuestionClips& clips) {
  std::vector<Question> asked{{"digit", 10}, {"direction", 8}, {"position", 0}, {"velocity", 0}};
  const int64_t most = probes::label_column(*clips.probe, "count").max().item<int64_t>();
  if (most > 1) asked.push_back({"count", most + 1});  // 0 .. most
  return asked;
}

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

Chosen choose(const std::vector<torch::Tensor>& train, const torch::Tensor& train_labels,
              const std::vector<torch::Tensor>& validation, const torch::Tensor& validation_labels,
              int64_t classes) {
  int64_t units = 0;
  const auto own = probes::number_units(torch::arange(validation_labels.size(0)), units);
  Chosen best;
  for (size_t f = 0; f < train.size(); ++f) {
    const probes::LabelledFeatures fit{train[f], train_labels, classes};
    const auto candidates = classes > 0 ? probes::fit_logistic(fit, probes::logistic_grid())
                                        : probes::fit_ridge(fit, probes::ridge_grid());
    for (const auto& candidate : candidates) {
      const auto said = probes::decide(candidate.predict(validation[f]), classes);
      const double score = probes::UnitScores(said, validation_labels, own, units).value();
      if (score > best.score) best = {f, candidate, score};
    }
  }
  return best;
}

}  // namespace

void QuestionOptions::describe(OptionVisitor& visit) {
  visit("train_clips", train_clips, {.help = "to train on", .min = 1});
  visit("probe_clips", probe_clips, {.help = "to fit probes on", .min = 10});
  visit("validation_clips", validation_clips,
        {.help = "to choose layers and decays on", .min = 10});
  visit("test_clips", test_clips, {.help = "to report probes on", .min = 10});
  visit("predicted_clips", predicted_clips,
        {.help = "test clips whose futures are drawn", .min = 2});
  visit("futures", futures, {.help = "drawn of each", .min = 1});
  visit("horizons", horizons, {.help = "frames after the context that are reported", .min = 1});
  visit("radius", radius, {.help = "of coverage", .unit = "px", .min = 0});
  visit("attentive", attentive, {.help = "attentive probes too: they take a few minutes a cell"});
}

std::string results_json(const Results& results) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [name, value] : results) {
    json[name] = {{"value", value.value}, {"low", value.low}, {"high", value.high}};
  }
  return json.dump();
}

QuestionClips make_clips(const QuestionOptions& options, double noise, uint64_t seed) {
  const auto hold = [&](const char* split, int64_t count, uint64_t stream) {
    GeneratedOptions generated = options.clips;
    generated.split = split;
    generated.clips = count;
    generated.noise = noise;
    return hold_in_memory(GeneratedSource(generated, stream_seed(seed, "clips", stream)), 0, 0);
  };
  return {hold("train", options.train_clips, 0), hold("train", options.probe_clips, 1),
          hold("validation", options.validation_clips, 2), hold("test", options.test_clips, 3)};
}

torch::Tensor first_clips(const std::shared_ptr<const ClipSource>& source, int64_t count) {
  ClipLoader loader(source, {.batch = std::min(count, source->size()), .shuffle = false}, 0);
  return loader.next().clips;
}

Results measure_features(const Arm& arm, const QuestionClips& clips, const QuestionOptions& options,
                         std::map<std::string, std::string>& layers) {
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
  int64_t units = 0;
  const auto instances = probes::number_units(clips.test->column("instance"), units);
  const auto counts = probes::resample_units(units, kResamples, kResampleSeed);
  Results results;
  std::map<size_t, std::vector<Question>> by_feature;
  const auto report = [&](const std::string& name, const torch::Tensor& prediction,
                          const Question& question) {
    const auto said = probes::decide(prediction, question.classes);
    const auto truth = probes::label_column(*clips.test, question.label);
    results[name + question.label] =
        probes::estimate(probes::UnitScores(said, truth, instances, units), counts);
  };
  for (const auto& question : questions(clips)) {
    const Chosen chosen =
        choose(train, probes::label_column(*clips.probe, question.label), validation,
               probes::label_column(*clips.validation, question.label), question.classes);
    report("probe/", chosen.candidate.predict(test[chosen.feature]), question);
    layers[std::string("probe/") + question.label] = arm.feature_names[chosen.feature];
    by_feature[chosen.feature].push_back(question);
  }
  if (!options.attentive) return results;
  for (const auto& [feature, asked] : by_feature) {
    const auto tokens = [&, feature = feature](const std::shared_ptr<const ClipSource>& source) {
      return probes::over_clips(source, loader, [&](const torch::Tensor& batch) {
        return std::vector<torch::Tensor>{arm.features(batch)[feature]};
      })[0];
    };
    // Inner layers have no norm behind them: a few large channels would be all that the pooler sees.
    auto fit_on = tokens(clips.probe);
    const probes::Standardiser standardise(fit_on.flatten(0, 1));
    fit_on = standardise(fit_on);
    const auto choose_on = standardise(tokens(clips.validation));
    const auto report_on = standardise(tokens(clips.test));
    for (const auto& question : asked) {
      const auto candidates = probes::fit_attentive(
          {fit_on, probes::label_column(*clips.probe, question.label), question.classes},
          options.attentive_probe);
      const auto& chosen = probes::choose_candidate(
          candidates,
          {choose_on, probes::label_column(*clips.validation, question.label), question.classes});
      report("attentive/", chosen.predict(report_on), question);
    }
  }
  return results;
}

Results measure_futures(const torch::Tensor& futures, const torch::Tensor& clips,
                        const ClipSource& source, Judge& judge, const QuestionOptions& options) {
  const int64_t count = futures.size(0);
  const int64_t batch = clips.size(0);
  const int64_t horizon = futures.size(3);
  const auto first = [&](const std::string& name) {
    return source.column(name).narrow(0, 0, batch);
  };
  const auto truth = true_centres(source, torch::arange(batch), clips.size(2))
                         .slice(1, clips.size(2) - horizon);  // [B, T', 2]
  const auto real = clips.slice(2, clips.size(2) - horizon);
  const auto units = first("instance");
  const auto direction = nearest_direction(line_velocity(truth));  // of these frames

  std::vector<torch::Tensor> centres, digits, directions;
  for (int64_t k = 0; k < count; ++k) {
    const JudgeReading read = read_clips(judge, futures[k]);
    centres.push_back(read.centres);
    digits.push_back(read.classes.eq(first(judge->options().label)).to(torch::kFloat64));
    directions.push_back(read.direction.eq(direction).to(torch::kFloat64));
  }
  const auto places = torch::stack(centres);          // [K, B, T', 2]
  const auto errors = position_error(places, truth);  // [K, B, T']
  const auto interval = [&](const torch::Tensor& values) {
    return mean_interval(values.to(torch::kFloat64).contiguous(), units, kResampleSeed);
  };
  Results results;
  results["digit"] = interval(torch::stack(digits).mean(0));
  results["direction"] = interval(torch::stack(directions).mean(0));
  const auto frames = futures.to(torch::kFloat32);
  const auto mean_frames = mean_future(futures);
  const std::map<const char*, torch::Tensor> by_frame{
      {"position_error", errors.mean(0)},
      {"best_position_error", best_of_k(errors)},
      {"mean_position_error", position_error(mean_future(places), truth)},
      {"coverage", coverage(places, truth, options.radius)},
      {"energy", energy_score(places, truth)},
      {"psnr", psnr(frames, real.unsqueeze(0).expand_as(futures)).mean(0)},
      {"mean_psnr", psnr(mean_frames, real)},
      {"ssim", ssim(frames, real.unsqueeze(0).expand_as(futures)).mean(0)}};
  for (const int64_t h : options.horizons) {
    if (h > horizon) continue;
    for (const auto& [name, values] : by_frame) {
      results[at_horizon(name, h)] = interval(values.select(1, h - 1));
    }
  }
  results["position_error"] = interval(errors.mean(0).mean(1));
  return results;
}

std::map<std::string, Results> measure_trivial(const torch::Tensor& clips, const ClipSource& source,
                                               Judge& judge, const QuestionOptions& options,
                                               int64_t context_frames) {
  const auto context = clips.narrow(2, 0, context_frames);
  const int64_t horizon = clips.size(2) - context_frames;
  const auto measured = [&](const torch::Tensor& frames) {
    return measure_futures(frames.unsqueeze(0), clips, source, judge, options);
  };
  std::map<std::string, Results> trivial;
  trivial["copy_last"] = measured(copy_last_frame(context, horizon));
  // A line through the places that the judge reads off the context, and its last frame moved so.
  const auto centres = read_clips(judge, context).centres;
  trivial["linear"] = measured(extrapolate_frames(context, line_velocity(centres), horizon));
  const auto truth =
      true_centres(source, torch::arange(clips.size(0)), clips.size(2)).slice(1, context_frames);
  const auto errors = position_error(extrapolate_centres(centres, horizon), truth);
  const auto units = source.column("instance").narrow(0, 0, clips.size(0));
  for (const int64_t h : options.horizons) {
    if (h > horizon) continue;
    trivial["linear"][at_horizon("line_position_error", h)] = mean_interval(
        errors.select(1, h - 1).to(torch::kFloat64).contiguous(), units, kResampleSeed);
  }
  trivial["truth"] = measured(clips.slice(2, context_frames));
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

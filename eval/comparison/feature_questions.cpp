// What can be read from frozen features, on the clips of training's range and outside it.
#include <eval/comparison/recorder.hpp>
#include <eval/probes/linear.hpp>
#include <eval/probes/protocol.hpp>
#include <eval/probes/token_cache.hpp>
#include <jepa/data/loader.hpp>

#include <torch/types.h>

#include <utility>

namespace jepa::eval::comparison {
namespace {

const LoaderOptions kProbedBatches{.batch = 64};

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

/// Clips that probes are reported on.
struct Reported {
  std::shared_ptr<const ClipSource> source;
  Recorder record;

  void add(const std::string& name, const torch::Tensor& prediction, const Question& question) {
    record.predicted(name + question.label, probes::decide(prediction, question.classes),
                     probes::label_column(*source, question.label));
  }
};

std::vector<Reported> reported_sources(const QuestionClips& clips, const QuestionOptions& options,
                                       Scores* scores) {
  std::vector<Reported> all;
  const auto add = [&](const std::shared_ptr<const ClipSource>& source, const std::string& prefix) {
    all.push_back({source, Recorder(*source, source->size(), options.labels, scores, prefix)});
  };
  add(clips.test, "");
  for (const auto& shift : clips.shifts) {
    if (shift.probed) add(shift.source, "shift/" + shift.name + "/");
  }
  return all;
}

/// Attentive probes on all tokens of one feature, for the questions that chose it.
void ask_attentive(const Arm& arm, size_t feature, const std::vector<Question>& asked,
                   const QuestionClips& clips, const QuestionOptions& options,
                   std::vector<Reported>& reported) {
  const auto tokens = [&](const std::shared_ptr<const ClipSource>& source) {
    probes::TokenCache cache("");
    probes::for_each_batch(source, kProbedBatches, [&](const torch::Tensor& batch) {
      cache.append(arm.features(batch)[feature]);
    });
    return cache.finish();
  };
  const auto raw = tokens(clips.probe);
  // Inner layers have no norm behind them: a few large channels would be all the pooler sees.
  const auto standardise = probes::Standardiser::of_moments(probes::token_moments(raw));
  const auto standardised = [&](const probes::TokenRows& all) {
    probes::TokenCache cache("");
    for (int64_t at = 0; at < all.size(); at += kProbedBatches.batch) {
      cache.append(standardise(all.slice(at, at + kProbedBatches.batch)));
    }
    return cache.finish();
  };
  const auto fit_on = standardised(raw);
  const auto choose_on = standardised(tokens(clips.validation));
  std::vector<probes::Candidate> chosen;
  for (const auto& question : asked) {
    const auto candidates =
        probes::fit_attentive(fit_on, probes::label_column(*clips.probe, question.label),
                              question.classes, options.attentive_probe);
    chosen.push_back(probes::choose_candidate(
        candidates,
        [&](const probes::Candidate& candidate) {
          return probes::predict_rows(candidate, choose_on);
        },
        probes::label_column(*clips.validation, question.label), question.classes));
  }
  for (auto& report : reported) {
    const auto report_on = standardised(tokens(report.source));
    for (size_t q = 0; q < asked.size(); ++q) {
      report.add("attentive/", probes::predict_rows(chosen[q], report_on), asked[q]);
    }
  }
}

}  // namespace

Results measure_features(const Arm& arm, const QuestionClips& clips, const QuestionOptions& options,
                         std::map<std::string, std::string>& layers, Scores* scores) {
  const auto pooled = [&](const std::shared_ptr<const ClipSource>& source) {
    return probes::over_clips(source, kProbedBatches, [&](const torch::Tensor& batch) {
      auto features = arm.features(batch);
      for (auto& tokens : features) tokens = probes::pool_tokens(tokens, "mean_max");
      return features;
    });
  };
  const auto train = pooled(clips.probe);
  const auto validation = pooled(clips.validation);
  auto reported = reported_sources(clips, options, scores);
  std::vector<std::vector<torch::Tensor>> shown;
  for (const auto& report : reported) shown.push_back(pooled(report.source));
  std::map<size_t, std::vector<Question>> by_feature;
  for (const auto& question : make_questions(clips, options)) {
    const Chosen chosen =
        choose(train, probes::label_column(*clips.probe, question.label), validation,
               probes::label_column(*clips.validation, question.label), question.classes);
    for (size_t r = 0; r < reported.size(); ++r) {
      reported[r].add("probe/", chosen.candidate.predict(shown[r][chosen.feature]), question);
    }
    layers["probe/" + question.label] = arm.feature_names[chosen.feature];
    by_feature[chosen.feature].push_back(question);
  }
  if (options.attentive) {
    for (const auto& [feature, asked] : by_feature) {
      ask_attentive(arm, feature, asked, clips, options, reported);
    }
  }
  Results results;
  for (auto& report : reported) results.merge(report.record.results);
  return results;
}

}  // namespace jepa::eval::comparison

#include <eval/probes/knn.hpp>
#include <eval/probes/linear.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/errors.hpp>
#include <jepa/random.hpp>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

namespace jepa::eval::probes {
namespace {

/// One part of the data through everything that is probed.
struct SplitFeatures {
  /// "model", "random_init", "raw_pixels" -> pooled [n, D]
  std::map<std::string, torch::Tensor> pooled;
  std::map<std::string, torch::Tensor> tokens;  ///< -> [n, N, D]; only for the attentive probe
};

struct Labels {
  torch::Tensor train, validation, test;
  int64_t classes = 0;
};

constexpr const char* kSubjects[] = {"model", "random_init", "raw_pixels"};

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

SplitFeatures split_features(Encoder& model, Encoder& random_init,
                             const std::shared_ptr<const ClipSource>& source,
                             const ProbeOptions& options, bool pooled, bool tokens) {
  const auto features = [&](const torch::Tensor& clips) {
    std::vector<torch::Tensor> result;
    for (auto* encoder : {&model, &random_init}) {
      const auto all = frozen_tokens(*encoder, clips, options.features);
      if (pooled) result.push_back(pool_tokens(all, options.features.pool));
      if (tokens) result.push_back(all);
    }
    if (pooled) result.push_back(raw_pixels(clips, options.pixel_values));
    if (tokens) result.push_back(raw_pixel_tokens(clips, model->grid(clips.sizes())));
    return result;
  };
  const auto all = over_clips(source, options.loader, features);
  SplitFeatures result;
  size_t next = 0;
  for (const char* subject : kSubjects) {
    if (pooled) result.pooled[subject] = all[next++];
    if (tokens) result.tokens[subject] = all[next++];
  }
  return result;
}

Labels read_labels(const ProbeSources& sources, const std::string& name) {
  Labels labels{label_column(*sources.train, name), label_column(*sources.validation, name),
                label_column(*sources.test, name), 0};
  for (const auto& other : {labels.validation, labels.test}) {
    if (other.scalar_type() != labels.train.scalar_type() ||
        other.dim() != labels.train.dim() ||
        (other.dim() == 2 && other.size(1) != labels.train.size(1))) {
      throw DataError("column '" + name + "' differs in type or width between the splits");
    }
  }
  if (labels.train.scalar_type() == torch::kInt64) {
    const auto all = torch::cat({labels.train, labels.validation, labels.test});
    if (all.min().item<int64_t>() < 0) {
      throw DataError("column '" + name + "': classes are numbered from 0, found " +
                      std::to_string(all.min().item<int64_t>()));
    }
    labels.classes = all.max().item<int64_t>() + 1;
  }
  return labels;
}

std::vector<Candidate> fit(const std::string& kind, const LabelledFeatures& train,
                           const ProbeOptions& options) {
  if (kind == "linear") {
    return train.classes > 0 ? fit_logistic(train, logistic_grid())
                             : fit_ridge(train, ridge_grid());
  }
  if (kind == "ridge") return fit_ridge(train, ridge_grid());
  if (kind == "knn") return fit_knn(train);
  return fit_attentive(train, options.attentive);
}

/// Prediction of the commonest class, or the mean, for `rows` clips.
torch::Tensor majority(const torch::Tensor& labels, int64_t classes, int64_t rows) {
  if (classes > 0) return at::bincount(labels, {}, classes).argmax().expand({rows});
  return labels.mean(0, /*keepdim=*/true).expand({rows, -1});
}

/// All features and what the test clips' units are.
struct Study {
  SplitFeatures train, validation, test;
  torch::Tensor units;
  int64_t unit_count = 0;
  torch::Tensor counts;  ///< resamples of the units
};

struct Fitted {
  UnitScores scores;
  std::string setting;
};

Fitted fit_subject(const std::string& kind, const std::string& subject, const Labels& labels,
                   const torch::Tensor& rows, const Study& study, const ProbeOptions& options) {
  const auto pick = [&](const SplitFeatures& split) {
    return kind == "attentive" ? split.tokens.at(subject) : split.pooled.at(subject);
  };
  const LabelledFeatures train{pick(study.train).index_select(0, rows),
                               labels.train.index_select(0, rows), labels.classes};
  const auto candidates = fit(kind, train, options);
  const auto& chosen = choose_candidate(
      candidates, {pick(study.validation), labels.validation, labels.classes});
  const auto predicted = decide(chosen.predict(pick(study.test)), labels.classes);
  return {UnitScores(predicted, labels.test, study.units, study.unit_count), chosen.setting};
}

ProbeResult probe_label(const std::string& kind, const std::string& label, const Labels& labels,
                        const Study& study, const ProbeOptions& options) {
  const auto rows =
      share_of_labels(labels.train, options.share, static_cast<uint64_t>(options.seed));
  const Fitted model = fit_subject(kind, "model", labels, rows, study, options);
  ProbeResult result{.probe = kind,
                     .label = label,
                     .metric = labels.classes > 0 ? "accuracy" : "r2",
                     .setting = model.setting,
                     .score = estimate(model.scores, study.counts),
                     .outputs = model.scores.per_output(),
                     .controls = {},
                     .differences = {},
                     .train_clips = rows.size(0),
                     .test_clips = labels.test.size(0),
                     .test_units = study.unit_count};
  const auto add_control = [&](const std::string& name, const UnitScores& scores) {
    result.controls[name] = estimate(scores, study.counts);
    result.differences[name] = paired_difference(model.scores, scores, study.counts);
  };
  for (const char* control : {"random_init", "raw_pixels"}) {
    add_control(control, fit_subject(kind, control, labels, rows, study, options).scores);
  }
  const auto constant =
      majority(labels.train.index_select(0, rows), labels.classes, labels.test.size(0));
  add_control("majority", UnitScores(constant, labels.test, study.units, study.unit_count));
  return result;
}

nlohmann::json to_json(const Estimate& estimate) {
  return {{"value", estimate.value}, {"low", estimate.low}, {"high", estimate.high}};
}

std::string interval(const Estimate& estimate) {
  char text[64];
  std::snprintf(text, sizeof text, "%6.3f [%.3f, %.3f]", estimate.value, estimate.low,
                estimate.high);
  return text;
}

}  // namespace

void ProbeOptions::describe(OptionVisitor& visit) {
  visit("labels", labels, {.help = "label columns, comma-separated"});
  visit("kind", kind, {.help = "probes, comma-separated: linear, ridge, knn, attentive"});
  visit("unit", unit,
        {.help = "column of what is independent (intervals resample it); none: each clip"});
  visit("share", share, {.help = "of the training labels to use", .min = 1e-6, .max = 1});
  visit("resamples", resamples, {.help = "of the bootstrap", .min = 1});
  visit("pixel_values", pixel_values,
        {.help = "numbers to which a clip is averaged down for the raw-pixel control", .min = 1});
}

std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names;
  std::istringstream stream(text);
  for (std::string name; std::getline(stream, name, ',');) {
    const auto first = name.find_first_not_of(" \t");
    if (first == std::string::npos) continue;
    names.push_back(name.substr(first, name.find_last_not_of(" \t") - first + 1));
  }
  return names;
}

torch::Tensor label_column(const ClipSource& source, const std::string& name) {
  const auto column = source.column(name);
  if (column.scalar_type() == torch::kInt64 && column.dim() == 1) return column;
  if (column.is_floating_point() && column.dim() <= 2) {
    return column.to(torch::kFloat32).view({column.size(0), -1});
  }
  throw DataError("column '" + name + "': expected classes int64 [E] or quantities float [E, K], "
                  "found " + c10::str(column.scalar_type(), " ", column.sizes()));
}

torch::Tensor share_of_labels(const torch::Tensor& labels, double share, uint64_t seed) {
  const int64_t rows = labels.size(0);
  std::vector<int64_t> order(static_cast<size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  if (share < 1) {
    Random random(seed, "share of labels", 0);
    for (int64_t i = rows - 1; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
    // Of each class, the first of its rows in the shuffled order.
    const bool classes = labels.scalar_type() == torch::kInt64;
    std::map<int64_t, int64_t> total, taken;
    const auto contiguous = labels.contiguous();
    const auto class_of = [&](int64_t row) {
      return classes ? contiguous.data_ptr<int64_t>()[row] : 0;
    };
    for (const int64_t row : order) ++total[class_of(row)];
    std::erase_if(order, [&](int64_t row) {
      const int64_t label = class_of(row);
      const auto wanted = static_cast<int64_t>(std::ceil(share * static_cast<double>(total[label])));
      return ++taken[label] > wanted;
    });
    std::sort(order.begin(), order.end());
  }
  return torch::tensor(order, torch::kInt64);
}

std::vector<ProbeResult> run_probes(Encoder& model, Encoder& random_init,
                                    const ProbeSources& sources, const ProbeOptions& options,
                                    const std::function<void(const std::string&)>& progress) {
  const auto kinds = split_names(options.kind);
  const auto names = split_names(options.labels);
  for (const auto& kind : kinds) {
    if (!contains({"linear", "ridge", "knn", "attentive"}, kind)) {
      throw ConfigError("kind: expected linear, ridge, knn or attentive, found '" + kind + "'");
    }
  }
  if (names.empty() || kinds.empty()) throw ConfigError("probe: name at least one label and kind");
  const auto tell = [&](const std::string& what) {
    if (progress) progress(what);
  };
  std::vector<Labels> labels;
  for (const auto& name : names) labels.push_back(read_labels(sources, name));

  Study study;
  const int64_t tests = sources.test->size();
  study.units = options.unit.empty() ? torch::arange(tests)
                                     : label_column(*sources.test, options.unit);
  if (study.units.scalar_type() != torch::kInt64) {
    throw DataError("unit column '" + options.unit + "': expected int64");
  }
  study.units = number_units(study.units, study.unit_count);
  study.counts = resample_units(study.unit_count, options.resamples,
                                static_cast<uint64_t>(options.seed));
  const bool tokens = contains(kinds, "attentive");
  const bool pooled = !tokens || kinds.size() > 1;
  const auto features = [&](const std::shared_ptr<const ClipSource>& source) {
    return split_features(model, random_init, source, options, pooled, tokens);
  };
  tell("features of " + std::to_string(sources.train->size()) + " training clips");
  study.train = features(sources.train);
  tell("features of " + std::to_string(sources.validation->size()) + " validation clips");
  study.validation = features(sources.validation);
  tell("features of " + std::to_string(tests) + " test clips");
  study.test = features(sources.test);

  std::vector<ProbeResult> results;
  for (const auto& kind : kinds) {
    for (size_t i = 0; i < names.size(); ++i) {
      tell(kind + " probe of " + names[i]);
      results.push_back(probe_label(kind, names[i], labels[i], study, options));
    }
  }
  return results;
}

std::string results_json(const std::vector<ProbeResult>& results, const std::string& dataset) {
  auto list = nlohmann::json::array();
  for (const auto& result : results) {
    nlohmann::json entry = to_json(result.score);
    entry["dataset"] = dataset;
    entry["probe"] = result.probe;
    entry["label"] = result.label;
    entry["metric"] = result.metric;
    entry["setting"] = result.setting;
    entry["outputs"] = result.outputs;
    entry["train_clips"] = result.train_clips;
    entry["test_clips"] = result.test_clips;
    entry["test_units"] = result.test_units;
    for (const auto& [name, control] : result.controls) entry["controls"][name] = to_json(control);
    for (const auto& [name, difference] : result.differences) {
      entry["differences"][name] = to_json(difference);
    }
    list.push_back(std::move(entry));
  }
  return list.dump(2);
}

std::string results_table(const std::vector<ProbeResult>& results) {
  std::ostringstream out;
  char line[256];
  std::snprintf(line, sizeof line, "%-10s %-12s %-9s %-22s %-22s %-22s %-9s %s\n", "probe",
                "label", "metric", "model [95 %]", "random init", "raw pixels", "majority",
                "above random init");
  out << line;
  for (const auto& result : results) {
    std::snprintf(line, sizeof line, "%-10s %-12s %-9s %-22s %-22s %-22s %6.3f    %s\n",
                  result.probe.c_str(), result.label.c_str(), result.metric.c_str(),
                  interval(result.score).c_str(),
                  interval(result.controls.at("random_init")).c_str(),
                  interval(result.controls.at("raw_pixels")).c_str(),
                  result.controls.at("majority").value,
                  interval(result.differences.at("random_init")).c_str());
    out << line;
  }
  return out.str();
}

}  // namespace jepa::eval::probes

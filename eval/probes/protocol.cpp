#include <eval/probes/knn.hpp>
#include <eval/probes/linear.hpp>
#include <eval/probes/protocol.hpp>
#include <eval/probes/token_cache.hpp>
#include <jepa/errors.hpp>
#include <jepa/random.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>
#include <functional>
#include <optional>

namespace jepa::eval::probes {
namespace {

/// The clips of one split through one encoder, or as raw pixels.
struct SplitFeatures {
  torch::Tensor pooled;             ///< [n, D]; undefined where no probe takes them
  torch::Tensor wide;               ///< raw pixels for k-NN [n, D]; undefined: `pooled` serves
  std::optional<TokenRows> tokens;  ///< on disk; none where no probe takes them
};

struct Features {
  SplitFeatures train, validation, test;
};

struct Labels {
  torch::Tensor train, validation, test;
  int64_t classes = 0;
};

bool asked_for(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// What the probes that are asked for take.
struct Wanted {
  bool pooled = false, wide = false, tokens = false;

  explicit Wanted(const std::vector<std::string>& kinds)
      : pooled(kinds.size() > (asked_for(kinds, "attentive") ? 1U : 0U)),
        wide(asked_for(kinds, "knn")),
        tokens(asked_for(kinds, "attentive")) {}
};

SplitFeatures encoder_features(Encoder& encoder, const std::shared_ptr<const ClipSource>& source,
                               const ProbeOptions& options, const Wanted& wanted) {
  SplitFeatures result;
  std::vector<torch::Tensor> pooled;
  std::optional<TokenCache> cache;
  if (wanted.tokens) cache.emplace(options.cache);
  for_each_batch(source, options.loader, [&](const torch::Tensor& clips) {
    const auto tokens = frozen_tokens(encoder, clips, options.features);
    if (wanted.pooled) pooled.push_back(pool_tokens(tokens, options.features.pool));
    if (cache) cache->append(tokens);
  });
  if (wanted.pooled) result.pooled = torch::cat(pooled);
  if (cache) result.tokens = cache->finish();
  return result;
}

/// @param grid of the model's tokens, for clips of the sizes given
SplitFeatures pixel_features(const std::function<TokenGrid(at::IntArrayRef)>& grid,
                             const std::shared_ptr<const ClipSource>& source,
                             const ProbeOptions& options, const Wanted& wanted) {
  SplitFeatures result;
  std::vector<torch::Tensor> pooled, wide;
  std::optional<TokenCache> cache;
  if (wanted.tokens) cache.emplace(options.cache);
  for_each_batch(source, options.loader, [&](const torch::Tensor& clips) {
    if (wanted.pooled) pooled.push_back(raw_pixels(clips, options.pixel_values));
    if (wanted.wide) wide.push_back(raw_pixels(clips, options.knn_pixel_values));
    if (cache) cache->append(raw_pixel_tokens(clips, grid(clips.sizes())));
  });
  if (wanted.pooled) result.pooled = torch::cat(pooled);
  if (wanted.wide) result.wide = torch::cat(wide);
  if (cache) result.tokens = cache->finish();
  return result;
}

/// Everything that is asked and how answers are scored.
struct Protocol {
  const ProbeOptions& options;
  std::vector<std::string> kinds, names;
  std::vector<Labels> labels = {};
  UnitChoice units = {};
  torch::Tensor counts = {};  ///< resamples of the units

  UnitScores score(const torch::Tensor& predicted, const Labels& asked) const {
    return UnitScores(predicted, asked.test, units.numbers, units.count);
  }
  torch::Tensor share(const Labels& asked) const {
    return share_of_labels(asked.train, options.share, static_cast<uint64_t>(options.seed));
  }
};

/// @throws DataError where classes have impossible numbers or a quantity does not vary
void require_labels(const torch::Tensor& labels, const ClipSource& source,
                    const std::string& name) {
  if (labels.scalar_type() == torch::kInt64) {
    constexpr int64_t kMostClasses = 1'000'000;
    for (const auto& clip : {labels.argmin(), labels.argmax()}) {
      const auto found = labels[clip.item<int64_t>()].item<int64_t>();
      if (found >= 0 && found < kMostClasses) continue;
      throw DataError(c10::str(source.name(clip.item<int64_t>()), ": column '", name,
                               "': classes are numbered from 0 to ", kMostClasses - 1, ", found ",
                               found));
    }
    return;
  }
  const auto rows = labels.view({labels.size(0), -1});
  const auto constant = rows.eq(rows[0]).all(0).nonzero();
  if (rows.size(0) > 1 && constant.size(0) > 0) {
    throw DataError(c10::str(
        source.name(0), ": column '", name, "': ",
        rows.size(1) > 1 ? c10::str("its number ", constant[0][0].item<int64_t>(), " is ") : "is ",
        rows[0][constant[0][0]].item<float>(), " in all ", rows.size(0),
        " clips: nothing to read"));
  }
}

Labels read_labels(const ProbeSources& sources, const std::string& name) {
  Labels labels{label_column(*sources.train, name), label_column(*sources.validation, name),
                label_column(*sources.test, name), 0};
  for (const auto& other : {labels.validation, labels.test}) {
    if (other.scalar_type() != labels.train.scalar_type() || other.dim() != labels.train.dim() ||
        (other.dim() == 2 && other.size(1) != labels.train.size(1))) {
      throw DataError("column '" + name + "' differs in type or width between the splits");
    }
  }
  require_labels(labels.train, *sources.train, name);
  require_labels(labels.validation, *sources.validation, name);
  require_labels(labels.test, *sources.test, name);
  if (labels.train.scalar_type() == torch::kInt64) {
    if (labels.train.min().equal(labels.train.max())) {
      throw DataError(sources.train->name(0) + ": column '" + name +
                      "': all training clips are of one class");
    }
    labels.classes =
        torch::cat({labels.train, labels.validation, labels.test}).max().item<int64_t>() + 1;
  }
  return labels;
}

/// A pooled probe; `rows` of the training clips are fitted on.
std::vector<Candidate> fit(const std::string& kind, const torch::Tensor& features,
                           const Labels& labels, const torch::Tensor& rows) {
  const LabelledFeatures train{features.index_select(0, rows), labels.train.index_select(0, rows),
                               labels.classes};
  if (kind == "knn") return fit_knn(train);
  return kind == "linear" && labels.classes > 0 ? fit_logistic(train, logistic_grid())
                                                : fit_ridge(train, ridge_grid());
}

/// Prediction of the commonest class, or the mean, for `rows` clips.
torch::Tensor majority(const torch::Tensor& labels, int64_t classes, int64_t rows) {
  if (classes > 0) return at::bincount(labels, {}, classes).argmax().expand({rows});
  return labels.mean(0, /*keepdim=*/true).expand({rows, -1});
}

struct Fitted {
  UnitScores scores;
  std::string setting;
  TensorMap parts;
};

Fitted fit_attentive_probe(const Features& features, const Labels& labels,
                           const Protocol& protocol) {
  AttentiveOptions options = protocol.options.attentive;
  options.device = protocol.options.features.device;
  const auto rows = protocol.share(labels);
  const auto candidates = fit_attentive(*features.train.tokens, labels.train.index_select(0, rows),
                                        labels.classes, options, rows);
  const auto& chosen = choose_candidate(
      candidates,
      [&](const Candidate& candidate) {
        return predict_rows(candidate, *features.validation.tokens);
      },
      labels.validation, labels.classes);
  const auto predicted = decide(predict_rows(chosen, *features.test.tokens), labels.classes);
  return {protocol.score(predicted, labels), chosen.setting, chosen.parts};
}

Fitted fit_pooled_probe(const std::string& kind, const Features& features, const Labels& labels,
                        const Protocol& protocol) {
  const auto pick = [&](const SplitFeatures& split) {
    return kind == "knn" && split.wide.defined() ? split.wide : split.pooled;
  };
  const auto candidates = fit(kind, pick(features.train), labels, protocol.share(labels));
  const auto& chosen =
      choose_candidate(candidates, {pick(features.validation), labels.validation, labels.classes});
  const auto predicted = decide(chosen.predict(pick(features.test)), labels.classes);
  return {protocol.score(predicted, labels), chosen.setting, chosen.parts};
}

/// Every probe of every label on one subject's features, kind by kind.
std::vector<Fitted> fit_all(const Features& features, const Protocol& protocol,
                            const std::function<void(const std::string&)>& report) {
  std::vector<Fitted> all;
  for (const auto& kind : protocol.kinds) {
    for (size_t i = 0; i < protocol.names.size(); ++i) {
      report(kind + " probe of " + protocol.names[i]);
      const Labels& labels = protocol.labels[i];
      all.push_back(kind == "attentive" ? fit_attentive_probe(features, labels, protocol)
                                        : fit_pooled_probe(kind, features, labels, protocol));
    }
  }
  return all;
}

/// A control's answers to every question, one list a draw.
struct Answers {
  std::string name;
  std::string what;
  std::vector<std::vector<Fitted>> draws;

  std::vector<UnitScores> of(size_t question) const {
    std::vector<UnitScores> scores;
    for (const auto& draw : draws) scores.push_back(draw[question].scores);
    return scores;
  }
};

void add_control(ProbeResult& result, const UnitScores& model, const Answers& control,
                 size_t question, const Protocol& protocol) {
  const auto scores = control.of(question);
  const auto chosen =
      resample_draws(static_cast<int64_t>(scores.size()), protocol.options.resamples,
                     static_cast<uint64_t>(protocol.options.seed));
  result.controls[control.name] = estimate(scores, protocol.counts, chosen);
  result.differences[control.name] = paired_difference(model, scores, protocol.counts, chosen);
  for (const auto& draw : scores) result.draws[control.name].push_back(draw.value());
  result.control_notes[control.name] = control.what;
}

std::string pixel_note(const ClipSource& source, int64_t values) {
  Random random(0);
  const RawClip clip = source.read(0, random);
  const std::vector<int64_t> whole{1, clip.channels, clip.frames, clip.height, clip.width};
  const auto used = raw_pixel_sizes(whole, values);
  const auto text = [](at::IntArrayRef s) {
    return c10::str(s[1], " frames of ", s[2], " x ", s[3], ", ", s[0],
                    s[0] == 1 ? " channel" : " channels");
  };
  const auto own = at::IntArrayRef(whole).slice(1);
  if (own == at::IntArrayRef(used)) return "all pixels: " + text(own);
  return "averaged down to " + text(used) + ", from " + text(own);
}

std::vector<ProbeResult> assemble(const Answers& model, const std::vector<Answers>& controls,
                                  const Protocol& protocol, const ClipSource& test) {
  std::vector<ProbeResult> results;
  for (const auto& kind : protocol.kinds) {
    for (size_t i = 0; i < protocol.names.size(); ++i) {
      const size_t question = results.size();
      const Labels& labels = protocol.labels[i];
      const Fitted& fitted = model.draws.front()[question];
      const auto rows = protocol.share(labels);
      ProbeResult result;
      result.probe = kind;
      result.label = protocol.names[i];
      result.metric = labels.classes > 0 ? "accuracy" : "r2";
      result.setting = fitted.setting;
      result.parts = fitted.parts;
      result.score = estimate(fitted.scores, protocol.counts);
      result.outputs = fitted.scores.per_output();
      result.train_clips = rows.size(0);
      result.test_clips = labels.test.size(0);
      result.test_units = protocol.units.count;
      result.unit = protocol.units.column;
      for (const auto& control : controls) {
        add_control(result, fitted.scores, control, question, protocol);
      }
      result.draws.erase("raw_pixels");
      result.control_notes["raw_pixels"] =
          kind == "attentive" ? "patches averaged down to about 192 numbers, and their place"
                              : pixel_note(test, kind == "knn" ? protocol.options.knn_pixel_values
                                                               : protocol.options.pixel_values);
      const auto constant = protocol.score(
          majority(labels.train.index_select(0, rows), labels.classes, labels.test.size(0)),
          labels);
      result.controls["majority"] = estimate(constant, protocol.counts);
      result.differences["majority"] = paired_difference(fitted.scores, constant, protocol.counts);
      results.push_back(std::move(result));
    }
  }
  return results;
}

}  // namespace

void ProbeOptions::describe(OptionVisitor& visit) {
  visit("labels", labels, {.help = "label columns, comma-separated"});
  visit("kind", kind, {.help = "probes, comma-separated: linear, ridge, knn, attentive"});
  visit("unit", unit,
        {.help = "column of what is independent (intervals resample it); auto: the first of " +
                 c10::Join(", ", unit_columns()) +
                 " that is there, else each clip; none: each clip"});
  visit("share", share, {.help = "of the training labels to use", .min = 1e-6, .max = 1});
  visit("resamples", resamples, {.help = "of the bootstrap", .min = 1});
  visit("pixel_values", pixel_values,
        {.help = "numbers to which a clip is averaged down for linear probes' raw-pixel control",
         .min = 1});
  visit("knn_pixel_values", knn_pixel_values,
        {.help = "the same for k-NN, which takes all pixels of clips that have no more", .min = 1});
  visit("cache", cache,
        {.help = "folder for the tokens of attentive probes meanwhile; empty: the temporary one"});
}

std::vector<ProbeResult> run_probes(Encoder& model, const std::vector<ControlEncoders>& controls,
                                    const ProbeSources& sources, const ProbeOptions& options,
                                    const std::function<void(const std::string&)>& progress) {
  Protocol protocol{
      .options = options, .kinds = split_names(options.kind), .names = split_names(options.labels)};
  for (const auto& kind : protocol.kinds) {
    if (!asked_for({"linear", "ridge", "knn", "attentive"}, kind)) {
      throw ConfigError("kind: expected linear, ridge, knn or attentive, found '" + kind + "'");
    }
  }
  if (protocol.names.empty() || protocol.kinds.empty()) {
    throw ConfigError("probe: name at least one label and kind");
  }
  const auto report = [&](const std::string& what) {
    if (progress) progress(what);
  };
  for (const auto& name : protocol.names) protocol.labels.push_back(read_labels(sources, name));
  protocol.units = choose_units(*sources.test, options.unit, protocol.names);
  protocol.counts =
      resample_units(protocol.units.count, options.resamples, static_cast<uint64_t>(options.seed));
  report(protocol.units.text);

  const Wanted wanted(protocol.kinds);
  const auto answers = [&](const std::string& who, auto features) {
    report(who + ": features of " + std::to_string(sources.train->size()) + " training, " +
           std::to_string(sources.validation->size()) + " validation and " +
           std::to_string(sources.test->size()) + " test clips");
    const Features all{features(sources.train), features(sources.validation),
                       features(sources.test)};
    return fit_all(all, protocol, [&](const std::string& what) { report(who + ": " + what); });
  };
  const auto of_encoder = [&](Encoder& encoder) {
    return [&](const std::shared_ptr<const ClipSource>& source) {
      return encoder_features(encoder, source, options, wanted);
    };
  };
  Answers of_model{.name = "model", .what = "", .draws = {answers("model", of_encoder(model))}};
  std::vector<Answers> of_controls;
  for (const auto& control : controls) {
    Answers all{.name = control.name, .what = control.what, .draws = {}};
    for (int64_t draw = 0; draw < control.draws; ++draw) {
      Encoder encoder = control.make(draw);
      const std::string who =
          control.name + " " + std::to_string(draw + 1) + " of " + std::to_string(control.draws);
      all.draws.push_back(answers(who, of_encoder(encoder)));
    }
    if (control.draws > 0) of_controls.push_back(std::move(all));
  }
  const auto grid = [&](at::IntArrayRef sizes) { return model->grid(sizes); };
  of_controls.push_back({"raw_pixels", "", {answers("raw pixels", [&](const auto& source) {
                           return pixel_features(grid, source, options, wanted);
                         })}});
  return assemble(of_model, of_controls, protocol, *sources.test);
}

}  // namespace jepa::eval::probes

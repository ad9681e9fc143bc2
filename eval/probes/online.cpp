#include <eval/probes/linear.hpp>
#include <eval/probes/metrics.hpp>
#include <eval/probes/online.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <algorithm>

namespace jepa::eval::probes {

void OnlineProbeOptions::describe(OptionVisitor& visit) {
  visit("labels", labels, {.help = "columns that the online probe reads, comma-separated"});
  visit("train_clips", train_clips, {.help = "clips it is fitted on", .min = 10});
  visit("test_clips", test_clips, {.help = "held-out clips it is scored on", .min = 1});
}

OnlineProbe::OnlineProbe(const std::shared_ptr<const ClipSource>& train,
                         const std::shared_ptr<const ClipSource>& test,
                         const OnlineProbeOptions& options, const LoaderOptions& loader,
                         const FeatureOptions& features)
    : names_(split_names(options.labels)), features_(features) {
  if (names_.empty()) throw ConfigError("online probe: name at least one label");
  train_ = hold(train, options.train_clips, loader);
  test_ = hold(test, options.test_clips, loader);
}

OnlineProbe::Held OnlineProbe::hold(const std::shared_ptr<const ClipSource>& source, int64_t clips,
                                    LoaderOptions loader) const {
  // One shuffled pass, cut off: a draw without repetition, whatever order the source has.
  loader.shuffle = true;
  clips = std::min(clips, source->size());
  ClipLoader batches(source, loader, /*seed=*/0);
  Held held;
  std::vector<torch::Tensor> indices;
  for (int64_t count = 0; count < clips;) {
    const ClipBatch batch = batches.next();
    const int64_t taken = std::min(batch.size(), clips - count);
    held.batches.push_back(batch.clips.narrow(0, 0, taken).clone());
    indices.push_back(batch.indices.narrow(0, 0, taken));
    count += taken;
  }
  for (const auto& name : names_) {
    held.labels[name] = label_column(*source, name).index_select(0, torch::cat(indices));
  }
  return held;
}

torch::Tensor OnlineProbe::features(Encoder& encoder, const Held& held) const {
  std::vector<torch::Tensor> parts;
  for (const auto& clips : held.batches) {
    parts.push_back(pool_tokens(frozen_tokens(encoder, clips, features_), features_.pool));
  }
  return torch::cat(parts);
}

std::map<std::string, double> OnlineProbe::operator()(Encoder& encoder) const {
  const auto train = features(encoder, train_);
  const auto test = features(encoder, test_);
  const int64_t fitted = train.size(0) * 4 / 5;
  std::map<std::string, double> scores;
  double sum = 0;
  for (const auto& name : names_) {
    const auto& y = train_.labels.at(name);
    const auto& truth = test_.labels.at(name);
    const bool is_class = y.scalar_type() == torch::kInt64;
    const int64_t classes =
        is_class ? std::max(y.max().item<int64_t>(), truth.max().item<int64_t>()) + 1 : 0;
    const auto candidates =
        fit_ridge({train.slice(0, 0, fitted), y.slice(0, 0, fitted), classes}, ridge_grid());
    const auto& chosen =
        choose_candidate(candidates, {train.slice(0, fitted), y.slice(0, fitted), classes});
    const int64_t rows = truth.size(0);
    const double score =
        UnitScores(decide(chosen.predict(test), classes), truth, torch::arange(rows), rows).value();
    scores["probe_" + name] = score;
    sum += std::max(0.0, score);
  }
  scores["probe_score"] = sum / static_cast<double>(names_.size());
  return scores;
}

}  // namespace jepa::eval::probes

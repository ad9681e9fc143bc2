#include <eval/comparison/seed_resamples.hpp>
#include <eval/physics/scores.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace jepa::eval::physics {
namespace {

/// One film kind by one aggregate, [scenes, 2].
torch::Tensor of(const torch::Tensor& surprises, FilmKind kind, Aggregate aggregate) {
  return surprises.select(3, aggregate).select(2, kind);
}

constexpr double kAbsent = std::numeric_limits<double>::quiet_NaN();

/// 1 where `a` is above `b`, of equals a half; NaN where one of them is not there.
torch::Tensor above(const torch::Tensor& a, const torch::Tensor& b) {
  const auto wins = a.gt(b).to(torch::kFloat64) + 0.5 * a.eq(b).to(torch::kFloat64);
  return wins.masked_fill(a.isnan().logical_or(b.isnan()), kAbsent);
}

/// A mean over scenes on resamples, [R].
torch::Tensor weighted(const torch::Tensor& scenes, const torch::Tensor& counts) {
  return counts.matmul(scenes) / counts.sum(1);
}

torch::Tensor resampled(const torch::Tensor& rule, Metric metric, double threshold,
                        const torch::Tensor& counts) {
  switch (metric) {
    case Metric::kRelative:
      return weighted(relative_accuracy(rule, kBroken, kLawful, kMean), counts);
    case Metric::kRelativeMax:
      return weighted(relative_accuracy(rule, kBroken, kLawful, kMax), counts);
    case Metric::kSets:
      return weighted(set_accuracy(rule, kBroken, kLawful, kMean), counts);
    case Metric::kSetsMax:
      return weighted(set_accuracy(rule, kBroken, kLawful, kMax), counts);
    case Metric::kAuroc:
      return resampled_auroc(rule, kMean, counts);
    case Metric::kAurocMax:
      return resampled_auroc(rule, kMax, counts);
    case Metric::kAbsolute:
      return weighted(
          0.5 * (fired(rule, kBroken, kMax, threshold) + 1 - fired(rule, kLawful, kMax, threshold)),
          counts);
    case Metric::kFiredLawful:
      return weighted(fired(rule, kLawful, kMax, threshold), counts);
    case Metric::kFiredBroken:
      return weighted(fired(rule, kBroken, kMax, threshold), counts);
    case Metric::kFiredChanged:
      return weighted(fired(rule, kChanged, kMax, threshold), counts);
    case Metric::kChangedOverLawful:
      return weighted(relative_accuracy(rule, kChanged, kLawful, kMean), counts);
    case Metric::kBrokenOverChanged:
      break;
  }
  return weighted(relative_accuracy(rule, kBroken, kChanged, kMean), counts);
}

double mean_value(const std::vector<RuleValues>& draws, size_t rule) {
  double sum = 0;
  for (const auto& draw : draws) sum += draw.values[rule] / static_cast<double>(draws.size());
  return sum;
}

/// The mean over draws on every resample, which draws anew among them too.
torch::Tensor mean_resampled(const std::vector<RuleValues>& draws, size_t rule, uint64_t seed) {
  std::vector<torch::Tensor> all;
  for (const auto& draw : draws) all.push_back(draw.resamples[rule]);
  return comparison::mean_over_seeds(torch::stack(all, 1), seed);
}

}  // namespace

torch::Tensor relative_accuracy(const torch::Tensor& surprises, FilmKind more, FilmKind less,
                                Aggregate aggregate) {
  return above(of(surprises, more, aggregate), of(surprises, less, aggregate)).nanmean(1);
}

torch::Tensor set_accuracy(const torch::Tensor& surprises, FilmKind more, FilmKind less,
                           Aggregate aggregate) {
  return above(of(surprises, more, aggregate).nansum(1), of(surprises, less, aggregate).nansum(1));
}

double auroc(const torch::Tensor& positive, const torch::Tensor& negative) {
  return above(positive.unsqueeze(1), negative.unsqueeze(0)).mean().item<double>();
}

torch::Tensor resampled_auroc(const torch::Tensor& surprises, Aggregate aggregate,
                              const torch::Tensor& counts) {
  const auto broken = of(surprises, kBroken, aggregate), lawful = of(surprises, kLawful, aggregate);
  const int64_t scenes = broken.size(0), pairs = broken.size(1);
  const auto each =
      above(broken.reshape({-1, 1}), lawful.reshape({1, -1})).view({scenes, pairs, scenes, pairs});
  // Wins of the films of one scene over those of another, and of how many; a resample weighs both.
  const auto wins = each.nansum(at::IntArrayRef{1, 3});
  const auto compared = each.isnan().logical_not().to(torch::kFloat64).sum(at::IntArrayRef{1, 3});
  const auto others = 1 - torch::eye(scenes, torch::kFloat64);
  const auto sum = [&](const torch::Tensor& of) { return (counts.matmul(of) * counts).sum(1); };
  const auto pairs_of_others = sum(compared * others);
  return torch::where(pairs_of_others.gt(0), sum(wins * others) / pairs_of_others,
                      sum(wins) / sum(compared));
}

double validation_score(const std::vector<torch::Tensor>& rules) {
  double sum = 0;
  for (const auto& rule : rules) {
    sum += relative_accuracy(rule, kBroken, kLawful, kMean).mean().item<double>();
  }
  return sum / static_cast<double>(rules.size());
}

int64_t best_past(const std::vector<int64_t>& pasts, const std::vector<double>& scores) {
  const auto best = std::max_element(scores.rbegin(), scores.rend());
  return pasts[static_cast<size_t>(scores.rend() - best) - 1];
}

double best_threshold(const std::vector<torch::Tensor>& rules, Aggregate aggregate) {
  std::vector<std::pair<double, int>> films;  // surprise, +1 broken or -1 lawful
  for (const auto& rule : rules) {
    for (const auto kind : {kLawful, kBroken}) {
      const auto values = of(rule, kind, aggregate).contiguous().to(torch::kFloat64);
      for (int64_t i = 0; i < values.numel(); ++i) {
        const double value = values.data_ptr<double>()[i];
        if (!std::isnan(value)) films.emplace_back(value, kind == kBroken ? 1 : -1);
      }
    }
  }
  std::sort(films.begin(), films.end());
  // Told right at a threshold of film i's surprise: lawful ones before it, broken ones from it on.
  int64_t right = 0;
  for (const auto& film : films) right += film.second > 0;
  int64_t best = right;
  double threshold = films.empty() ? 0 : films.front().first;
  for (size_t i = 0; i < films.size(); ++i) {
    right -= films[i].second;
    const bool last = i + 1 == films.size();
    if (!last && films[i + 1].first == films[i].first) continue;
    if (right <= best) continue;
    best = right;
    threshold = last ? films[i].first + 1 : 0.5 * (films[i].first + films[i + 1].first);
  }
  return threshold;
}

torch::Tensor fired(const torch::Tensor& surprises, FilmKind kind, Aggregate aggregate,
                    double threshold) {
  const auto values = of(surprises, kind, aggregate);
  return values.ge(threshold).to(torch::kFloat64).masked_fill(values.isnan(), kAbsent).nanmean(1);
}

const std::vector<Metric>& all_metrics() {
  static const std::vector<Metric> all{Metric::kRelative,
                                       Metric::kRelativeMax,
                                       Metric::kSets,
                                       Metric::kSetsMax,
                                       Metric::kAuroc,
                                       Metric::kAurocMax,
                                       Metric::kAbsolute,
                                       Metric::kFiredLawful,
                                       Metric::kFiredBroken,
                                       Metric::kFiredChanged,
                                       Metric::kChangedOverLawful,
                                       Metric::kBrokenOverChanged};
  return all;
}

std::string metric_name(Metric metric) {
  switch (metric) {
    case Metric::kRelative:
      return "relative";
    case Metric::kRelativeMax:
      return "relative_max";
    case Metric::kSets:
      return "sets";
    case Metric::kSetsMax:
      return "sets_max";
    case Metric::kAuroc:
      return "auroc";
    case Metric::kAurocMax:
      return "auroc_max";
    case Metric::kAbsolute:
      return "absolute";
    case Metric::kFiredLawful:
      return "fired_lawful";
    case Metric::kFiredBroken:
      return "fired_broken";
    case Metric::kFiredChanged:
      return "fired_changed";
    case Metric::kChangedOverLawful:
      return "changed_over_lawful";
    case Metric::kBrokenOverChanged:
      break;
  }
  return "broken_over_changed";
}

RuleValues measure(const std::vector<torch::Tensor>& rules, Metric metric, double threshold,
                   int64_t resamples, uint64_t seed) {
  std::vector<torch::Tensor> counts;
  for (size_t i = 0; i < rules.size(); ++i) {
    counts.push_back(probes::resample_units(rules[i].size(0), resamples, seed + i));
  }
  return measure(rules, metric, threshold, counts);
}

RuleValues measure(const std::vector<torch::Tensor>& rules, Metric metric, double threshold,
                   const std::vector<torch::Tensor>& counts) {
  RuleValues made;
  torch::Tensor sum;
  double total = 0;
  for (size_t i = 0; i < rules.size(); ++i) {
    const auto rule = rules[i].to(torch::kFloat64);
    const auto once = torch::ones({1, rule.size(0)}, torch::kFloat64);
    made.values.push_back(resampled(rule, metric, threshold, once).item<double>());
    made.resamples.push_back(resampled(rule, metric, threshold, counts[i]));
    sum = i == 0 ? made.resamples.back() : sum + made.resamples.back();
    total += made.values.back();
  }
  const auto count = static_cast<double>(rules.size());
  made.values.push_back(total / count);
  made.resamples.push_back(sum / count);
  return made;
}

std::vector<probes::Estimate> pooled(const std::vector<RuleValues>& draws, uint64_t seed) {
  std::vector<probes::Estimate> made;
  for (size_t rule = 0; rule < draws.front().values.size(); ++rule) {
    made.push_back(probes::with_interval(mean_value(draws, rule),
                                         mean_resampled(draws, rule, seed).clamp(0, 1)));
  }
  return made;
}

std::vector<probes::Estimate> pooled_difference(const std::vector<RuleValues>& draws,
                                                const std::vector<RuleValues>& control,
                                                uint64_t seed) {
  std::vector<probes::Estimate> made;
  for (size_t rule = 0; rule < draws.front().values.size(); ++rule) {
    const auto differences =
        mean_resampled(draws, rule, seed) - mean_resampled(control, rule, seed + 1);
    made.push_back(probes::with_interval(mean_value(draws, rule) - mean_value(control, rule),
                                         differences.clamp(-1, 1)));
  }
  return made;
}

}  // namespace jepa::eval::physics

#include <eval/physics/benchmarks.hpp>
#include <eval/physics/surprise_models.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/json_text.hpp>
#include <jepa/version.hpp>

#include <c10/util/StringUtil.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>

#include <algorithm>
#include <cstdio>
#include <set>

namespace jepa::eval::physics {
namespace {

using probes::Estimate;
using Json = nlohmann::ordered_json;

constexpr int64_t kPublishedSide = 224;
constexpr int64_t kScenesForOneOfValidation = 5;
constexpr uint64_t kBootstrapSeed = 7;

/// Pairs by scene, of one property: [property][scene] -> numbers of pairs.
using Scenes = std::vector<std::vector<std::vector<size_t>>>;

struct Plan {
  std::vector<std::string> properties;
  Scenes validation, test;
};

Plan make_plan(const std::vector<FilmPair>& pairs) {
  Plan plan;
  std::map<std::string, std::map<std::string, std::vector<size_t>>> by_name;
  for (size_t i = 0; i < pairs.size(); ++i) {
    by_name[pairs[i].property][pairs[i].scene].push_back(i);
  }
  for (const auto& [property, scenes] : by_name) {
    plan.properties.push_back(property);
    plan.validation.emplace_back();
    plan.test.emplace_back();
    int64_t number = 0;
    for (const auto& [scene, numbers] : scenes) {
      // The second, the seventh, ...; a lone scene is reported on.
      const bool validates = number++ % kScenesForOneOfValidation == 1;
      (validates ? plan.validation : plan.test).back().push_back(numbers);
    }
  }
  return plan;
}

/// Surprises [scenes, pairs, 2, 2] of each property. Scenes of one property have as many pairs.
std::vector<torch::Tensor> ask(const SurpriseModel& model, const std::vector<FilmPair>& pairs,
                               const Scenes& scenes, const BenchmarkOptions& options,
                               int64_t past) {
  std::vector<torch::Tensor> properties;
  for (const auto& property : scenes) {
    std::vector<torch::Tensor> rows;
    for (const auto& numbers : property) {
      std::vector<torch::Tensor> films;
      for (const size_t number : numbers) {
        auto possible = read_film(pairs[number].possible, options.frame_step, options.side);
        auto impossible = read_film(pairs[number].impossible, options.frame_step, options.side);
        // Real films are not of one length: what both have is compared.
        const int64_t frames = std::min(possible.size(1), impossible.size(1));
        const auto surprise = surprise_of(
            model, torch::stack({possible.slice(1, 0, frames), impossible.slice(1, 0, frames)}),
            {.past = past, .stride = options.stride, .batch = 4});
        films.push_back(torch::stack({surprise.mean(), surprise.max()}, 1).to(torch::kFloat64));
      }
      rows.push_back(torch::stack(films));
    }
    if (!rows.empty()) properties.push_back(torch::stack(rows));
  }
  return properties;
}

int64_t choose(const SurpriseModel& model, const std::vector<FilmPair>& pairs, const Plan& plan,
               const BenchmarkOptions& options, double& threshold) {
  double best = -1;
  int64_t chosen = options.contexts.front();
  threshold = 0;
  for (const int64_t past : options.contexts) {
    const auto asked = ask(model, pairs, plan.validation, options, past);
    if (asked.empty()) return chosen;
    double mean = 0;
    for (const auto& property : asked) {
      mean += relative_accuracy(property, kBroken, kLawful, kMean).mean().item<double>();
    }
    if (mean < best) continue;
    best = mean;
    chosen = past;
    threshold = best_threshold(asked, kMax);
  }
  return chosen;
}

int64_t count(const Scenes& scenes) {
  int64_t pairs = 0;
  for (const auto& property : scenes) {
    for (const auto& scene : property) pairs += static_cast<int64_t>(scene.size());
  }
  return pairs;
}

std::string text_of(const Estimate& e) {
  char text[64];
  std::snprintf(text, sizeof text, "%.2f [%.2f, %.2f]", e.value, e.low, e.high);
  return text;
}

}  // namespace

void BenchmarkOptions::describe(OptionVisitor& visit) {
  visit("benchmark", benchmark,
        {.help = "published films in place of generated ones",
         .choices = {"", "intphys", "grasp", "inflevel"}});
  visit("data", data, {.help = "the benchmark's folder"});
  visit("model", model, {.help = "run or weights that are asked; nothing is trained"});
  visit("film_step", frame_step,
        {.help = "benchmark: source frames from frame to frame", .min = 1});
  visit(
      "film_side", side,
      {.help = "benchmark: frames are scaled to it; 0: 224", .unit = "px", .min = 0, .max = 4096});
  visit("film_window", window,
        {.help = "benchmark: frames of a window, of models that do not say it", .min = 2});
  visit("inflevel_possible", inflevel_possible, {.help = "types of event that can happen"});
}

BenchmarkResult run_benchmark(const BenchmarkOptions& given, torch::Device device,
                              const std::function<void(const std::string&)>& say) {
  BenchmarkOptions options = given;
  if (options.model.empty()) throw ConfigError("option model: the run or weights to be asked");
  if (options.side == 0) options.side = kPublishedSide;
  const auto pairs = find_film_pairs(options);
  const Plan plan = make_plan(pairs);
  const auto model = load_surprise(options.model, options.window, device);
  BenchmarkResult result;
  result.properties = plan.properties;
  result.pairs = count(plan.test);
  result.validation_pairs = count(plan.validation);
  double threshold = 0;
  result.past = choose(model, pairs, plan, options, threshold);
  say(c10::str(result.pairs, " pairs, a past of ", result.past, " frames"));
  const auto asked = ask(model, pairs, plan.test, options, result.past);
  std::map<Metric, RuleValues> values;
  for (const Metric metric : all_metrics()) {
    const bool of_changes = metric == Metric::kFiredChanged ||
                            metric == Metric::kChangedOverLawful ||
                            metric == Metric::kBrokenOverChanged;
    if (of_changes) continue;
    values[metric] = measure(asked, metric, threshold, options.resamples, kBootstrapSeed);
    result.metrics[metric_name(metric)] = pooled({values[metric]}, kBootstrapSeed);
  }
  std::vector<RuleValues> draws;
  for (int64_t i = 0; i < options.untrained; ++i) {
    const auto fresh = untrained_surprise(options.model, static_cast<uint64_t>(i), device);
    if (!fresh.tokens) break;  // no masked predictor
    draws.push_back(measure(ask(fresh, pairs, plan.test, options, result.past), Metric::kRelative,
                            0, options.resamples, kBootstrapSeed));
    say(c10::str("untrained network ", i + 1, " of ", options.untrained));
  }
  if (!draws.empty()) {
    result.untrained = pooled(draws, kBootstrapSeed);
    result.less_untrained = pooled_difference({values[Metric::kRelative]}, draws, kBootstrapSeed);
  }
  return result;
}

std::string benchmark_table(const BenchmarkResult& result) {
  std::string text = c10::str(result.pairs, " pairs (", result.validation_pairs,
                              " others chose a past of ", result.past, " frames)\n");
  for (size_t i = 0; i <= result.properties.size(); ++i) {
    std::string line = i < result.properties.size() ? result.properties[i] : "all";
    line.resize(std::max<size_t>(line.size() + 1, 20), ' ');
    text += line + "pairs " + text_of(result.metrics.at("relative")[i]) + "  sets " +
            text_of(result.metrics.at("sets")[i]);
    if (!result.untrained.empty()) {
      text += "  untrained " + text_of(result.untrained[i]) + "  difference " +
              text_of(result.less_untrained[i]);
    }
    text += "  AUROC " + text_of(result.metrics.at("auroc_max")[i]) + "\n";
  }
  return text;
}

std::string benchmark_json(const BenchmarkOptions& options, const BenchmarkResult& result) {
  const auto list = [&](const std::vector<Estimate>& estimates) {
    Json json = Json::object();
    for (size_t i = 0; i < estimates.size(); ++i) {
      json[i < result.properties.size() ? result.properties[i] : "all"] = {
          {"value", estimates[i].value}, {"low", estimates[i].low}, {"high", estimates[i].high}};
    }
    return json;
  };
  Json json{{"commit", commit()},
            {"benchmark", options.benchmark},
            {"data", options.data},
            {"model", options.model},
            {"past", result.past},
            {"pairs", result.pairs},
            {"validation_pairs", result.validation_pairs}};
  json["metrics"] = Json::object();
  for (const auto& [name, estimates] : result.metrics) json["metrics"][name] = list(estimates);
  json["untrained"] = list(result.untrained);
  json["relative_less_untrained"] = list(result.less_untrained);
  return json_text(json, 2) + "\n";
}

}  // namespace jepa::eval::physics

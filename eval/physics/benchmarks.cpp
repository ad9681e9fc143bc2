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
#include <limits>

namespace jepa::eval::physics {
namespace {

using probes::Estimate;
using Json = nlohmann::ordered_json;

constexpr int64_t kPublishedSide = 224;
constexpr int64_t kScenesForOneOfValidation = 5;
constexpr uint64_t kBootstrapSeed = 7;
const char* const kUntrainedRow = "untrained";

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

/// What models are asked about.
struct Questions {
  const BenchmarkOptions& options;
  std::vector<FilmPair> pairs;
  Plan plan;

  bool validates() const {
    const auto& all = plan.validation;
    return std::any_of(all.begin(), all.end(), [](const auto& one) { return !one.empty(); });
  }
};

/// Surprises [2, 2] of a pair.
torch::Tensor ask_pair(const SurpriseModel& model, const FilmPair& pair,
                       const BenchmarkOptions& options, int64_t past) {
  const auto possible = read_film(pair.possible, options.frame_step, options.side);
  const auto impossible = read_film(pair.impossible, options.frame_step, options.side);
  // Real films are not of one length: what both have is compared.
  const int64_t frames = std::min(possible.size(1), impossible.size(1));
  const auto surprise = surprise_of(
      model, torch::stack({possible.slice(1, 0, frames), impossible.slice(1, 0, frames)}),
      {.past = past, .stride = options.stride, .batch = 4});
  return torch::stack({surprise.mean(), surprise.max()}, 1).to(torch::kFloat64);
}

/// Surprises [scenes, pairs, 2, 2] of each property; scenes of fewer pairs are filled up with NaN.
std::vector<torch::Tensor> ask(const SurpriseModel& model, const Questions& questions,
                               const Scenes& scenes, int64_t past) {
  std::vector<torch::Tensor> properties;
  for (const auto& property : scenes) {
    size_t most = 0;
    for (const auto& numbers : property) most = std::max(most, numbers.size());
    std::vector<torch::Tensor> rows;
    for (const auto& numbers : property) {
      std::vector<torch::Tensor> films;
      for (const size_t number : numbers) {
        films.push_back(ask_pair(model, questions.pairs[number], questions.options, past));
      }
      const auto absent = torch::full_like(films.front(), std::numeric_limits<double>::quiet_NaN());
      films.resize(most, absent);
      rows.push_back(torch::stack(films));
    }
    if (!rows.empty()) properties.push_back(torch::stack(rows));
  }
  return properties;
}

/// A model of `draws`, made when it is asked.
using MakeModel = std::function<SurpriseModel(int64_t draw)>;

/// The past at which the first draws together do best on validation; of equals the later one.
int64_t choose(const Questions& questions, int64_t draws, const MakeModel& make) {
  const auto& contexts = questions.options.contexts;
  if (!questions.validates()) return contexts.front();
  std::vector<double> sums(contexts.size());
  for (int64_t draw = 0; draw < std::min(draws, kChoosingDraws); ++draw) {
    const auto model = make(draw);
    for (size_t i = 0; i < contexts.size(); ++i) {
      sums[i] += validation_score(ask(model, questions, questions.plan.validation, contexts[i]));
    }
  }
  return best_past(contexts, sums);
}

/// Whether a metric takes the threshold of validation.
bool of_threshold(Metric metric) {
  return metric == Metric::kAbsolute || metric == Metric::kFiredLawful ||
         metric == Metric::kFiredBroken;
}

/// Metrics of each draw.
using DrawValues = std::map<Metric, std::vector<RuleValues>>;

BenchmarkRow ask_row(const std::string& arm, int64_t draws, const MakeModel& make,
                     const Questions& questions, DrawValues& values) {
  const auto& options = questions.options;
  BenchmarkRow row{.arm = arm, .draws = draws, .past = choose(questions, draws, make)};
  const bool told = questions.validates() && arm != kUntrainedRow;
  for (int64_t draw = 0; draw < draws; ++draw) {
    const auto model = make(draw);
    const auto test = ask(model, questions, questions.plan.test, row.past);
    double threshold = 0;
    if (told) {
      threshold = best_threshold(ask(model, questions, questions.plan.validation, row.past), kMax);
    }
    for (const Metric metric : all_metrics()) {
      const bool of_changes = metric == Metric::kFiredChanged ||
                              metric == Metric::kChangedOverLawful ||
                              metric == Metric::kBrokenOverChanged;
      if (of_changes || (of_threshold(metric) && !told)) continue;
      values[metric].push_back(measure(test, metric, threshold, options.resamples, kBootstrapSeed));
    }
  }
  for (const auto& [metric, all] : values) {
    row.metrics[metric_name(metric)] = pooled(all, kBootstrapSeed);
  }
  return row;
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
  visit("film_side", side,
        {.help = "benchmark: frames are scaled to it; 0: as the model's own, else 224",
         .unit = "px",
         .min = 0,
         .max = 4096});
  visit("film_window", window,
        {.help = "benchmark: frames of a window, of models that do not say it", .min = 2});
  visit("inflevel_possible", inflevel_possible, {.help = "types of event that can happen"});
}

BenchmarkResult run_benchmark(const BenchmarkOptions& given, torch::Device device,
                              const std::function<void(const std::string&)>& say) {
  BenchmarkOptions options = given;
  if (options.model.empty()) throw ConfigError("option model: the run or weights to be asked");
  Questions questions{options, find_film_pairs(options), {}};
  questions.plan = make_plan(questions.pairs);
  const auto model = load_surprise(options.model, options.window, device);
  if (options.side == 0) options.side = model.side > 0 ? model.side : kPublishedSide;
  for (const int64_t past : options.contexts) require_past(model, past);
  BenchmarkResult result{.properties = questions.plan.properties,
                         .pairs = count(questions.plan.test),
                         .validation_pairs = count(questions.plan.validation),
                         .rows = {}};
  std::vector<DrawValues> values;
  const auto add = [&](const std::string& arm, int64_t draws, const MakeModel& make) {
    values.emplace_back();
    result.rows.push_back(ask_row(arm, draws, make, questions, values.back()));
    say(c10::str(arm, ": ", result.pairs, " pairs, a past of ", result.rows.back().past,
                 " frames"));
  };
  add("model", 1, [&](int64_t) { return model; });
  add(kUntrainedRow, is_diffusion(options.model) ? options.untrained_latents : options.untrained,
      [&](int64_t draw) {
        return untrained_surprise(options.model, options.window, static_cast<uint64_t>(draw),
                                  device);
      });
  // A mean over a window's tokens is that over its pixels.
  add("copy_last", 1,
      [&](int64_t) { return copy_last_surprise(model.window, model.tubelet, options.side); });
  add("pixel_difference", 1, [&](int64_t) {
    return pixel_difference_surprise(model.window, model.tubelet, options.side);
  });
  for (const Metric metric : {Metric::kRelative, Metric::kSets}) {
    result.rows[0].less_untrained[metric_name(metric)] =
        pooled_difference(values[0][metric], values[1][metric], kBootstrapSeed);
  }
  return result;
}

std::string benchmark_table(const BenchmarkResult& result) {
  std::string text = c10::str(result.pairs, " pairs (", result.validation_pairs,
                              " others chose how long a past each is told)\n");
  for (const auto& row : result.rows) {
    text += c10::str("\n", row.arm, " (", row.draws, " of it, a past of ", row.past, " frames)\n");
    for (size_t i = 0; i <= result.properties.size(); ++i) {
      std::string line = "  " + (i < result.properties.size() ? result.properties[i] : "all");
      line.resize(std::max<size_t>(line.size() + 1, 20), ' ');
      text += line;
      for (const char* name : {"relative", "sets"}) {
        text += (name[0] == 'r' ? "pairs " : "  sets ") + text_of(row.metrics.at(name)[i]);
        const auto less = row.less_untrained.find(name);
        if (less != row.less_untrained.end()) {
          text += " less untrained " + text_of(less->second[i]);
        }
      }
      text += "  AUROC " + text_of(row.metrics.at("auroc_max")[i]) + "\n";
    }
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
  Json json{{"commit", commit()},    {"benchmark", options.benchmark},
            {"data", options.data},  {"model", options.model},
            {"pairs", result.pairs}, {"validation_pairs", result.validation_pairs}};
  json["rows"] = Json::array();
  for (const auto& row : result.rows) {
    Json made{{"arm", row.arm}, {"draws", row.draws}, {"past", row.past}};
    made["metrics"] = Json::object();
    for (const auto& [name, estimates] : row.metrics) made["metrics"][name] = list(estimates);
    for (const auto& [name, estimates] : row.less_untrained) {
      made[name + "_less_untrained"] = list(estimates);
    }
    json["rows"].push_back(made);
  }
  return json_text(json, 2) + "\n";
}

}  // namespace jepa::eval::physics

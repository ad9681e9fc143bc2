#include <eval/physics/benchmarks.hpp>
#include <eval/physics/surprise_models.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/json_text.hpp>
#include <jepa/io/safetensors.hpp>
#include <jepa/stopped.hpp>
#include <jepa/version.hpp>

#include <c10/util/StringUtil.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <limits>
#include <utility>

namespace jepa::eval::physics {
namespace {

namespace fs = std::filesystem;
using probes::Estimate;
using Json = nlohmann::ordered_json;

constexpr int64_t kPublishedSide = 224;
constexpr int64_t kScenesForOneOfValidation = 5;
constexpr uint64_t kBootstrapSeed = 7;
constexpr uint64_t kUntrainedSeed = 3000;  // the first; none of them is the model's own start
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

/// What models are asked about, and where what they say is kept.
struct Questions {
  const BenchmarkOptions& options;
  std::vector<FilmPair> pairs;
  Plan plan;
  std::string run;
  const comparison::ComparisonHooks& hooks;
  /// What the model says of one window that is always the same: another model says something else.
  torch::Tensor answer = {};

  bool validates() const {
    const auto& all = plan.validation;
    return std::any_of(all.begin(), all.end(), [](const auto& one) { return !one.empty(); });
  }
  /// The films of scenes, as a kept score names them.
  std::string films(const std::vector<std::vector<size_t>>& scenes) const {
    std::string names;
    for (const auto& numbers : scenes) {
      for (const size_t number : numbers) {
        for (const auto& film : {pairs[number].possible, pairs[number].impossible}) {
          names += fs::path(film).lexically_relative(options.data).string() + "\n";
        }
      }
    }
    return names;
  }
};

torch::Tensor answer_of(const SurpriseModel& model, const BenchmarkOptions& options) {
  const auto window = torch::arange(3 * model.window * options.side * options.side)
                          .remainder(251)
                          .to(torch::kUInt8)
                          .view({1, 3, model.window, options.side, options.side});
  return model.tokens(window, options.contexts.front()).to(torch::kFloat32).contiguous();
}

/// Surprises [2, 2] of a pair.
torch::Tensor ask_pair(const SurpriseModel& model, const FilmPair& pair,
                       const BenchmarkOptions& options, int64_t past) {
  const auto possible = read_film(pair.possible, options.frame_step, options.side);
  const auto impossible = read_film(pair.impossible, options.frame_step, options.side);
  // Real films are not of one length: what both have is compared.
  const int64_t frames = std::min(possible.size(1), impossible.size(1));
  if (frames < model.window) {
    const auto& shorter = possible.size(1) == frames ? pair.possible : pair.impossible;
    throw DataError(c10::str(shorter, ": ", frames, " frames, one of ", options.frame_step,
                             ", are fewer than the window of ", model.window,
                             "; see the option film_step"));
  }
  const auto surprise = surprise_of(
      model, torch::stack({possible.slice(1, 0, frames), impossible.slice(1, 0, frames)}),
      {.past = past, .stride = options.stride, .batch = 4});
  return torch::stack({surprise.mean(), surprise.max()}, 1).to(torch::kFloat64);
}

/// A model and what it said, kept in RUN/cells. It is made when it is first asked.
class Cell {
 public:
  Cell(const Questions& questions, const std::string& arm, int64_t draw,
       std::function<SurpriseModel()> make)
      : questions_(questions),
        folder_(c10::str(questions.run, "/cells/", arm, "-s", draw)),
        name_(c10::str(arm, " ", draw)),
        learned_(arm == "model" || arm == kUntrainedRow),
        make_(std::move(make)) {}

  /// Surprises [scenes, pairs, 2, 2] of each property; scenes of fewer pairs are filled up with
  /// NaN.
  std::vector<torch::Tensor> all(const char* split, int64_t past) {
    const Plan& plan = questions_.plan;
    const Scenes& scenes = std::string_view(split) == "test" ? plan.test : plan.validation;
    std::vector<torch::Tensor> properties;
    for (size_t i = 0; i < scenes.size(); ++i) {
      if (scenes[i].empty()) continue;
      const std::string file =
          c10::str(folder_, "/", split, "-c", past, "-", plan.properties[i], ".safetensors");
      properties.push_back(kept_or_asked(file, scenes[i], past));
    }
    return properties;
  }
  /// Many draws are not held in memory together.
  void forget_model() { model_ = {}; }

 private:
  torch::Tensor kept_or_asked(const std::string& file,
                              const std::vector<std::vector<size_t>>& scenes, int64_t past) {
    const std::map<std::string, std::string> films{{"films", questions_.films(scenes)}};
    if (fs::exists(file)) {
      const auto kept = read_safetensors(file);
      if (kept.metadata == films && is_of_model(kept)) return kept.tensors.at("surprise").clone();
      questions_.hooks.say(
          c10::str(name_, ": scores are of another model or other films, asked again"));
    }
    TensorMap made{{"surprise", ask(scenes, past)}};
    if (learned_) made["answer"] = questions_.answer;
    fs::create_directories(folder_);
    write_safetensors(file, made, films);
    return made.at("surprise");
  }

  bool is_of_model(const SafetensorsFile& kept) const {
    if (!learned_) return true;
    const auto& before = kept.tensors.at("answer");
    const auto& now = questions_.answer;
    return before.sizes() == now.sizes() && at::allclose(before, now, 1e-3, 1e-6);
  }

  torch::Tensor ask(const std::vector<std::vector<size_t>>& scenes, int64_t past) {
    size_t most = 0;
    for (const auto& numbers : scenes) most = std::max(most, numbers.size());
    std::vector<torch::Tensor> rows;
    for (const auto& numbers : scenes) {
      std::vector<torch::Tensor> films;
      for (const size_t number : numbers) {
        stop_if_asked(questions_.hooks.stop, "benchmark");
        if (!model_.tokens) model_ = make_();
        films.push_back(ask_pair(model_, questions_.pairs[number], questions_.options, past));
      }
      const auto absent = torch::full_like(films.front(), std::numeric_limits<double>::quiet_NaN());
      films.resize(most, absent);
      rows.push_back(torch::stack(films));
    }
    return torch::stack(rows);
  }

  const Questions& questions_;
  std::string folder_, name_;
  bool learned_;  // its scores hang on the model's weights or shape
  std::function<SurpriseModel()> make_;
  SurpriseModel model_;
};

/// A model of `draws`, made when it is asked.
using MakeModel = std::function<SurpriseModel(int64_t draw)>;

/// The past at which the first draws together do best on validation; of equals the later one.
int64_t choose(const Questions& questions, int64_t draws, std::vector<Cell>& cells) {
  const auto& contexts = questions.options.contexts;
  if (!questions.validates()) return contexts.front();
  std::vector<double> sums(contexts.size());
  for (int64_t draw = 0; draw < std::min(draws, kChoosingDraws); ++draw) {
    for (size_t i = 0; i < contexts.size(); ++i) {
      sums[i] += validation_score(cells[static_cast<size_t>(draw)].all("validation", contexts[i]));
    }
    if (draws > 1) cells[static_cast<size_t>(draw)].forget_model();
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
  std::vector<Cell> cells;
  for (int64_t draw = 0; draw < draws; ++draw) {
    cells.emplace_back(questions, arm, draw, [make, draw] { return make(draw); });
  }
  BenchmarkRow row{.arm = arm, .draws = draws, .past = choose(questions, draws, cells)};
  const bool told = questions.validates() && arm != kUntrainedRow;
  for (auto& cell : cells) {
    const auto test = cell.all("test", row.past);
    double threshold = 0;
    if (told) threshold = best_threshold(cell.all("validation", row.past), kMax);
    cell.forget_model();
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

std::vector<uint64_t> untrained_seeds(const std::string& model, int64_t count) {
  std::string own;
  if (const std::string config = model + "/config.ini"; fs::exists(config)) {
    const auto values = read_ini(config);
    if (const auto seed = values.find("seed"); seed != values.end()) own = seed->second;
  }
  std::vector<uint64_t> seeds;
  for (uint64_t seed = kUntrainedSeed; static_cast<int64_t>(seeds.size()) < count; ++seed) {
    if (std::to_string(seed) != own) seeds.push_back(seed);
  }
  return seeds;
}

BenchmarkResult run_benchmark(const BenchmarkOptions& given, const std::string& run,
                              torch::Device device, const comparison::ComparisonHooks& hooks) {
  BenchmarkOptions options = given;
  if (options.model.empty()) throw ConfigError("option model: the run or weights to be asked");
  if (options.contexts.empty()) throw ConfigError("option contexts: name one at least");
  Questions questions{options, find_film_pairs(options), {}, run, hooks};
  questions.plan = make_plan(questions.pairs);
  const auto model = load_surprise(options.model, options.window, device);
  if (options.side == 0) options.side = model.side > 0 ? model.side : kPublishedSide;
  for (const int64_t past : options.contexts) require_past(model, past);
  questions.answer = answer_of(model, options);
  BenchmarkResult result{.properties = questions.plan.properties,
                         .pairs = count(questions.plan.test),
                         .validation_pairs = count(questions.plan.validation),
                         .rows = {}};
  std::vector<DrawValues> values;
  const auto add = [&](const std::string& arm, int64_t draws, const MakeModel& make) {
    values.emplace_back();
    result.rows.push_back(ask_row(arm, draws, make, questions, values.back()));
    hooks.say(c10::str(arm, ": ", result.pairs, " pairs, a past of ", result.rows.back().past,
                       " frames"));
  };
  add("model", 1, [&](int64_t) { return model; });
  const int64_t draws = is_diffusion(options.model) ? options.untrained_latents : options.untrained;
  const auto seeds = untrained_seeds(options.model, draws);
  add(kUntrainedRow, draws, [&](int64_t draw) {
    return untrained_surprise(options.model, options.window, seeds[static_cast<size_t>(draw)],
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

std::string benchmark_json(const BenchmarkOptions& options, const BenchmarkResult& result,
                           double seconds) {
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
            {"pairs", result.pairs}, {"validation_pairs", result.validation_pairs},
            {"seconds", seconds}};
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

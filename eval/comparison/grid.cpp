#include <eval/comparison/grid.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/memory.hpp>
#include <jepa/version.hpp>

#include <c10/util/StringUtil.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace jepa::eval::comparison {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr uint64_t kClipSeed = 1;  // all cells of a noise see the same clips

std::string short_text(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

std::string cell_folder(const ComparisonOptions& options, const CellRecord& cell) {
  return options.run + "/cells/" + cell.arm + "-b" + short_text(cell.tera) + "-n" +
         short_text(cell.noise) + "-s" + std::to_string(cell.seed);
}

Json to_json(const Results& results) { return Json::parse(results_json(results)); }

Json to_json(const CellRecord& cell) {
  return {{"arm", cell.arm},      {"tera", cell.tera},  {"seed", cell.seed},
          {"noise", cell.noise},  {"commit", commit()}, {"results", to_json(cell.results)},
          {"layers", cell.layers}};
}

/// Reads what a cell left. False: it is still to be run.
bool read_cell(const std::string& folder, CellRecord& cell) {
  const std::string path = folder + "/cell.json";
  if (!fs::exists(path)) return false;
  try {
    std::ifstream file(path);
    const Json json = Json::parse(file);
    for (const auto& [name, value] : json.at("results").items()) {
      cell.results[name] = {value.at("value"), value.at("low"), value.at("high")};
    }
    cell.layers = json.at("layers").get<std::map<std::string, std::string>>();
    return true;
  } catch (const nlohmann::json::exception& error) {
    throw DataError(path + ": " + error.what() + "; remove it to run the cell again");
  }
}

void write_cell(const ComparisonOptions& options, const CellRecord& cell) {
  const std::string folder = cell_folder(options, cell);
  fs::create_directories(folder);
  write_file_atomic(folder + "/cell.json", to_json(cell).dump(2) + "\n");
}

/// The judge of a noise level: trained once, kept in the run's folder.
TrainedJudge judge_for(const ComparisonOptions& options, double noise, const QuestionClips& clips,
                       const ComparisonHooks& hooks) {
  const std::string path = options.run + "/judge-n" + short_text(noise) + ".safetensors";
  if (fs::exists(path)) return load_judge(path);
  hooks.say("training the judge on real frames, noise " + short_text(noise));
  JudgeOptions judge = options.judge;
  judge.noise = noise;
  const TrainedJudge trained = train_judge(clips.train, clips.validation, judge, 0);
  save_judge(path, trained);
  return trained;
}

void add(const std::string& prefix, const Results& results, Results& to) {
  for (const auto& [name, value] : results) to[prefix + name] = value;
}

void add_costs(const ArmCosts& costs, Results& results) {
  const auto set = [&](const char* name, double value) {
    results[std::string("cost/") + name] = {value, value, value};
  };
  set("train_tflop", costs.train_flops * 1e-12);
  set("decoder_tflop", costs.decoder_flops * 1e-12);
  set("train_seconds", costs.train_seconds);
  set("clips", costs.clips);
  set("steps", costs.steps);
  set("parameters", costs.parameters);
  set("peak_rss_mb", costs.peak_rss_mb);
  set("gflop_per_predicted_frame", costs.flops_per_frame * 1e-9);
}

/// What predicted frames of one noise level are held against.
struct Benchmark {
  QuestionClips clips;
  Judge judge{nullptr};
  torch::Tensor asked;  ///< test clips whose futures are drawn, uint8 [B, C, T, H, W]
  torch::Tensor real;   ///< true futures of 2B other test clips
  std::vector<FeatureSpace> spaces;
};

Benchmark make_benchmark(const ComparisonOptions& options, double noise,
                         const ComparisonHooks& hooks) {
  Benchmark made;
  made.clips = make_clips(options.questions, noise, kClipSeed);
  made.judge = judge_for(options, noise, made.clips, hooks).judge;
  const int64_t count = options.questions.predicted_clips;
  const auto test = first_clips(made.clips.test, 3 * count);
  made.asked = test.slice(0, 0, count);
  made.real = test.slice(0, count).slice(2, options.arm.context_frames);
  made.spaces = {judge_space(made.judge), random_space(options.arm.jepa, made.real.sizes())};
  return made;
}

/// Trains and measures one cell.
void run_cell(CellRecord& cell, const ComparisonOptions& options, Benchmark& benchmark,
              const ComparisonHooks& hooks) {
  const QuestionClips& clips = benchmark.clips;
  restart_peak_memory();
  const Arm arm = train_arm(cell_plan(options, cell), options.arm, clips.train, hooks.training);
  if (arm.features) {
    hooks.say(cell.arm + ": probes");
    cell.results = measure_features(arm, clips, options.questions, cell.layers);
  }
  if (arm.predict) {
    hooks.say(cell.arm + ": futures");
    const auto& asked = benchmark.asked;
    const auto measured = [&](const torch::Tensor& futures) {
      return measure_futures(futures, asked, *clips.test, benchmark.judge, options.questions);
    };
    const auto seed = static_cast<uint64_t>(cell.seed);
    const auto futures = arm.predict(asked, options.questions.futures, seed);
    add("future/", measured(futures), cell.results);
    if (arm.ceiling) add("ceiling/", measured(arm.ceiling(asked, seed).unsqueeze(0)), cell.results);
    if (arm.floor) add("floor/", measured(arm.floor(asked, seed).unsqueeze(0)), cell.results);
    add("distance/", measure_distances(futures[0], benchmark.real, benchmark.spaces), cell.results);
  }
  add_costs(arm.costs, cell.results);
}

/// 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom; 2 beyond the table.
double t_quantile(int64_t freedom) {
  constexpr double kTable[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262};
  return freedom <= 9 ? kTable[freedom - 1] : 2.0;
}

probes::Estimate over_seeds(const std::vector<probes::Estimate>& values) {
  if (values.size() == 1) return values.front();
  double mean = 0, square = 0;
  const double n = static_cast<double>(values.size());
  for (const auto& v : values) mean += v.value / n;
  for (const auto& v : values) square += (v.value - mean) * (v.value - mean) / (n - 1);
  const double half = t_quantile(static_cast<int64_t>(values.size()) - 1) * std::sqrt(square / n);
  return {mean, mean - half, mean + half};
}

}  // namespace

std::vector<OptionSection> ComparisonOptions::sections() {
  std::vector<OptionSection> sections{
      {"", "",
       [this](OptionVisitor& visit) {
         visit("run", run, {.help = "folder; cells that are done are not run again"});
         visit("arms", arms, {.help = "comma-separated: " + c10::Join(", ", arm_names())});
         visit("budgets", budgets, {.help = "of training", .unit = "TFLOP", .min = 0});
         visit("seeds", seeds, {.help = "each a cell", .min = 0});
         visit("noises", noises,
               {.help = "brightest background pixel; beyond the first at the first budget only",
                .min = 0,
                .max = 1});
       }},
      {"clips", "generated video",
       [this](OptionVisitor& visit) { questions.clips.describe(visit); }},
      {"questions", "", [this](OptionVisitor& visit) { questions.describe(visit); }},
      {"attentive", "training of the attentive probes",
       [this](OptionVisitor& visit) { questions.attentive_probe.describe(visit); }},
      {"arm", "",
       [this](OptionVisitor& visit) {
         visit("batch", arm.batch, {.help = "clips a step", .min = 2});
         visit("context_frames", arm.context_frames,
               {.help = "shown when a future is asked for", .min = 2});
         visit(
             "decoder_tera", arm.decoder_tera,
             {.help = "to train the decoder of latents, counted apart", .unit = "TFLOP", .min = 0});
         visit("autoencoder_share", arm.autoencoder_share,
               {.help = "of the budget of diffusion in latents", .min = 0.01, .max = 0.99});
         visit("feature_times", arm.feature_times,
               {.help = "at which diffusion features are read; 1: clean", .min = 0, .max = 1});
       }},
      {"judge", "reads digits and places from frames",
       [this](OptionVisitor& visit) { judge.describe(visit); }},
      {"model", "diffusion transformer",
       [this](OptionVisitor& visit) { arm.generative.transformer.describe(visit); }},
      {"diffusion", "", [this](OptionVisitor& visit) { arm.generative.diffusion.describe(visit); }},
      {"times", "of training",
       [this](OptionVisitor& visit) { arm.generative.diffusion.times.describe(visit); }},
      {"diffusion_optimisation", "of diffusion, autoencoder and decoder",
       [this](OptionVisitor& visit) { arm.diffusion_optimisation.describe(visit); }},
      {"autoencoder", "", [this](OptionVisitor& visit) { arm.autoencoder.describe(visit); }},
      {"sampler", "", [this](OptionVisitor& visit) { arm.sampler.describe(visit); }}};
  for (auto& section : arm.jepa.sections()) sections.push_back(std::move(section));
  return sections;
}

ArmPlan cell_plan(const ComparisonOptions& options, const CellRecord& cell) {
  return {cell.arm, cell.tera, cell.seed, cell_folder(options, cell)};
}

std::vector<CellRecord> plan_cells(const ComparisonOptions& options) {
  const auto names = probes::split_names(options.arms);
  for (const auto& name : names) {
    if (std::find(arm_names().begin(), arm_names().end(), name) == arm_names().end()) {
      throw ConfigError("option arms: " + name + " is not one of " + c10::Join(", ", arm_names()));
    }
  }
  if (3 * options.questions.predicted_clips > options.questions.test_clips) {
    throw ConfigError(
        "option questions.predicted_clips: twice as many other test clips are needed beside them; "
        "there are " +
        std::to_string(options.questions.test_clips));
  }
  const auto& objective = options.arm.jepa.objective;
  if (objective.target_norm == "content") {
    throw ConfigError(
        "option objective.target_norm = content: such predictions are relative to a batch's means "
        "and cannot be decoded; use token");
  }
  if (objective.freeze_encoder) {
    throw ConfigError("option objective.freeze_encoder: the arm frozen_random is what does it");
  }
  std::vector<CellRecord> cells;
  for (size_t n = 0; n < options.noises.size(); ++n) {
    for (size_t b = 0; b < options.budgets.size(); ++b) {
      if (n > 0 && b > 0) continue;
      for (const int64_t seed : options.seeds) {
        for (const auto& arm : names) {
          if (arm == "random_init" && b > 0) continue;
          cells.push_back({.arm = arm,
                           .tera = arm == "random_init" ? 0 : options.budgets[b],
                           .seed = seed,
                           .noise = options.noises[n]});
        }
      }
    }
  }
  return cells;
}

std::vector<CellRecord> run_cells(const ComparisonOptions& options, const ComparisonHooks& hooks) {
  std::vector<CellRecord> cells = plan_cells(options);
  fs::create_directories(options.run + "/cells");
  std::vector<CellRecord> finished;  // beside the planned ones
  for (const double noise : options.noises) {
    std::vector<CellRecord*> open;
    for (auto& cell : cells) {
      if (cell.noise == noise && !read_cell(cell_folder(options, cell), cell))
        open.push_back(&cell);
    }
    // Trivial predictors and the truth as the judge reads it, as cells of one seed.
    std::vector<CellRecord> trivial;
    bool known = true;
    for (const char* name : {"copy_last", "linear", "truth"}) {
      trivial.push_back({.arm = name, .noise = noise});
      known = read_cell(cell_folder(options, trivial.back()), trivial.back()) && known;
    }
    if (!open.empty() || !known) {
      Benchmark benchmark = make_benchmark(options, noise, hooks);
      for (CellRecord* cell : open) {
        hooks.say("cell " + fs::path(cell_folder(options, *cell)).filename().string());
        run_cell(*cell, options, benchmark, hooks);
        write_cell(options, *cell);
      }
      if (!known) {
        const auto measured =
            measure_trivial(benchmark.asked, *benchmark.clips.test, benchmark.judge,
                            options.questions, options.arm.context_frames);
        for (auto& cell : trivial) {
          cell.results.clear();
          add("future/", measured.at(cell.arm), cell.results);
          if (cell.arm == "truth") {
            add("distance/", distance_floor(benchmark.real, benchmark.spaces), cell.results);
          }
          write_cell(options, cell);
        }
      }
    }
    finished.insert(finished.end(), trivial.begin(), trivial.end());
  }
  cells.insert(cells.end(), finished.begin(), finished.end());
  return cells;
}

std::vector<SummaryRow> summarise(const std::vector<CellRecord>& cells) {
  std::vector<SummaryRow> rows;
  std::vector<std::map<std::string, std::vector<probes::Estimate>>> values;
  for (const auto& cell : cells) {
    size_t at = 0;
    while (at < rows.size() && !(rows[at].arm == cell.arm && rows[at].tera == cell.tera &&
                                 rows[at].noise == cell.noise)) {
      ++at;
    }
    if (at == rows.size()) {
      rows.push_back({.arm = cell.arm, .tera = cell.tera, .noise = cell.noise});
      values.emplace_back();
    }
    ++rows[at].seeds;
    for (const auto& [name, value] : cell.results) values[at][name].push_back(value);
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    for (const auto& [name, list] : values[i]) rows[i].results[name] = over_seeds(list);
  }
  return rows;
}

std::string summary_json(const ComparisonOptions& options, const std::vector<CellRecord>& cells,
                         double seconds) {
  ComparisonOptions copy = options;
  Json json{{"commit", commit()}, {"seconds", seconds}, {"options", dump_options(copy.sections())}};
  json["rows"] = Json::array();
  for (const auto& row : summarise(cells)) {
    json["rows"].push_back({{"arm", row.arm},
                            {"tera", row.tera},
                            {"noise", row.noise},
                            {"seeds", row.seeds},
                            {"results", to_json(row.results)}});
  }
  json["cells"] = Json::array();
  for (const auto& cell : cells) json["cells"].push_back(to_json(cell));
  return json.dump(2) + "\n";
}

}  // namespace jepa::eval::comparison

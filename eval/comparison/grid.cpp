#include <eval/comparison/grid.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/version.hpp>

#include <torch/torch.h>

#include <nlohmann/json.hpp>

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

Json to_json(const Results& results) {
  Json json = Json::object();
  for (const auto& [name, value] : results) {
    json[name] = {{"value", value.value}, {"low", value.low}, {"high", value.high}};
  }
  return json;
}

Json to_json(const CellRecord& cell) {
  return {{"arm", cell.arm},   {"tera", cell.tera},     {"seed", cell.seed},
          {"noise", cell.noise}, {"commit", commit()}, {"results", to_json(cell.results)},
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

/// Trains and measures one cell.
void run_cell(CellRecord& cell, const ComparisonOptions& options, const QuestionClips& clips,
              Judge& judge, const ComparisonHooks& hooks) {
  const Arm arm = train_arm(cell_plan(options, cell), options.arm, clips.train, hooks.training);
  hooks.say(cell.arm + ": probes");
  cell.results = measure_features(arm, clips, cell.layers);
  if (arm.predict) {
    hooks.say(cell.arm + ": futures");
    const auto test = first_test_clips(clips, options.questions.predicted_clips);
    const auto measured = [&](const torch::Tensor& futures) {
      return measure_futures(futures, test, clips, judge, options.questions);
    };
    const auto add = [&](const std::string& prefix, const Results& results) {
      for (const auto& [name, value] : results) cell.results[prefix + name] = value;
    };
    const auto seed = static_cast<uint64_t>(cell.seed);
    add("future/", measured(arm.predict(test, options.questions.futures, seed)));
    if (arm.ceiling) add("ceiling/", measured(arm.ceiling(test, seed).unsqueeze(0)));
    if (arm.floor) add("floor/", measured(arm.floor(test, seed).unsqueeze(0)));
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
         visit("arms", arms,
               {.help = "comma-separated: jepa, pixels, latents, masked_pixels, random_init"});
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
      {"arm", "",
       [this](OptionVisitor& visit) {
         visit("batch", arm.batch, {.help = "clips a step", .min = 2});
         visit("context_frames", arm.context_frames,
               {.help = "shown when a future is asked for", .min = 2});
         visit("decoder_tera", arm.decoder_tera,
               {.help = "to train the decoder of latents, counted apart", .unit = "TFLOP",
                .min = 0});
         visit("autoencoder_share", arm.autoencoder_share,
               {.help = "of the budget of diffusion in latents", .min = 0.01, .max = 0.99});
         visit("feature_times", arm.feature_times,
               {.help = "at which diffusion features are read; 1: clean", .min = 0, .max = 1});
       }},
      {"judge", "reads digits and places from frames",
       [this](OptionVisitor& visit) { judge.describe(visit); }},
      {"model", "diffusion transformer",
       [this](OptionVisitor& visit) { arm.generative.transformer.describe(visit); }},
      {"diffusion", "",
       [this](OptionVisitor& visit) { arm.generative.diffusion.describe(visit); }},
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
      throw ConfigError("option arms: " + name + " is not one of jepa, pixels, latents, "
                        "masked_pixels, random_init");
    }
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
  fs::create_directories(options.run + "/cells");
  std::vector<CellRecord> cells = plan_cells(options);
  for (const double noise : options.noises) {
    std::vector<CellRecord*> open;
    for (auto& cell : cells) {
      if (cell.noise == noise && !read_cell(cell_folder(options, cell), cell)) open.push_back(&cell);
    }
    const QuestionClips clips = open.empty() ? QuestionClips{}
                                             : make_clips(options.questions, noise, kClipSeed);
    TrainedJudge judge;
    if (!open.empty()) judge = judge_for(options, noise, clips, hooks);
    for (CellRecord* cell : open) {
      const std::string folder = cell_folder(options, *cell);
      hooks.say("cell " + fs::path(folder).filename().string());
      run_cell(*cell, options, clips, judge.judge, hooks);
      fs::create_directories(folder);
      write_file_atomic(folder + "/cell.json", to_json(*cell).dump(2) + "\n");
    }
    // Trivial predictors and the judge itself, as cells of one seed.
    for (const char* name : {"copy_last", "linear", "truth"}) {
      cells.push_back({.arm = name, .noise = noise});
    }
    const size_t first = cells.size() - 3;
    bool known = true;
    for (size_t i = first; i < cells.size(); ++i) {
      known = read_cell(cell_folder(options, cells[i]), cells[i]) && known;
    }
    if (known) continue;
    const QuestionClips again = open.empty() ? make_clips(options.questions, noise, kClipSeed) : clips;
    if (open.empty()) judge = judge_for(options, noise, again, hooks);
    const auto measured =
        measure_trivial(first_test_clips(again, options.questions.predicted_clips), again,
                        judge.judge, options.questions, options.arm.context_frames);
    for (size_t i = first; i < cells.size(); ++i) {
      cells[i].results.clear();
      for (const auto& [key, value] : measured.at(cells[i].arm)) {
        cells[i].results["future/" + key] = value;
      }
      const std::string folder = cell_folder(options, cells[i]);
      fs::create_directories(folder);
      write_file_atomic(folder + "/cell.json", to_json(cells[i]).dump(2) + "\n");
    }
  }
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

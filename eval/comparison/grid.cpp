#include <eval/comparison/grid.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/folder_lock.hpp>
#include <jepa/io/safetensors.hpp>
#include <jepa/memory.hpp>

#include <c10/util/StringUtil.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <thread>

namespace jepa::eval::comparison {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string short_text(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

std::string cell_folder(const ComparisonOptions& options, const CellRecord& cell) {
  return options.run + "/cells/" + cell.arm + "-b" + short_text(cell.tera) + "-n" +
         short_text(cell.noise) + "-s" + std::to_string(cell.seed);
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
  } catch (const nlohmann::json::exception& error) {
    throw DataError(path + ": " + error.what() + "; remove it to run the cell again");
  }
  const std::string scores = folder + "/scores.safetensors";
  if (fs::exists(scores)) {
    for (const auto& [name, sums] : read_safetensors(scores).tensors) {
      cell.scores.insert_or_assign(name, probes::UnitScores::from_sums(sums.clone()));
    }
  }
  return true;
}

void write_cell(const ComparisonOptions& options, const CellRecord& cell) {
  const std::string folder = cell_folder(options, cell);
  fs::create_directories(folder);
  TensorMap sums;
  for (const auto& [name, scores] : cell.scores) sums[name] = scores.sums();
  if (!sums.empty()) write_safetensors(folder + "/scores.safetensors", sums);
  write_file_atomic(folder + "/cell.json", cell_json(cell));
}

/// A second of waiting for another process. @throws Stopped
void wait_for_others(const ComparisonHooks& hooks) {
  if (hooks.stop && hooks.stop()) throw Stopped();
  std::this_thread::sleep_for(std::chrono::seconds(1));
}

/// The judge of a noise level: trained once, by whoever comes first, and kept in the run's
/// folder.
TrainedJudge judge_for(const ComparisonOptions& options, double noise, const QuestionClips& clips,
                       const ComparisonHooks& hooks) {
  const std::string path = options.run + "/judge-n" + short_text(noise) + ".safetensors";
  std::unique_ptr<FolderLock> lock;
  while (!fs::exists(path)) {
    lock = FolderLock::take(options.run, ".judge-lock");
    if (lock) break;
    wait_for_others(hooks);
  }
  if (fs::exists(path)) return load_judge(path);
  hooks.say("training the judge on real frames, noise " + short_text(noise));
  JudgeOptions judge = options.judge;
  judge.noise = noise;
  const TrainedJudge trained = train_judge(clips.train, clips.validation, judge, 0);
  save_judge(path, trained);
  return trained;
}

/// Copies results, or scores, under longer names.
template <class Map>
void add(const std::string& prefix, const Map& from, Map& to) {
  for (const auto& [name, value] : from) to.insert_or_assign(prefix + name, value);
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
  Judge judge{nullptr};  ///< empty where the clips have no truth that it could read
  torch::Tensor asked;  ///< test clips whose futures are drawn, uint8 [B, C, T, H, W]
  torch::Tensor real;   ///< true futures of 2B other test clips
  std::vector<FeatureSpace> spaces;
};

Benchmark make_benchmark(const ComparisonOptions& options, double noise,
                         const ComparisonHooks& hooks) {
  Benchmark made;
  made.clips = make_clips(options.questions, noise, kQuestionSeed);
  make_questions(made.clips, options.questions);  // tells of a wrong label before any training
  std::string missing;
  if (judge_can_read(*made.clips.test, options.judge.label, missing)) {
    made.judge = judge_for(options, noise, made.clips, hooks).judge;
  } else {
    hooks.say("futures are told by pixels and features alone: the test clips have no column " +
              missing + " that a judge needs");
  }
  const int64_t count = options.questions.predicted_clips;
  if (made.clips.test->size() < 3 * count) {
    throw DataError(c10::str("option questions.predicted_clips: ", count, " and twice as many "
                             "other clips are needed beside them; the split that is reported on has ",
                             made.clips.test->size()));
  }
  const auto test = first_clips(made.clips.test, 3 * count);
  made.asked = test.slice(0, 0, count);
  made.real = test.slice(0, count).slice(2, options.arm.context_frames);
  if (made.asked.size(2) <= options.arm.context_frames) {
    throw DataError(c10::str("clips of ", made.asked.size(2), " frames: option arm.context_frames ",
                             "shows ", options.arm.context_frames, " and leaves none to predict"));
  }
  if (!made.judge.is_empty()) made.spaces.push_back(judge_space(made.judge));
  made.spaces.push_back(random_space(options.arm.jepa, made.real.sizes()));
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
    cell.results = measure_features(arm, clips, options.questions, cell.layers, &cell.scores);
  }
  if (arm.predict) {
    hooks.say(cell.arm + ": futures");
    const auto& asked = benchmark.asked;
    const auto measure = [&](const std::string& prefix, const torch::Tensor& futures) {
      Scores scores;
      add(prefix,
          measure_futures(futures, asked, *clips.test, benchmark.judge, options.questions, &scores),
          cell.results);
      add(prefix, scores, cell.scores);
    };
    const auto seed = static_cast<uint64_t>(cell.seed);
    const auto futures = arm.predict(asked, options.questions.futures, seed);
    measure("future/", futures);
    if (arm.ceiling) measure("ceiling/", arm.ceiling(asked, seed).unsqueeze(0));
    if (arm.floor) measure("floor/", arm.floor(asked, seed).unsqueeze(0));
    add("distance/", measure_distances(futures[0], benchmark.real, benchmark.spaces), cell.results);
  }
  add_costs(arm.costs, cell.results);
}

/// Runs the cells that nobody has run, one after the other, and reads those that others ran
/// meanwhile. A process that ends in the middle of a cell leaves it to those that wait.
void share_cells(std::vector<CellRecord*> open, const ComparisonOptions& options,
                 Benchmark& benchmark, const ComparisonHooks& hooks) {
  while (!open.empty()) {
    const size_t before = open.size();
    std::erase_if(open, [&](CellRecord* cell) {
      const std::string folder = cell_folder(options, *cell);
      fs::create_directories(folder);
      const auto lock = FolderLock::take(folder, ".cell-lock");
      if (!lock) return false;
      if (read_cell(folder, *cell)) return true;
      hooks.say("cell " + fs::path(folder).filename().string());
      run_cell(*cell, options, benchmark, hooks);
      write_cell(options, *cell);
      return true;
    });
    if (open.size() == before) wait_for_others(hooks);
  }
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
         questions.describe_data(visit);
       }},
      {"clip", "how one's own clips are cut",
       [this](OptionVisitor& visit) { questions.clip.describe(visit); }},
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
      {"tuning", "how settings were found on the validation split: `RUNS: grid`, for the report",
       [this](OptionVisitor& visit) {
         for (const auto& arm : arm_names()) {
           if (arm != "random_init") visit(arm, tuning[arm], {.help = "empty: not stated"});
         }
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
  const auto& questions = options.questions;
  if (!questions.data.empty() && (options.noises.size() != 1 || options.noises.front() != 0)) {
    throw ConfigError("option noises: of generated clips; with data it is 0");
  }
  const bool tuned = questions.report_on == "validation";
  const int64_t reported = tuned ? questions.validation_clips : questions.test_clips;
  if (3 * questions.predicted_clips > reported) {
    throw ConfigError(
        "option questions.predicted_clips: twice as many other test clips are needed beside them; "
        "there are " +
        std::to_string(reported));
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
    std::vector<std::string> names{"copy_last", "linear", "truth"};
    for (const auto& name : names) {
      trivial.push_back({.arm = name, .noise = noise});
      known = read_cell(cell_folder(options, trivial.back()), trivial.back()) && known;
    }
    if (!open.empty() || !known) {
      Benchmark benchmark = make_benchmark(options, noise, hooks);
      share_cells(open, options, benchmark, hooks);
      if (!known) {
        std::map<std::string, Scores> scores;
        const auto measured =
            measure_trivial(benchmark.asked, *benchmark.clips.test, benchmark.judge,
                            options.questions, options.arm.context_frames, &scores);
        for (auto& cell : trivial) {
          cell.results.clear();
          cell.scores.clear();
          if (const auto found = measured.find(cell.arm); found != measured.end()) {
            add("future/", found->second, cell.results);
            add("future/", scores[cell.arm], cell.scores);
          }
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

}  // namespace jepa::eval::comparison

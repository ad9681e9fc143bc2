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
  const std::string folder = cell_plan(options, cell).folder;
  fs::create_directories(folder);
  TensorMap sums;
  for (const auto& [name, scores] : cell.scores) sums[name] = scores.sums();
  if (!sums.empty()) write_safetensors(folder + "/scores.safetensors", sums);
  write_file_atomic(folder + "/cell.json", cell_json(cell));
}

/// A second of waiting for another process. @throws Stopped
void wait_for_others(const ComparisonHooks& hooks) {
  stop_if_asked(hooks.stop, "comparison");
  std::this_thread::sleep_for(std::chrono::seconds(1));
}

std::string judge_path(const ComparisonOptions& options, double noise) {
  return options.run + "/judge-n" + short_text(noise) + ".safetensors";
}

/// The judge of a noise level: trained once, by whoever comes first, and kept in the run's
/// folder.
TrainedJudge judge_for(const ComparisonOptions& options, double noise, const QuestionClips& clips,
                       const ComparisonHooks& hooks) {
  const std::string path = judge_path(options, noise);
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
  const JudgeClips shown = make_judge_clips(options.questions, judge, clips, kQuestionSeed);
  const TrainedJudge trained = train_judge(shown.train, shown.validation, judge, 0);
  hooks.say(judge_lines({{noise, judge.label, trained.held_out}}));
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

/// Clips outside the range of training whose futures are drawn.
struct AskedShift {
  const Shift* shift;   ///< of the benchmark's clips
  torch::Tensor clips;  ///< uint8 [B, C, T, H, W]
};

/// What predicted frames of one noise level are held against.
struct Benchmark {
  QuestionClips clips;
  Judge judge{nullptr};  ///< empty where the clips have no truth that it could read
  torch::Tensor asked;   ///< test clips whose futures are drawn, uint8 [B, C, T, H, W]
  torch::Tensor real;    ///< true futures of 2B other test clips
  std::vector<AskedShift> shifts;
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
    throw DataError(
        c10::str("option questions.predicted_clips: ", count,
                 " and twice as many "
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
  for (const auto& shift : made.clips.shifts) {
    made.shifts.push_back({&shift, first_clips(shift.source, count)});
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
  const Arm arm =
      train_arm(cell_plan(options, cell), cell_arm(options, cell), clips.train, hooks.training);
  if (arm.features) {
    stop_if_asked(hooks.stop, "comparison");
    hooks.say(cell.arm + ": probes");
    cell.results = measure_features(arm, clips, options.questions, cell.layers, &cell.scores);
  }
  if (arm.predict) {
    stop_if_asked(hooks.stop, "comparison");
    hooks.say(cell.arm + ": futures");
    const auto& asked = benchmark.asked;
    const auto seed = static_cast<uint64_t>(cell.seed);
    const auto measure_of = [&](const std::string& prefix, const torch::Tensor& futures,
                                const torch::Tensor& real, const ClipSource& source) {
      Scores scores;
      add(prefix,
          measure_futures(futures, real, source, benchmark.judge, options.questions, &scores),
          cell.results);
      add(prefix, scores, cell.scores);
    };
    const auto measure = [&](const std::string& prefix, const torch::Tensor& futures) {
      measure_of(prefix, futures, asked, *clips.test);
    };
    const auto futures = arm.predict(asked, options.questions.futures, seed);
    measure("future/", futures);
    if (arm.ceiling) measure("ceiling/", arm.ceiling(asked, seed).unsqueeze(0));
    if (arm.floor) measure("floor/", arm.floor(asked, seed).unsqueeze(0));
    for (const auto& [shift, real] : benchmark.shifts) {
      stop_if_asked(hooks.stop, "comparison");
      measure_of("shift/" + shift->name + "/future/",
                 roll_out(arm, real, options.arm.context_frames, asked.size(2),
                          options.questions.futures, seed),
                 real, *shift->source);
    }
    if (arm.draw && options.questions.world == "creatures") {
      auto sizes = asked.sizes().vec();
      cell.results.merge(
          measure_prompted(arm, sizes, benchmark.judge, options.questions, seed, &cell.scores));
    }
    add("distance/", measure_distances(futures[0], benchmark.real, benchmark.spaces), cell.results);
  }
  add_costs(arm.costs, cell.results);
}

/// Trivial predictors and the truth, as cells.
void measure_controls(std::vector<CellRecord>& controls, const ComparisonOptions& options,
                      Benchmark& benchmark) {
  for (auto& cell : controls) {
    cell.results.clear();
    cell.scores.clear();
  }
  const auto measure = [&](const std::string& prefix, const torch::Tensor& asked,
                           const ClipSource& source) {
    std::map<std::string, Scores> scores;
    const auto measured = measure_trivial(asked, source, benchmark.judge, options.questions,
                                          options.arm.context_frames, &scores);
    for (auto& cell : controls) {
      const auto found = measured.find(cell.arm);
      if (found == measured.end()) continue;
      add(prefix, found->second, cell.results);
      add(prefix, scores[cell.arm], cell.scores);
    }
  };
  measure("future/", benchmark.asked, *benchmark.clips.test);
  for (const auto& [shift, asked] : benchmark.shifts) {
    measure("shift/" + shift->name + "/future/", asked, *shift->source);
  }
  for (auto& cell : controls) {
    if (cell.arm == "truth") {
      add("distance/", distance_floor(benchmark.real, benchmark.spaces), cell.results);
    }
    write_cell(options, cell);
  }
}

/// Runs the cells that nobody has run, one after the other, and reads those that others ran
/// meanwhile. A process that ends in the middle of a cell leaves it to those that wait.
void share_cells(std::vector<CellRecord*> open, const ComparisonOptions& options,
                 Benchmark& benchmark, const ComparisonHooks& hooks) {
  while (!open.empty()) {
    const size_t before = open.size();
    std::erase_if(open, [&](CellRecord* cell) {
      const std::string folder = cell_plan(options, *cell).folder;
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

std::vector<CellRecord> run_cells(const ComparisonOptions& options, const ComparisonHooks& hooks) {
  std::vector<CellRecord> cells = plan_cells(options);
  fs::create_directories(options.run + "/cells");
  std::vector<CellRecord> finished;  // beside the planned ones
  for (const double noise : options.noises) {
    std::vector<CellRecord*> open;
    for (auto& cell : cells) {
      if (cell.noise == noise && !read_cell(cell_plan(options, cell).folder, cell))
        open.push_back(&cell);
    }
    // Trivial predictors and the truth as the judge reads it, as cells of one seed.
    std::vector<CellRecord> trivial;
    bool known = true;
    std::vector<std::string> names{"copy_last", "linear", "truth"};
    for (const auto& name : names) {
      trivial.push_back({.arm = name, .noise = noise});
      known = read_cell(cell_plan(options, trivial.back()).folder, trivial.back()) && known;
    }
    if (!open.empty() || !known) {
      Benchmark benchmark = make_benchmark(options, noise, hooks);
      share_cells(open, options, benchmark, hooks);
      if (!known) {
        measure_controls(trivial, options, benchmark);
      }
    }
    finished.insert(finished.end(), trivial.begin(), trivial.end());
  }
  cells.insert(cells.end(), finished.begin(), finished.end());
  return cells;
}

std::vector<JudgeRow> read_judges(const ComparisonOptions& options) {
  std::vector<JudgeRow> judges;
  for (const double noise : options.noises) {
    const std::string path = judge_path(options, noise);
    if (fs::exists(path)) {
      judges.push_back({noise, options.judge.label, load_judge(path).held_out});
    }
  }
  return judges;
}

std::string judge_lines(const std::vector<JudgeRow>& judges) {
  std::string text;
  for (const auto& [noise, label, held_out] : judges) {
    if (!text.empty()) text += "\n";
    const std::string at = noise > 0 ? " (noise " + short_text(noise) + ")" : "";
    text += c10::str("the judge", at, " reads ", label, " of ", held_out.clips,
                     " held-out clips right in ", held_out.classes, ", places within ",
                     held_out.position_error, " px");
    if (held_out.classes < kTrustedJudge) {
      text += c10::str(": below ", kTrustedJudge, ", so what it reads of drawn frames says little");
    }
  }
  return text;
}

}  // namespace jepa::eval::comparison

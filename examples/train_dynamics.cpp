// Trains an action-conditioned world model: on two rooms, made as it trains, or on a clip store
// with actions. A small one in two phases: encoder and predictor, then the predictor alone on
// frozen latents. Over a frozen encoder of patches (patches.weights), the predictor alone.
#include <eval/dynamics/protocol.hpp>
#include <eval/dynamics/training.hpp>
#include <eval/dynamics/two_rooms_clips.hpp>
#include <eval/worlds/registry.hpp>
#include <examples/dynamics_data.hpp>
#include <examples/patch_dynamics.hpp>
#include <examples/train_dynamics_options.hpp>
#include <examples/training_run.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/json_text.hpp>
#include <jepa/random.hpp>
#include <jepa/training/checkpoint.hpp>
#include <jepa/training/cost.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdio>
#include <filesystem>
#include <sys/resource.h>

namespace {

using namespace jepa;
using namespace jepa::eval;
using namespace jepa::eval::dynamics;
using examples::TrainDynamicsOptions;

constexpr int64_t kCoverageClips = 4000;
constexpr int64_t kMeasuredClips = 512;  // for statistics of actions

/// Clips in the source's order or, of two rooms, of a stream of their own.
ClipBatch some_clips(const std::shared_ptr<ClipSource>& source, const LoaderOptions& loader,
                     int64_t count, uint64_t seed) {
  LoaderOptions options = loader;
  options.batch = std::min(count, source->size());
  options.shuffle = false;
  return ClipLoader(source, options, seed).next();
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

HeldOutClips validation_clips(const TrainDynamicsOptions& options,
                              const std::shared_ptr<ClipSource>& training, uint64_t seed) {
  const std::string& path = options.validation;
  if (path.empty() && !options.native()) {
    std::printf("validation         none (option validation): nothing is evaluated\n");
    return {};
  }
  std::error_code ignored;
  if (!path.empty() && std::filesystem::equivalent(path, options.input.data, ignored)) {
    std::printf("validation         the training data: what it measures is not held out\n");
  }
  ClipOptions clip = options.input.clip;
  clip.frame_step = 1;  // as that store needs
  const auto source = path.empty() ? training : examples::open_clips(options, path, clip);
  const HeldOutClips held = held_out(some_clips(
      source, options.input.loader, options.validation_clips, stream_seed(seed, "validation", 0)));
  examples::require_fitting(held, options.shape.model, path.empty() ? options.input.data : path,
                            /*probed=*/!options.shape.patches.given());
  return held;
}

void print_metrics(const StepMetrics& metrics) {
  for (const auto& [name, value] : metrics) std::printf("%-18s %.4g\n", name.c_str(), value);
}

/// What is trained: a small model, or one over patches.
struct Trained {
  std::unique_ptr<DynamicsModel> small;
  std::unique_ptr<PatchDynamicsModel> patches;
  std::unique_ptr<TrainingTask> task;

  double parameters() const {
    int64_t count = 0;
    if (small) count += count_parameters(*small->encoder);
    for (const auto& [name, module] : small ? small->predictor->modules() : patches->trained()) {
      count += count_parameters(*module);
    }
    return static_cast<double>(count);
  }
};

/// The model with its first weights, for the sizes that the clips have.
std::unique_ptr<DynamicsModel> make_small_model(const examples::Program& program,
                                                TrainDynamicsOptions& options,
                                                const std::shared_ptr<ClipSource>& source,
                                                bool goes_on) {
  const auto seed = static_cast<uint64_t>(program.common.seed);
  auto& shape = options.shape;
  const ClipBatch some = some_clips(source, options.input.loader, 8, seed);
  shape.model = shape.model.fitted(some.clips.sizes(), actions_between(some).size(2));
  const bool two = shape.second.from_step > 0 || !options.encoder.empty();
  const auto& last = two ? shape.second.predictor : shape.predictor;
  const int64_t blocks = some.clips.size(2) - 1;
  for (const auto* predictor : {two && options.encoder.empty() ? &shape.predictor : &last, &last}) {
    if (predictor->history() <= blocks) continue;
    throw ConfigError(c10::str("the predictor looks back over ", predictor->history(),
                               " frames (option frames of predictor or second), clips of ",
                               blocks + 1, " frames (clip.frames) train ", blocks, " of them"));
  }
  examples::require_history(shape.protocol.history,
                            std::min(last.history(), some.clips.size(2) - 1));
  auto made = std::make_unique<DynamicsModel>(shape.model, shape.predictor);
  DynamicsModel& model = *made;
  model.precision = program.precision;
  model.initialise(seed);
  options.training.frozen = !options.encoder.empty();
  if (options.training.frozen && !goes_on) {
    load_encoder(encoder_folder(options.encoder), model);
  }
  model.encoder->to(program.device);
  model.predictor->to(program.device);
  if (!model.inverse.is_empty()) model.inverse->to(program.device);
  return made;
}

/// What the run's folder tells of it: sizes, and of a native world what the data covers.
RunDescription describe_run(const examples::Program& program, const TrainDynamicsOptions& options,
                            double parameters, const ClipSource& source) {
  RunDescription description{
      .folder = options.input.run,
      .config_ini = dump_ini(program.sections),
      .numbers = {{"parameters", parameters},
                  {"steps", static_cast<double>(options.loop.steps)},
                  {"batch", static_cast<double>(options.input.loader.batch)}},
      .texts = examples::provenance(program, options.input.data)};
  if (options.native()) {
    const auto coverage = dynamic_cast<const TwoRoomsClips&>(source).coverage(
        static_cast<uint64_t>(program.common.seed), kCoverageClips);
    auto& numbers = description.numbers;
    numbers["coverage_contact"] = coverage.contact;
    numbers["coverage_crossings"] = coverage.crossings;
    numbers["coverage_near_wall"] = coverage.near_wall;
    auto& text = description.texts["coverage"];
    text =
        c10::str(coverage.contact, " of blocks hit the middle wall, ", coverage.crossings,
                 " of clips cross, ", coverage.near_wall, " of frames are within 5 px of the wall");
    std::printf("coverage           %s\n", text.c_str());
  }
  std::printf("parameters         %.3g\n", description.numbers.at("parameters"));
  std::fflush(stdout);
  return description;
}

/// Prints what came out and leaves it in the run's folder.
void finish(examples::Program& program, const TrainDynamicsOptions& options,
            const LoopResult& result, double cpu, const RunDescription& description,
            const StepMetrics& measured) {
  std::printf(
      "%s after %lld steps, %.0f s of training (%.0f s of processor time), peak memory "
      "%.0f MB\n",
      result.end == RunEnd::finished ? "done" : "stopped", static_cast<long long>(result.steps),
      result.train_seconds, cpu, result.peak_rss_mb);
  print_metrics(measured);
  std::printf("run folder         %s\n", options.input.run.c_str());
  program.results = {{"run", options.input.run},
                     {"steps", result.steps},
                     {"clips", result.clips},
                     {"frames", result.clips * static_cast<double>(options.input.clip.frames)},
                     {"train_seconds", result.train_seconds},
                     {"processor_seconds", cpu},
                     {"peak_rss_mb", result.peak_rss_mb}};
  for (const auto& [name, value] : description.numbers) program.results[name] = value;
  for (const auto& [name, value] : measured) program.results[name] = value;
  if (examples::is_first(program)) {
    write_file_atomic(options.input.run + "/summary.json", json_text(program.results, 2) + "\n");
  }
}

/// The task of a small model.
std::unique_ptr<TrainingTask> small_task(const examples::Program& program,
                                         TrainDynamicsOptions& options, DynamicsModel& model,
                                         HeldOutClips held) {
  auto& training = options.training;
  training.second = options.shape.second;
  training.seed = static_cast<uint64_t>(program.common.seed);
  if (options.native()) {
    training.wall_cases = options.wall_cases;
    if (options.wall_cases > 0 && !wall_test_takes(model.options.block)) {
      training.wall_cases = 0;
      std::printf("wall test          left out: blocks of %lld steps do not divide its 10\n",
                  static_cast<long long>(model.options.block));
    }
    training.state_names = worlds::make_world(worlds::kTwoRooms, 1)->info().state;
  }
  return std::make_unique<DynamicsTask>(model, training, std::move(held), program.processes.get());
}

LoopResult train(examples::Program& program, const TrainDynamicsOptions& options, Trained& trained,
                 const RunDescription& description, const std::shared_ptr<ClipSource>& source) {
  std::filesystem::create_directories(options.input.run);
  examples::ProgressBar bar("training");
  const LoaderOptions together = examples::shared_batches(options.input.loader, program);
  const int64_t parts = trained.patches ? options.training.optimisation.accumulate : 1;
  ClipLoader loader(source, together, static_cast<uint64_t>(program.common.seed), parts,
                    examples::own_share(together, program));
  const LoopResult result =
      run_training(*trained.task, loader, options.loop, description,
                   examples::progress_hooks(
                       program, bar, options.loop.steps, together.batch,
                       {"skill_", "r2_", "wall_", "error_", "within_clip", "validation_loss"}));
  bar.finish();
  return result;
}

void run(examples::Program& program, TrainDynamicsOptions& options, const OptionValues& given) {
  examples::catch_stop_signals();
  examples::require_same_options(program);
  const auto seed = static_cast<uint64_t>(program.common.seed);
  const bool goes_on = !find_checkpoint(options.input.run).empty();
  const bool patches = options.shape.patches.given();
  if (!goes_on) examples::require_options_of_model(given, patches);
  examples::complete_protocol(options, given, goes_on);
  if (!options.encoder.empty() && !goes_on) examples::take_encoder_shape(options, given);
  const auto source = examples::open_clips(options, options.input.data, options.input.clip);
  examples::complete_schedules(options);
  examples::follow_first(options.shape.predictor, options.shape.second.predictor, given);
  examples::complete_action_statistics(options.shape.model, options.input.data, [&] {
    return some_clips(source, options.input.loader, kMeasuredClips, seed);
  });
  Trained trained;
  if (patches) {
    const auto some = some_clips(source, options.input.loader, 1, seed);
    trained.patches = examples::make_patch_model(program, options.shape, some);
  } else {
    trained.small = make_small_model(program, options, source, goes_on);
  }
  const RunDescription description = describe_run(program, options, trained.parameters(), *source);
  auto held = validation_clips(options, source, seed);
  if (patches) {
    trained.task =
        std::make_unique<PatchDynamicsTask>(*trained.patches, options.training.optimisation, seed,
                                            std::move(held), program.processes.get());
  } else {
    trained.task = small_task(program, options, *trained.small, std::move(held));
  }
  const double before = cpu_seconds();
  const LoopResult result = train(program, options, trained, description, source);
  finish(program, options, result, cpu_seconds() - before, description, trained.task->numbers());
}

}  // namespace

int main(int argc, char** argv) {
  TrainDynamicsOptions options;
  OptionValues given;
  return examples::program_main(
      argc, argv,
      {.name = "train_dynamics",
       .summary = "trains an action-conditioned world model; a run folder that exists is continued",
       .bfloat16 = true,
       .many = true,
       .complete =
           [](OptionValues& values) {
             examples::take_measured(values);
             TrainDynamicsOptions stored;
             examples::continue_run(values, stored.input.run, [&](const OptionValues&) {
               examples::keep_measured(values);
               return examples::ContinuedOptions{
                   .sections = stored.sections(),
                   .fitted = {},
                   .many = true,
                   .free = {"validation", "validation_clips", "wall_cases", "patches.weights"}};
             });
           },
       .sections =
           [&](const OptionValues& values) {
             given = values;
             return options.sections();
           },
       .run = [&](examples::Program& program) { run(program, options, given); }});
}

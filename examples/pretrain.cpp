// Pretrains a JEPA on clips: masked latent prediction against a moving-average target encoder.
#include <encoders/published.hpp>
#include <eval/probes/online.hpp>
#include <examples/program.hpp>
#include <jepa/data/clip_source.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/data/memory_source.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/training/checkpoint.hpp>
#include <jepa/training/cost.hpp>
#include <jepa/training/pretraining.hpp>
#include <jepa/version.hpp>
#include <predictors/registry.hpp>

#include <torch/torch.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <set>

namespace {

using namespace jepa;

/// Everything that decides a run.
struct PretrainOptions {
  std::string run = "runs/pretrain";
  std::string data;
  std::string init;
  double fit_minutes = 0;
  int64_t in_memory = 0;
  std::string probe_train;
  std::string probe_test;
  eval::probes::OnlineProbeOptions probe;
  ClipOptions clip;
  LoaderOptions loader;
  encoders::EncoderOptions encoder;
  predictors::PredictorOptions predictor;
  std::vector<MaskOptions> masks;
  OptimisationOptions optimisation;
  ObjectiveOptions objective;
  TrainingOptions training;

  std::vector<OptionSection> sections();
};

/// V-JEPA's short-range and long-range masks.
std::vector<MaskOptions> default_masks() {
  MaskOptions short_range;
  MaskOptions long_range;
  long_range.blocks = 2;
  long_range.spatial_scale = {0.7, 0.7};
  return {short_range, long_range};
}

std::vector<OptionSection> PretrainOptions::sections() {
  std::vector<OptionSection> sections{
      {"", "",
       [this](OptionVisitor& visit) {
         visit("run", run, {.help = "folder of the run; one that exists is continued"});
         visit("data", data,
               {.help = "clip store (.h5), video, `path label` list, or folder of videos or images"});
         visit("init", init,
               {.help = "checkpoint folder, run or published weights that a new run starts from"});
         visit("fit_minutes", fit_minutes,
               {.help = "shorten a new run so that it takes about so long here; 0: as it is",
                .unit = "minutes",
                .min = 0});
         visit("in_memory", in_memory,
               {.help = "read so many clips into memory and train on those; 0: read as it trains",
                .min = 0});
       }},
      {"clip", "how clips are cut", [this](OptionVisitor& visit) { clip.describe(visit); }},
      {"loader", "batches", [this](OptionVisitor& visit) { loader.describe(visit); }},
      {"augment", "crops and flips",
       [this](OptionVisitor& visit) { loader.augment.describe(visit); }},
      {"encoder", "", [this](OptionVisitor& visit) { encoder.describe(visit); }},
      {"predictor", "", [this](OptionVisitor& visit) { predictor.describe(visit); }}};
  for (size_t i = 0; i < masks.size(); ++i) {
    sections.push_back({"mask." + std::to_string(i + 1), i == 0 ? "one mask a section" : "",
                        [this, i](OptionVisitor& visit) { masks[i].describe(visit); }});
  }
  sections.push_back({"optimisation", "",
                      [this](OptionVisitor& visit) { optimisation.describe(visit); }});
  sections.push_back({"objective", "", [this](OptionVisitor& visit) { objective.describe(visit); }});
  sections.push_back({"regulariser", "on the context encoder's tokens",
                      [this](OptionVisitor& visit) { objective.regulariser.describe(visit); }});
  sections.push_back({"training", "", [this](OptionVisitor& visit) { training.describe(visit); }});
  sections.push_back({"probe", "online probe on labelled clips, every training.probe_every steps",
                      [this](OptionVisitor& visit) {
                        visit("train", probe_train, {.help = "clip store it is fitted on"});
                        visit("test", probe_test, {.help = "held-out clip store it is scored on"});
                        probe.describe(visit);
                      }});
  sections.push_back({"collapse", "when the diagnostics are a bad sign",
                      [this](OptionVisitor& visit) { training.collapse.describe(visit); }});
  return sections;
}

/// Sizes of the clips that the loader will deliver, from one of them, where they were not given.
void take_sizes_from_data(PretrainOptions& options, const ClipSource& source,
                          const OptionValues& given) {
  Random random(0);
  const RawClip clip = source.read(0, random);
  const Augmentation augmentation(options.loader.augment);
  RawClip cropped = clip;
  const PixelRect part = augmentation.choose(clip.height, clip.width, random);
  cropped.height = part.height;
  cropped.width = part.width;
  auto& vit = options.encoder.vit;
  const auto set = [&](const std::string& name, int64_t& member, int64_t value) {
    if (!given.contains("encoder." + name)) member = value;
  };
  set("channels", vit.channels, clip.channels);
  set("frames", vit.frames, clip.frames);
  set("height", vit.height, augmentation.out_height(cropped));
  set("width", vit.width, augmentation.out_width(cropped));
}

/// The online probe that the options ask for; empty: none.
std::function<StepMetrics(Encoder&)> make_probe(const PretrainOptions& options) {
  if (options.probe_train.empty() || options.probe_test.empty() || options.probe.labels.empty()) {
    return {};
  }
  LoaderOptions loader = options.loader;
  if (loader.augment.crop != "none") loader.augment.crop = "centre";
  loader.augment.flip = 0;
  auto probe = std::make_shared<eval::probes::OnlineProbe>(
      open_clip_source(options.probe_train, options.clip),
      open_clip_source(options.probe_test, options.clip), options.probe, loader,
      eval::probes::FeatureOptions{.pixels = options.encoder.pixels});
  return [probe](Encoder& encoder) { return (*probe)(encoder); };
}

Trainer make_trainer(const PretrainOptions& options, const examples::Program& program) {
  const uint64_t seed = static_cast<uint64_t>(program.common.seed);
  Encoder encoder = encoders::make_encoder(options.encoder);
  Encoder target = encoders::make_encoder(options.encoder);
  const predictors::ModelShape shape{.encoder_width = encoder->output_width(),
                                     .target_width = target->output_width(),
                                     .encoder_heads = options.encoder.vit.heads,
                                     .masks = static_cast<int64_t>(options.masks.size()),
                                     .grid = options.encoder.vit.grid()};
  Predictor predictor = predictors::make_predictor(options.predictor, shape);
  encoder->initialise(at::make_generator<at::CPUGeneratorImpl>(stream_seed(seed, "encoder", 0)));
  predictor->initialise(
      at::make_generator<at::CPUGeneratorImpl>(stream_seed(seed, "predictor", 0)));
  copy_parameters(*encoder, *target);
  return Trainer(encoder, target, predictor,
                 {.optimisation = options.optimisation,
                  .objective = options.objective,
                  .pixels = options.encoder.pixels,
                  .device = program.device,
                  .precision = program.precision,
                  .seed = seed});
}

/// Weights, and the optimiser's moments where they are there, of what `path` holds; the schedules
/// start anew (V-JEPA 2's cooldown).
void start_from(const std::string& path, Trainer& trainer) {
  const WeightFile file = WeightFile::open(path);
  const std::string online = file.has("encoder") ? "encoder" : "target_encoder";
  const std::string target = file.has("target_encoder") ? "target_encoder" : "encoder";
  const auto family = encoders::family_of(file, online, {});
  load_into(*trainer.encoder(), family_weights(file, online, family), file.path());
  load_into(*trainer.target_encoder(), family_weights(file, target, family), file.path());
  if (file.has("predictor")) {
    load_into(*trainer.predictor(), family_weights(file, "predictor", family), file.path());
  }
  const std::string moments = file.path() + "/optimizer.safetensors";
  if (std::filesystem::exists(moments)) trainer.restore(0, read_safetensors(moments).tensors);
}

/// Steps that stand in proportion to the length of the run: option, member.
std::vector<std::pair<std::string, int64_t*>> proportional_steps(PretrainOptions& options) {
  auto& optimisation = options.optimisation;
  auto& objective = options.objective;
  return {{"training.steps", &options.training.steps},
          {"optimisation.total_steps", &optimisation.total_steps},
          {"optimisation.warmup_steps", &optimisation.warmup_steps},
          {"optimisation.decay_steps", &optimisation.decay_steps},
          {"optimisation.clip_from_step", &optimisation.clip_from_step},
          {"objective.context_from_step", &objective.context_from_step},
          {"objective.context_full_step", &objective.context_full_step}};
}

/// Seconds a step takes here, from a few steps that are thrown away.
double measure_step(const PretrainOptions& options, const examples::Program& program,
                    const std::shared_ptr<ClipSource>& source,
                    const MaskSamplers& samplers) {
  constexpr int64_t kWarmUp = 3;
  constexpr int64_t kCounted = 8;
  const uint64_t seed = static_cast<uint64_t>(program.common.seed);
  Trainer trainer = make_trainer(options, program);
  ClipLoader loader(source, options.loader, seed);
  auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < kWarmUp + kCounted; ++i) {
    if (i == kWarmUp) start = std::chrono::steady_clock::now();
    const ClipBatch batch = loader.next();
    const TokenGrid grid = trainer.encoder()->grid(batch.clips.sizes());
    trainer.step(batch.clips, draw_masks(samplers, batch.size(), grid, seed, i));
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kCounted;
}

/// Shortens a run whose steps take so long to `fit_minutes`; its schedules keep their proportion.
void fit_to_time(PretrainOptions& options, double seconds_per_step) {
  const auto fitting =
      std::max<int64_t>(1, static_cast<int64_t>(options.fit_minutes * 60 / seconds_per_step));
  if (fitting >= options.training.steps) return;
  std::printf("one step takes %.3f s here: %lld steps instead of %lld\n", seconds_per_step,
              static_cast<long long>(fitting), static_cast<long long>(options.training.steps));
  const double share =
      static_cast<double>(fitting) / static_cast<double>(options.training.steps);
  for (const auto& [name, steps] : proportional_steps(options)) {
    *steps = std::llround(share * static_cast<double>(*steps));
  }
  options.optimisation.total_steps = std::max<int64_t>(1, options.optimisation.total_steps);
}

std::map<std::string, std::string> provenance(const examples::Program& program,
                                              const PretrainOptions& options) {
  return {{"commit", commit()},
          {"version", version()},
          {"libtorch", TORCH_VERSION},
          {"machine", processor_name()},
          {"threads", std::to_string(torch::get_num_threads())},
          {"device", program.device.str()},
          {"precision", c10::toString(program.precision)},
          {"seed", std::to_string(program.common.seed)},
          {"data", options.data}};
}

void print_result(const LoopResult& result, const Verdict& verdict, const std::string& folder) {
  static constexpr const char* kEnds[] = {"done", "stopped", "stopped: collapsed"};
  std::printf("%s after %lld steps, %.0f s of training\n", kEnds[static_cast<int>(result.end)],
              static_cast<long long>(result.steps), result.train_seconds);
  std::printf("waited for data    %.1f %% of the time\n", 100 * result.loader_wait_share);
  std::printf("peak memory        %.0f MB\n", result.peak_rss_mb);
  if (!verdict.text.empty()) std::printf("%s\n", verdict.text.c_str());
  std::printf("run folder         %s\n", folder.c_str());
}

/// The fields of a report; null: nothing was measured.
nlohmann::ordered_json report_json(const std::optional<CollapseReport>& report) {
  if (!report) return nullptr;
  return report->values();
}

void run(examples::Program& program, PretrainOptions& options, const OptionValues& given) {
  if (options.data.empty()) throw ConfigError("option data: name the clips to train on");
  options.encoder.vit = encoders::resolve(options.encoder.vit, options.encoder.preset);
  std::shared_ptr<ClipSource> source = open_clip_source(options.data, options.clip);
  if (options.in_memory > 0) {
    source = hold_in_memory(*source, options.in_memory, static_cast<uint64_t>(program.common.seed));
  }
  take_sizes_from_data(options, *source, given);
  if (options.optimisation.total_steps == 0) {
    options.optimisation.total_steps = options.training.steps;
  }
  options.objective.check_clips(options.loader.batch / options.optimisation.accumulate);
  MaskSamplers samplers;
  for (const auto& mask : options.masks) samplers.push_back(make_mask_sampler(mask));

  std::filesystem::create_directories(options.run);
  const std::string checkpoint = find_checkpoint(options.run);
  const bool fresh = checkpoint.empty();
  if (fresh && options.fit_minutes > 0) {
    fit_to_time(options, measure_step(options, program, source, samplers));
  }
  Trainer trainer = make_trainer(options, program);
  if (fresh && !options.init.empty()) start_from(options.init, trainer);
  const auto& vit = options.encoder.vit;
  const TrainingCost cost =
      estimate_cost(trainer.encoder(), trainer.predictor(), samplers, vit.grid(),
                    {.batch = options.loader.batch,
                     .accumulate = options.optimisation.accumulate,
                     .prefetch = options.loader.threads > 0 ? options.loader.prefetch : 0,
                     .clip_bytes = vit.channels * vit.frames * vit.height * vit.width},
                    {.dim = vit.dim, .depth = vit.depth, .checkpointing = vit.checkpointing},
                    {.dim = options.predictor.masked.dim,
                     .depth = options.predictor.masked.depth,
                     .checkpointing = options.predictor.masked.checkpointing});
  std::printf("%s", cost.text().c_str());
  std::printf("clips              %lld, %.3g passes over them\n",
              static_cast<long long>(source->size()),
              static_cast<double>(options.training.steps * options.loader.batch) /
                  static_cast<double>(source->size()));
  std::fflush(stdout);

  const RunDescription description{
      .folder = options.run,
      .config_ini = dump_ini(program.sections),
      .numbers = {{"encoder_parameters", static_cast<double>(cost.encoder_parameters)},
                  {"predictor_parameters", static_cast<double>(cost.predictor_parameters)},
                  {"flops_per_step", cost.flops_per_step},
                  {"estimated_memory_mb", cost.peak_memory_mb},
                  {"dataset_clips", static_cast<double>(source->size())},
                  {"steps", static_cast<double>(options.training.steps)},
                  {"batch", static_cast<double>(options.loader.batch)}},
      .texts = provenance(program, options)};
  write_file_atomic(options.run + "/config.ini", description.config_ini);

  examples::catch_stop_signals();
  examples::ProgressBar bar("training", fresh ? 0 : read_checkpoint_state(checkpoint).step);
  LoopHooks hooks;
  hooks.stop = examples::stop_requested;
  hooks.on_step = [&](int64_t step, const StepMetrics& metrics) {
    char text[96];
    std::snprintf(text, sizeof text, "loss %.4f  %.1f clips/s", metrics.at("loss"),
                  static_cast<double>(options.loader.batch) / metrics.at("seconds"));
    bar.update(step, options.training.steps, text);
    if (metrics.contains("probe_score")) {
      bar.finish();
      std::string scores = "step " + std::to_string(step) + ": online probe";
      for (const auto& [name, value] : metrics) {
        if (!name.starts_with("probe_") || name == "probe_score") continue;
        std::snprintf(text, sizeof text, "  %s %.3f", name.c_str() + 6, value);
        scores += text;
      }
      std::fprintf(stderr, "%s\n", scores.c_str());
    }
  };
  PretrainingHooks watching;
  watching.probe = make_probe(options);
  watching.on_verdict = [&](int64_t step, const Verdict& verdict) {
    bar.finish();
    std::fprintf(stderr, "step %lld: %s\n", static_cast<long long>(step), verdict.text.c_str());
  };
  ClipLoader loader(source, options.loader, static_cast<uint64_t>(program.common.seed));
  MaskedPrediction task(trainer, samplers, options.training, watching);
  const LoopResult result =
      run_training(task, loader, options.training.loop(), description, hooks);
  bar.finish();
  print_result(result, task.verdict(), options.run);
  program.results = {{"run", options.run},
                     {"steps", result.steps},
                     {"clips", result.clips},
                     {"train_seconds", result.train_seconds},
                     {"loader_wait_share", result.loader_wait_share},
                     {"peak_rss_mb", result.peak_rss_mb},
                     {"verdict", task.verdict().text},
                     {"diagnostics", report_json(task.last())},
                     {"diagnostics_random_init", report_json(task.initial())}};
}

/// A run that exists goes on with its own configuration. What is given now may change how long and
/// on what it trains, not what it is.
/// @throws ConfigError naming an option that differs from the run's
void continue_run(OptionValues& given) {
  const auto run = given.find("run");
  const std::string folder = run == given.end() ? PretrainOptions().run : run->second;
  const std::string checkpoint = find_checkpoint(folder);
  if (checkpoint.empty()) return;
  static const std::set<std::string> kFree{
      "config",          "run",
      "json",            "threads",
      "device",          "training.steps",
      "fit_minutes",     "training.checkpoint_every",
      "loader.threads",  "loader.prefetch",
      "clip.cache_mb",   "training.keep_checkpoints"};
  const OptionValues stored = read_ini(checkpoint + "/config.ini");
  // Both sides as the options themselves write them: 5e-4 is 0.0005.
  examples::CommonOptions common;
  PretrainOptions options;
  options.masks.resize(static_cast<size_t>(examples::count_numbered(stored, "mask")));
  std::vector<OptionSection> sections = options.sections();
  sections.push_back({"", "", [&](OptionVisitor& visit) { common.describe(visit); }});
  apply_options(sections, stored);
  const OptionValues before = dump_options(sections);
  apply_options(sections, given);
  OptionValues now = dump_options(sections);
  std::set<std::string> fitted;  // what --fit_minutes has changed
  if (before.at("fit_minutes") != "0") {
    for (const auto& [name, steps] : proportional_steps(options)) fitted.insert(name);
  }
  for (const auto& [key, value] : given) {
    const bool resolved =
        fitted.contains(key) || (key == "optimisation.total_steps" && now[key] == "0");
    if (resolved) now[key] = before.at(key);
    if (now[key] != before.at(key) && !kFree.contains(key)) {
      throw ConfigError("option " + key + " is " + value + ", but run " + folder +
                        " was started with " + before.at(key));
    }
  }
  given = std::move(now);
}

}  // namespace

int main(int argc, char** argv) {
  PretrainOptions options;
  OptionValues given;
  return examples::program_main(
      argc, argv,
      {.name = "pretrain",
       .summary = "trains a V-JEPA on clips; a run folder that exists is continued",
       .complete = continue_run,
       .sections =
           [&](const OptionValues& values) {
             given = values;
             options.masks = default_masks();
             const int64_t masks = examples::count_numbered(values, "mask");
             if (masks > 0) options.masks.resize(static_cast<size_t>(masks));
             return options.sections();
           },
       .run = [&](examples::Program& program) { run(program, options, given); }});
}

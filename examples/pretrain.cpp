// Pretrains a JEPA on clips: masked latent prediction against a moving-average target encoder.
#include <encoders/published.hpp>
#include <eval/probes/online.hpp>
#include <eval/training/recipe.hpp>
#include <examples/training_run.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/training/checkpoint.hpp>
#include <jepa/training/cost.hpp>
#include <jepa/training/pretraining.hpp>
#include <predictors/published.hpp>

#include <c10/util/accumulate.h>
#include <torch/types.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>

namespace {

using namespace jepa;

/// Everything that decides a run.
struct PretrainOptions {
  examples::TrainingInput input{.run = "runs/pretrain"};
  std::string init;
  std::string probe_train;
  std::string probe_test;
  eval::probes::OnlineProbeOptions probe;
  eval::training::Recipe recipe;
  TrainingOptions training;

  std::vector<OptionSection> sections();
};

std::vector<OptionSection> PretrainOptions::sections() {
  std::vector<OptionSection> sections = input.sections([this](OptionVisitor& visit) {
    visit("init", init,
          {.help = "checkpoint folder, run or published weights that a new run starts from"});
  });
  for (auto& section : recipe.sections()) sections.push_back(std::move(section));
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
  const RawClip clip = first_readable_clip(source, options.input.loader.max_errors);
  const Augmentation augmentation(options.input.loader.augment);
  RawClip cropped = clip;
  const PixelRect part = augmentation.choose(clip.height, clip.width, random);
  cropped.height = part.height;
  cropped.width = part.width;
  auto& encoder = options.recipe.encoder;
  std::vector<int64_t> sizes = encoder.clip_sizes();
  const auto set = [&](const std::string& name, size_t axis, int64_t value) {
    if (!given.contains("encoder." + name)) sizes[axis] = value;
  };
  set("channels", 1, clip.channels);
  set("frames", 2, clip.frames);
  set("height", 3, augmentation.out_height(cropped));
  set("width", 4, augmentation.out_width(cropped));
  encoder = encoder.fitted(sizes);
}

/// The online probe that the options ask for; empty: none.
std::function<StepMetrics(Encoder&)> make_probe(const PretrainOptions& options,
                                                const examples::Program& program) {
  if (options.probe_train.empty() || options.probe_test.empty() || options.probe.labels.empty()) {
    return {};
  }
  LoaderOptions loader = options.input.loader;
  if (loader.augment.crop != "none") loader.augment.crop = "centre";
  loader.augment.flip = 0;
  auto probe = std::make_shared<eval::probes::OnlineProbe>(
      open_clip_source(options.probe_train, options.input.clip),
      open_clip_source(options.probe_test, options.input.clip), options.probe, loader,
      eval::probes::FeatureOptions{.pixels = options.recipe.encoder.pixels,
                                   .device = program.device,
                                   .precision = program.precision});
  return [probe](Encoder& encoder) { return (*probe)(encoder); };
}

Trainer make_trainer(PretrainOptions& options, const examples::Program& program) {
  options.recipe.processes = program.processes.get();
  return options.recipe.make_trainer(static_cast<uint64_t>(program.common.seed), program.device,
                                     program.precision);
}

/// Weights, and the optimiser's moments where they are there, of what `path` holds; the schedules
/// start anew (V-JEPA 2's cooldown).
/// @throws ConfigError where the weights are of another model than the options say
void start_from(const std::string& path, const eval::training::Recipe& recipe, Trainer& trainer) {
  const WeightFile file = WeightFile::open(path);
  EncoderImpl& encoder = *trainer.encoder();
  const auto stored =
      encoders::read_encoder(file, {.which = "encoder", .unknown_heads = encoder.heads()});
  encoders::require_same_encoder(stored, recipe.encoder);
  // Finite, with the fixed position table on the grid of this run.
  const auto fill = [&](torch::nn::Module& module, TensorMap weights, const std::string& table) {
    require_finite(weights, file.path());
    if (weights.contains(table)) {
      const TokenGrid from = encoder.grid(stored.options.clip_sizes());
      encoders::resize_table(weights, table, from, encoder.clip_grid());
    }
    load_into(module, weights, file.path());
  };
  fill(encoder, stored.weights, "pos_embed");
  const bool both = stored.module == "encoder" && file.has("target_encoder");
  fill(*trainer.target_encoder(),
       both ? family_weights(file, "target_encoder", stored.family) : stored.weights, "pos_embed");
  if (file.has("predictor")) {
    const auto predictor = predictors::read_predictor(file, stored.family, 0, encoder.heads());
    predictors::require_same_predictor(predictor, recipe.predictor, encoder.heads());
    fill(*trainer.predictor(), predictor.weights, "predictor_pos_embed");
  }
  for (const auto& term : trainer.objective()) {
    if (!term->module()) continue;
    const std::string own = file.path() + "/" + term->module_name() + ".safetensors";
    // Without it the moments are those of fewer parameters.
    if (!std::filesystem::exists(own)) return;
    load_into(*term->module(), read_safetensors(own).tensors, own);
  }
  const std::string moments = file.path() + "/optimizer.safetensors";
  if (std::filesystem::exists(moments)) trainer.restore_moments(read_safetensors(moments).tensors);
}

/// Steps that stand in proportion to the length of the run: option, member.
std::vector<std::pair<std::string, int64_t*>> proportional_steps(PretrainOptions& options) {
  auto& optimisation = options.recipe.optimisation;
  auto& objective = options.recipe.objective;
  return {{"training.steps", &options.training.steps},
          {"optimisation.total_steps", &optimisation.total_steps},
          {"optimisation.warmup_steps", &optimisation.warmup_steps},
          {"optimisation.decay_steps", &optimisation.decay_steps},
          {"optimisation.clip_from_step", &optimisation.clip_from_step},
          {"objective.context_from_step", &objective.context_from_step},
          {"objective.context_full_step", &objective.context_full_step}};
}

/// How many micro-batches the loader hands a step out in; whole batches come without shuffle.
int64_t micro_batches_of(const PretrainOptions& options) {
  return options.input.loader.shuffle ? options.recipe.optimisation.accumulate : 1;
}

/// Shortens a new run to `fit_minutes`; its schedules keep their proportion.
void fit_to_time(PretrainOptions& options, const examples::Program& program,
                 const std::shared_ptr<ClipSource>& source, const MaskSamplers& samplers) {
  const uint64_t seed = static_cast<uint64_t>(program.common.seed);
  Trainer trainer = make_trainer(options, program);
  MaskedPrediction task(trainer, samplers, options.training);
  ClipLoader loader(source, options.input.loader, seed, micro_batches_of(options));
  const int64_t fitting = examples::steps_that_fit(
      options.input.fit_minutes, options.training.steps, [&](int64_t /*step*/) {
        std::map<std::string, std::string> texts;
        int64_t clips = 0;
        take_step(task, loader, /*watched=*/false, texts, clips);
      });
  if (fitting == options.training.steps) return;
  const double share = static_cast<double>(fitting) / static_cast<double>(options.training.steps);
  for (const auto& [name, steps] : proportional_steps(options)) {
    *steps = std::llround(share * static_cast<double>(*steps));
  }
  auto& total = options.recipe.optimisation.total_steps;
  total = std::max<int64_t>(1, total);
}

void print_result(const LoopResult& result, const Verdict& verdict, const std::string& folder) {
  static constexpr const char* kEnds[] = {"done", "stopped", "stopped: collapsed"};
  std::printf("%s after %lld steps, %.0f s of training\n", kEnds[static_cast<int>(result.end)],
              static_cast<long long>(result.steps), result.train_seconds);
  std::printf("waited for data    %.1f %% of the time\n", 100 * result.loader_wait_share);
  std::printf("peak memory        %.0f MB\n", result.peak_rss_mb);
  if (!result.left_out.empty()) {
    std::printf("left out           %zu clips that could not be read:\n", result.left_out.size());
    for (const auto& clip : result.left_out) std::printf("  %s\n", clip.c_str());
  }
  if (!verdict.text.empty()) std::printf("%s\n", verdict.text.c_str());
  std::printf("run folder         %s\n", folder.c_str());
}

/// The fields of a report; null: nothing was measured.
nlohmann::ordered_json report_json(const std::optional<CollapseReport>& report) {
  if (!report) return nullptr;
  return report->values();
}

TrainingCost cost_of(const PretrainOptions& options, Trainer& trainer,
                     const MaskSamplers& samplers) {
  return estimate_cost(
      trainer.encoder(), trainer.predictor(), samplers, trainer.encoder()->clip_grid(),
      {.batch = options.input.loader.batch * trainer.views(),
       .accumulate = options.recipe.optimisation.accumulate,
       .prefetch = options.input.loader.threads > 0 ? options.input.loader.prefetch : 0,
       .clip_bytes = c10::multiply_integers(options.recipe.encoder.clip_sizes()),
       .whole = micro_batches_of(options) == 1});
}

/// What the run's folder tells of it.
RunDescription describe_run(const examples::Program& program, const PretrainOptions& options,
                            const TrainingCost& cost, const ClipSource& source) {
  return {.folder = options.input.run,
          .config_ini = dump_ini(program.sections),
          .numbers = {{"encoder_parameters", static_cast<double>(cost.encoder_parameters)},
                      {"predictor_parameters", static_cast<double>(cost.predictor_parameters)},
                      {"flops_per_step", cost.flops_per_step},
                      {"estimated_memory_mb", cost.peak_memory_mb},
                      {"dataset_clips", static_cast<double>(source.size())},
                      {"steps", static_cast<double>(options.training.steps)},
                      {"batch", static_cast<double>(options.input.loader.batch)}},
          .texts = examples::provenance(program, options.input.data)};
}

void run(examples::Program& program, PretrainOptions& options, const OptionValues& given) {
  examples::catch_stop_signals();
  examples::require_same_options(program);
  const std::shared_ptr<ClipSource> source = options.input.open(program.common.seed);
  options.recipe.encoder = options.recipe.encoder.resolved();
  take_sizes_from_data(options, *source, given);
  if (options.recipe.optimisation.total_steps == 0) {
    options.recipe.optimisation.total_steps = options.training.steps;
  }
  const MaskSamplers samplers = options.recipe.samplers();

  std::filesystem::create_directories(options.input.run);
  const bool fresh = find_checkpoint(options.input.run).empty();
  if (program.processes && options.input.fit_minutes > 0) {
    throw ConfigError("fit_minutes: one process alone measures; give training.steps instead");
  }
  if (fresh && options.input.fit_minutes > 0) {
    fit_to_time(options, program, source, samplers);
  }
  Trainer trainer = make_trainer(options, program);
  const LoaderOptions together = examples::shared_batches(options.input.loader, program);
  check_clips(trainer.objective(), together.batch / options.recipe.optimisation.accumulate);
  if (fresh && !options.init.empty()) start_from(options.init, options.recipe, trainer);
  const TrainingCost cost = cost_of(options, trainer, samplers);
  const bool first = examples::is_first(program);
  std::printf("%s", cost.text().c_str());
  examples::print_passes(*source, options.training.steps, together.batch);

  const RunDescription description = describe_run(program, options, cost, *source);

  examples::ProgressBar bar("training");
  const LoopHooks hooks =
      examples::progress_hooks(program, bar, options.training.steps, together.batch, {"probe_"});
  PretrainingHooks watching;
  watching.probe = make_probe(options, program);
  watching.on_verdict = [&](int64_t step, const Verdict& verdict) {
    if (!first) return;
    bar.finish();
    std::fprintf(stderr, "step %lld: %s\n", static_cast<long long>(step), verdict.text.c_str());
  };
  ClipLoader loader(source, together, static_cast<uint64_t>(program.common.seed),
                    micro_batches_of(options), examples::own_share(together, program));
  MaskedPrediction task(trainer, samplers, options.training, watching);
  const LoopResult result = run_training(task, loader, options.training.loop(), description, hooks);
  bar.finish();
  print_result(result, task.verdict(), options.input.run);
  program.results = {{"run", options.input.run},
                     {"steps", result.steps},
                     {"clips", result.clips},
                     {"train_seconds", result.train_seconds},
                     {"loader_wait_share", result.loader_wait_share},
                     {"peak_rss_mb", result.peak_rss_mb},
                     {"left_out", result.left_out},
                     {"verdict", task.verdict().text},
                     {"diagnostics", report_json(task.last())},
                     {"diagnostics_random_init", report_json(task.initial())}};
}

/// Sections of the options that `values` size, and what `--fit_minutes` changes among them.
examples::ContinuedOptions continued(PretrainOptions& options, const OptionValues& values) {
  options.recipe.masks.resize(static_cast<size_t>(count_numbered(values, "mask")));
  examples::ContinuedOptions all{.sections = options.sections(), .fitted = {}, .many = true};
  for (const auto& [name, steps] : proportional_steps(options)) all.fitted.insert(name);
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  PretrainOptions options;
  OptionValues given;
  return examples::program_main(
      argc, argv,
      {.name = "pretrain",
       .summary = "trains a V-JEPA on clips; a run folder that exists is continued",
       .bfloat16 = true,
       .many = true,
       .block = [&] { return encoders::block_options(options.recipe.encoder.resolved().vit); },
       .complete =
           [](OptionValues& values) {
             PretrainOptions stored;
             examples::continue_run(values, stored.input.run, [&](const OptionValues& of_run) {
               return continued(stored, of_run);
             });
           },
       .sections =
           [&](const OptionValues& values) {
             given = values;
             options.recipe.take_masks(values);
             return options.sections();
           },
       .run = [&](examples::Program& program) { run(program, options, given); }});
}

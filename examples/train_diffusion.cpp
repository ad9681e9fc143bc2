// Trains the generative side: a diffusion transformer over pixels or over an autoencoder's latents,
// the decoder that turns a JEPA's latents into video, or that autoencoder.
#include <eval/diffusion/generative_model.hpp>
#include <examples/training_run.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/training/cost.hpp>

#include <torch/types.h>

#include <cstdio>
#include <filesystem>

namespace {

using namespace jepa;
using namespace jepa::eval::diffusion;

/// Everything that decides a run.
struct TrainDiffusionOptions {
  examples::TrainingInput input{.run = "runs/diffusion"};
  std::string validation;
  int64_t validation_clips = 64;
  std::string stage = "diffusion";
  AutoencoderOptions autoencoder;
  GenerativeOptions generative;
  OptimisationOptions optimisation{
      .lr = 1e-3, .weight_decay = 0, .final_weight_decay = 0, .beta2 = 0.99, .clip_gradient = 1.0};
  LoopOptions training;

  std::vector<OptionSection> sections();
};

std::vector<OptionSection> TrainDiffusionOptions::sections() {
  std::vector<OptionSection> sections = input.sections([this](OptionVisitor& visit) {
    visit("validation", validation, {.help = "held-out clips for the validation loss"});
    visit("validation_clips", validation_clips, {.help = "how many of them", .min = 1});
    visit("stage", stage, {.help = "what to train", .choices = {"diffusion", "autoencoder"}});
  });
  sections.push_back({"autoencoder", "with --stage autoencoder",
                      [this](OptionVisitor& visit) { autoencoder.describe(visit); }});
  sections.push_back(
      {"optimisation", "", [this](OptionVisitor& visit) { optimisation.describe(visit); }});
  sections.push_back({"training", "", [this](OptionVisitor& visit) { training.describe(visit); }});
  for (auto& section : generative.sections()) sections.push_back(std::move(section));
  return sections;
}

/// Word ids of every clip of a source, where the model has prompts.
torch::Tensor prompt_ids(const GenerativeModel& model, const ClipSource& source) {
  return model.vocabulary() ? model.vocabulary()->of_source(source) : torch::Tensor();
}

/// The first clips of a source in one batch.
ClipBatch first_clips(std::shared_ptr<const ClipSource> source, LoaderOptions options,
                      int64_t count) {
  options.batch = std::min(count, source->size());
  options.shuffle = false;
  options.augment.crop = options.augment.crop == "none" ? "none" : "centre";
  options.augment.flip = 0;
  return ClipLoader(std::move(source), options, 0).next();
}

/// A run folder's description, its log and its end are the same for both stages.
void train(examples::Program& program, const TrainDiffusionOptions& options, TrainingTask& task,
           const std::shared_ptr<ClipSource>& source, std::map<std::string, double> numbers) {
  numbers["dataset_clips"] = static_cast<double>(source->size());
  numbers["steps"] = static_cast<double>(options.training.steps);
  numbers["batch"] = static_cast<double>(options.input.loader.batch);
  const RunDescription run{.folder = options.input.run,
                           .config_ini = dump_ini(program.sections),
                           .numbers = numbers,
                           .texts = examples::provenance(program, options.input.data)};
  std::printf("parameters         %.3g\n", numbers.at("parameters"));
  std::printf("work of a step     %.3g GFLOP\n", numbers.at("flops_per_step") * 1e-9);
  const LoaderOptions together = examples::shared_batches(options.input.loader, program);
  examples::print_passes(*source, options.training.steps, together.batch);
  std::filesystem::create_directories(options.input.run);
  examples::ProgressBar bar("training");
  ClipLoader loader(source, together, static_cast<uint64_t>(program.common.seed));
  const LoopHooks hooks = examples::progress_hooks(program, bar, options.training.steps,
                                                   together.batch, {"validation_loss", "psnr"});
  const LoopResult result = run_training(task, loader, options.training, run, hooks);
  bar.finish();
  std::printf("%s after %lld steps, %.0f s of training; peak memory %.0f MB\n",
              result.end == RunEnd::finished ? "done" : "stopped",
              static_cast<long long>(result.steps), result.train_seconds, result.peak_rss_mb);
  std::printf("run folder         %s\n", options.input.run.c_str());
  program.results = {{"run", options.input.run},
                     {"steps", result.steps},
                     {"clips", result.clips},
                     {"train_seconds", result.train_seconds},
                     {"loader_wait_share", result.loader_wait_share},
                     {"peak_rss_mb", result.peak_rss_mb},
                     {"parameters", numbers.at("parameters")},
                     {"flops_per_step", numbers.at("flops_per_step")}};
}

/// Shortens a new run so that it fits into the minutes given.
/// @param trial a task to time, on `batch`
template <class MakeTask>
void fit(TrainDiffusionOptions& options, const ClipBatch& batch, const MakeTask& trial) {
  if (options.input.fit_minutes <= 0 || !find_checkpoint(options.input.run).empty()) return;
  const auto task = trial();
  std::map<std::string, std::string> texts;
  const int64_t steps = examples::steps_that_fit(options.input.fit_minutes, options.training.steps,
                                                 [&](int64_t) { task->step(batch, false, texts); });
  options.optimisation.warmup_steps =
      options.optimisation.warmup_steps * steps / options.training.steps;
  options.training.steps = steps;
  options.optimisation.total_steps = steps;
}

void train_autoencoder(examples::Program& program, TrainDiffusionOptions& options,
                       const std::shared_ptr<ClipSource>& source, const torch::Tensor& validation) {
  const auto seed = static_cast<uint64_t>(program.common.seed);
  const ClipBatch some = first_clips(source, options.input.loader, options.input.loader.batch);
  options.autoencoder.channels = some.clips.size(1);
  const auto make = [&] {
    Autoencoder model(options.autoencoder);
    model->initialise(seeded_generator(seed, "model"));
    model->to(program.device);
    return std::make_unique<AutoencoderTask>(model, options.optimisation, seed, validation,
                                             program.processes.get());
  };
  fit(options, some, make);
  const Autoencoder sized(options.autoencoder);
  const auto sizes = some.clips.sizes();
  const double flops = 3 * static_cast<double>(options.input.loader.batch) *
                       (sized->encode_flops(sizes[2], sizes[3], sizes[4]) +
                        sized->decode_flops(sizes[2], sizes[3], sizes[4]));
  train(program, options, *make(), source,
        {{"parameters", static_cast<double>(count_parameters(*sized))}, {"flops_per_step", flops}});
}

void train_diffusion(examples::Program& program, TrainDiffusionOptions& options,
                     const std::shared_ptr<ClipSource>& source,
                     const std::shared_ptr<ClipSource>& validation_source) {
  const auto seed = static_cast<uint64_t>(program.common.seed);
  const ClipBatch some = first_clips(source, options.input.loader, options.input.loader.batch);
  GenerativeModel model(options.generative, some.clips.size(1));
  auto& transformer = model.transformer();
  model.to(program.device);
  if (model.jepa() != nullptr) {
    model.fit_latent_statistics(first_clips(source, options.input.loader, 512).clips);
  }
  const auto prompts = prompt_ids(model, *source);
  DiffusionTask::Example validation;
  if (validation_source) {
    validation = model.example(
        first_clips(validation_source, options.input.loader, options.validation_clips),
        prompt_ids(model, *validation_source), /*predicted=*/true);
  }
  // The average is the model's first self; both are the task's, the model here lends the rest.
  const auto make = [&] {
    return std::make_unique<DiffusionTask>(
        model.initialise(seed), transformer, options.generative.diffusion, options.optimisation,
        seed,
        [&](const ClipBatch& batch, int64_t step) {
          return model.training_example(batch, prompts, step, options.training.steps, seed);
        },
        validation, program.processes.get());
  };
  fit(options, some, make);
  const double passes = 3 * static_cast<double>(options.input.loader.batch);
  const auto sizes =
      model.example({some.clips.narrow(0, 0, 1), some.indices.narrow(0, 0, 1)}, prompts, true)
          .x.sizes()
          .vec();
  train(program, options, *make(), source,
        {{"parameters", static_cast<double>(count_parameters(*transformer))},
         {"flops_per_step", passes * transformer->flops(transformer->grid(sizes))}});
}

void run(examples::Program& program, TrainDiffusionOptions& options) {
  examples::catch_stop_signals();
  examples::require_same_options(program);
  if (program.processes && options.input.fit_minutes > 0) {
    throw ConfigError("fit_minutes: one process alone measures; give training.steps instead");
  }
  options.generative.transformer = options.generative.transformer.resolved();
  options.generative.transformer.preset = "custom";
  options.generative.diffusion.precision = program.precision;
  const std::shared_ptr<ClipSource> source = options.input.open(program.common.seed);
  std::shared_ptr<ClipSource> validation;
  if (!options.validation.empty())
    validation = open_clip_source(options.validation, options.input.clip);
  if (options.optimisation.total_steps == 0) {
    options.optimisation.total_steps = options.training.steps;
  }
  if (options.stage == "autoencoder") {
    program.precision = torch::kFloat32;  // whatever is asked: its task knows no other
    torch::Tensor clips;
    if (validation)
      clips = first_clips(validation, options.input.loader, options.validation_clips).clips;
    train_autoencoder(program, options, source, clips);
  } else {
    train_diffusion(program, options, source, validation);
  }
}

}  // namespace

int main(int argc, char** argv) {
  TrainDiffusionOptions options;
  return examples::program_main(
      argc, argv,
      {.name = "train_diffusion",
       .summary =
           "trains a diffusion model of video, a decoder of JEPA latents, or an autoencoder; "
           "a run folder that exists is continued",
       .bfloat16 = true,
       .many = true,
       .block =
           [&] {
             const DiffusionTransformerOptions sizes = options.generative.transformer.resolved();
             return nn::BlockOptions{.dim = sizes.dim,
                                     .heads = sizes.heads,
                                     .mlp_hidden = static_cast<int64_t>(
                                         static_cast<double>(sizes.dim) * sizes.mlp_ratio)};
           },
       .complete =
           [](OptionValues& given) {
             TrainDiffusionOptions stored;
             examples::continue_run(given, stored.input.run, [&](const OptionValues&) {
               return examples::ContinuedOptions{
                   stored.sections(),
                   {"training.steps", "optimisation.total_steps", "optimisation.warmup_steps"},
                   /*many=*/true};
             });
           },
       .sections = [&](const OptionValues&) { return options.sections(); },
       .run = [&](examples::Program& program) { run(program, options); }});
}

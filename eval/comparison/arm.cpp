#include <encoders/published.hpp>
#include <eval/comparison/arm.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/nn/patch_embedding.hpp>
#include <jepa/random.hpp>
#include <jepa/stopped.hpp>
#include <jepa/training/cost.hpp>
#include <jepa/training/pretraining.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <filesystem>

namespace jepa::eval::comparison {
namespace {

using diffusion::Autoencoder;
using diffusion::AutoencoderTask;
using diffusion::DiffusionTask;
using diffusion::DiffusionTransformer;
using diffusion::GenerativeModel;
using diffusion::GenerativeOptions;

constexpr double kTera = 1e12;

/// What training an arm in stages needs to know.
struct Setup {
  const ArmPlan& plan;
  const ArmOptions& options;
  const std::shared_ptr<const ClipSource>& clips;
  const std::function<LoopHooks(const std::string&, int64_t)>& hooks;

  uint64_t seed() const { return static_cast<uint64_t>(plan.seed); }
  std::vector<int64_t> clip_sizes() const {
    Random random(0);
    const RawClip clip = clips->read(0, random);
    return {1, clip.channels, clip.frames, clip.height, clip.width};
  }
  /// Steps that `tera` TFLOP pay for.
  int64_t steps(double tera, double flops_per_step) const {
    const auto steps = static_cast<int64_t>(tera * kTera / flops_per_step);
    if (steps < 1) {
      throw ConfigError(c10::str("a budget of ", tera, " TFLOP pays for no step of arm ", plan.arm,
                                 ", which takes ", flops_per_step / kTera));
    }
    return steps;
  }
  /// Runs one stage in its own folder.
  LoopResult run(const std::string& stage, TrainingTask& task, int64_t steps,
                 const std::string& config) const {
    const RunDescription run{.folder = plan.folder + "/" + stage, .config_ini = config};
    std::filesystem::create_directories(run.folder);
    ClipLoader loader(clips, {.batch = options.batch}, seed());
    const LoopOptions loop{.steps = steps,
                           .checkpoint_every = std::max<int64_t>(50, steps / 10),
                           .keep_checkpoints = 1,
                           .watch_every = std::max<int64_t>(20, steps / 20),
                           .evaluate_every = steps + 1};
    const LoopResult result = run_training(task, loader, loop, run, hooks(stage, steps));
    if (result.end != RunEnd::finished) throw Stopped(stage + ": stopped");
    return result;
  }
  OptimisationOptions schedule(OptimisationOptions optimisation, int64_t steps) const {
    optimisation.total_steps = steps;
    optimisation.warmup_steps = std::min(optimisation.warmup_steps, steps / 10);
    return optimisation;
  }
  int64_t batch() const { return options.batch; }
};

void add_costs(ArmCosts& costs, const LoopResult& result, double flops_per_step) {
  costs.train_flops += flops_per_step * static_cast<double>(result.steps);
  costs.train_seconds += result.train_seconds;
  costs.clips += result.clips;
  costs.steps += static_cast<double>(result.steps);
  costs.peak_rss_mb = std::max(costs.peak_rss_mb, result.peak_rss_mb);
}

/// Outputs of all blocks of an encoder.
void encoder_features(Arm& arm, Encoder encoder, const PixelStatistics& pixels,
                      torch::Device device) {
  std::vector<int64_t> layers;
  for (int64_t i = 0; i < encoder->depth(); ++i) {
    layers.push_back(i);
    arm.feature_names.push_back("layer " + std::to_string(i));
  }
  encoder->eval();
  arm.features = [encoder, pixels, layers, device](const torch::Tensor& clips) mutable {
    const torch::NoGradGuard no_grad;
    auto all = encoder->layers(pixels.normalise(clips, device), layers);
    for (auto& tokens : all) tokens = tokens.cpu();
    return all;
  };
}

/// Trains the recipe's encoder and predictor for `tera` TFLOP. @returns the run's folder
std::string train_masked(const Setup& setup, const training::Recipe& general, Arm& arm) {
  training::Recipe recipe = general.fitted(setup.clip_sizes());
  const auto samplers = recipe.samplers();
  Trainer sized = recipe.make_trainer(setup.seed(), setup.options.device, torch::kFloat32);
  const TokenGrid grid = sized.encoder()->clip_grid();
  const int64_t rows = setup.batch() * sized.views();
  TrainingCost cost =
      estimate_cost(sized.encoder(), sized.predictor(), samplers, grid, {.batch = rows});
  double flops = cost.flops_per_step;
  // Pixels need no target encoder's pass.
  if (recipe.objective.targets == "pixels") {
    flops -= static_cast<double>(rows) * sized.encoder()->flops(grid.size());
  }
  const int64_t steps = setup.steps(setup.plan.tera, flops);
  recipe.optimisation = setup.schedule(recipe.optimisation, steps);
  Trainer trainer = recipe.make_trainer(setup.seed(), setup.options.device, torch::kFloat32);
  MaskedPrediction task(trainer, samplers, {.steps = steps});
  add_costs(arm.costs, setup.run("masked", task, steps, dump_ini(recipe.sections())), flops);
  arm.costs.parameters = static_cast<double>(cost.encoder_parameters + cost.predictor_parameters);
  // What was trained: in so few steps its moving average is still half of the start.
  encoder_features(arm, trainer.encoder(), recipe.encoder.pixels, setup.options.device);
  return setup.plan.folder + "/masked";
}

/// A diffusion model and what training it took.
struct Stage {
  std::shared_ptr<GenerativeModel> model;
  LoopResult result;
  double flops_per_step = 0;
};

Stage train_generative(const Setup& setup, const std::string& name, GenerativeOptions options,
                       double tera) {
  const auto sizes = setup.clip_sizes();
  auto model = std::make_shared<GenerativeModel>(options, sizes[1]);
  auto& transformer = model->transformer();
  model->to(setup.options.device);
  const bool decodes = model->jepa() != nullptr;
  const int64_t from = decodes ? options.context_steps : 0;
  if (decodes) {
    ClipLoader first(setup.clips, {.batch = setup.batch(), .shuffle = false}, 0);
    model->fit_latent_statistics(first.next().clips);
  }
  auto drawn = sizes;
  if (decodes) drawn[2] -= from * model->jepa()->tubelet();
  const auto grid = transformer->grid(model->data_sizes(drawn));
  double flops = 3 * transformer->flops(grid);
  if (!options.autoencoder.empty()) {
    flops += diffusion::load_autoencoder(options.autoencoder)
                 ->encode_flops(sizes[2], sizes[3], sizes[4]);
  }
  // The frozen JEPA's forward pass, whichever of its latents are decoded.
  if (decodes) flops += model->jepa()->prediction_flops(sizes, from);
  flops *= static_cast<double>(setup.batch());
  const int64_t steps = setup.steps(tera, flops);
  torch::Tensor prompts;
  if (model->vocabulary()) prompts = model->vocabulary()->of_source(*setup.clips);
  const auto prepare = [model, prompts, steps, seed = setup.seed()](const ClipBatch& batch,
                                                                    int64_t step) {
    return model->training_example(batch, prompts, step, steps, seed);
  };
  DiffusionTask task(model->initialise(setup.seed()), transformer, options.diffusion,
                     setup.schedule(setup.options.diffusion_optimisation, steps), setup.seed(),
                     prepare, {});
  // Models that move together: from a checkpoint's folder.
  auto saved = options;
  const auto own = std::filesystem::path(setup.plan.folder) / name / "checkpoints" / "step";
  for (std::string* other : {&saved.autoencoder, &saved.jepa}) {
    if (!other->empty()) *other = std::filesystem::path(*other).lexically_relative(own).string();
  }
  const LoopResult result = setup.run(name, task, steps, dump_ini(saved.sections()));
  transformer->eval();
  return {model, result, flops};
}

/// `count` draws with seeds of their own: [count, B, C, T, H, W].
template <class Draw>
torch::Tensor draw_futures(int64_t count, uint64_t seed, const Draw& draw) {
  std::vector<torch::Tensor> all;
  for (int64_t k = 0; k < count; ++k) {
    all.push_back(draw(stream_seed(seed, "future", static_cast<uint64_t>(k))));
  }
  return torch::stack(all);
}

/// Diffusion in pixels or latents: features of all blocks at several times, futures by giving the
/// context's frames.
void use_diffusion(const Setup& setup, const Stage& stage, Arm& arm) {
  const auto model = stage.model;
  const int64_t depth = model->transformer()->options().depth;
  for (const double t : setup.options.feature_times) {
    for (int64_t i = 0; i < depth; ++i) {
      arm.feature_names.push_back(c10::str("layer ", i, ", t ", t));
    }
  }
  arm.features = [model, times = setup.options.feature_times](const torch::Tensor& clips) {
    std::vector<torch::Tensor> all;
    for (const double t : times) {
      for (const auto& tokens : model->features(clips, t, 0)) all.push_back(tokens.cpu());
    }
    return all;
  };
  const auto sampler = setup.options.sampler;
  const int64_t context = setup.options.context_frames;
  arm.predict = [model, sampler, context](const torch::Tensor& clips, int64_t futures,
                                          uint64_t seed) {
    return draw_futures(futures, seed, [&](uint64_t own) {
      return model->draw_future(clips, context, sampler, own);
    });
  };
  if (model->vocabulary()) {
    arm.draw = [model, sampler](const torch::Tensor& prompts, at::IntArrayRef sizes,
                                uint64_t seed) {
      return model->draw(sizes, {prompts, {}}, {}, sampler, seed);
    };
  }
  const auto sizes = setup.clip_sizes();
  const double passes = static_cast<double>(
      diffusion::network_passes(sampler, /*conditioned=*/false, /*given=*/true));
  const auto grid = model->transformer()->grid(model->data_sizes(sizes));
  arm.costs.flops_per_frame =
      passes * model->transformer()->flops(grid) / static_cast<double>(sizes[2] - context);
  arm.costs.parameters += static_cast<double>(count_parameters(*model->transformer()));
}

Arm train_pixels(const Setup& setup) {
  Arm arm;
  const Stage stage = train_generative(setup, "pixels", setup.options.generative, setup.plan.tera);
  add_costs(arm.costs, stage.result, stage.flops_per_step);
  use_diffusion(setup, stage, arm);
  return arm;
}

Arm train_latents(const Setup& setup) {
  Arm arm;
  const auto sizes = setup.clip_sizes();
  auto shape = setup.options.autoencoder;
  shape.channels = sizes[1];
  Autoencoder autoencoder(shape);
  autoencoder->initialise(seeded_generator(setup.seed(), "autoencoder"));
  autoencoder->to(setup.options.device);
  const double coding = autoencoder->encode_flops(sizes[2], sizes[3], sizes[4]) +
                        autoencoder->decode_flops(sizes[2], sizes[3], sizes[4]);
  const double flops = 3 * static_cast<double>(setup.batch()) * coding;
  const double tera = setup.options.autoencoder_share * setup.plan.tera;
  const int64_t steps = setup.steps(tera, flops);
  AutoencoderTask task(autoencoder, setup.schedule(setup.options.diffusion_optimisation, steps),
                       setup.seed(), {});
  std::vector<OptionSection> section{
      {"autoencoder", "", [&](OptionVisitor& visit) { shape.describe(visit); }}};
  add_costs(arm.costs, setup.run("autoencoder", task, steps, dump_ini(section)), flops);
  GenerativeOptions options = setup.options.generative;
  options.autoencoder = setup.plan.folder + "/autoencoder";
  options.transformer.tubelet = 1;
  options.transformer.patch = setup.options.generative.transformer.patch / shape.side_factor();
  const Stage stage = train_generative(setup, "latents", options, setup.plan.tera - tera);
  add_costs(arm.costs, stage.result, stage.flops_per_step);
  use_diffusion(setup, stage, arm);
  arm.costs.parameters += static_cast<double>(count_parameters(*autoencoder));
  return arm;
}

/// A decoder of the latents of the run `jepa`: futures, ceiling and floor.
void add_decoder(const Setup& setup, const std::string& jepa, Arm& arm) {
  GenerativeOptions options = setup.options.generative;
  options.jepa = jepa;
  options.prompts = "none";
  options.transformer.tubelet = setup.options.jepa.encoder.vit.tubelet;
  options.transformer.patch = setup.options.jepa.encoder.vit.patch;
  options.context_steps = setup.options.context_frames / options.transformer.tubelet;
  options.diffusion.given_share = 0;
  const Stage stage = train_generative(setup, "decoder", options, setup.options.decoder_tera);
  arm.costs.decoder_flops = stage.flops_per_step * static_cast<double>(stage.result.steps);
  const auto model = stage.model;
  const auto sampler = setup.options.sampler;
  const int64_t context = setup.options.context_frames;
  arm.predict = [model, sampler](const torch::Tensor& clips, int64_t futures, uint64_t seed) {
    const auto latents = model->latents(clips, /*predicted=*/true);
    return draw_futures(futures, seed, [&](uint64_t own) {
      return model->draw_latents(latents, clips.sizes(), sampler, own);
    });
  };
  arm.ceiling = [model, sampler](const torch::Tensor& clips, uint64_t seed) {
    const auto own = model->latents(clips, /*predicted=*/false);
    return model->draw_latents(own, clips.sizes(), sampler, seed);
  };
  arm.floor = [model, sampler](const torch::Tensor& clips, uint64_t seed) {
    const auto others = model->latents(clips, /*predicted=*/true).roll(1, 0);
    return model->draw_latents(others, clips.sizes(), sampler, seed);
  };
  auto drawn = setup.clip_sizes();
  const auto frames = static_cast<double>(drawn[2] - context);
  drawn[2] -= context;
  arm.costs.flops_per_frame =
      (static_cast<double>(
           diffusion::network_passes(sampler, /*conditioned=*/true, /*given=*/false)) *
           model->transformer()->flops(model->transformer()->grid(drawn)) +
       model->jepa()->prediction_flops(setup.clip_sizes(), options.context_steps)) /
      frames;
}

/// Pixels that the predictor says of the frames after the context.
void predict_pixels(const Setup& setup, const std::string& run, Arm& arm) {
  const auto jepa = std::make_shared<diffusion::JepaLatents>(run);
  jepa->to(setup.options.device);
  const int64_t context = setup.options.context_frames;
  const auto& vit = setup.options.jepa.encoder.vit;
  const PixelStatistics pixels = setup.options.jepa.encoder.pixels;
  arm.predict = [jepa, context, pixels, tubelet = vit.tubelet, patch = vit.patch](
                    const torch::Tensor& clips, int64_t, uint64_t) {
    TokenGrid grid = jepa->grid(clips.sizes());
    grid.t -= context / tubelet;
    const auto said =
        nn::fold_patches(jepa->predicted(clips, context / tubelet), grid, tubelet, patch);
    return pixels.restore(said).unsqueeze(0);
  };
  const auto sizes = setup.clip_sizes();
  arm.costs.flops_per_frame = jepa->prediction_flops(sizes, context / vit.tubelet) /
                              static_cast<double>(sizes[2] - context);
}

/// The recipe with pixels in place of latents.
training::Recipe pixel_recipe(training::Recipe recipe) {
  recipe.objective.targets = "pixels";
  recipe.objective.loss = "l2";
  recipe.objective.regulariser.kind = "none";
  return recipe;
}

}  // namespace

const std::vector<std::string>& arm_names() {
  static const std::vector<std::string> names{"jepa",          "pixels",      "latents",
                                              "masked_pixels", "random_init", "frozen_random"};
  return names;
}

Arm train_arm(const ArmPlan& plan, const ArmOptions& options,
              const std::shared_ptr<const ClipSource>& clips,
              const std::function<LoopHooks(const std::string&, int64_t)>& hooks) {
  const Setup setup{plan, options, clips, hooks};
  Arm arm;
  if (plan.arm == "pixels") return train_pixels(setup);
  if (plan.arm == "latents") return train_latents(setup);
  if (plan.arm == "jepa") {
    add_decoder(setup, train_masked(setup, options.jepa, arm), arm);
  } else if (plan.arm == "masked_pixels") {
    predict_pixels(setup, train_masked(setup, pixel_recipe(options.jepa), arm), arm);
  } else if (plan.arm == "frozen_random") {
    training::Recipe recipe = options.jepa;
    recipe.objective.freeze_encoder = true;
    add_decoder(setup, train_masked(setup, recipe, arm), arm);
    arm.features = nullptr;  // they are random_init's
  } else if (plan.arm == "random_init") {
    const training::Recipe recipe = options.jepa.fitted(setup.clip_sizes());
    Trainer fresh = recipe.make_trainer(setup.seed(), setup.options.device, torch::kFloat32);
    encoder_features(arm, fresh.encoder(), recipe.encoder.pixels, options.device);
  } else {
    throw ConfigError("arm " + plan.arm + " is not one of " + c10::Join(", ", arm_names()));
  }
  return arm;
}

std::string train_model(const ArmPlan& plan, const ArmOptions& options,
                        const std::shared_ptr<const ClipSource>& clips,
                        const std::function<LoopHooks(const std::string&, int64_t)>& hooks) {
  const Setup setup{plan, options, clips, hooks};
  std::string folder = model_folder(plan);
  Arm arm;
  if (plan.arm == "jepa") train_masked(setup, options.jepa, arm);
  if (plan.arm == "masked_pixels") train_masked(setup, pixel_recipe(options.jepa), arm);
  if (plan.arm == "pixels") train_pixels(setup);
  if (plan.arm == "latents") train_latents(setup);
  return folder;
}

std::string model_folder(const ArmPlan& plan) {
  if (plan.arm == "jepa" || plan.arm == "masked_pixels") return plan.folder + "/masked";
  if (plan.arm == "pixels" || plan.arm == "latents") return plan.folder + "/" + plan.arm;
  throw ConfigError("arm " + plan.arm + " is not one of jepa, masked_pixels, pixels, latents");
}

}  // namespace jepa::eval::comparison

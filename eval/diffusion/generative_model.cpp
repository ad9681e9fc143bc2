#include <eval/diffusion/generative_model.hpp>
#include <eval/diffusion/saved_run.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <filesystem>
#include <numeric>

namespace jepa::eval::diffusion {
namespace {

/// Known frames, bool [T] or [B, T], as groups that share a time, bool [B, F].
/// @throws ConfigError where a group is known in part
torch::Tensor known_groups(const torch::Tensor& frames, int64_t batch, int64_t per_group) {
  const auto rows = frames.dim() == 1 ? frames.unsqueeze(0).expand({batch, -1}) : frames;
  const auto groups = rows.unflatten(1, {-1, per_group});
  const auto all = groups.all(2);
  if (!all.equal(groups.any(2))) {
    throw ConfigError(c10::str("known frames come in groups of ", per_group,
                               " that share a patch; a group is known in part"));
  }
  return all;
}

/// The clips with every frame that is not known replaced by the nearest one that is.
torch::Tensor hold_known(const KnownFrames& known) {
  const auto& clips = known.clips;
  const int64_t frames = clips.size(2);
  const auto rows = known.frames.dim() == 1 ? known.frames.unsqueeze(0) : known.frames;
  const auto time = torch::arange(frames);
  const auto distance =
      (time.unsqueeze(1) - time).abs() + frames * rows.logical_not().to(torch::kInt64).unsqueeze(1);
  const auto nearest = distance.argmin(2).view({-1, 1, frames, 1, 1}).expand(clips.sizes());
  return clips.gather(2, nearest);
}

}  // namespace

std::vector<OptionSection> GenerativeOptions::sections() {
  return {
      {"", "",
       [this](OptionVisitor& visit) {
         visit("prompts", prompts,
               {.help = "words of prompts, from the clips' labels",
                .choices = {"none", "digits", "shapes", "creatures"}});
         visit("autoencoder", autoencoder,
               {.help = "run folder of an autoencoder: diffuse in its latents"});
         visit("jepa", jepa, {.help = "run or weights of a JEPA: decode its latents into clips"});
       }},
      {"decoder", "with `jepa`",
       [this](OptionVisitor& visit) {
         visit("context_steps", context_steps,
               {.help = "time steps the predictor is shown; the others are drawn", .min = 1});
         visit(
             "predicted_from", predicted_from,
             {.help = "share of the run that trains on the encoder's latents, not the predictor's",
              .min = 0,
              .max = 1});
         visit("latent_noise", latent_noise,
               {.help = "largest deviation of noise on the latents in training", .min = 0});
       }},
      {"model", "diffusion transformer",
       [this](OptionVisitor& visit) { transformer.describe(visit); }},
      {"diffusion", "", [this](OptionVisitor& visit) { diffusion.describe(visit); }},
      {"times", "of training", [this](OptionVisitor& visit) { diffusion.times.describe(visit); }}};
}

GenerativeModel::GenerativeModel(GenerativeOptions options, int64_t channels)
    : options_(std::move(options)), channels_(channels) {
  auto& shape = options_.transformer;
  shape.channels = channels;
  if (options_.prompts != "none") {
    vocabulary_ = PromptVocabulary(options_.prompts);
    shape.words = vocabulary_->size();
  }
  if (!options_.autoencoder.empty()) {
    autoencoder_ = std::make_shared<Autoencoder>(load_autoencoder(options_.autoencoder));
    shape.channels = (*autoencoder_)->options().latent_channels;
  }
  if (!options_.jepa.empty()) {
    if (autoencoder_) throw ConfigError("jepa and autoencoder: a decoder works on pixels");
    jepa_ = std::make_shared<JepaLatents>(options_.jepa);
    shape.condition_width = jepa_->width();
  }
  transformer_ = DiffusionTransformer(shape);
}

GenerativeModel GenerativeModel::load(const std::string& path) {
  const std::string folder = weights_folder(path, "average", "train_diffusion");
  GenerativeOptions options;
  apply_saved_options(folder, options.sections());
  for (std::string* other : {&options.jepa, &options.autoencoder}) {
    const auto beside = std::filesystem::path(folder) / *other;  // models that move together
    if (!other->empty() && std::filesystem::exists(beside)) *other = beside.string();
  }
  GenerativeModel model(options, saved_channels(folder, "average", "patch_embed.proj.weight"));
  load_saved(folder, "average", *model.transformer_);
  model.transformer_->eval();
  return model;
}

void GenerativeModel::to(torch::Device device) {
  device_ = device;
  transformer_->to(device);
  if (autoencoder_) (*autoencoder_)->to(device);
  if (jepa_) jepa_->to(device);
}

DiffusionTransformer GenerativeModel::initialise(uint64_t seed) {
  transformer_->to(torch::kCPU);
  transformer_->initialise(seeded_generator(seed, "model"));
  transformer_->to(device_);
  DiffusionTransformer online(transformer_->options());
  online->to(device_);
  copy_parameters(*transformer_, *online);
  return online;
}

int64_t GenerativeModel::frames_per_group() const {
  return transformer_->options().tubelet * (autoencoder_ ? AutoencoderOptions::kTimeFactor : 1);
}

std::vector<int64_t> GenerativeModel::data_sizes(at::IntArrayRef clip) const {
  if (!autoencoder_) return clip.vec();
  const auto& ae = (*autoencoder_)->options();
  if (clip[2] % AutoencoderOptions::kTimeFactor != 0 || clip[3] % ae.side_factor() != 0 ||
      clip[4] % ae.side_factor() != 0) {
    throw DataError(c10::str("clips ", clip, ": the autoencoder wants frames in ",
                             AutoencoderOptions::kTimeFactor, "s and sides in ", ae.side_factor(),
                             "s"));
  }
  return {clip[0], ae.latent_channels, clip[2] / AutoencoderOptions::kTimeFactor,
          clip[3] / ae.side_factor(), clip[4] / ae.side_factor()};
}

torch::Tensor GenerativeModel::encode(const torch::Tensor& clips) const {
  const auto pixels = to_unit_range(clips, device_);
  if (!autoencoder_) return pixels;
  const torch::NoGradGuard no_grad;
  return (*autoencoder_)->encode(pixels);
}

torch::Tensor GenerativeModel::decode(const torch::Tensor& x) const {
  const torch::NoGradGuard no_grad;
  const auto pixels = autoencoder_ ? (*autoencoder_)->decode(x) : x;
  return from_unit_range(pixels);
}

torch::Tensor GenerativeModel::draw(at::IntArrayRef clip_sizes, const Condition& asked,
                                    const KnownFrames& known, const SamplerOptions& options,
                                    uint64_t seed) {
  const torch::NoGradGuard no_grad;
  const auto sizes = data_sizes(clip_sizes);
  Condition condition = asked;
  if (vocabulary_ && !condition.prompt.defined()) {
    condition.prompt = torch::zeros({sizes[0], PromptVocabulary::kSlots}, torch::kInt64);
  }
  condition = condition.to(device_);
  transformer_->grid(sizes);  // an error names what does not divide, before any work
  if (options_.diffusion.deterministic) {
    const auto zeros = torch::zeros(sizes, device_);
    return decode(transformer_->forward(zeros, torch::zeros({sizes[0]}, device_), condition));
  }
  GivenFrames given;
  if (known.clips.defined()) {
    if (known.clips.sizes() != clip_sizes || known.frames.size(-1) != clip_sizes[2]) {
      throw DataError(c10::str("known clips ", known.clips.sizes(), " and frames ",
                               known.frames.sizes(), " for clips ", clip_sizes));
    }
    given.known = known_groups(known.frames, clip_sizes[0], frames_per_group()).to(device_);
    // An autoencoder looks beyond a frame: it must not see those that are to be drawn.
    given.clip = encode(autoencoder_ ? hold_known(known) : known.clips);
  }
  const auto noise = torch::randn(sizes, seeded_generator(seed, "sample", 0)).to(device_);
  const Interpolant path(options_.diffusion.path, options_.diffusion.floor);
  Branches branches;
  branches.all = [&](const torch::Tensor& z, const torch::Tensor& t) {
    return transformer_->forward(z, t, condition);
  };
  const Condition nothing = condition.nothing();
  if (asked.prompt.defined() || asked.latents.defined()) {
    branches.given = [&](const torch::Tensor& z, const torch::Tensor& t) {
      return transformer_->forward(z, t, nothing);
    };
  }
  if (given.clip.defined()) {
    const auto frames = spread_times(given.known.to(noise.scalar_type()), noise).to(torch::kBool);
    branches.alone = [&, frames](const torch::Tensor& z, const torch::Tensor& t) {
      const auto now = t.amin(1, /*keepdim=*/true).expand_as(t);
      const auto noisy = torch::where(frames, path.mix(given.clip, noise, now), z);
      return transformer_->forward(noisy, now, nothing);
    };
  }
  const auto x =
      sample(guide(std::move(branches), options), quantity(options_.diffusion.prediction), path,
             noise, options, given, seeded_generator(seed, "sample", 1));
  auto clips = decode(x);
  if (known.clips.defined()) {
    const auto frames = given.known.cpu()
                            .repeat_interleave(frames_per_group(), 1)
                            .view({clip_sizes[0], 1, clip_sizes[2], 1, 1});
    clips = torch::where(frames, known.clips, clips);
  }
  return clips;
}

torch::Tensor GenerativeModel::draw_long(at::IntArrayRef clip_sizes, const Condition& condition,
                                         const KnownFrames& known, int64_t window, int64_t overlap,
                                         const SamplerOptions& options, uint64_t seed) {
  const int64_t frames = clip_sizes[2];
  if (overlap <= 0 || overlap >= window || overlap % frames_per_group() != 0) {
    throw ConfigError(c10::str("overlap ", overlap, ": expected a multiple of ", frames_per_group(),
                               " below the window of ", window, " frames"));
  }
  std::vector<int64_t> sizes = clip_sizes.vec();
  sizes[2] = window;
  auto film = draw(sizes, condition, known, options, seed);
  while (film.size(2) < frames) {
    KnownFrames last{torch::zeros(sizes, torch::kUInt8), torch::zeros({window}, torch::kBool)};
    last.clips.narrow(2, 0, overlap).copy_(film.narrow(2, film.size(2) - overlap, overlap));
    last.frames.narrow(0, 0, overlap).fill_(true);
    const auto next = draw(sizes, condition, last, options,
                           stream_seed(seed, "window", static_cast<uint64_t>(film.size(2))));
    film = torch::cat({film, next.narrow(2, overlap, window - overlap)}, 2);
  }
  return film.narrow(2, 0, frames).contiguous();
}

torch::Tensor GenerativeModel::draw_future(const torch::Tensor& clips, int64_t context,
                                           const SamplerOptions& options, uint64_t seed) {
  TORCH_CHECK(jepa_ == nullptr, "draw_future: a decoder draws latents");
  KnownFrames known{torch::zeros_like(clips), torch::zeros({clips.size(2)}, torch::kBool)};
  known.clips.narrow(2, 0, context).copy_(clips.narrow(2, 0, context));
  known.frames.narrow(0, 0, context).fill_(true);
  return draw(clips.sizes(), {}, known, options, seed).slice(2, context);
}

torch::Tensor GenerativeModel::draw_latents(const torch::Tensor& latents,
                                            at::IntArrayRef clip_sizes,
                                            const SamplerOptions& options, uint64_t seed) {
  auto sizes = clip_sizes.vec();
  sizes[2] -= context_frames();
  return draw(sizes, {{}, latents}, {}, options, seed);
}

int64_t GenerativeModel::context_frames() const {
  TORCH_CHECK(jepa_ != nullptr, "context_frames: this model is no decoder");
  return options_.context_steps * jepa_->tubelet();
}

void GenerativeModel::fit_latent_statistics(const torch::Tensor& clips) {
  TORCH_CHECK(jepa_ != nullptr, "fit_latent_statistics: this model is no decoder");
  const auto latents = jepa_->encoded(clips, options_.context_steps).flatten(0, 1);
  transformer_->set_latent_statistics(latents.mean(0), latents.std(0));
}

torch::Tensor GenerativeModel::latents(const torch::Tensor& clips, bool predicted) const {
  TORCH_CHECK(jepa_ != nullptr, "latents: this model is no decoder");
  return transformer_->normalise_latents(predicted ? jepa_->predicted(clips, options_.context_steps)
                                                   : jepa_->encoded(clips, options_.context_steps));
}

std::vector<torch::Tensor> GenerativeModel::features(const torch::Tensor& clips, double t,
                                                     uint64_t seed) {
  const torch::NoGradGuard no_grad;
  const auto x = encode(clips);
  // One noise for all clips: what differs between features is the clip's doing.
  auto one = x.sizes().vec();
  one[0] = 1;
  const auto noise =
      torch::randn(one, seeded_generator(seed, "features", 0)).to(device_).expand_as(x);
  const auto times = torch::full({x.size(0)}, t, x.options());
  const Interpolant path(options_.diffusion.path, options_.diffusion.floor);
  Condition nothing;
  if (vocabulary_) {
    nothing.prompt =
        torch::zeros({x.size(0), PromptVocabulary::kSlots}, x.options().dtype(torch::kInt64));
  }
  std::vector<int64_t> all(static_cast<size_t>(transformer_->options().depth));
  std::iota(all.begin(), all.end(), 0);
  return transformer_->layers(path.mix(x, noise, times), times, nothing, all);
}

DiffusionTask::Example GenerativeModel::example(const ClipBatch& batch,
                                                const torch::Tensor& prompts,
                                                bool predicted) const {
  DiffusionTask::Example example;
  const int64_t first = jepa_ ? context_frames() : 0;
  example.x = encode(batch.clips.slice(2, first));
  if (prompts.defined()) {
    example.condition.prompt = to_device(prompts.index_select(0, batch.indices), device_);
  }
  if (jepa_) example.condition.latents = latents(batch.clips, predicted);
  return example;
}

DiffusionTask::Example GenerativeModel::training_example(const ClipBatch& batch,
                                                         const torch::Tensor& prompts, int64_t step,
                                                         int64_t steps, uint64_t seed) const {
  const bool predicted =
      static_cast<double>(step) >= options_.predicted_from * static_cast<double>(steps);
  DiffusionTask::Example made = example(batch, prompts, predicted);
  auto& latents = made.condition.latents;
  if (latents.defined() && options_.latent_noise > 0) {
    auto generator = seeded_generator(seed, "latent noise", static_cast<uint64_t>(step));
    const auto deviation = torch::rand({latents.size(0), 1, 1}, generator) * options_.latent_noise;
    latents = latents + to_device(deviation * torch::randn(latents.sizes(), generator), device_);
  }
  return made;
}

}  // namespace jepa::eval::diffusion

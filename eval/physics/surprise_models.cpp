#include <encoders/published.hpp>
#include <eval/physics/surprise_models.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/nn/patch_embedding.hpp>
#include <predictors/published.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <filesystem>

namespace jepa::eval::physics {
namespace {

using diffusion::GenerativeModel;

/// Tokens' values [B, N, ...] of the steps from `from` on, averaged: [B, t, h, w] on the CPU.
torch::Tensor as_map(const torch::Tensor& errors, const TokenGrid& grid, int64_t from) {
  return errors.flatten(2)
      .mean(2)
      .view({errors.size(0), grid.t - from, grid.h, grid.w})
      .to(torch::kFloat32)
      .cpu();
}

/// Mean over each tubelet and patch of a map of pixels [B, C, T, H, W] -> [B, t, h, w].
torch::Tensor pool(const torch::Tensor& pixels, int64_t tubelet, int64_t patch) {
  const TokenGrid grid{pixels.size(2) / tubelet, pixels.size(3) / patch, pixels.size(4) / patch};
  return as_map(nn::unfold_patches(pixels, tubelet, patch), grid, 0);
}

/// The loss of latents, value by value.
torch::Tensor latent_error(const torch::Tensor& said, const torch::Tensor& truth, LatentLoss loss) {
  if (loss == LatentLoss::l1) return (said - truth).abs();
  if (loss == LatentLoss::l2) return (said - truth).square() / 2;
  return at::smooth_l1_loss(said, truth, at::Reduction::None);
}

/// The window's first `past` frames, then the last of them again and again.
torch::Tensor held(const torch::Tensor& windows, int64_t past) {
  const auto last = windows.slice(2, past - 1, past);
  return torch::cat(
      {windows.slice(2, 0, past), last.expand({-1, -1, windows.size(2) - past, -1, -1})}, 2);
}

/// The last mask that foretells what follows, else the last one (V-JEPA 1 has a token for each).
int64_t foretelling_mask(const OptionValues& options) {
  int64_t last = 0;
  for (int64_t i = 1;; ++i) {
    const auto kind = options.find("mask." + std::to_string(i) + ".kind");
    if (kind == options.end()) return last;
    last = i - 1;
    if (kind->second == "causal") return last;
  }
}

/// The network's error of each value at one time, as its training counts it.
torch::Tensor denoising_error(GenerativeModel& model, const torch::Tensor& x,
                              const torch::Tensor& noise, const torch::Tensor& times) {
  const auto& options = model.options().diffusion;
  const diffusion::Interpolant path(options.path, options.floor);
  const auto said = diffusion::quantity(options.prediction);
  const auto compared = diffusion::quantity(options.loss);
  diffusion::Condition nothing;
  if (model.vocabulary()) {
    nothing.prompt = torch::zeros({x.size(0), diffusion::PromptVocabulary::kSlots},
                                  x.options().dtype(torch::kInt64));
  }
  const auto z = path.mix(x, noise, times);
  const auto value = model.transformer()->forward(z, times, nothing);
  // One formula for the truth and what is said, so that a perfect network has no error at all.
  torch::Tensor truth = said == diffusion::Quantity::kClean ? x : noise;
  if (said == diffusion::Quantity::kVelocity) {
    const auto c = path.at(diffusion::spread_times(times, x));
    truth = c.alpha_rate * x + c.sigma_rate * noise;
  }
  return (path.estimate(said, value, z, times)[compared] -
          path.estimate(said, truth, z, times)[compared])
      .square();
}

struct LoadedMasked {
  MaskedModel model;
  int64_t window = 0;  ///< frames of the clips it was trained on
  int64_t side = 0;    ///< their height, px
};

SurpriseModel loaded_surprise(const LoadedMasked& loaded, torch::Device device) {
  SurpriseModel made = masked_surprise(loaded.model, loaded.window, device);
  made.side = loaded.side;
  return made;
}

LoadedMasked load_masked(const std::string& path) {
  const WeightFile file = WeightFile::open(path);
  const auto online = encoders::load_encoder(file, {.which = "encoder"});
  const auto setting = [&](const char* key) {
    const auto found = file.options().find(key);
    return found == file.options().end() ? std::string() : found->second;
  };
  if (setting("objective.target_norm") == "content") {
    throw ConfigError(path +
                      ": trained with objective.target_norm = content, its predictions are "
                      "relative to a batch; train it with token");
  }
  MaskedModel model;
  model.encoder = online.encoder;
  if (setting("objective.targets") != "pixels") {
    model.target_encoder = encoders::load_encoder(file, {.which = "target_encoder"}).encoder;
  }
  model.predictor = predictors::load_predictor(file, online.family, 0, *online.encoder).predictor;
  model.pixels = online.options.pixels;
  const TokenGrid patch = online.encoder->patch();
  model.tubelet = patch.t;
  model.patch = patch.h;
  model.mask_index = foretelling_mask(file.options());
  if (const auto loss = setting("objective.loss"); !loss.empty()) {
    model.loss = latent_loss_from_name(loss);
  }
  return {model, online.encoder->clip_sizes()[2], online.encoder->clip_sizes()[3]};
}

}  // namespace

SurpriseModel masked_surprise(const MaskedModel& given, int64_t window, torch::Device device) {
  const auto model = std::make_shared<MaskedModel>(given);
  for (auto* encoder : {&model->encoder, &model->target_encoder}) {
    if (encoder->is_empty()) continue;
    (*encoder)->to(device);
    (*encoder)->eval();
  }
  model->predictor->to(device);
  model->predictor->eval();
  const auto tokens = [model, device](const torch::Tensor& windows, int64_t past) {
    const torch::NoGradGuard no_grad;
    const auto clips = model->pixels.normalise(windows, device);
    const TokenGrid grid = model->encoder->grid(clips.sizes());
    const int64_t from = past / model->tubelet, start = from * grid.frame_size();
    const auto ids =
        torch::arange(grid.size(), torch::TensorOptions().dtype(torch::kInt64).device(device))
            .expand({clips.size(0), -1});
    const Mask mask{ids.slice(1, 0, start).contiguous(), ids.slice(1, start).contiguous()};
    const auto known = model->encoder->embed(clips.slice(2, 0, past).contiguous());
    const auto context = model->encoder->encode(known, grid, mask.context);
    const auto said = model->predictor->forward(context, mask, grid, model->mask_index).target;
    if (model->target_encoder.is_empty()) {
      const auto truth =
          nn::unfold_patches(clips.slice(2, past).contiguous(), model->tubelet, model->patch);
      return as_map((said - truth).square(), grid, from);
    }
    const auto truth = normalise_targets(model->target_encoder->forward(clips),
                                         model->target_encoder->output_levels());
    return as_map(latent_error(said, truth.slice(1, start), model->loss), grid, from);
  };
  return {"masked predictor", window, model->tubelet, tokens};
}

SurpriseModel diffusion_surprise(const std::shared_ptr<GenerativeModel>& model, int64_t window,
                                 torch::Device device, int64_t times, uint64_t seed) {
  if (model->jepa() != nullptr || model->options().diffusion.deterministic) {
    throw ConfigError("surprise: a decoder of latents does not foretell frames by itself");
  }
  model->to(device);
  model->transformer()->eval();
  const int64_t per_group = model->frames_per_group();
  const auto tokens = [model, device, per_group, times, seed](const torch::Tensor& windows,
                                                              int64_t past) {
    const torch::NoGradGuard no_grad;
    auto x = model->encode(windows);
    const auto& shape = model->transformer()->options();
    const TokenGrid grid = model->transformer()->grid(x.sizes());
    const int64_t known = past / per_group, steps = known * shape.tubelet;
    const auto shown = model->encode(held(windows, past));
    x = torch::cat({shown.slice(2, 0, steps), x.slice(2, steps)}, 2);
    auto sizes = x.sizes().vec();
    sizes[0] = 1;
    torch::Tensor sum;
    for (int64_t i = 0; i < times; ++i) {
      auto generator = seeded_generator(seed, "surprise", static_cast<uint64_t>(i));
      const auto noise = torch::randn(sizes, generator).to(device).expand(x.sizes());
      auto at =
          torch::full({x.size(0), grid.t},
                      (static_cast<double>(i) + 0.5) / static_cast<double>(times), x.options());
      at.narrow(1, 0, known).fill_(1.0);
      const auto error = denoising_error(*model, x, noise, at).slice(2, steps).contiguous();
      const auto map = pool(error, shape.tubelet, shape.patch) / static_cast<double>(times);
      sum = sum.defined() ? sum + map : map;
    }
    return sum;
  };
  return {"diffusion", window, per_group, tokens};
}

SurpriseModel copy_last_surprise(int64_t window, int64_t tubelet, int64_t patch) {
  const auto tokens = [tubelet, patch](const torch::Tensor& windows, int64_t past) {
    const auto pixels = windows.to(torch::kFloat32) / 255;
    return pool((pixels - held(pixels, past)).abs().slice(2, past).contiguous(), tubelet, patch);
  };
  return {"copy_last", window, tubelet, tokens};
}

SurpriseModel pixel_difference_surprise(int64_t window, int64_t tubelet, int64_t patch) {
  const auto tokens = [tubelet, patch](const torch::Tensor& windows, int64_t past) {
    const auto pixels = windows.to(torch::kFloat32) / 255;
    const auto before = pixels.slice(2, past - 1, pixels.size(2) - 1);
    return pool((pixels.slice(2, past) - before).abs().contiguous(), tubelet, patch);
  };
  return {"pixel_difference", window, tubelet, tokens};
}

MaskedModel load_masked_model(const std::string& path, int64_t& window) {
  const LoadedMasked loaded = load_masked(path);
  window = loaded.window;
  return loaded.model;
}

bool is_diffusion(const std::string& path) {
  namespace fs = std::filesystem;
  const auto holds_average = [](const fs::path& folder) {
    return fs::exists(folder / "average.safetensors");
  };
  bool generative = holds_average(path);
  if (fs::is_directory(fs::path(path) / "checkpoints")) {
    for (const auto& entry : fs::directory_iterator(fs::path(path) / "checkpoints")) {
      generative = generative || holds_average(entry.path());
    }
  }
  return generative;
}

SurpriseModel load_surprise(const std::string& path, int64_t window, torch::Device device) {
  if (is_diffusion(path)) {
    auto model = std::make_shared<GenerativeModel>(GenerativeModel::load(path));
    return diffusion_surprise(model, window, device);
  }
  return loaded_surprise(load_masked(path), device);
}

SurpriseModel untrained_surprise(const std::string& path, int64_t window, uint64_t seed,
                                 torch::Device device) {
  if (is_diffusion(path)) {
    auto model = std::make_shared<GenerativeModel>(GenerativeModel::load(path));
    model->initialise(seed);
    if (model->autoencoder() != nullptr) {
      (*model->autoencoder())->initialise(seeded_generator(seed, "autoencoder"));
    }
    return diffusion_surprise(model, window, device);
  }
  LoadedMasked loaded = load_masked(path);
  const auto fresh = [seed](const char* name) { return seeded_generator(seed, name); };
  loaded.model.encoder->initialise(fresh("encoder"));
  if (!loaded.model.target_encoder.is_empty()) {
    loaded.model.target_encoder->initialise(fresh("encoder"));
  }
  loaded.model.predictor->initialise(fresh("predictor"));
  return loaded_surprise(loaded, device);
}

}  // namespace jepa::eval::physics

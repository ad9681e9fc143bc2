#include <encoders/published.hpp>
#include <eval/diffusion/jepa_latents.hpp>
#include <jepa/errors.hpp>
#include <jepa/objectives/latent_regression.hpp>
#include <predictors/published.hpp>

#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::eval::diffusion {
namespace {

/// The last mask configuration of a run that predicts what follows from what was; else the last.
/// A predictor with a mask token for each configuration then uses the right one.
int64_t future_mask(const OptionValues& options) {
  int64_t last = 0;
  for (int64_t i = 1;; ++i) {
    const std::string section = "mask." + std::to_string(i) + ".kind";
    const auto kind = options.find(section);
    if (kind == options.end()) return last;
    last = i - 1;
    if (kind->second == "causal") return last;
  }
}

}  // namespace

JepaLatents::JepaLatents(const std::string& path) {
  const WeightFile file = WeightFile::open(path);
  const auto norm = file.options().find("objective.target_norm");
  if (norm != file.options().end() && norm->second == "content") {
    throw ConfigError(path +
                      ": trained with objective.target_norm = content, its predictions are "
                      "relative to a batch's means and cannot be decoded; train it with token");
  }
  const auto online = encoders::load_encoder(file, {.which = "encoder"});
  const auto target = encoders::load_encoder(file, {.which = "target_encoder"});
  encoder_ = online.encoder;
  target_ = target.encoder;
  predictor_ = predictors::load_predictor(file, online.family, 0, *online.encoder).predictor;
  pixels_ = online.options.pixels;
  tubelet_ = encoder_->patch().t;
  mask_index_ = future_mask(file.options());
  predictor_->eval();
  width_ = target_->output_width();
}

void JepaLatents::to(torch::Device device) {
  device_ = device;
  encoder_->to(device);
  target_->to(device);
  predictor_->to(device);
}

torch::Tensor JepaLatents::encoded(const torch::Tensor& clips, int64_t from) const {
  const torch::NoGradGuard no_grad;
  const TokenGrid whole = grid(clips.sizes());
  const int64_t start = from * whole.frame_size();
  const auto tokens = target_->forward(pixels_.normalise(clips, device_));
  return normalise_targets(tokens, target_->output_levels())
      .slice(1, start, whole.size())
      .contiguous();
}

torch::Tensor JepaLatents::predicted(const torch::Tensor& clips, int64_t from) const {
  const torch::NoGradGuard no_grad;
  const TokenGrid whole = grid(clips.sizes());
  TORCH_CHECK(from > 0 && from < whole.t, "a prediction from step ", from, " of ", whole.t);
  const int64_t start = from * whole.frame_size();
  const auto ids =
      torch::arange(whole.size(), torch::TensorOptions().dtype(torch::kInt64).device(device_))
          .expand({clips.size(0), -1});
  const Mask mask{ids.slice(1, 0, start).contiguous(), ids.slice(1, start).contiguous()};
  const auto shown =
      encoder_->embed(pixels_.normalise(clips.slice(2, 0, from * tubelet_), device_));
  const auto context = encoder_->encode(shown, whole, mask.context);
  return predictor_->forward(context, mask, whole, mask_index_).target;
}

double JepaLatents::prediction_flops(at::IntArrayRef clip_sizes, int64_t from) const {
  const TokenGrid whole = grid(clip_sizes);
  const int64_t shown = from * whole.frame_size();
  return encoder_->flops(shown) + predictor_->flops(shown, whole.size() - shown);
}

}  // namespace jepa::eval::diffusion

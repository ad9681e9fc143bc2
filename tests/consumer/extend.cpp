// Everything of one's own, from outside the library: an encoder, a predictor, a term, a clip source
// and a probe. Each is one class and, where it has a name in ini files, one line.
#include <eval/probes/features.hpp>
#include <eval/training/recipe.hpp>
#include <jepa/io/weights.hpp>

#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cstdio>
#include <fstream>

namespace {

using namespace jepa;

/// Published initialisation is the library's business; this one is ours.
void fill(torch::nn::Module& module, at::Generator generator) {
  const torch::NoGradGuard no_grad;
  for (auto& p : module.parameters()) p.normal_(0, 0.1, generator);
}

/// Patches by one convolution, then a pointwise layer.
class SmallConvolution : public EncoderImpl {
 public:
  explicit SmallConvolution(const encoders::EncoderOptions& options) : o_(options.vit) {
    patches_ = register_module(
        "patches", torch::nn::Conv3d(torch::nn::Conv3dOptions(o_.channels, o_.dim,
                                                              {o_.tubelet, o_.patch, o_.patch})
                                         .stride({o_.tubelet, o_.patch, o_.patch})));
    mix_ = register_module("mix", torch::nn::Linear(o_.dim, o_.dim));
  }
  int64_t output_width() const override { return o_.dim; }
  int64_t depth() const override { return 1; }
  TokenGrid grid(at::IntArrayRef sizes) const override {
    return {sizes[2] / o_.tubelet, sizes[3] / o_.patch, sizes[4] / o_.patch};
  }
  torch::Tensor embed(const torch::Tensor& clip) override {
    return patches_->forward(clip).flatten(2).transpose(1, 2);
  }
  torch::Tensor encode(const torch::Tensor& tokens, const TokenGrid&,
                       const torch::Tensor&) override {
    return tokens + at::gelu(mix_->forward(tokens));
  }
  std::vector<torch::Tensor> layers(const torch::Tensor& clip,
                                    const std::vector<int64_t>&) override {
    return {forward(clip)};
  }
  void initialise(at::Generator generator) override { fill(*this, generator); }
  double flops(int64_t tokens) const override {
    const double patch = static_cast<double>(o_.channels * o_.tubelet * o_.patch * o_.patch);
    return 2.0 * static_cast<double>(tokens * o_.dim) * (patch + static_cast<double>(o_.dim));
  }

 private:
  encoders::VisionTransformerOptions o_;
  torch::nn::Conv3d patches_{nullptr};
  torch::nn::Linear mix_{nullptr};
};

/// The mean of the context, told where to look.
class MeanPredictor : public PredictorImpl {
 public:
  explicit MeanPredictor(const predictors::ModelShape& shape) {
    out_ = register_module("out", torch::nn::Linear(shape.encoder_width, shape.target_width));
    places_ = register_parameter("places", torch::empty({shape.grid.size(), shape.target_width}));
  }
  Prediction forward(const torch::Tensor& context, const Mask& mask, const TokenGrid&,
                     int64_t) override {
    const auto mean = out_->forward(context.mean(1, true));
    const auto where = places_.index_select(0, mask.target.flatten());
    return {.target = mean.repeat({mask.targets_per_context(), 1, 1}) +
                      where.view({mask.target.size(0), mask.target.size(1), -1}),
            .context = {}};
  }
  void initialise(at::Generator generator) override { fill(*this, generator); }
  double flops(int64_t context, int64_t target) const override {
    return static_cast<double>(context + target);
  }

 private:
  torch::nn::Linear out_{nullptr};
  torch::Tensor places_;
};

/// Keeps tokens near the unit sphere.
class NormTerm : public ObjectiveTerm {
 public:
  std::string name() const override { return "norm"; }
  torch::Tensor loss(const StepContext& step, MetricSums& metrics) override {
    const auto loss = (step.visible.norm(2, -1) - 1).square().mean();
    metrics.add("loss_norm", loss);
    return 0.1 * loss;
  }
};

/// Frames of one of eight greys.
class Greys : public ClipSource {
 public:
  int64_t size() const override { return 64; }
  using ClipSource::read;
  RawClip read(int64_t index, Random&, const CropChooser&) const override {
    RawClip clip{.frames = 4, .height = 16, .width = 16, .channels = 1, .pixels = {}};
    clip.pixels.assign(4 * 16 * 16, static_cast<uint8_t>(index % 8 * 36));
    return clip;
  }
};

/// A probe: the nearest class mean. @return share of clips read rightly
double nearest_mean(const torch::Tensor& features, const torch::Tensor& labels) {
  std::vector<torch::Tensor> means;
  for (int64_t c = 0; c < 8; ++c) {
    means.push_back(features.index_select(0, labels.eq(c).nonzero().flatten()).mean(0));
  }
  const auto read = at::cdist(features, torch::stack(means)).argmin(1);
  return read.eq(labels).to(torch::kFloat32).mean().item<double>();
}

}  // namespace

int main() {
  encoders::add_encoder({"small_convolution", [](const auto& options) {
                           return Encoder(std::static_pointer_cast<EncoderImpl>(
                               std::make_shared<SmallConvolution>(options)));
                         }});
  predictors::add_predictor({"mean", [](const auto&, const auto& shape) {
                               return Predictor(std::static_pointer_cast<PredictorImpl>(
                                   std::make_shared<MeanPredictor>(shape)));
                             }});
  std::ofstream("mine.ini") << "[encoder]\ntype = small_convolution\npreset = custom\ndim = 16\n"
                               "depth = 1\nheads = 1\npatch = 4\n[predictor]\ntype = mean\n"
                               "[optimisation]\nlr = 1e-2\n";
  auto recipe = eval::training::read_recipe("mine.ini").fitted({1, 1, 4, 16, 16});
  recipe.extra = {[](int64_t, uint64_t) { return std::make_shared<NormTerm>(); }};
  Trainer trainer = recipe.make_trainer(0, torch::kCPU, torch::kFloat32);
  const auto source = std::make_shared<Greys>();
  ClipLoader loader(source, {.batch = 16}, 0);
  const MaskSamplers samplers = recipe.samplers();
  double first = 0, last = 0;
  while (trainer.steps_done() < 40) {
    const ClipBatch batch = loader.next();
    trainer.accumulate(batch, trainer.draw_masks(samplers, batch));
    const StepMetrics metrics = trainer.apply();
    (trainer.steps_done() == 1 ? first : last) = metrics.at("loss_norm");
  }
  write_safetensors("mine.safetensors", state_dict(*trainer.encoder()));
  Encoder again = encoders::make_encoder(recipe.encoder);
  load_into(*again, read_safetensors("mine.safetensors").tensors, "mine.safetensors");
  const auto features =
      eval::probes::extract_features(again, source, {.batch = 16, .shuffle = false},
                                     {.pool = "mean", .pixels = recipe.encoder.pixels});
  const auto labels = torch::arange(64).remainder(8);
  const double read = nearest_mean(features, labels);
  std::printf("norm term %.3f to %.3f, read %.2f of the greys\n", first, last, read);
  return last < first && read > 0.9 ? 0 : 1;
}

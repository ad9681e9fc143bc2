#include <encoders/convolutional.hpp>
#include <eval/dreaming/vision.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/nn/layers.hpp>
#include <jepa/objectives/vicreg.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>

namespace jepa::eval::dreaming {
namespace {

constexpr int64_t kEncodeAtOnce = 256;

/// A convolution 4 x 4 of stride 2 that halves the sides, or its transpose that doubles them.
class HalvingImpl : public torch::nn::Module {
 public:
  HalvingImpl(int64_t in, int64_t out, bool transposed) : transposed_(transposed) {
    weight = register_parameter(
        "weight", transposed ? torch::empty({in, out, 4, 4}) : torch::empty({out, in, 4, 4}));
    bias = register_parameter("bias", torch::empty({out}));
  }
  torch::Tensor forward(const torch::Tensor& x) const {
    return transposed_ ? at::conv_transpose2d(x, weight, bias, 2, 1)
                       : at::conv2d(x, weight, bias, 2, 1);
  }
  void initialise(at::Generator& generator) {
    // Each output sees 16 taps of every input, of the transpose 4.
    const auto seen = static_cast<double>(transposed_ ? 4 * weight.size(0) : 16 * weight.size(1));
    weight.normal_(0, std::sqrt(2.0 / seen), generator);
    bias.zero_();
  }
  torch::Tensor weight, bias;

 private:
  bool transposed_;
};
TORCH_MODULE(Halving);

/// Ha and Schmidhuber's VAE, with padding, so that any side that halves often enough fits. As a
/// map, every place of the coarsest map has its own share of the latent, by the same weights
/// everywhere: small things are learned from far fewer frames.
class VaeImpl : public VisionImpl {
 public:
  VaeImpl(VisionOptions options, std::vector<int64_t> frame)
      : VisionImpl(std::move(options), std::move(frame)), map_(options_.kind == "map") {
    const auto& o = options_;
    height_ = frame_[1] / o.shrink >> o.halvings;
    width_ = frame_[2] / o.shrink >> o.halvings;
    const int64_t places = height_ * width_;
    if (map_ && o.latent % places != 0) {
      throw ConfigError(c10::str("option vision.latent: ", o.latent,
                                 " numbers do not divide by the ", places, " places of the map"));
    }
    std::vector<int64_t> channels = {frame_[0]};
    for (int64_t i = 0; i < o.halvings; ++i) channels.push_back(o.width << i);
    deepest_ = channels.back();
    for (int64_t i = 0; i < o.halvings; ++i) {
      down_.push_back(
          register_module(c10::str("down", i), Halving(channels[i], channels[i + 1], false)));
      up_.push_back(
          register_module(c10::str("up", i),
                          Halving(channels[o.halvings - i], channels[o.halvings - i - 1], true)));
    }
    const int64_t in = map_ ? deepest_ : deepest_ * places;
    const int64_t out = map_ ? o.latent / places : o.latent;
    statistics_ = register_module("statistics", nn::Linear(in, 2 * out));
    from_latent_ = register_module("from_latent", nn::Linear(out, in));
  }

  bool decodes() const override { return true; }

  torch::Tensor decode(const torch::Tensor& latents) override {
    const torch::NoGradGuard no_grad;
    auto drawn = draw(latents).clamp(0, 1).mul(255).round().to(torch::kUInt8);
    const int64_t factor = options_.shrink;
    return drawn.repeat_interleave(factor, 2).repeat_interleave(factor, 3);
  }

  torch::Tensor loss(const Episodes& episodes, const torch::Tensor& starts,
                     at::Generator& generator) override {
    const auto frames = prepare(episodes.frames.index_select(0, starts));
    const auto statistics = compress(frames);
    const auto mean = statistics.select(1, 0), log_variance = statistics.select(1, 1);
    const auto noise = at::randn(mean.sizes(), generator, mean.options().requires_grad(false));
    const auto drawn = draw(mean + (0.5 * log_variance).exp() * noise);
    // Sums over the pixels of a full frame, whatever it was averaged down by.
    const auto area = static_cast<double>(options_.shrink * options_.shrink);
    const auto error = area * (drawn - frames).square().sum({1, 2, 3});
    const auto kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1);
    const double free = options_.free_nats * static_cast<double>(options_.latent);
    return (error + kl.clamp_min(free)).mean();
  }

  void initialise(at::Generator generator) override {
    const torch::NoGradGuard no_grad;
    for (auto& layer : down_) layer->initialise(generator);
    for (auto& layer : up_) layer->initialise(generator);
    nn::initialise_layers(*this, generator, /*xavier=*/true);
  }

 protected:
  torch::Tensor latents(const torch::Tensor& prepared) override {
    return compress(prepared).select(1, 0);
  }

 private:
  // Means and log variances, [N, 2, Z].
  torch::Tensor compress(torch::Tensor x) {
    for (auto& layer : down_) x = layer->forward(x).relu();
    if (!map_) return statistics_->forward(x.flatten(1)).unflatten(1, {2, options_.latent});
    x = statistics_->forward(x.flatten(2).transpose(1, 2));  // [N, places, 2 c]
    return x.unflatten(2, {2, -1}).transpose(1, 2).flatten(2);
  }
  torch::Tensor draw(const torch::Tensor& latents) {
    auto x = latents;
    if (map_) x = x.unflatten(1, {height_ * width_, -1});
    x = from_latent_->forward(x);
    if (map_) x = x.transpose(1, 2);
    x = x.reshape({-1, deepest_, height_, width_});
    for (size_t i = 0; i < up_.size(); ++i) {
      x = up_[i]->forward(x);
      x = i + 1 < up_.size() ? x.relu() : x.sigmoid();
    }
    return x;
  }

  bool map_;
  int64_t height_ = 0, width_ = 0, deepest_ = 0;
  std::vector<Halving> down_, up_;
  nn::Linear statistics_{nullptr}, from_latent_{nullptr};
};

/// A convolutional encoder whose latents are predicted from the two before and the action; variance
/// and covariance keep them apart; actions are told from two latents, and a near end from two
/// latents and the action.
class JepaVisionImpl : public VisionImpl {
 public:
  JepaVisionImpl(VisionOptions options, std::vector<int64_t> frame, int64_t action_width)
      : VisionImpl(std::move(options), std::move(frame)) {
    const auto& o = options_;
    encoder_ = register_module("encoder", encoders::Convolutional(encoders::ConvolutionalOptions{
                                              .channels = frame_[0],
                                              .height = frame_[1] / o.shrink,
                                              .width = frame_[2] / o.shrink,
                                              .stages = {o.width, 2 * o.width, 4 * o.width},
                                              .groups = std::min<int64_t>(8, o.width),
                                              .dim = o.latent}));
    const int64_t hidden = 8 * o.latent;
    predict1_ = register_module("predict1", nn::Linear(2 * o.latent + action_width, hidden));
    predict2_ = register_module("predict2", nn::Linear(hidden, o.latent));
    inverse1_ = register_module("inverse1", nn::Linear(2 * o.latent, hidden));
    inverse2_ = register_module("inverse2", nn::Linear(hidden, action_width));
    end1_ = register_module("end1", nn::Linear(2 * o.latent + action_width, hidden));
    end2_ = register_module("end2", nn::Linear(hidden, 1));
  }

  torch::Tensor loss(const Episodes& episodes, const torch::Tensor& starts,
                     at::Generator&) override {
    const int64_t count = starts.size(0);
    const auto rows = torch::cat({starts, starts + 1, starts + 2});
    const auto z = latents(prepare(episodes.frames.index_select(0, rows))).split(count);
    const auto action = episodes.actions.index_select(0, starts + 1);
    const auto seen = torch::cat({z[0], z[1], action}, 1);
    const auto next = z[1] + predict2_->forward(at::silu(predict1_->forward(seen)));
    const auto told = inverse2_->forward(at::silu(inverse1_->forward(torch::cat({z[1], z[2]}, 1))));
    const auto end = end2_->forward(at::silu(end1_->forward(seen))).squeeze(1);
    const auto all = torch::cat({z[0], z[1], z[2]});
    const auto near = near_end(episodes, starts);
    return (next - z[2]).square().mean() + variance_hinge(all) +
           covariance_penalty(all, CovarianceScale::width) + (told - action).square().mean() +
           options_.end_weight * at::binary_cross_entropy_with_logits(end, near, {}, {});
  }

  void initialise(at::Generator generator) override {
    nn::initialise_layers(*this, generator, /*xavier=*/true);
    encoder_->initialise(generator);
  }

 protected:
  torch::Tensor latents(const torch::Tensor& prepared) override {
    const auto clip = (prepared * 2 - 1).unsqueeze(2);
    return encoder_->embed(clip).squeeze(1);
  }

 private:
  /// 1 where the episode is ended by the world within `end_window` decisions from the second row.
  torch::Tensor near_end(const Episodes& episodes, const torch::Tensor& starts) const {
    auto near = torch::zeros({starts.size(0)});
    for (int64_t i = 0; i < starts.size(0); ++i) {
      const int64_t row = starts.const_data_ptr<int64_t>()[i] + 1;
      const auto next = std::upper_bound(episodes.offsets.begin(), episodes.offsets.end(), row);
      const auto episode = next - episodes.offsets.begin() - 1;
      if (episodes.dead[episode] != 0 && *next - 1 - row <= options_.end_window) {
        near.mutable_data_ptr<float>()[i] = 1;
      }
    }
    return near;
  }

  encoders::Convolutional encoder_{nullptr};
  nn::Linear predict1_{nullptr}, predict2_{nullptr}, inverse1_{nullptr}, inverse2_{nullptr},
      end1_{nullptr}, end2_{nullptr};
};

/// Rows of episodes to train on with two rows after them in their episode.
torch::Tensor rows_with_future(const Episodes& episodes, double held_out) {
  std::vector<int64_t> rows;
  for (int64_t e = 0; e < episodes.size(); ++e) {
    if (is_held_out(e, held_out)) continue;
    for (int64_t row = episodes.offsets[e]; row + 2 < episodes.offsets[e + 1]; ++row) {
      rows.push_back(row);
    }
  }
  if (rows.empty()) throw DataError("episodes: none has two decisions, nothing to train V on");
  return torch::tensor(rows, torch::kInt64);
}

}  // namespace

void VisionOptions::describe(OptionVisitor& visit) {
  visit("kind", kind,
        {.help = "vae: draws its frames (Ha and Schmidhuber); map: the same, the latent a map; "
                 "jepa: predicts its latents",
         .choices = {"vae", "map", "jepa"}});
  visit("latent", latent, {.help = "numbers in a latent", .min = 2, .max = 4096});
  visit("width", width, {.help = "channels after the first halving", .min = 1, .max = 1024});
  visit("halvings", halvings, {.help = "of the sides, by vae and map", .min = 1, .max = 8});
  visit("shrink", shrink, {.help = "frames are averaged down by this first", .min = 1, .max = 16});
  visit("steps", steps, {.help = "of training, in each round", .min = 1});
  visit("batch", batch, {.help = "frames a step (jepa: triples)", .min = 2});
  visit("lr", lr, {.help = "falls to a tenth, cosine", .min = 0});
  visit("free_nats", free_nats,
        {.help = "vae: KL divergence a dimension that costs nothing", .unit = "nats", .min = 0});
  visit("end_weight", end_weight, {.help = "jepa: weight of telling a near end", .min = 0});
  visit("end_window", end_window, {.help = "jepa: what is near", .unit = "decisions", .min = 1});
}

VisionImpl::VisionImpl(VisionOptions options, std::vector<int64_t> frame)
    : options_(std::move(options)), frame_(std::move(frame)) {
  const int64_t unit = options_.shrink << (options_.kind == "jepa" ? 3 : options_.halvings);
  if (frame_.size() != 3 || frame_[1] % unit != 0 || frame_[2] % unit != 0) {
    throw ConfigError(c10::str("option vision.shrink: frames ", at::IntArrayRef(frame_),
                               " do not divide by ", unit));
  }
}

torch::Tensor VisionImpl::prepare(const torch::Tensor& frames) const {
  const auto x = frames.to(torch::kFloat32) / 255;
  return options_.shrink == 1 ? x : at::avg_pool2d(x, options_.shrink);
}

torch::Tensor VisionImpl::encode(const torch::Tensor& frames, bool mirrored,
                                 const StopRequest& stop) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> parts;
  for (const auto& part : frames.split(kEncodeAtOnce)) {
    stop_if_asked(stop, "vision");
    parts.push_back(latents(prepare(mirrored ? part.flip(3) : part)));
  }
  return torch::cat(parts);
}

torch::Tensor VisionImpl::decode(const torch::Tensor&) {
  throw ConfigError("vision: kind " + options_.kind + " has no decoder");
}

Vision make_vision(const VisionOptions& options, const GameInfo& game) {
  if (options.kind == "vae" || options.kind == "map")
    return std::make_shared<VaeImpl>(options, game.frame);
  if (options.kind == "jepa") {
    return std::make_shared<JepaVisionImpl>(options, game.frame, game.action_width);
  }
  throw ConfigError("option vision.kind: vae, map or jepa, not '" + options.kind + "'");
}

double train_vision(VisionImpl& vision, const Episodes& episodes, double held_out, uint64_t seed,
                    const TrainingProgress& progress) {
  const auto& o = vision.options();
  const auto rows = rows_with_future(episodes, held_out);
  return fit(
      "vision", vision.shared_from_this(), {.steps = o.steps, .lr = o.lr, .clip_gradient = 10},
      [&](int64_t step) -> std::vector<torch::Tensor> {
        auto generator = seeded_generator(seed, "vision", static_cast<uint64_t>(step));
        const auto picked = at::randint(rows.size(0), {o.batch}, generator, torch::kInt64);
        return {vision.loss(episodes, rows.index_select(0, picked), generator)};
      },
      progress)[0];
}

}  // namespace jepa::eval::dreaming

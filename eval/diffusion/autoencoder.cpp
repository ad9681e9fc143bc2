#include <eval/diffusion/autoencoder.hpp>
#include <eval/diffusion/saved_run.hpp>
#include <eval/diffusion/training.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/weights.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::diffusion {
namespace {

constexpr double kStatisticsMomentum = 0.05;
constexpr double kEps = 1e-6;
constexpr int64_t kValidationBatch = 32;

constexpr double kHalfRange = 127.5;  // of a byte

}  // namespace

torch::Tensor to_unit_range(const torch::Tensor& clips, torch::Device device) {
  return to_device(clips, device).to(torch::kFloat32).div_(kHalfRange).sub_(1);
}

torch::Tensor from_unit_range(const torch::Tensor& pixels) {
  return ((pixels + 1) * kHalfRange).round_().clamp_(0, 255).to(torch::kUInt8).cpu();
}

void AutoencoderOptions::describe(OptionVisitor& visit) {
  visit("width", width, {.help = "channels after the first halving; they double", .min = 4});
  visit("halvings", halvings, {.help = "of the sides; time halves once", .min = 1, .max = 5});
  visit("latent_channels", latent_channels, {.help = "of the latents", .min = 1});
  visit("latent_noise", latent_noise,
        {.help = "deviation of noise on latents of deviation 1, in training", .min = 0});
}

ConvolutionImpl::ConvolutionImpl(int64_t in, int64_t out, int64_t kernel,
                                 std::vector<int64_t> stride)
    : stride_(std::move(stride)) {
  weight = register_parameter("weight", torch::empty({out, in, kernel, kernel, kernel}));
  bias = register_parameter("bias", torch::empty({out}));
}

torch::Tensor ConvolutionImpl::forward(const torch::Tensor& x) const {
  return at::conv3d(x, weight, bias, stride_, /*padding=*/weight.size(2) / 2);
}

double ConvolutionImpl::flops(int64_t positions) const {
  return 2.0 * static_cast<double>(weight.numel()) * static_cast<double>(positions);
}

AutoencoderImpl::AutoencoderImpl(const AutoencoderOptions& options) : options_(options) {
  const auto& o = options_;
  if (o.channels < 1 || o.width < 4 || o.halvings < 1 || o.latent_channels < 1) {
    throw ConfigError(c10::str("autoencoder: channels ", o.channels, ", width ", o.width,
                               ", halvings ", o.halvings, ", latent channels ", o.latent_channels));
  }
  const auto add = [&](const std::string& name, Convolution convolution) {
    return register_module(name, std::move(convolution));
  };
  int64_t width = o.channels;
  for (int64_t i = 0; i < o.halvings; ++i) {
    const int64_t next = o.width << i;
    const int64_t in_time = i == 0 ? AutoencoderOptions::kTimeFactor : 1;
    down_.push_back(add(c10::str("down_", i),
                        Convolution(width, next, 3, std::vector<int64_t>{in_time, 2, 2})));
    width = next;
  }
  to_latent_ = add("to_latent", Convolution(width, o.latent_channels, 1));
  from_latent_ = add("from_latent", Convolution(o.latent_channels, width));
  for (int64_t i = 0; i < 2; ++i) {
    encoder_branch_.push_back(add(c10::str("encoder_branch_", i), Convolution(width, width)));
    decoder_branch_.push_back(add(c10::str("decoder_branch_", i), Convolution(width, width)));
  }
  for (int64_t i = 0; i < o.halvings; ++i) {
    // Full size is where the work is: only a quarter of the width goes there.
    const int64_t next = i + 1 < o.halvings ? width / 2 : o.width / 4;
    up_.push_back(add(c10::str("up_", i), Convolution(width, next)));
    width = next;
  }
  to_pixels_ = add("to_pixels", Convolution(width, o.channels));
  mean_ = register_buffer("mean", torch::zeros({o.latent_channels}));
  variance_ = register_buffer("variance", torch::ones({o.latent_channels}));
}

torch::Tensor AutoencoderImpl::compress(const torch::Tensor& clips) const {
  const int64_t side = options_.side_factor();
  if (clips.dim() != 5 || clips.size(1) != options_.channels ||
      clips.size(2) % AutoencoderOptions::kTimeFactor != 0 || clips.size(3) % side != 0 ||
      clips.size(4) % side != 0) {
    throw DataError(c10::str("autoencoder: clips ", clips.sizes(), ": expected [B, ",
                             options_.channels, ", T, H, W] with T in ",
                             AutoencoderOptions::kTimeFactor, "s and H, W in ", side, "s"));
  }
  auto h = clips;
  for (const auto& step : down_) h = at::silu(step->forward(h));
  h = h + encoder_branch_[1]->forward(at::silu(encoder_branch_[0]->forward(h)));
  return to_latent_->forward(h);
}

torch::Tensor AutoencoderImpl::normalise(const torch::Tensor& latents, bool by_batch) const {
  return at::batch_norm(latents, {}, {}, mean_, variance_, by_batch, kStatisticsMomentum, kEps,
                        /*cudnn_enabled=*/false);
}

/// By the batch's statistics, where processes have it in parts.
torch::Tensor AutoencoderImpl::normalise_together(const torch::Tensor& latents,
                                                  Processes& processes) {
  const std::vector<int64_t> all_but_channels = {0, 2, 3, 4};
  const auto channel_mean = [&](const torch::Tensor& x) {
    return mean_over_processes(x.mean(all_but_channels, /*keepdim=*/true), processes);
  };
  const auto mean = channel_mean(latents);
  const auto centred = latents - mean;
  const auto variance = channel_mean(centred.square());
  {
    const torch::NoGradGuard no_grad;
    const auto count = static_cast<double>(processes.count() * latents.numel() / latents.size(1));
    mean_.lerp_(mean.flatten(), kStatisticsMomentum);
    variance_.lerp_(variance.flatten() * (count / (count - 1)), kStatisticsMomentum);
  }
  return centred * (variance + kEps).rsqrt();
}

torch::Tensor AutoencoderImpl::encode(const torch::Tensor& clips) {
  return normalise(compress(clips), false);
}

torch::Tensor AutoencoderImpl::decode(const torch::Tensor& latents) {
  auto h = from_latent_->forward(latents);
  h = h + decoder_branch_[1]->forward(at::silu(decoder_branch_[0]->forward(at::silu(h))));
  for (size_t i = 0; i < up_.size(); ++i) {
    const int64_t in_time = i + 1 == up_.size() ? AutoencoderOptions::kTimeFactor : 1;
    const std::vector<int64_t> sizes = {h.size(2) * in_time, h.size(3) * 2, h.size(4) * 2};
    h = at::silu(up_[i]->forward(at::upsample_nearest3d(h, sizes)));
  }
  return to_pixels_->forward(h);
}

torch::Tensor AutoencoderImpl::reconstruct(const torch::Tensor& clips, at::Generator generator,
                                           Processes& processes) {
  const auto latents = processes.count() == 1 ? normalise(compress(clips), true)
                                              : normalise_together(compress(clips), processes);
  auto sizes = latents.sizes().vec();
  const int64_t own = sizes[0];
  sizes[0] *= processes.count();
  const auto noise = to_device(
      torch::randn(sizes, generator).narrow(0, processes.rank() * own, own), latents.device());
  return decode(at::add(latents, noise, options_.latent_noise));
}

void AutoencoderImpl::fit_statistics(const torch::Tensor& latents) {
  const torch::NoGradGuard no_grad;
  const std::vector<int64_t> all_but_channels = {0, 2, 3, 4};
  const auto scale = (variance_ + kEps).sqrt();
  mean_.addcmul_(scale, latents.mean(all_but_channels));
  variance_.copy_((scale * latents.std(all_but_channels)).square() - kEps).clamp_min_(0);
}

void AutoencoderImpl::initialise(at::Generator generator) {
  const torch::NoGradGuard no_grad;
  for (const auto& module : modules()) {
    if (auto* convolution = module->as<ConvolutionImpl>()) {
      const auto& weight = convolution->weight;
      const auto fan_in = static_cast<double>(weight.numel() / weight.size(0));
      weight.normal_(0, std::sqrt(2 / fan_in), generator);
      convolution->bias.zero_();
    }
  }
  mean_.zero_();
  variance_.fill_(1);
}

double AutoencoderImpl::encode_flops(int64_t frames, int64_t height, int64_t width) const {
  int64_t positions = frames / AutoencoderOptions::kTimeFactor * height * width;
  double sum = 0;
  for (const auto& step : down_) {
    positions /= 4;
    sum += step->flops(positions);
  }
  for (const auto& branch : encoder_branch_) sum += branch->flops(positions);
  return sum + to_latent_->flops(positions);
}

double AutoencoderImpl::decode_flops(int64_t frames, int64_t height, int64_t width) const {
  const int64_t side = options_.side_factor();
  int64_t positions = frames / AutoencoderOptions::kTimeFactor * (height / side) * (width / side);
  double sum = from_latent_->flops(positions);
  for (const auto& branch : decoder_branch_) sum += branch->flops(positions);
  for (size_t i = 0; i < up_.size(); ++i) {
    positions *= i + 1 == up_.size() ? 4 * AutoencoderOptions::kTimeFactor : 4;
    sum += up_[i]->flops(positions);
  }
  return sum + to_pixels_->flops(positions);
}

AutoencoderTask::AutoencoderTask(Autoencoder model, const OptimisationOptions& optimisation,
                                 uint64_t seed, torch::Tensor validation, Processes* processes)
    : model_(std::move(model)),
      optimisation_(optimisation),
      seed_(seed),
      validation_(std::move(validation)),
      device_(model_->parameters().front().device()),
      processes_(processes == nullptr ? process_alone() : *processes),
      optimizer_({{"model", model_.ptr()}}, optimisation, &processes_) {}

StepMetrics AutoencoderTask::step(const ClipBatch& batch, bool watched,
                                  std::map<std::string, std::string>& texts) {
  auto generator = seeded_generator(seed_, "autoencoder", static_cast<uint64_t>(step_));
  model_->train();
  optimizer_.zero_gradients();
  MetricSums sums;
  const auto parts = micro_batches(optimisation_, batch.clips.size(0));
  for (const MicroBatch& part : parts) {
    const RowRange own = own_rows({part.start, part.count}, processes_);
    const auto shown = to_unit_range(batch.clips.narrow(0, own.start, own.count), device_);
    const auto back = model_->reconstruct(shown, generator, processes_);
    const auto loss = part.share * (back - shown).abs().mean();
    if (&part == &parts.back()) optimizer_.begin_reduce(processes_);
    loss.backward();
    sums.add("loss", loss);
  }
  optimizer_.reduce(processes_, sums);
  const StepMetrics metrics = apply_gradients(optimizer_, optimisation_, step_, sums);
  ++step_;
  return metrics;
}

StepMetrics AutoencoderTask::evaluate() {
  if (!validation_.defined()) return {};
  const torch::NoGradGuard no_grad;
  model_->eval();
  double sum = 0;
  for (const auto& part : validation_.split(kValidationBatch)) {
    const auto clips = to_unit_range(part, device_);
    const auto back = model_->decode(model_->encode(clips)).clamp_(-1, 1);
    sum += (back - clips).square().sum().item<double>();
  }
  const double error = sum / static_cast<double>(validation_.numel());
  const double psnr = 10 * std::log10(4 / std::max(error, 1e-12));  // the range -1..1 is 2 wide
  return {{"psnr", psnr}, {"score", psnr}};
}

std::map<std::string, TensorMap> AutoencoderTask::tensors() const {
  return {{"model", state_dict(*model_)}, {"optimizer", optimizer_.state()}};
}

void AutoencoderTask::restore(int64_t step, const std::string& folder) {
  load_saved(folder, "model", *model_);
  optimizer_.load_state(read_safetensors(folder + "/optimizer.safetensors").tensors);
  step_ = step;
}

Autoencoder load_autoencoder(const std::string& path) {
  const std::string folder = weights_folder(path, "model", "train_diffusion --stage autoencoder");
  AutoencoderOptions options;
  apply_saved_options(
      folder, {{"autoencoder", "", [&](OptionVisitor& visit) { options.describe(visit); }}});
  options.channels = saved_channels(folder, "model", "down_0.weight");
  Autoencoder model(options);
  load_saved(folder, "model", *model);
  for (auto& parameter : model->parameters()) parameter.set_requires_grad(false);
  model->eval();
  return model;
}

}  // namespace jepa::eval::diffusion

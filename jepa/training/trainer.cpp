#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/nn/patch_embedding.hpp>
#include <jepa/random.hpp>
#include <jepa/training/trainer.hpp>

#include <c10/util/StringUtil.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace jepa {
namespace {

Mask narrow_mask(const Mask& mask, int64_t start, int64_t count, int64_t batch) {
  const auto part = [&](const torch::Tensor& ids) {  // rows come in runs of one for each clip
    return ids.view({-1, batch, ids.size(1)}).narrow(1, start, count).reshape({-1, ids.size(1)});
  };
  return {part(mask.context), part(mask.target)};
}

Mask mask_to(const Mask& mask, torch::Device device) {
  return {mask.context.to(device), mask.target.to(device)};
}

}  // namespace

void ObjectiveOptions::describe(OptionVisitor& visit) {
  visit(
      "loss", loss,
      {.help = "between predictions and normalised targets", .choices = {"l1", "l2", "smooth_l1"}});
  visit("targets", targets,
        {.help = "what is predicted: the target encoder's latents, or pixels (a control)",
         .choices = {"latents", "pixels"}});
  visit("target_norm", target_norm,
        {.help = "layer norm of each token (pixels: as they are), or its content: less the "
                 "position's batch mean, over the dimension's deviation",
         .choices = {"token", "content"}});
  visit("context_weight", context_weight,
        {.help = "V-JEPA 2.1: of the loss on visible tokens", .min = 0});
  visit("context_from_step", context_from_step,
        {.help = "the context loss rises from here", .unit = "steps", .min = 0});
  visit("context_full_step", context_full_step, {.help = "to here", .unit = "steps", .min = 0});
  visit("context_distance", context_distance,
        {.help = "weight visible tokens by 1/sqrt(distance to the nearest target)"});
  visit("prediction_weight", prediction_weight,
        {.help = "of the masked prediction; 0: the other terms alone (a control)", .min = 0});
  visit("freeze_encoder", freeze_encoder,
        {.help = "the encoder keeps its first weights, only the predictor learns (a control)"});
  visit("normalise_predictions", normalise_predictions,
        {.help = "layer-norm predictions as targets are"});
}

void ObjectiveOptions::check_clips(int64_t clips) const {
  if (clips > 1) return;
  const std::string but =
      ": compares the clips of a micro-batch, but there is one; enlarge "
      "loader.batch or lower optimisation.accumulate";
  if (agreement.weight > 0) throw ConfigError("agreement.weight" + but);
  if (target_norm == "content") throw ConfigError("objective.target_norm = content" + but);
  if (regulariser.kind != "none" && regulariser.on != "tokens") {
    throw ConfigError("regulariser.on = " + regulariser.on + but);
  }
}

Trainer::Trainer(Encoder encoder, Encoder target_encoder, Predictor predictor,
                 TrainerOptions options)
    : options_(std::move(options)),
      loss_(latent_loss_from_name(options_.objective.loss)),
      encoder_((encoder->to(options_.device), encoder)),
      target_encoder_((target_encoder->to(options_.device), target_encoder)),
      predictor_((predictor->to(options_.device), predictor)),
      optimizer_(trained_modules(), options_.optimisation),
      average_(*encoder_, *target_encoder_) {
  for (auto& p : target_encoder_->parameters()) p.set_requires_grad(false);
}

std::map<std::string, std::shared_ptr<torch::nn::Module>> Trainer::trained_modules() {
  std::map<std::string, std::shared_ptr<torch::nn::Module>> modules{
      {"encoder", encoder_.ptr()}, {"predictor", predictor_.ptr()}};
  // Before the optimiser takes what is to be trained.
  if (options_.objective.freeze_encoder) {
    for (auto& p : encoder_->parameters()) p.set_requires_grad(false);
  }
  const auto& agreement = options_.objective.agreement;
  if (agreement.weight > 0) {
    projector_ = ClipProjector(encoder_->output_width(), agreement.width, agreement.hidden_layers);
    projector_->initialise(
        at::make_generator<at::CPUGeneratorImpl>(stream_seed(options_.seed, "projector", 0)));
    projector_->to(options_.device);
    modules["projector"] = projector_.ptr();
  }
  return modules;
}

StepMetrics Trainer::step(const torch::Tensor& clips, const std::vector<Mask>& masks,
                          StepTrace* trace) {
  TORCH_CHECK(!masks.empty(), "a training step needs at least one mask");
  const StepRates rates = rates_at(options_.optimisation, step_ + 1);
  // The one generator that modules may draw from (drop path) is a function of the step alone.
  torch::manual_seed(stream_seed(options_.seed, "step", static_cast<uint64_t>(step_)));
  encoder_->train();
  predictor_->train();
  optimizer_.zero_gradients();

  StepMetrics metrics{
      {"lr", rates.lr}, {"weight_decay", rates.weight_decay}, {"momentum", rates.momentum}};
  ShiftedViews shifted{clips, {}};
  const int64_t views = options_.objective.views();  // a micro-batch has all of a clip's
  if (views == 2) {
    shifted = shifted_views(clips, options_.objective.agreement,
                            at::make_generator<at::CPUGeneratorImpl>(
                                stream_seed(options_.seed, "views", static_cast<uint64_t>(step_))));
  }
  const auto micro = micro_batches(options_.optimisation, clips.size(0));
  for (const MicroBatch& part : micro) options_.objective.check_clips(part.count);
  for (const MicroBatch& part : micro) {
    const int64_t start = views * part.start, count = views * part.count;
    std::vector<Mask> part_masks;
    for (const auto& mask : masks) {
      part_masks.push_back(narrow_mask(mask, start, count, views * clips.size(0)));
    }
    accumulate_gradients(shifted.clips.narrow(0, start, count),
                         views == 2 ? shifted.shifts.narrow(0, start, count) : torch::Tensor(),
                         part_masks, part.share, metrics, trace);
  }

  const bool clip =
      options_.optimisation.clip_gradient > 0 && step_ >= options_.optimisation.clip_from_step;
  const double limit = clip ? options_.optimisation.clip_gradient : 0.0;
  metrics["grad_norm_encoder"] = clip_gradients(*encoder_, limit);
  metrics["grad_norm_predictor"] = clip_gradients(*predictor_, limit);
  if (projector_) clip_gradients(*projector_, limit);
  check_finite(metrics, step_);
  optimizer_.step(rates);
  if (rates.momentum < 1) average_.update(rates.momentum);
  ++step_;
  return metrics;
}

void Trainer::accumulate_gradients(const torch::Tensor& clips, const torch::Tensor& shifts,
                                   const std::vector<Mask>& masks, double share,
                                   StepMetrics& metrics, StepTrace* trace) {
  const torch::Tensor clip = options_.pixels.normalise(clips, options_.device);  // [B, C, T, H, W]
  const TokenGrid grid = encoder_->grid(clip.sizes());
  const bool pixels = options_.objective.targets == "pixels";
  torch::Tensor targets;  // [B, N, D]
  if (pixels) {
    targets = nn::unfold_patches(clip, clip.size(2) / grid.t, clip.size(3) / grid.h);
  }
  if (!pixels || trace != nullptr) {
    torch::NoGradGuard no_grad;
    target_encoder_->eval();
    AutocastScope autocast(options_.device, options_.precision);
    const torch::Tensor tokens = target_encoder_->forward(clip).to(torch::kFloat32);
    if (trace != nullptr) {
      auto& all = trace->target_tokens;
      all = all.defined() ? torch::cat({all, tokens}) : tokens;
    }
    if (!pixels) targets = tokens;
  }
  if (options_.objective.target_norm == "content") {
    targets = content_targets(targets);
  } else if (!pixels) {
    targets = normalise_targets(targets, encoder_->output_levels());
  }
  // Patches are embedded once. Each mask's graph is run backward before the next one is built, so
  // only one mask's activations are alive; the embedding gets the sum of their gradients.
  torch::Tensor embedded;
  {
    AutocastScope autocast(options_.device, options_.precision);
    embedded = encoder_->embed(clip);
  }
  torch::Tensor tokens = embedded.detach().requires_grad_(embedded.requires_grad());
  const double mask_share = share / static_cast<double>(masks.size());
  for (size_t i = 0; i < masks.size(); ++i) {
    mask_loss(tokens, targets, shifts, grid, mask_to(masks[i], options_.device),
              static_cast<int64_t>(i), mask_share, metrics, trace)
        .backward();
  }
  if (embedded.requires_grad()) embedded.backward(tokens.grad());
}

torch::Tensor Trainer::mask_loss(const torch::Tensor& tokens, const torch::Tensor& targets,
                                 const torch::Tensor& shifts, const TokenGrid& grid,
                                 const Mask& mask, int64_t mask_index, double share,
                                 StepMetrics& metrics, StepTrace* trace) {
  Prediction prediction;
  torch::Tensor visible;  // [B, Kc, D]
  {
    AutocastScope autocast(options_.device, options_.precision);
    visible = encoder_->encode(gather_tokens(tokens, mask.context), grid, mask.context);
    prediction = predictor_->forward(visible, mask, grid, mask_index);
  }
  const int64_t levels = encoder_->output_levels();
  const auto finished = [&](const torch::Tensor& x) {
    const torch::Tensor single = x.to(torch::kFloat32);
    return options_.objective.normalise_predictions ? normalise_targets(single, levels) : single;
  };
  const torch::Tensor predicted = finished(prediction.target);       // [M*B, Kt, D]
  const torch::Tensor target = gather_tokens(targets, mask.target);  // [M*B, Kt, D]
  torch::Tensor total = latent_regression(predicted, target, loss_);
  metrics["loss_prediction"] += share * total.item<double>();
  total = options_.objective.prediction_weight * total;

  if (prediction.context.defined() && context_weight() > 0) {
    const int64_t sets = mask.targets_per_context();
    const torch::Tensor seen = gather_tokens(targets, mask.context).repeat({sets, 1, 1});
    const torch::Tensor said = finished(prediction.context);
    const torch::Tensor loss =
        options_.objective.context_distance
            ? weighted_context_loss(said, seen, context_sqrt_distances(mask, grid), loss_)
            : latent_regression(said, seen, loss_);
    metrics["loss_context"] += share * loss.item<double>();
    total = total + context_weight() * loss;
  }
  if (projector_) {
    const auto& agreement = options_.objective.agreement;
    const AgreementTerms terms = clip_agreement(visible.to(torch::kFloat32),
                                                shifts.to(options_.device), projector_, agreement);
    metrics["agreement_invariance"] += share * terms.invariance.item<double>();
    metrics["agreement_variance"] += share * terms.variance.item<double>();
    metrics["agreement_covariance"] += share * terms.covariance.item<double>();
    metrics["agreement_shift"] += share * terms.shift.item<double>();
    const torch::Tensor loss = agreement.weight * terms.loss;
    metrics["loss_agreement"] += share * loss.item<double>();
    total = total + loss;
  }
  // Under SIGReg the slices differ by mask and step, never by what else was drawn.
  const auto terms =
      regularise(visible.to(torch::kFloat32), mask.context, grid, options_.objective.regulariser,
                 at::make_generator<at::CPUGeneratorImpl>(stream_seed(
                     options_.seed, "regulariser",
                     static_cast<uint64_t>(step_) * 64 + static_cast<uint64_t>(mask_index))));
  if (terms.loss.defined()) {
    metrics["loss_regulariser"] += share * terms.loss.item<double>();
    total = total + terms.loss;
  }
  metrics["loss"] += share * total.item<double>();
  if (trace != nullptr) {
    const torch::NoGradGuard no_grad;
    const torch::Tensor content = gather_tokens(targets - targets.mean(0, true), mask.target);
    const double all = content.square().sum().item<double>();
    const double missed = (predicted - target).square().sum().item<double>();
    if (all > 0) metrics["predicted_content"] += share * (1 - missed / all);
    trace->targets.push_back(target);
    trace->predictions.push_back(predicted.detach());
    if (prediction.context.defined()) {
      trace->context_predictions.push_back(prediction.context.detach());
    }
  }
  return total * share;
}

double Trainer::context_weight() const {
  const auto& o = options_.objective;
  if (o.context_weight == 0 || step_ < o.context_from_step) return 0.0;
  const double length =
      static_cast<double>(std::max<int64_t>(1, o.context_full_step - o.context_from_step));
  return o.context_weight *
         std::min(1.0, static_cast<double>(step_ - o.context_from_step) / length);
}

void Trainer::restore(int64_t step, const TensorMap& optimizer_state) {
  optimizer_.load_state(optimizer_state);
  step_ = step;
}

}  // namespace jepa

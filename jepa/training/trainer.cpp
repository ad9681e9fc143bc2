#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/nn/patch_embedding.hpp>
#include <jepa/random.hpp>
#include <jepa/training/loop.hpp>
#include <jepa/training/trainer.hpp>

#include <c10/util/StringUtil.h>
#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa {
namespace {

Mask mask_to(const Mask& mask, torch::Device device) {
  return {to_device(mask.context, device), to_device(mask.target, device)};
}

/// Streams of the first part of a step have the names that they had before steps had parts.
std::string part_stream(const std::string& name, int64_t part) {
  return part == 0 ? name : name + " part " + std::to_string(part);
}

void require_clips(const torch::Tensor& clips) {
  if (clips.defined() && clips.dim() == 5 && clips.numel() > 0) return;
  throw DataError(c10::str("a step needs clips [B, C, T, H, W], got ",
                           clips.defined() ? c10::str(clips.sizes()) : std::string("none")));
}

void require_precision(torch::ScalarType precision) {
  if (precision != torch::kFloat32 && precision != torch::kBFloat16) {
    throw ConfigError(c10::str("precision: float32 or bfloat16 expected, got ", precision));
  }
}

/// @throws ConfigError where views are asked for twice: rows are made by one term
void require_one_of_views(const Objective& objective) {
  std::string first;
  for (const auto& term : objective) {
    if (!term) throw ConfigError("objective: a term is null");
    if (term->views() == 1) continue;
    if (!first.empty()) {
      throw ConfigError("objective: " + first + " and " + term->name() +
                        " both ask for views of the clips; one term may");
    }
    first = term->name();
  }
}

}  // namespace

std::vector<Mask> draw_masks(const MaskSamplers& samplers, int64_t rows, const TokenGrid& grid,
                             uint64_t seed, int64_t step, int64_t part) {
  std::vector<Mask> masks;
  for (size_t i = 0; i < samplers.size(); ++i) {
    auto generator = seeded_generator(seed, part_stream("mask " + std::to_string(i), part),
                                      static_cast<uint64_t>(step));
    masks.push_back(samplers[i]->sample(rows, grid, step, generator));
  }
  return masks;
}

Trainer::Trainer(Encoder encoder, Encoder target_encoder, Predictor predictor,
                 TrainerOptions options, Objective objective)
    : options_((check(options.optimisation), require_precision(options.precision),
                require_one_of_views(objective), std::move(options))),
      encoder_((encoder->to(options_.device), encoder)),
      target_encoder_((copy_parameters(*encoder, *target_encoder),
                       target_encoder->to(options_.device), target_encoder)),
      predictor_((predictor->to(options_.device), predictor)),
      objective_(objective.empty()
                     ? make_objective(options_.objective, encoder_->output_width(), options_.seed)
                     : std::move(objective)),
      optimizer_(
          [this] {
            // Before the optimiser takes what is to be trained.
            if (options_.objective.freeze_encoder) {
              for (auto& p : encoder_->parameters()) p.set_requires_grad(false);
            }
            for (auto& [name, module] : trained_modules()) module->to(options_.device);
            return trained_modules();
          }(),
          options_.optimisation, options_.processes),
      average_(*encoder_, *target_encoder_) {
  for (auto& p : target_encoder_->parameters()) p.set_requires_grad(false);
}

std::map<std::string, std::shared_ptr<torch::nn::Module>> Trainer::trained_modules() const {
  std::map<std::string, std::shared_ptr<torch::nn::Module>> modules{
      {"encoder", encoder_.ptr()}, {"predictor", predictor_.ptr()}};
  for (const auto& term : objective_) {
    const auto module = term->module();
    if (!module) continue;
    const std::string name = term->module_name();
    // Files of a checkpoint have these names.
    if (name == "target_encoder" || name == "optimizer" || !modules.emplace(name, module).second) {
      throw ConfigError("objective: term " + term->name() + ": a module cannot be called " + name +
                        ", there is one");
    }
  }
  return modules;
}

uint64_t Trainer::part_seed(const std::string& stream) const {
  return stream_seed(options_.seed, part_stream(stream, part_), static_cast<uint64_t>(step_));
}

void Trainer::accumulate(const ClipBatch& batch, const std::vector<Mask>& masks, double share,
                         StepTrace* trace) {
  require_whole("accumulate");
  TORCH_CHECK(!masks.empty(), "a training step needs at least one mask");
  require_clips(batch.clips);
  check_clips(objective_, processes() * batch.clips.size(0));
  broken_ = true;  // until all of it is done
  if (part_ == 0) optimizer_.zero_gradients();
  // Modules may draw from the default generators (drop path): a function of the step alone.
  const DefaultGeneratorScope generators(
      options_.device, part_seed(rank() == 0 ? "step" : "step rank " + std::to_string(rank())));
  // Losses are in float32 whatever the caller computes in.
  const AutocastScope single(options_.device, torch::kFloat32);
  encoder_->train();
  predictor_->train();

  Views rows{batch.clips, {}};
  for (const auto& term : objective_) {
    if (term->views() == 1) continue;
    const int64_t clips = batch.clips.size(0);
    rows = term->make_views(batch.clips, {.first = rank() * clips, .all = processes() * clips},
                            seeded_generator(part_seed("views")));
  }
  StepContext context;
  context.clips = options_.pixels.normalise(rows.clips, options_.device);  // [R, C, T, H, W]
  context.grid = encoder_->grid(context.clips.sizes());
  context.levels = encoder_->output_levels();
  context.step = step_;
  context.seed = options_.seed;
  context.processes = options_.processes;
  const int64_t repeats = context.clips.size(0) / batch.clips.size(0);
  for (const auto& [name, values] : batch.signals) {
    context.signals[name] = to_device(values, options_.device).repeat_interleave(repeats, 0);
  }
  if (rows.changes.defined()) context.view_changes = to_device(rows.changes, options_.device);
  context.targets = make_targets(context.clips, context.grid, trace);

  // Patches are embedded once. Each mask's graph is run backward before the next one is built, so
  // only one mask's activations are alive; the embedding gets the sum of their gradients.
  torch::Tensor embedded;
  {
    const AutocastScope autocast(options_.device, options_.precision);
    embedded = encoder_->embed(context.clips);
  }
  const torch::Tensor tokens = embedded.detach().requires_grad_(embedded.requires_grad());
  const double mask_share = share / static_cast<double>(masks.size());
  sums_.set_share(mask_share);
  for (size_t i = 0; i < masks.size(); ++i) {
    context.mask = mask_to(masks[i], options_.device);
    context.mask_index = static_cast<int64_t>(i);
    const torch::Tensor loss = mask_loss(tokens, context);
    if (trace != nullptr) {
      sums_.set_share(1.0 / static_cast<double>(masks.size()));
      record(context, *trace);
      sums_.set_share(mask_share);
    }
    // Patches are embedded by all masks: their gradient, the last, comes after the loop.
    if (reducing_ && i + 1 == masks.size()) optimizer_.begin_reduce(*options_.processes);
    (loss * mask_share).backward();
  }
  if (embedded.requires_grad()) embedded.backward(tokens.grad());
  reducing_ = broken_ = false;
  ++part_;
}

void Trainer::require_whole(const char* what) const {
  TORCH_CHECK(!broken_, what, ": a micro-batch of this step ended in an error; discard() the step");
}

torch::Tensor Trainer::make_targets(const torch::Tensor& clip, const TokenGrid& grid,
                                    StepTrace* trace) {
  const torch::NoGradGuard no_grad;
  const bool pixels = options_.objective.targets == "pixels";
  torch::Tensor targets;  // [R, N, D]
  if (pixels) {
    targets = nn::unfold_patches(clip, clip.size(2) / grid.t, clip.size(3) / grid.h);
  }
  if (!pixels || trace != nullptr) {
    target_encoder_->eval();
    const AutocastScope autocast(options_.device, options_.precision);
    const torch::Tensor tokens = target_encoder_->forward(clip).to(torch::kFloat32);
    if (trace != nullptr) trace->target_tokens = tokens;
    if (!pixels) targets = tokens;
  }
  if (options_.objective.target_norm == "content") {
    if (processes() == 1) return content_targets(targets);
    const int64_t own = targets.size(0);
    return content_targets(options_.processes->gather(targets)).narrow(0, rank() * own, own);
  }
  return pixels ? targets : normalise_targets(targets, encoder_->output_levels());
}

torch::Tensor Trainer::mask_loss(const torch::Tensor& tokens, StepContext& context) {
  Prediction prediction;
  torch::Tensor visible;  // [R, Kc, D]
  {
    const AutocastScope autocast(options_.device, options_.precision);
    const Mask& mask = context.mask;
    visible = encoder_->encode(gather_tokens(tokens, mask.context), context.grid, mask.context);
    prediction = predictor_->forward(visible, mask, context.grid, context.mask_index);
  }
  const auto finished = [&](const torch::Tensor& x) {
    if (!x.defined()) return x;
    const torch::Tensor single = x.to(torch::kFloat32);
    return options_.objective.normalise_predictions ? normalise_targets(single, context.levels)
                                                    : single;
  };
  context.visible = visible.to(torch::kFloat32);
  context.predicted = finished(prediction.target);
  context.predicted_context = finished(prediction.context);
  torch::Tensor total;
  for (const auto& term : objective_) {
    const torch::Tensor loss = term->loss(context, sums_);
    if (!loss.defined()) continue;
    TORCH_CHECK(loss.dim() == 0, "term ", term->name(), ": its loss is to be a scalar, got ",
                loss.sizes());
    total = total.defined() ? total + loss : loss;
  }
  TORCH_CHECK(total.defined(), "step ", step_ + 1, ": no term of the objective gave a loss");
  sums_.add("loss", total);
  return total;
}

void Trainer::record(const StepContext& context, StepTrace& trace) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor target = context.hidden_targets();
  auto& others = options_.processes == nullptr ? process_alone() : *options_.processes;
  const torch::Tensor mean = mean_over_processes(context.targets.mean(0, true), others);
  const torch::Tensor content = gather_tokens(context.targets - mean, context.mask.target);
  // Missed and all, of the clips of all processes; a mean of ratios would be another number.
  const torch::Tensor squares = mean_over_processes(
      torch::stack({(context.predicted - target).square().sum(), content.square().sum()}), others);
  sums_.add("predicted_content", torch::where(squares[1] > 0, 1 - squares[0] / squares[1], 0.0));
  trace.targets.push_back(target);
  trace.predictions.push_back(context.predicted.detach());
  if (context.predicted_context.defined()) {
    trace.context_predictions.push_back(context.predicted_context.detach());
  }
}

int64_t Trainer::processes() const {
  return options_.processes == nullptr ? 1 : options_.processes->count();
}

int64_t Trainer::rank() const {
  return options_.processes == nullptr ? 0 : options_.processes->rank();
}

std::vector<Mask> Trainer::draw_masks(const MaskSamplers& samplers, const ClipBatch& clips) const {
  require_clips(clips.clips);
  const int64_t rows = views() * clips.clips.size(0), all = processes() * rows;
  const TokenGrid grid = encoder_->grid(clips.clips.sizes());
  auto masks = jepa::draw_masks(samplers, all, grid, options_.seed, step_, part_);
  if (processes() == 1) return masks;
  const auto own = [&](const torch::Tensor& ids) {  // rows come in runs of one for each target set
    return ids.view({-1, all, ids.size(1)})
        .narrow(1, rank() * rows, rows)
        .reshape({-1, ids.size(1)});
  };
  for (auto& mask : masks) mask = {own(mask.context), own(mask.target)};
  return masks;
}

void Trainer::reduce() {
  require_whole("reduce");
  if (processes() > 1) optimizer_.reduce(*options_.processes, sums_);
}

StepMetrics Trainer::apply() {
  require_whole("apply");
  TORCH_CHECK(part_ > 0, "apply: nothing was accumulated");
  const auto& o = options_.optimisation;
  const StepRates rates = rates_at(o, step_ + 1);
  const double limit = step_ >= o.clip_from_step ? o.clip_gradient : 0.0;
  sums_.set_share(1);
  for (const auto& name : optimizer_.modules()) {
    sums_.add("grad_norm_" + name, optimizer_.clip_gradients(name, limit));
  }
  StepMetrics metrics = sums_.read();
  discard();
  check_finite(metrics, step_);
  metrics.try_emplace("grad_norm_encoder", 0.0);  // frozen
  metrics["lr"] = rates.lr;
  metrics["weight_decay"] = rates.weight_decay;
  metrics["momentum"] = rates.momentum;
  optimizer_.step(rates);
  if (rates.momentum < 1) average_.update(rates.momentum);
  ++step_;
  return metrics;
}

void Trainer::discard() {
  sums_.clear();
  part_ = 0;
  reducing_ = broken_ = false;
}

StepMetrics Trainer::step(const torch::Tensor& clips, const std::vector<Mask>& masks,
                          StepTrace* trace) {
  discard();
  accumulate({.clips = clips}, masks, 1.0, trace);
  return apply();
}

std::map<std::string, TensorMap> Trainer::tensors() const {
  std::map<std::string, TensorMap> all{{"target_encoder", state_dict(*target_encoder_)},
                                       {"optimizer", optimizer_.state()}};
  for (const auto& [name, module] : trained_modules()) all[name] = state_dict(*module);
  return all;
}

void Trainer::restore(int64_t step, const std::string& folder) {
  const auto load = [&](const std::string& name, torch::nn::Module& module) {
    const std::string path = folder + "/" + name + ".safetensors";
    load_into(module, read_safetensors(path).tensors, path);
  };
  for (const auto& [name, module] : trained_modules()) load(name, *module);
  load("target_encoder", *target_encoder_);
  restore_moments(read_safetensors(folder + "/optimizer.safetensors").tensors);
  step_ = step;
  discard();
}

void Trainer::restore_moments(const TensorMap& moments) { optimizer_.load_state(moments); }

}  // namespace jepa

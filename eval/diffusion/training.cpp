#include <eval/diffusion/saved_run.hpp>
#include <eval/diffusion/training.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/weights.hpp>

#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cstdio>

namespace jepa::eval::diffusion {
namespace {

/// Withholds whole conditions, single words of those that stay, and prompts of clips some of whose
/// groups are `given`, [B, G].
Condition withhold(const Condition& condition, const torch::Tensor& given,
                   const DiffusionOptions& options, at::Generator& generator) {
  const int64_t batch = given.size(0);
  const auto kept = torch::rand({batch, 1}, generator).ge(options.dropout);
  Condition shown;
  if (condition.prompt.defined()) {
    const auto words = torch::rand(condition.prompt.sizes(), generator).ge(options.dropout);
    const auto needed =
        given.any(1, /*keepdim=*/true)
            .logical_not()
            .logical_or(torch::rand({batch, 1}, generator).ge(options.given_dropout));
    shown.prompt = condition.prompt * to_device(kept.logical_and(words).logical_and(needed),
                                                condition.prompt.device());
  }
  if (condition.latents.defined()) {
    shown.latents = condition.latents * to_device(kept.unsqueeze(2), condition.latents.device());
  }
  return shown;
}

}  // namespace

void DiffusionOptions::describe(OptionVisitor& visit) {
  visit("prediction", prediction,
        {.help = "what the network predicts: data, noise or velocity", .choices = {"x", "e", "v"}});
  visit("loss", loss, {.help = "what the loss is of", .choices = {"x", "e", "v"}});
  visit("path", path, {.help = "from noise to data", .choices = {"linear", "cosine", "vp"}});
  visit("floor", floor,
        {.help = "smallest share of noise or data that is divided by", .min = 1e-6, .max = 0.5});
  visit(
      "dropout", dropout,
      {.help = "share of samples, and of words, whose condition is withheld", .min = 0, .max = 1});
  visit("given_share", given_share,
        {.help = "share of clips that are shown some of their frames", .min = 0, .max = 1});
  visit("given_dropout", given_dropout,
        {.help = "share of those whose prompt is withheld", .min = 0, .max = 1});
  visit("average", average, {.help = "momentum of the weights' average", .min = 0, .max = 1});
  visit("deterministic", deterministic,
        {.help = "no noise: predicts the mean of the data under its condition in one pass"});
}

torch::Tensor draw_given_frames(int64_t batch, int64_t groups, double share,
                                at::Generator generator) {
  auto given = torch::zeros({batch, groups}, torch::kBool);
  if (groups < 2 || share <= 0) return given;
  const auto chosen = torch::rand({batch}, generator);
  const auto kinds = torch::randint(4, {batch}, generator);
  const auto counts = torch::randint(1, groups, {batch}, generator);
  for (int64_t i = 0; i < batch; ++i) {
    if (chosen[i].item<float>() >= share) continue;
    const int64_t count = counts[i].item<int64_t>();
    auto row = given[i];
    switch (kinds[i].item<int64_t>()) {
      case 0:
        row.narrow(0, 0, count).fill_(true);
        break;
      case 1:
        row.narrow(0, groups - count, count).fill_(true);
        break;
      case 2:
        row.narrow(0, 0, (count + 1) / 2).fill_(true);
        row.narrow(0, groups - count / 2, count / 2).fill_(true);
        break;
      default:
        row.index_fill_(0, torch::randperm(groups, generator).narrow(0, 0, count), true);
    }
  }
  return given;
}

DiffusionTask::DiffusionTask(DiffusionTransformer model, DiffusionTransformer average,
                             const DiffusionOptions& options,
                             const OptimisationOptions& optimisation, uint64_t seed,
                             Prepare prepare, Example validation, Processes* processes)
    : model_(std::move(model)),
      average_(std::move(average)),
      options_(options),
      optimisation_(optimisation),
      path_(options.path, options.floor),
      prediction_(quantity(options.prediction)),
      loss_(quantity(options.loss)),
      seed_(seed),
      prepare_(std::move(prepare)),
      validation_(std::move(validation)),
      processes_(processes == nullptr ? process_alone() : *processes),
      optimizer_({{"model", model_.ptr()}}, optimisation, processes),
      moving_average_(*model_, *average_) {
  for (auto& p : average_->parameters()) p.set_requires_grad(false);
}

torch::Tensor DiffusionTask::loss(DiffusionTransformer& model, const Example& example,
                                  const torch::Tensor& noise, const torch::Tensor& t) {
  const AutocastScope autocast(example.x.device(), options_.precision);
  if (options_.deterministic) {
    const auto nothing = torch::zeros_like(example.x);
    const auto predicted = model->forward(nothing, torch::zeros_like(t), example.condition);
    return (predicted - example.x).abs().mean();
  }
  const auto predicted = model->forward(path_.mix(example.x, noise, t), t, example.condition);
  return path_.loss(prediction_, loss_, predicted, example.x, noise, t);
}

StepMetrics DiffusionTask::step(const ClipBatch& batch, bool watched,
                                std::map<std::string, std::string>& texts) {
  Example example = prepare_(batch, step_);
  const int64_t count = example.x.size(0);
  const int64_t groups = model_->grid(example.x.sizes()).t;
  auto generator = seeded_generator(seed_, "diffusion", step_);
  const auto noise = torch::randn(example.x.sizes(), generator);
  auto t = draw_times(count, options_.times, generator).unsqueeze(1).repeat({1, groups});
  // A deterministic network is shown no frames: it predicts all of them in one pass.
  const double given_share = options_.deterministic ? 0 : options_.given_share;
  const auto given = draw_given_frames(count, groups, given_share, generator);
  t.masked_fill_(given, 1.0);
  example.condition = withhold(example.condition, given, options_, generator);

  model_->train();
  optimizer_.zero_gradients();
  // The loss is a mean over what is predicted: a micro-batch counts by how much of that it has.
  const auto unsaid = t.lt(1).to(torch::kFloat32);
  const auto all_unsaid = unsaid.sum().clamp_min(1);
  MetricSums sums;
  const auto parts = micro_batches(optimisation_, count);
  for (const MicroBatch& whole : parts) {
    const RowRange part = own_rows({whole.start, whole.count}, processes_);
    const auto rows = [&](const torch::Tensor& x) {
      return to_device(x.narrow(0, part.start, part.count), example.x.device());
    };
    // Of several processes the mean is taken: a sum over them is wanted.
    const auto own_share = unsaid.narrow(0, part.start, part.count).sum() / all_unsaid;
    const double share = static_cast<double>(processes_.count()) * own_share.item<double>();
    const auto value =
        share * loss(model_, {rows(example.x), example.condition.rows(part.start, part.count)},
                     rows(noise), rows(t));
    if (&whole == &parts.back()) optimizer_.begin_reduce(processes_);
    value.backward();
    sums.add("loss", value);
  }
  optimizer_.reduce(processes_, sums);
  const StepMetrics metrics = apply_gradients(optimizer_, optimisation_, step_, sums);
  // The average forgets its random start: a young one moves faster.
  const double age = static_cast<double>(step_);
  moving_average_.update(std::min(options_.average, (1 + age) / (10 + age)));
  ++step_;
  return metrics;
}

StepMetrics DiffusionTask::evaluate() {
  if (!validation_.x.defined()) return {};
  const torch::NoGradGuard no_grad;
  average_->eval();
  constexpr int kTimes = 10;
  StepMetrics metrics;
  double sum = 0;
  const auto noise = torch::randn(validation_.x.sizes(), seeded_generator(seed_, "validation", 0))
                         .to(validation_.x.device());
  for (int i = 0; i < kTimes; ++i) {
    const double time = (i + 0.5) / kTimes;
    const auto t = torch::full({validation_.x.size(0)}, time, validation_.x.options());
    const double value = loss(average_, validation_, noise, t).item<double>();
    char name[32];
    std::snprintf(name, sizeof name, "loss_at_%.2f", time);
    metrics[name] = value;
    sum += value / kTimes;
  }
  metrics["validation_loss"] = sum;
  const int64_t groups = model_->grid(validation_.x.sizes()).t;
  if (options_.given_share > 0 && !options_.deterministic && groups > 1) {
    // What of the frames ahead is known from a third of the frames, when little else tells of them.
    auto t = torch::full({validation_.x.size(0), groups}, 0.05, validation_.x.options());
    t.narrow(1, 0, std::max<int64_t>(1, groups / 3)).fill_(1.0);
    const Example unprompted{validation_.x, validation_.condition.nothing()};
    metrics["loss_given_at_0.05"] = loss(average_, unprompted, noise, t).item<double>();
  }
  metrics["score"] = -sum;
  return metrics;
}

std::map<std::string, TensorMap> DiffusionTask::tensors() const {
  return {{"model", state_dict(*model_)},
          {"average", state_dict(*average_)},
          {"optimizer", optimizer_.state()}};
}

void DiffusionTask::restore(int64_t step, const std::string& folder) {
  load_saved(folder, "model", *model_);
  load_saved(folder, "average", *average_);
  optimizer_.load_state(read_safetensors(folder + "/optimizer.safetensors").tensors);
  step_ = step;
}

}  // namespace jepa::eval::diffusion

#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/objectives/terms.hpp>

#include <torch/nn/module.h>
#include <torch/types.h>

#include <algorithm>

namespace jepa {

at::Generator StepContext::generator(std::string_view name) const {
  return seeded_generator(seed, name,
                          static_cast<uint64_t>(step) * 64 + static_cast<uint64_t>(mask_index));
}

const torch::Tensor& StepContext::signal(const std::string& name) const {
  const auto found = signals.find(name);
  if (found != signals.end()) return found->second;
  std::string names;
  for (const auto& [there, values] : signals) names += (names.empty() ? "" : ", ") + there;
  throw DataError("no signal '" + name + "' comes with the clips; there is " +
                  (names.empty() ? "none" : names));
}

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

PredictionTerm::PredictionTerm(const ObjectiveOptions& options)
    : options_(options), kind_(latent_loss_from_name(options.loss)) {}

torch::Tensor PredictionTerm::loss(const StepContext& step, MetricSums& metrics) {
  const torch::Tensor loss = latent_regression(step.predicted, step.hidden_targets(), kind_);
  metrics.add("loss_prediction", loss);
  return options_.prediction_weight * loss;
}

std::string PredictionTerm::compares_clips() const {
  return options_.target_norm == "content" ? "objective.target_norm = content" : "";
}

ContextTerm::ContextTerm(const ObjectiveOptions& options)
    : options_(options), kind_(latent_loss_from_name(options.loss)) {}

torch::Tensor ContextTerm::loss(const StepContext& step, MetricSums& metrics) {
  const double weight = this->weight(step.step);
  if (!step.predicted_context.defined() || weight == 0) return {};
  const int64_t sets = step.mask.targets_per_context();
  const torch::Tensor targets = gather_tokens(step.targets, step.mask.context).repeat({sets, 1, 1});
  const torch::Tensor loss =
      options_.context_distance
          ? weighted_context_loss(step.predicted_context, targets,
                                  context_sqrt_distances(step.mask, step.grid), kind_)
          : latent_regression(step.predicted_context, targets, kind_);
  metrics.add("loss_context", loss);
  return weight * loss;
}

double ContextTerm::weight(int64_t step) const {
  const auto& o = options_;
  if (step < o.context_from_step) return 0.0;
  const double length =
      static_cast<double>(std::max<int64_t>(1, o.context_full_step - o.context_from_step));
  return o.context_weight * std::min(1.0, static_cast<double>(step - o.context_from_step) / length);
}

AgreementTerm::AgreementTerm(const AgreementOptions& options, int64_t dim, uint64_t seed)
    : options_(options), projector_(dim, options.width, options.hidden_layers) {
  if (options.kind != "vicreg" && options.kind != "sigreg") {
    throw ConfigError("agreement.kind: expected vicreg or sigreg, found '" + options.kind + "'");
  }
  if (options.views % 2 != 0 || (options.kind == "vicreg" && options.views != 2)) {
    throw ConfigError(
        "agreement.views: vicreg compares two views and sigreg an even number, found " +
        std::to_string(options.views));
  }
  projector_->initialise(seeded_generator(seed, "projector"));
}

Views AgreementTerm::make_views(const torch::Tensor& clips, const RowShare& share,
                                at::Generator generator) const {
  const ShiftedViews shifted =
      shifted_views(clips, options_, std::move(generator), share.first, share.all);
  return {shifted.clips, shifted.shifts};
}

torch::Tensor AgreementTerm::loss(const StepContext& step, MetricSums& metrics) {
  const AgreementTerms terms =
      clip_agreement(step.whole(step.visible), step.whole(step.view_changes), projector_, options_,
                     step.generator("agreement"));
  metrics.add("agreement_invariance", terms.invariance);
  if (terms.sigreg.defined()) {
    metrics.add("agreement_sigreg", terms.sigreg);
  } else {
    metrics.add("agreement_variance", terms.variance);
    metrics.add("agreement_covariance", terms.covariance);
  }
  metrics.add("agreement_shift", terms.shift);
  const torch::Tensor loss = options_.weight * terms.loss;
  metrics.add("loss_agreement", loss);
  return loss;
}

torch::Tensor RegulariserTerm::loss(const StepContext& step, MetricSums& metrics) {
  // Under SIGReg the slices differ by mask and step, never by what else was drawn.
  const RegulariserTerms terms = regularise(step.whole(step.visible), step.whole(step.mask.context),
                                            step.grid, options_, step.generator("regulariser"));
  metrics.add("loss_regulariser", terms.loss);
  return terms.loss;
}

std::string RegulariserTerm::compares_clips() const {
  return options_.on == "tokens" ? "" : "regulariser.on = " + options_.on;
}

Objective make_objective(const ObjectiveOptions& options, int64_t dim, uint64_t seed) {
  Objective terms{std::make_shared<PredictionTerm>(options)};
  if (options.context_weight > 0) terms.push_back(std::make_shared<ContextTerm>(options));
  if (options.agreement.weight > 0) {
    terms.push_back(std::make_shared<AgreementTerm>(options.agreement, dim, seed));
  }
  if (options.regulariser.kind != "none") {
    terms.push_back(std::make_shared<RegulariserTerm>(options.regulariser));
  }
  return terms;
}

int64_t views_of(const Objective& objective) {
  int64_t views = 1;
  for (const auto& term : objective) views = std::max(views, term->views());
  return views;
}

void check_clips(const Objective& objective, int64_t clips) {
  if (clips > 1) return;
  for (const auto& term : objective) {
    const std::string what = term->compares_clips();
    if (what.empty()) continue;
    throw ConfigError(what +
                      ": compares the clips of a micro-batch, but there is one; enlarge "
                      "loader.batch or lower optimisation.accumulate");
  }
}

}  // namespace jepa

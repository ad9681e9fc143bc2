// The library's own terms: prediction, its context, agreement of views, regularisers.
#pragma once

#include <jepa/objectives/clip_agreement.hpp>
#include <jepa/objectives/latent_regression.hpp>
#include <jepa/objectives/regulariser.hpp>
#include <jepa/objectives/term.hpp>
#include <jepa/options.hpp>

#include <cstdint>
#include <string>

namespace jepa {

/// What is minimised.
struct ObjectiveOptions {
  std::string loss = "l1";  ///< l1, l2, smooth_l1, on normalised targets
  /// "token": layer norm of each token (V-JEPA; pixels stay as they are); "content": less the
  /// position's batch mean, over the dimension's deviation.
  std::string target_norm = "token";
  /// What is predicted of hidden patches: the target encoder's latents, or (the generative control
  /// with the same trunk) their normalised pixels as they are.
  std::string targets = "latents";
  /// V-JEPA 2.1: weight of the loss on visible tokens, rising linearly between the two steps.
  double context_weight = 0.0;
  int64_t context_from_step = 15000;
  int64_t context_full_step = 30000;
  bool context_distance = true;        ///< weight a token by 1/sqrt(distance to the nearest target)
  bool normalise_predictions = false;  ///< layer-norm the predictions as the targets
  double prediction_weight = 1.0;      ///< of the masked prediction; 0 leaves the other terms alone
  bool freeze_encoder = false;         ///< only the predictor learns, as a control
  RegulariserOptions regulariser = {};
  AgreementOptions agreement = {};

  /// All but regulariser and agreement, which are sections of their own.
  void describe(OptionVisitor& visit);
};

/// The masked prediction: the loss on hidden tokens (V-JEPA, arXiv 2404.08471).
class PredictionTerm : public ObjectiveTerm {
 public:
  explicit PredictionTerm(const ObjectiveOptions& options);
  std::string name() const override { return "prediction"; }
  torch::Tensor loss(const StepContext& step, MetricSums& metrics) override;
  std::string compares_clips() const override;

 private:
  ObjectiveOptions options_;
  LatentLoss kind_;
};

/// V-JEPA 2.1's loss on the visible tokens (arXiv 2603.14482).
class ContextTerm : public ObjectiveTerm {
 public:
  explicit ContextTerm(const ObjectiveOptions& options);
  std::string name() const override { return "context"; }
  torch::Tensor loss(const StepContext& step, MetricSums& metrics) override;

 private:
  double weight(int64_t step) const;

  ObjectiveOptions options_;
  LatentLoss kind_;
};

/// The agreement of the views of each clip (clip_agreement.hpp).
class AgreementTerm : public ObjectiveTerm {
 public:
  /// @param dim width of the encoder's tokens
  /// @param seed of the run; draws the projector's first weights
  /// @throws ConfigError for an odd number of views, or VICReg of more than two
  AgreementTerm(const AgreementOptions& options, int64_t dim, uint64_t seed);
  std::string name() const override { return "agreement"; }
  torch::Tensor loss(const StepContext& step, MetricSums& metrics) override;
  std::shared_ptr<torch::nn::Module> module() const override { return projector_.ptr(); }
  std::string module_name() const override { return "projector"; }
  int64_t views() const override { return options_.views; }
  Views make_views(const torch::Tensor& clips, const RowShare& share,
                   at::Generator generator) const override;
  std::string compares_clips() const override { return "agreement.weight"; }

 private:
  AgreementOptions options_;
  ClipProjector projector_;
};

/// VICReg or SIGReg on a choice of the visible tokens (regulariser.hpp).
class RegulariserTerm : public ObjectiveTerm {
 public:
  explicit RegulariserTerm(const RegulariserOptions& options) : options_(options) {}
  std::string name() const override { return "regulariser"; }
  torch::Tensor loss(const StepContext& step, MetricSums& metrics) override;
  std::string compares_clips() const override;

 private:
  RegulariserOptions options_;
};

/// The terms that `options` ask for. `dim` is the width of the encoder's tokens.
/// @throws ConfigError for an unknown name
Objective make_objective(const ObjectiveOptions& options, int64_t dim, uint64_t seed);

/// Rows that a step makes of each clip: the most that a term asks for.
int64_t views_of(const Objective& objective);

/// @throws ConfigError where a term compares clips and micro-batches of `clips` have but one
void check_clips(const Objective& objective, int64_t clips);

}  // namespace jepa

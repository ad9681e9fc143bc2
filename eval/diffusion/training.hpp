// One training step of every diffusion model here: pixels, latents of an autoencoder, or pixels
// that are decoded from a JEPA's latents.
#pragma once

#include <eval/diffusion/diffusion_transformer.hpp>
#include <eval/diffusion/interpolant.hpp>
#include <eval/diffusion/sampler.hpp>
#include <jepa/training/loop.hpp>
#include <jepa/training/optimizer.hpp>

#include <functional>
#include <map>
#include <string>

namespace jepa::eval::diffusion {

/// What is predicted, compared and drawn.
struct DiffusionOptions {
  std::string prediction = "x";  ///< what the network predicts: x, e or v
  std::string loss = "v";        ///< what the loss is of: x, e or v
  std::string path = "linear";   ///< linear, cosine, vp
  double floor = 0.05;           ///< smallest alpha or sigma that is divided by
  TimeOptions times = {};
  double dropout = 0.1;      ///< share of samples, and of words, whose condition is withheld
  double given_share = 0.5;  ///< of clips that are shown some of their frames
  /// Share of those clips whose prompt is withheld. At `dropout` alone the network would leave the
  /// frames unread: the words say where to go.
  double given_dropout = 0.5;
  double average = 0.999;  ///< momentum of the weights' average, which is what samples
  /// No noise and no time: the network predicts the mean of x under its condition, in one pass.
  bool deterministic = false;
  torch::ScalarType precision = torch::kFloat32;  ///< of matrix products in training

  void describe(OptionVisitor& visit);
};

/// Frames shown clean, bool [batch, groups]: a share of the rows get the first k groups, the last
/// k, both ends, or any; never all. The others none.
torch::Tensor draw_given_frames(int64_t batch, int64_t groups, double share,
                                at::Generator generator);

/// Trains a diffusion transformer.
class DiffusionTask : public TrainingTask {
 public:
  /// What a batch of clips, uint8 [B, C, T, H, W], is to the network: its data x, float
  /// [B, C', T', H', W'], and what is known of it.
  struct Example {
    torch::Tensor x;
    Condition condition;
  };
  using Prepare = std::function<Example(const ClipBatch& batch, int64_t step)>;

  /// @param validation held-out examples for the loss at ten fixed times; x undefined: none
  /// @param processes that train together, each given the whole batch, of which it takes its rows;
  ///   null: this one alone
  DiffusionTask(DiffusionTransformer model, DiffusionTransformer average,
                const DiffusionOptions& options, const OptimisationOptions& optimisation,
                uint64_t seed, Prepare prepare, Example validation, Processes* processes = nullptr);

  int64_t steps_done() const override { return step_; }
  StepMetrics step(const ClipBatch& batch, bool watched,
                   std::map<std::string, std::string>& texts) override;
  /// `loss_at_0.05` ... `loss_at_0.95` of the averaged weights, their mean `validation_loss`, and
  /// `score`, minus that mean. Noise and times are always the same. Where training shows frames,
  /// also `loss_given_at_0.05`: a third of the frames given, no prompt, the rest all but noise.
  StepMetrics evaluate() override;
  std::map<std::string, TensorMap> tensors() const override;
  void restore(int64_t step, const std::string& checkpoint_folder) override;

  DiffusionTransformer& average() { return average_; }

 private:
  /// All on the model's device.
  torch::Tensor loss(DiffusionTransformer& model, const Example& example,
                     const torch::Tensor& noise, const torch::Tensor& t);

  DiffusionTransformer model_;
  DiffusionTransformer average_;
  DiffusionOptions options_;
  OptimisationOptions optimisation_;
  Interpolant path_;
  Quantity prediction_;
  Quantity loss_;
  uint64_t seed_;
  Prepare prepare_;
  Example validation_;
  Processes& processes_;
  AdamW optimizer_;
  MovingAverage moving_average_;
  int64_t step_ = 0;
};

}  // namespace jepa::eval::diffusion

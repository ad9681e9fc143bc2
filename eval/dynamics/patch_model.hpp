// A world model over patches: a frozen encoder, and a predictor of the next frame's tokens on top.
#pragma once

#include <encoders/published.hpp>
#include <eval/dynamics/model.hpp>
#include <eval/planning/world_model.hpp>
#include <jepa/grid.hpp>
#include <jepa/options.hpp>
#include <predictors/action_conditioned.hpp>
#include <predictors/adaln.hpp>

#include <torch/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::dynamics {

/// Which encoder and which predictor. Sizes that are the data's or the encoder's are 0 until a
/// model is made.
struct PatchOptions {
  std::string weights;                    ///< of the encoder; empty: no model of patches
  std::string module = "target_encoder";  ///< or "encoder", of weights that hold both
  encoders::LoadOptions load;
  int64_t size = 0;  ///< frames are scaled to this many pixels a side; 0: as they are
  std::string predictor = "action_conditioned";  ///< or "adaln"
  bool states = false;  ///< the clips' signal `state` beside the actions; false: zeros
  int64_t rollout_steps = 2;
  predictors::ActionConditionedOptions action_conditioned{.action_width = 0, .state_width = 0};
  predictors::AdaLnOptions adaln{.dim = 0, .tokens = 0};

  bool given() const { return !weights.empty(); }
  /// [patches], [action_conditioned], [adaln]
  std::vector<OptionSection> sections();
};

/// The model as a planner takes it. The latent of a frame is its n layer-normed tokens side by
/// side, n * D numbers; an action is a block. Each frame is encoded by itself, repeated to fill the
/// encoder's tubelet (V-JEPA 2-AC, section 3).
class PatchDynamicsModel : public planning::WorldModel {
 public:
  /// Opens the encoder; the predictor is without weights until `initialise` or a load.
  /// @param frames sizes of frames and actions, block and actions' statistics; its encoder's shape
  ///   is not used
  /// @param state_width of the data's states; 0: not known
  /// @throws CheckpointError for the weights; DataError where frames or actions do not fit;
  ///   ConfigError where options contradict each other
  PatchDynamicsModel(const ModelOptions& frames, const PatchOptions& patches,
                     int64_t state_width = 0);

  /// @param frames uint8 [N, C, H, W] @throws DataError for frames of another size
  torch::Tensor encode(const torch::Tensor& frames) override;
  /// Latents of every frame, without gradient.
  /// @param clips uint8 [B, C, T, H, W] @returns [B, T, n * D]
  /// @throws DataError for frames of another size
  torch::Tensor encode_clips(const torch::Tensor& clips);
  /// With zeros as states. `adaln` looks back over its last `frames`, positions count from the
  /// window's start; `action_conditioned` sees all. With gradient where the actions have one.
  torch::Tensor rollout(const torch::Tensor& past, const torch::Tensor& past_actions,
                        const torch::Tensor& actions) override;
  int64_t action_width() const override { return options.action_width * options.block; }

  /// One frame ahead of each of h frames, from it and those before.
  /// @param latents [B, h, n * D] @param actions leaving each frame [B, h, A]
  /// @param states [B, h, S]; undefined: zeros @returns [B, h, n * D]
  torch::Tensor predict(const torch::Tensor& latents, const torch::Tensor& actions,
                        const torch::Tensor& states = {});
  /// `steps` frames after `past` [B, h, n * D]. @param actions, states h + steps - 1 of them
  torch::Tensor imagine(const torch::Tensor& past, const torch::Tensor& actions,
                        const torch::Tensor& states, int64_t steps);
  /// What the action-conditioned predictor takes; zeros where `states` is undefined.
  predictors::Conditions conditions(const torch::Tensor& actions,
                                    const torch::Tensor& states) const;

  /// Frames that a prediction looks back over at most; 0: any.
  int64_t window() const { return adaln == nullptr ? 0 : adaln->history(); }
  /// Modules that are trained, by the names of their files.
  std::map<std::string, std::shared_ptr<torch::nn::Module>> trained() const;
  void initialise(uint64_t seed);
  /// The same encoder under a predictor that nothing has trained.
  std::unique_ptr<PatchDynamicsModel> untrained(uint64_t seed) const;
  /// Encoder and predictor.
  void to(torch::Device device);
  torch::Device device() const { return encoder->parameters().front().device(); }
  /// Tells the encoder's weights from others.
  int64_t encoder_fingerprint() const;

  ModelOptions options;
  PatchOptions patches;  ///< with all sizes
  torch::ScalarType precision = torch::kFloat32;
  TokenGrid grid;     ///< of one frame
  int64_t width = 0;  ///< D
  PixelStatistics pixels;
  std::string summary;  ///< one line on the encoder, to be printed
  Encoder encoder{nullptr};
  predictors::ActionConditionedPredictor action_conditioned{nullptr};  ///< one of them
  std::shared_ptr<LatentPredictor> adaln;

 private:
  void fit_frames();
  void make_predictor(int64_t state_width);
  torch::Tensor tokens(const torch::Tensor& latents) const;
};

/// A batch's loss.
struct PatchLoss {
  torch::Tensor one_step;  ///< predictions of each frame from the true ones before it
  torch::Tensor rollout;   ///< predictions fed back in; undefined for `adaln`
  torch::Tensor total;
};

/// For `action_conditioned` V-JEPA 2-AC's two mean absolute errors; for `adaln` the mean squared
/// error of `teacher_forced_error()`.
/// @param latents [B, T, n * D] @param actions [B, T - 1, A] as the model takes them
/// @param states [B, T or more, S]; undefined: zeros
/// @throws ConfigError where the clips are too short for `rollout_steps`
PatchLoss patch_loss(PatchDynamicsModel& model, const torch::Tensor& latents,
                     const torch::Tensor& actions, const torch::Tensor& states);

}  // namespace jepa::eval::dynamics

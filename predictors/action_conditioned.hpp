// Action-conditioned predictor of V-JEPA 2-AC: from frames, actions and states to the next frames.
#pragma once

#include <jepa/grid.hpp>
#include <jepa/nn/block.hpp>
#include <jepa/options.hpp>

#include <memory>
#include <vector>

namespace jepa::predictors {

/// Shape of an action-conditioned predictor. The defaults are V-JEPA 2-AC's.
struct ActionConditionedOptions {
  int64_t dim = 1024;
  int64_t depth = 24;
  int64_t heads = 16;
  double mlp_ratio = 4;
  int64_t action_width = 7;      ///< change of position, of Euler angles, of the gripper
  int64_t state_width = 7;       ///< position, Euler angles [rad], gripper
  int64_t extrinsics_width = 6;  ///< camera pose
  bool use_extrinsics = false;
  /// Rotary positions along h and w are scaled to this many patches a side; 0: as they are.
  int64_t rope_side = 0;
  bool checkpointing = false;  ///< recompute blocks in backward to save memory

  void describe(OptionVisitor& visit);
};

/// What conditions a prediction: one row per time step.
struct Conditions {
  torch::Tensor actions;     ///< [B, T, action_width]
  torch::Tensor states;      ///< [B, T, state_width]
  torch::Tensor extrinsics;  ///< [B, T, extrinsics_width], or undefined

  /// The first `steps` time steps.
  Conditions first(int64_t steps) const { return part(0, steps); }
  /// `steps` time steps from `start`.
  Conditions part(int64_t start, int64_t steps) const;
};

/// Block-causal transformer: in each time step the sequence is [action, state, (extrinsics), frame
/// tokens], a step sees itself and the past, and the output at a frame token is that token of the
/// next frame (Assran et al. 2025, section 3). Parameter names are the published ones; weights are
/// uninitialised until `initialise()` or a loader fills them.
class ActionConditionedPredictorImpl : public torch::nn::Module {
 public:
  /// @param encoder_width width of a frame token
  /// @throws ConfigError where sizes are missing or do not divide
  ActionConditionedPredictorImpl(ActionConditionedOptions options, int64_t encoder_width);

  /// @param tokens [B, T*h*w, encoder_width], T time steps of `grid.h` x `grid.w` tokens
  /// @returns the frames one step later, [B, T*h*w, encoder_width]
  torch::Tensor forward(const torch::Tensor& tokens, const Conditions& conditions,
                        const TokenGrid& grid);

  /// Keys and values of the frames that were already seen, so that a further frame costs one
  /// frame of tokens and not the whole history.
  struct Cache {
    std::vector<torch::Tensor> keys, values;  ///< of each block [B, heads, capacity, d]
    /// Of frames that `times` neighbouring rows have in common [B / times, heads, n, d], or none.
    std::vector<torch::Tensor> common_keys, common_values;
    nn::RotaryTable rotary;  ///< of all steps there is room for
    TokenGrid frame{1, 0, 0};
    int64_t times = 1;
    int64_t common = 0;    ///< steps in common
    int64_t steps = 0;     ///< seen so far, the common ones too
    int64_t capacity = 0;  ///< steps there is room for, likewise
  };
  /// An empty cache for `batch` rows of up to `steps` frames of `h` x `w` tokens.
  Cache start_cache(int64_t batch, int64_t steps, int64_t h, int64_t w) const;
  /// Many futures of one history: every row `times` times, neighbours the same, with room for
  /// `room` further frames. The history's keys and values are shared, so leave it as it is.
  Cache branch(const Cache& history, int64_t times, int64_t room) const;
  /// Takes n >= 1 further frames, without gradients. @param tokens [B, n*h*w, encoder_width]
  /// @param conditions of these n steps alone
  /// @returns as `forward` would for these frames, [B, n*h*w, encoder_width]
  torch::Tensor extend(Cache& cache, const torch::Tensor& tokens, const Conditions& conditions);

  void initialise(at::Generator generator);
  /// Floating-point operations of one forward pass over `grid.t` steps of one clip.
  double flops(const TokenGrid& grid) const;
  const ActionConditionedOptions& options() const { return options_; }

 private:
  int64_t conditions_per_step() const { return options_.use_extrinsics ? 3 : 2; }
  /// What attention needs of a grid: which tokens see which, and where they stand.
  struct Tables {
    torch::Tensor mask;  ///< bool [S, S]: a step sees itself and earlier ones
    nn::RotaryTable rotary;
  };
  std::shared_ptr<const Tables> tables(const TokenGrid& grid, torch::Device device) const;
  /// Conditions and tokens, step by step: [B, T * (extra + h*w), dim].
  torch::Tensor sequence(const torch::Tensor& tokens, const Conditions& conditions,
                         const TokenGrid& grid);
  /// Rotary table of that sequence.
  nn::RotaryTable rotary(const TokenGrid& grid, torch::Device device) const;

  ActionConditionedOptions options_;
  int64_t encoder_width_;
  nn::Linear embed_{nullptr};
  nn::Linear action_encoder_{nullptr};
  nn::Linear state_encoder_{nullptr};
  nn::Linear extrinsics_encoder_{nullptr};
  std::vector<nn::Block> blocks_;
  nn::LayerNorm norm_{nullptr};
  nn::Linear proj_{nullptr};
};
TORCH_MODULE(ActionConditionedPredictor);

/// Layer-normed predictions of frames 1..T-1, each from the true frames before it (teacher
/// forcing).
/// @param frames layer-normed frame tokens [B, T*h*w, D]
/// @returns [B, (T-1)*h*w, D]
torch::Tensor teacher_forced(ActionConditionedPredictor& predictor, const torch::Tensor& frames,
                             const Conditions& conditions, const TokenGrid& grid);

/// `steps` layer-normed frames after `known`, each fed back as input for the next.
/// @param known layer-normed tokens of the first n >= 1 frames [B, n*h*w, D]
/// @param conditions at least n + steps - 1 time steps
/// @returns [B, steps*h*w, D]
torch::Tensor rollout(ActionConditionedPredictor& predictor, const torch::Tensor& known,
                      const Conditions& conditions, const TokenGrid& grid, int64_t steps);

/// The same without gradients, each step over one frame of tokens alone.
torch::Tensor cached_rollout(ActionConditionedPredictor& predictor, const torch::Tensor& known,
                             const Conditions& conditions, const TokenGrid& grid, int64_t steps);

/// The two terms of V-JEPA 2-AC's loss and what they compare.
struct ActionConditionedLoss {
  torch::Tensor teacher_forced_frames;  ///< [B, (T-1)*h*w, D]
  torch::Tensor rollout_frames;         ///< [B, rollout_steps*h*w, D], frames 1..rollout_steps
  torch::Tensor teacher_forced;         ///< mean |z - h| over frames 1..T-1
  torch::Tensor rollout;                ///< mean |z - h| over frames 1..rollout_steps
};

/// Teacher-forced and rollout L1 loss (minimise their sum). The rollout starts from the true first
/// frame; its first prediction is shared with the teacher-forced pass.
ActionConditionedLoss action_conditioned_loss(ActionConditionedPredictor& predictor,
                                              const torch::Tensor& frames,
                                              const Conditions& conditions, const TokenGrid& grid,
                                              int64_t rollout_steps);

}  // namespace jepa::predictors

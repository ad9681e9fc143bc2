// What a dynamics model knows: prediction skill, what its latents say of the state, and whether it
// imagines the impossible.
#pragma once

#include <eval/dynamics/model.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/metrics.hpp>

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace jepa::eval::dynamics {

/// Clips that nothing is trained on.
struct HeldOutClips {
  torch::Tensor clips;    ///< uint8 [B, C, T, H, W]
  torch::Tensor actions;  ///< float [B, T - 1, block * A]
  torch::Tensor states;   ///< float [B, T, S]; undefined: not known
};

/// The clips of a batch with the signals `action` and, where there is one, `state`.
/// @throws DataError where there are no actions
HeldOutClips held_out(const ClipBatch& batch);

/// Actions between the frames of a batch, [B, T - 1, block * A].
/// @throws DataError where the batch has none, or clips of one frame
torch::Tensor actions_between(const ClipBatch& batch);

/// Linear read-out of a state from latents: ridge regression, its decay chosen on clips that the
/// fit has not seen.
struct StateProbe {
  std::function<torch::Tensor(const torch::Tensor& latents)> read;  ///< [..., D] -> [..., S]
  std::vector<double> r2;  ///< of each number of the state, on yet other clips
};
/// Half of the clips are fitted, a quarter chooses, a quarter is scored.
StateProbe fit_probe(const torch::Tensor& latents, const torch::Tensor& states);

/// Adds 1 - error / copied, the squared errors of predictions and of predicting no change; clips in
/// which nothing changes tell no skill.
void add_skill(StepMetrics& metrics, const char* name, double error, double copied);

/// Numbers of held-out clips of T frames, k = T - 1 blocks:
/// `skill_1`, `skill_k`: 1 - squared error over that of predicting no change; from every frame, and
///   those before it that the model looks back over, one block ahead, and from the first frame
///   alone k blocks ahead;
/// `within_clip`: share of the latents' variance that lies within clips (near 0: the latents tell
///   where a clip is from, not where the agent is);
/// with states: `r2_NAME` of the ridge probe, `error_1`, `error_k`: distance [px] between the
///   probe's reading of the imagined latent and the true first two numbers of the state.
/// @param names of the state's numbers
/// @param probe filled where states are known
StepMetrics measure(DynamicsModel& model, const HeldOutClips& clips,
                    const std::vector<std::string>& names, StateProbe* probe = nullptr);

/// How often the model walks through what it cannot.
struct WallTest {
  double far = 0;   ///< share imagined beyond the wall, door more than 10 px away
  double near = 0;  ///< likewise 6 to 10 px away
  double door = 0;  ///< pushed through the middle of the door: this should be 1
  double true_far = 0, true_near = 0, true_door = 0;  ///< the same pushes in the world itself
  double depth = 0;  ///< far from the door, pushed twice as long: px beyond the wall's middle
  double true_depth = 0;
  int64_t cases = 0;  ///< of each kind
};

/// Whether blocks of so many steps divide those of the wall test.
bool wall_test_takes(int64_t block);

/// Two rooms: the dot stands 2 to 7 px from the wall and is pushed straight at it for 10 steps of
/// 1 px. Where the model thinks that it is then, the probe says; beyond the wall's middle is
/// crossed. A probe that misreads by 2 px counts as crossing there; how deep the dot is after 20
/// steps tells a wall that holds from one that gives way. Walls and doors are those of training.
/// @throws DataError where the model takes no frames of that world or its blocks do not divide 10
WallTest wall_test(DynamicsModel& model, const StateProbe& probe, int64_t cases, uint64_t seed);

/// Its numbers by the names under which runs keep them (`wall_far`, `wall_far_true`, ...).
StepMetrics named(const WallTest& test);

}  // namespace jepa::eval::dynamics

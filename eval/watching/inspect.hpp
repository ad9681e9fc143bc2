// Looking into a model: where it is surprised, what a prediction attends to, what the encoder says,
// and a fault that can be planted to see whether one would find it.
#pragma once

#include <eval/physics/surprise_models.hpp>
#include <eval/watching/watch.hpp>
#include <jepa/grid.hpp>

#include <torch/types.h>

#include <array>
#include <string>
#include <vector>

namespace jepa::eval::watching {

struct InspectOptions {
  bool inspect = false;           ///< asked for at all
  double at = 0;                  ///< seconds of the film at which the window that is shown begins
  int64_t row = -1, column = -1;  ///< of the target token that is followed; -1: the most surprising
  std::string fault = "none";     ///< quadrant that the predictor is made to ignore
  int64_t windows = 100;          ///< over which means by place are taken

  void describe(OptionVisitor& visit);
};

/// top_left, top_right, bottom_left, bottom_right.
const std::array<std::string, 4>& quadrant_names();
/// The quadrant of a place of a grid, 0 to 3.
int64_t quadrant_of(int64_t row, int64_t column, const TokenGrid& grid);

/// A predictor that is not given the context tokens of one quadrant.
/// @throws ConfigError for another name
Predictor ignore_quadrant(const Predictor& predictor, const std::string& quadrant);

/// What is seen of a model on one film.
struct Inspection {
  TokenGrid grid;                     ///< of a window
  int64_t past_steps = 0;             ///< of its steps that are known
  torch::Tensor window;               ///< uint8 [C, T, H, W], the one that is shown
  torch::Tensor surprise;             ///< float [t - past_steps, h, w] of it
  torch::Tensor places;               ///< float [h, w], mean surprise over windows and steps
  std::array<double, 4> quadrants{};  ///< mean surprise of each
  std::array<double, 4> attended{};   ///< share of attention over the context that each gets
  std::array<double, 4> variance{};   ///< of the encoder's context tokens in each, over windows
  std::array<int64_t, 3> target{};    ///< step, row, column of the token that is followed
  torch::Tensor attention;  ///< float [layers, past_steps, h, w], of that token over the context
  torch::Tensor tokens;     ///< [1, N, D] of the target encoder, for its principal components
};

/// @param film uint8 [C, T, H, W]
/// @throws DataError where the film is shorter than a window; ConfigError for a token that is none
Inspection inspect(const physics::MaskedModel& model, int64_t window, int64_t past,
                   const torch::Tensor& film, const InspectOptions& options);

/// Watched frames `from` .. `from` + `count` - 1 of a film, fewer at its end, uint8 [C, T, H, W].
torch::Tensor read_watched(const std::string& video, double from_seconds, int64_t count,
                           const WatchedModel& model, int64_t short_side);

/// The quadrants as plain text, for a terminal.
std::string inspection_text(const Inspection& seen);
/// Maps and tables as markup for a report.
std::string inspection_section(const Inspection& seen, const InspectOptions& options);
/// The run's `summary.json`.
std::string inspection_json(const Inspection& seen, const InspectOptions& options);

}  // namespace jepa::eval::watching

// One term of an objective: what a training step has, and what a term makes of it.
#pragma once

#include <jepa/grid.hpp>
#include <jepa/metrics.hpp>
#include <jepa/model.hpp>
#include <jepa/training/processes.hpp>

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace jepa {

/// Clips as a step sees them: R rows, one or more views of each clip, one behind the other.
struct Views {
  torch::Tensor clips;    ///< [R, C, T, H, W]
  torch::Tensor changes;  ///< what tells the views of a clip apart, [R, k]; undefined: nothing
};

/// Which clips of a micro-batch a process has.
struct RowShare {
  int64_t first = 0;
  int64_t all = 0;
};

/// What a step has for one mask of one micro-batch of R rows.
struct StepContext {
  torch::Tensor clips;              ///< float32 [R, C, T, H, W], normalised
  torch::Tensor view_changes;       ///< `Views::changes` on the device; undefined: one view a clip
  torch::Tensor visible;            ///< float32 [R, Kc, D], the encoder's tokens of the context
  torch::Tensor predicted;          ///< float32 [M*R, Kt, D'], of the hidden tokens
  torch::Tensor predicted_context;  ///< float32 [M*R, Kc, D']; undefined: the predictor has none
  torch::Tensor targets;            ///< float32 [R, N, D'], of all tokens, no gradient
  Mask mask;                        ///< ids of context and hidden tokens, on the device
  TokenGrid grid{0, 0, 0};
  int64_t levels = 1;                            ///< chunks of D' that are normalised each alone
  std::map<std::string, torch::Tensor> signals;  ///< by name, float32 [R, T, k]
  int64_t mask_index = 0;
  int64_t step = 0;  ///< from 0
  uint64_t seed = 0;
  Processes* processes = nullptr;  ///< that share the micro-batch; null: this one alone

  /// Rows [R, ...] of this process as those of the whole micro-batch, with gradient: what a term
  /// that compares clips asks for.
  torch::Tensor whole(const torch::Tensor& rows) const {
    return processes == nullptr ? rows : gather_rows(rows, *processes);
  }

  /// A generator (CPU) for random choices of this mask and step in the stream `name`.
  at::Generator generator(std::string_view name) const;
  /// The signal `name`, float32 [R, T, k].
  /// @throws DataError naming those that there are
  const torch::Tensor& signal(const std::string& name) const;
  /// The targets of the hidden tokens, [M*R, Kt, D'].
  torch::Tensor hidden_targets() const { return gather_tokens(targets, mask.target); }
};

/// A part of what is minimised. A person adds one by writing one: the step asks no term what it is.
class ObjectiveTerm {
 public:
  virtual ~ObjectiveTerm() = default;

  virtual std::string name() const = 0;
  /// The weighted loss, a scalar with gradient; undefined: nothing at this step. What is worth
  /// knowing goes to `metrics`, by a name of the term's own ("loss", rates and norms are the
  /// step's).
  virtual torch::Tensor loss(const StepContext& step, MetricSums& metrics) = 0;

  /// Parameters of its own, trained beside encoder and predictor; null: none.
  virtual std::shared_ptr<torch::nn::Module> module() const { return nullptr; }
  /// The name of `module()` in metrics and checkpoints.
  virtual std::string module_name() const { return name(); }
  /// Rows that it wants of each clip. At most one term of an objective asks for more than one.
  virtual int64_t views() const { return 1; }
  /// Those rows, of clips [B, C, T, H, W] as they were loaded: the clips `share.first` on of the
  /// `share.all` of a micro-batch, for all of which `generator` draws.
  virtual Views make_views(const torch::Tensor& clips, const RowShare& /*share*/,
                           at::Generator /*generator*/) const {
    return {clips, {}};
  }
  /// What it compares clips for, such as an option's name; empty: one clip a micro-batch will do.
  virtual std::string compares_clips() const { return {}; }
};

using Objective = std::vector<std::shared_ptr<ObjectiveTerm>>;

}  // namespace jepa

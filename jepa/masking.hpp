// Which tokens a training step shows and which it hides.
#pragma once

#include <jepa/model.hpp>
#include <jepa/options.hpp>

#include <ATen/core/Generator.h>

#include <memory>
#include <string>
#include <vector>

namespace jepa {

/// One kind of mask and its measures. Ranges are `low,high`.
struct MaskOptions {
  std::string kind = "multiblock3d";
  /// Blocks whose union is hidden (3D), or separate target blocks (2D: I-JEPA's four).
  int64_t blocks = 8;
  std::vector<double> spatial_scale = {0.15, 0.15};  ///< share of the frame a block covers
  std::vector<double> temporal_scale = {1.0, 1.0};   ///< share of the time a 3D block covers
  std::vector<double> aspect_ratio = {0.75, 1.5};    ///< height over width of a block
  double max_temporal_keep = 1.0;     ///< 3D: context lies in this first share of the time
  int64_t max_keep = 0;               ///< 3D: longest context; 0: no limit
  bool full_complement = false;       ///< 3D: targets := all that the cut context lacks
  bool pred_full_complement = false;  ///< 3D: context := all that the cut targets lack
  bool inv_block = false;             ///< 3D: swap context and targets
  int64_t contexts = 1;               ///< 2D: context blocks of an image
  std::vector<double> context_scale = {0.85, 1.0};  ///< 2D: share a context block covers
  int64_t min_keep = 10;                            ///< 2D: a context has more tokens than this
  bool allow_overlap = false;                       ///< 2D: the context may contain target tokens
  double ratio = 0.9;                               ///< tube: hidden share of the frame
  std::vector<double> context_share = {0.5, 0.5};   ///< causal: share of the time that is shown
  /// causal: share of clips whose end is shown, not their start; of the clips 2i and 2i + 1 of a
  /// batch one draws what the other does not, so that at 0.5 two views of a clip show opposite ends
  double backward_share = 0.0;
  double shown_keep = 1.0;   ///< causal: share of the shown tokens that is kept, drawn at random
  double hidden_keep = 1.0;  ///< causal: share of the hidden tokens that is predicted, likewise
  /// How masks of one batch get one length: "random" keeps a random subset of each; "prefix" keeps
  /// the first ids (published; always drops late tokens).
  std::string cut = "random";

  void describe(OptionVisitor& visit);
};

/// Draws the masks of a batch.
class MaskSampler {
 public:
  virtual ~MaskSampler() = default;

  /// One mask for each of `batch` clips, all of one length. Several contexts of an image are rows
  /// like those of further clips (context-major), each with its own copy of the targets.
  /// @param counter seeds the block sizes: one size for the batch, the same in every process
  /// @param positions CPU generator that places the blocks (and makes the fair cut)
  /// @throws ConfigError where the grid leaves no room for a context or a target
  virtual Mask sample(int64_t batch, const TokenGrid& grid, int64_t counter,
                      at::Generator& positions) const = 0;
};

/// The sampler that the options describe. Drawn as the published samplers draw (V-JEPA's 3D
/// multi-block, Bardes et al. 2024, section 3.2; I-JEPA's multi-block, Assran et al. 2023, section
/// 3), so that with `cut = "prefix"` the ids are theirs.
/// @throws ConfigError for an unknown kind or a range that is none
std::unique_ptr<MaskSampler> make_mask_sampler(const MaskOptions& options);

}  // namespace jepa

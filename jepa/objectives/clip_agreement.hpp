// Agreement between shifted views of a clip: what moves with none of them is in one vector, and how
// far apart they are can be read back.
#pragma once

#include <jepa/nn/layers.hpp>
#include <jepa/options.hpp>

#include <ATen/core/Generator.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace jepa {

/// Views of each clip agree, on their visible tokens: VICReg between two (Bardes et al., arXiv
/// 2105.04906), or each with the mean of all under SIGReg (LeJEPA, arXiv 2511.08544). And inverse
/// dynamics: the shift from one view to the next, read from the difference of the two.
struct AgreementOptions {
  double weight = 0.0;          ///< 0: none of it; a step then works on the clips as they are
  std::string kind = "vicreg";  ///< vicreg: two views; sigreg: any even number
  int64_t views = 2;            ///< of each clip; 2i and 2i + 1 are neighbours
  int64_t shift = 8;            ///< largest shift of a view to each side, px
  double rotation = 0.0;        ///< largest turn of a view to each side, degrees
  double zoom = 1.0;            ///< largest factor by which a view is enlarged or made smaller
  int64_t width = 256;          ///< of the projector, all layers
  int64_t hidden_layers = 1;    ///< of the projector; 0: it is linear
  double invariance_weight = 25.0;
  double variance_weight = 25.0;
  double covariance_weight = 1.0;
  double sigreg_weight = 0.05;  ///< in place of variance and covariance
  int64_t slices = 256;         ///< random directions of SIGReg
  /// Of the shift's error. Without it tokens forget where things are, which views do not share.
  double shift_weight = 25.0;

  void describe(OptionVisitor& visit);
};

/// The views of each clip, V of them.
struct ShiftedViews {
  torch::Tensor clips;   ///< [VB, C, T, H, W]: rows Vi to Vi + V - 1 are views of clip i
  torch::Tensor shifts;  ///< float [VB, 2], by how much (x, y) each was moved, -1 to 1
};

/// Views of clips [B, C, T, H, W] (any dtype), each turned and zoomed about the centre of the
/// frame, then moved by up to `shift` px to each side, all frames alike; what comes into view
/// repeats the edge (DrQ, arXiv 2004.13649). Moved alone, pixels stay as they are; else they are
/// interpolated.
/// @param first, all the clips are those from `first` on of `all`, for which `generator` draws;
///   0, 0: these are all
ShiftedViews shifted_views(const torch::Tensor& clips, const AgreementOptions& options,
                           at::Generator generator, int64_t first = 0, int64_t all = 0);

/// The heads of the agreement over pooled tokens of views [n, dim]. Weights are uninitialised until
/// `initialise()`.
class ClipProjectorImpl : public torch::nn::Module {
 public:
  ClipProjectorImpl(int64_t dim, int64_t width, int64_t hidden_layers);
  /// Where views are compared: [n, width]; hidden layers are batch-normed.
  torch::Tensor forward(const torch::Tensor& pooled);
  /// The shift between two views, linear in their difference [n, dim] -> [n, 2].
  torch::Tensor shift(const torch::Tensor& difference);
  void initialise(at::Generator generator);

 private:
  struct Hidden {
    nn::Linear linear;
    torch::nn::BatchNorm1d norm;
  };
  std::vector<Hidden> hidden_;
  nn::Linear out_{nullptr};
  nn::Linear shift_{nullptr};
};
TORCH_MODULE(ClipProjector);

/// What `clip_agreement` gives: the weighted sum, a scalar with gradient, and its parts (detached).
struct AgreementTerms {
  torch::Tensor loss;        ///< without `AgreementOptions::weight`
  torch::Tensor invariance;  ///< mean squared difference between the views, or to their mean
  torch::Tensor variance;    ///< mean over dimensions of relu(1 - deviation), of both views
  torch::Tensor covariance;  ///< squared off-diagonal covariances over the width, of both views
  torch::Tensor sigreg;      ///< times the number of clips, mean over views; undefined: VICReg
  torch::Tensor shift;       ///< mean squared error of the shift that is read back
};

/// The agreement of tokens [Vn, K, dim], n at least 2, whose rows Vi to Vi + V - 1 are views of one
/// clip, moved by `shifts` [Vn, 2]. Views are compared by their max-pooled tokens; the shift is
/// read from their means.
/// @param generator draws SIGReg's directions
AgreementTerms clip_agreement(const torch::Tensor& tokens, const torch::Tensor& shifts,
                              ClipProjector& projector, const AgreementOptions& options,
                              at::Generator generator = {});

}  // namespace jepa

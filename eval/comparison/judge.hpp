// The judge: a small supervised network, trained on real frames and then frozen, that reads what
// moves in a clip and where. Every arm's decoded frames are read by the same one.
#pragma once

#include <jepa/data/clip_source.hpp>
#include <jepa/options.hpp>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::comparison {

/// The judge's size and training.
struct JudgeOptions {
  std::string label = "digit";    ///< int64 column of the object's class
  int64_t width = 16;             ///< channels of the first layers; later ones have 2 and 4 times
  double window = 16;             ///< side of the square that the class is read in, px
  int64_t cells = 16;             ///< samples along a side of that square; a multiple of 4
  int64_t clips = 6000;           ///< training clips held in memory, the source's first ones
  int64_t held_out_clips = 1000;  ///< of the validation source, for the accuracy reported
  int64_t steps = 2400;
  int64_t batch = 64;  ///< frames a step, each of another clip
  double rate = 3e-3;  ///< AdamW, a short warm-up, then cosine to 0
  double decay = 0.02;
  // Frames are spoilt in training, so that generated ones, which are never quite clean, are read.
  double turn = 15;      ///< objects are turned by up to this, degrees
  double stretch = 0.1;  ///< and stretched by up to this share
  double blur = 1.0;     ///< widest Gaussian, px
  double fade = 0.4;     ///< largest loss of contrast, share
  double noise = 0.0;    ///< brightest background pixel, as GeneratedOptions::noise
  double grain = 0.06;   ///< largest deviation of Gaussian noise, 1 is white

  void describe(OptionVisitor& visit);
};

/// What the judge reads.
struct JudgeReading {
  torch::Tensor logits;     ///< float [B, K], of the classes: mean over frames
  torch::Tensor classes;    ///< int64 [B]
  torch::Tensor centres;    ///< float [B, T, 2], (x, y) in px from the upper left corner
  torch::Tensor velocity;   ///< float [B, 2], px a frame: slope of the line through the centres
  torch::Tensor direction;  ///< int64 [B], 0 to 7, times 45 degrees: the velocity's
};

/// Convolutions over single frames. The object's centre is the mean place under a softmax map; its
/// class is read in a window around that centre. It has no batch norm, so that a frame is read the
/// same whatever stands beside it, and takes any size of frame and any number of frames.
class JudgeImpl : public torch::nn::Module {
 public:
  /// @throws ConfigError for a width, channels or classes below 1
  JudgeImpl(const JudgeOptions& options, int64_t channels, int64_t classes);

  /// Frames float [n, C, H, W] in 0..1 -> centres [n, 2] in px.
  torch::Tensor centres(const torch::Tensor& frames) const;
  /// Frames float [n, C, H, W] in 0..1 and the objects' centres [n, 2] in px -> logits [n, K].
  torch::Tensor logits(const torch::Tensor& frames, const torch::Tensor& centres) const;
  /// Fills the weights (He et al. 2015) from `generator`.
  void initialise(at::Generator generator);

  const JudgeOptions& options() const { return options_; }
  int64_t channels() const { return channels_; }
  int64_t classes() const { return classes_; }

 private:
  struct Convolution {
    torch::Tensor weight, bias;
    int64_t stride, dilation;
    torch::Tensor operator()(const torch::Tensor& x) const;
  };
  Convolution convolution(const std::string& name, int64_t in, int64_t out, int64_t kernel,
                          int64_t stride = 1, int64_t dilation = 1);

  JudgeOptions options_;
  int64_t channels_, classes_;
  std::vector<Convolution> place_, kind_;
  Convolution place_map_;
  torch::Tensor head_weight_, head_bias_;
};
TORCH_MODULE(Judge);

/// Reads clips uint8 [B, C, T, H, W], T >= 2, with a frozen judge; all on the CPU.
JudgeReading read_clips(Judge& judge, const torch::Tensor& clips);

/// The slope of the least-squares line through centres [..., T, 2] -> [..., 2], px a frame.
torch::Tensor line_velocity(const torch::Tensor& centres);

/// The nearest of eight directions of velocities [..., 2] -> int64 [...]; 0 right, 2 down.
torch::Tensor nearest_direction(const torch::Tensor& velocity);

/// True centres of the generated clips at `ids` int64 [B] of a source with the columns `position`
/// and `velocity`, and `acceleration` where motion is not straight, or with a column `track` of the
/// centre in each of its `frames` frames -> [B, T, 2], px.
/// @throws DataError where the source lacks a column
torch::Tensor true_centres(const ClipSource& source, const torch::Tensor& ids, int64_t frames);

/// How well a judge reads clips whose truth is known.
struct JudgeAccuracy {
  double classes = 0;         ///< share of clips
  double direction = 0;       ///< share of clips
  double position_error = 0;  ///< mean distance over clips and frames, px
  int64_t clips = 0;
};

/// Scores `judge` on the first `clips` (0: all) of a source with the columns `label`, `direction`,
/// `position` and `velocity` of generated clips.
/// @throws DataError where the source lacks a column
JudgeAccuracy score_judge(Judge& judge, const std::shared_ptr<const ClipSource>& source,
                          int64_t clips = 0);

/// A judge and how well it read the validation clips.
struct TrainedJudge {
  Judge judge{nullptr};
  JudgeAccuracy held_out;
};

/// Told of the step that ended, of how many, and its loss.
using JudgeProgress = std::function<void(int64_t step, int64_t steps, double loss)>;

/// Trains a judge on frames of `train` and scores it on `validation` (see score_judge for the
/// columns). A function of the sources, options and seed alone.
/// @throws DataError where a source lacks a column or is empty; ConfigError for options
TrainedJudge train_judge(const std::shared_ptr<const ClipSource>& train,
                         const std::shared_ptr<const ClipSource>& validation,
                         const JudgeOptions& options, uint64_t seed,
                         const JudgeProgress& progress = {});

/// One safetensors file; options and held-out accuracy are in its metadata.
/// @throws DataError naming the file
void save_judge(const std::string& path, const TrainedJudge& judge);

/// @throws CheckpointError naming the file and what is missing
TrainedJudge load_judge(const std::string& path);

}  // namespace jepa::eval::comparison

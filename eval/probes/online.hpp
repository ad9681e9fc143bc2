// A probe cheap enough to run while training: it draws what the loss cannot say.
#pragma once

#include <eval/probes/features.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa::eval::probes {

/// What the online probe looks at.
struct OnlineProbeOptions {
  std::string labels;          ///< columns, comma-separated; empty: no probe
  int64_t train_clips = 1000;  ///< that it is fitted on, one fifth of them to choose the decay
  int64_t test_clips = 500;    ///< held out, that it is scored on

  void describe(OptionVisitor& visit);
};

/// Ridge regression from an encoder's pooled features to labels of clips that it keeps in memory.
/// The same clips every time, so that scores of different steps compare.
class OnlineProbe {
 public:
  /// Reads and keeps the clips: a draw of `train_clips` and `test_clips` without repetition.
  /// @param loader batch, threads and augmentation
  /// @throws DataError as the sources do
  OnlineProbe(const std::shared_ptr<const ClipSource>& train,
              const std::shared_ptr<const ClipSource>& test, const OnlineProbeOptions& options,
              const LoaderOptions& loader, const FeatureOptions& features);

  /// "probe_<label>" (accuracy or R2) for each label, and their mean as "probe_score", in which an
  /// R2 below 0 counts as 0.
  std::map<std::string, double> operator()(Encoder& encoder) const;

 private:
  /// Clips of one source with their labels.
  struct Held {
    std::vector<torch::Tensor> batches;           ///< uint8 [B, C, T, H, W]
    std::map<std::string, torch::Tensor> labels;  ///< int64 [n], or float [n, K]
  };
  Held hold(const std::shared_ptr<const ClipSource>& source, int64_t clips,
            LoaderOptions loader) const;
  torch::Tensor features(Encoder& encoder, const Held& held) const;

  std::vector<std::string> names_;
  FeatureOptions features_;
  Held train_;
  Held test_;
};

}  // namespace jepa::eval::probes

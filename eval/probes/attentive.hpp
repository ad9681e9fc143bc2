// The published attentive probes: learnt queries that look over all tokens, then a linear layer.
#pragma once

#include <eval/probes/candidate.hpp>
#include <eval/probes/token_cache.hpp>
#include <jepa/nn/attentive_pooler.hpp>
#include <jepa/options.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace jepa::eval::probes {

/// Attentive pooler and linear classifier. Parameter names are the published ones (`pooler.*`,
/// `linear.*`); weights are uninitialised until filled. Depth 1 is V-JEPA's, 4 is V-JEPA 2's.
class AttentiveProbeImpl : public torch::nn::Module {
 public:
  AttentiveProbeImpl(const nn::AttentivePoolerOptions& options, int64_t outputs);
  /// tokens [B, N, dim] -> [B, outputs]
  torch::Tensor forward(const torch::Tensor& tokens);
  /// Published initialisation.
  void initialise(at::Generator generator);

 private:
  nn::AttentivePooler pooler_{nullptr};
  nn::Linear linear_{nullptr};
};
TORCH_MODULE(AttentiveProbe);

/// How attentive probes are trained: AdamW, every parameter decayed, cosine to 0 without warm-up,
/// one probe for each pair of rate and decay, all on the same batches of cached tokens. V-JEPA 2's
/// grid is rates 5e-3, 3e-3, 1e-3, 3e-4, 1e-4 and decays .01, .1, .4, .8; narrow encoders need the
/// higher rates of this one.
struct AttentiveOptions {
  int64_t depth = 1;
  int64_t heads = 0;  ///< 0: the greatest common divisor of 16 (as published) and the width
  int64_t epochs = 20;
  int64_t batch = 64;
  std::vector<double> rates = {2e-2, 5e-3, 1e-3};
  std::vector<double> decays = {0.01};
  // Not described: the program's.
  int64_t seed = 0;                    ///< of initial weights and order
  torch::Device device = torch::kCPU;  ///< where probes are trained; tokens come a batch at a time

  void describe(OptionVisitor& visit);
};

/// Heads of a probe of tokens of this width.
/// @throws ConfigError where they do not divide it
int64_t attentive_heads(const AttentiveOptions& options, int64_t width);

/// A trained probe. Its predictions are turned back by `mean` and `deviation` [K], undefined for
/// classes.
Candidate attentive_candidate(AttentiveProbe probe, const torch::Tensor& mean,
                              const torch::Tensor& deviation, torch::Device device,
                              std::string setting);

/// Trains the grid on tokens, of which a batch at a time is read and moved to the device.
/// Quantities are standardised meanwhile.
/// @param labels int64 [m] classes, or float [m, K] quantities (`classes` 0)
/// @param rows int64 [m], the rows of the tokens that the labels belong to; undefined: all
/// @throws ConfigError where the heads do not divide the width, or a grid is empty
std::vector<Candidate> fit_attentive(const TokenRows& tokens, const torch::Tensor& labels,
                                     int64_t classes, const AttentiveOptions& options,
                                     const torch::Tensor& rows = {});
/// The same for tokens [n, N, D] that are in memory.
std::vector<Candidate> fit_attentive(const LabelledFeatures& train,
                                     const AttentiveOptions& options);

/// A candidate's predictions for all tokens, read a batch at a time.
torch::Tensor predict_rows(const Candidate& candidate, const TokenRows& tokens);

}  // namespace jepa::eval::probes

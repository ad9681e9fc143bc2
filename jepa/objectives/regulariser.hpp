// What keeps a small model from collapsing: one named term, on a chosen view of the tokens.
#pragma once

#include <jepa/grid.hpp>
#include <jepa/options.hpp>

#include <ATen/core/Generator.h>
#include <torch/types.h>

#include <cstdint>
#include <string>

namespace jepa {

/// A regulariser on the tokens that the context encoder gives.
struct RegulariserOptions {
  std::string kind = "none";
  /// Pooling alone pushes all tokens of a clip together (clip codes); tokens alone may spend their
  /// variance on where they stand (position codes). The rest is neither.
  std::string on = "token_rest";
  double variance_weight = 2.0;
  double covariance_weight = 0.08;
  double gamma = 0.8;
  std::string covariance_scale = "width";
  double sigreg_weight = 1.0;
  int64_t slices = 128;
  bool scale_by_n = false;

  void describe(OptionVisitor& visit);
};

/// What `regularise` gives. Tensors that the kind does not use are undefined.
struct RegulariserTerms {
  torch::Tensor loss;      ///< weighted sum, scalar with gradient; undefined for "none"
  torch::Tensor variance;  ///< unweighted terms, detached scalars
  torch::Tensor covariance;
  torch::Tensor sigreg;
};

/// The rows that are regularised, [n, D], from `tokens` [B, K, D] at `ids` [B, K].
/// @param on "tokens": every token; "pooled": each clip's mean; "token_residual": tokens less the
///   batch mean of their position; "token_rest": those less their clip's mean as well
/// @throws ConfigError for any other name.
torch::Tensor regularised_rows(const torch::Tensor& tokens, const torch::Tensor& ids,
                               const TokenGrid& grid, const std::string& on);

/// The regulariser of `options` on `tokens` [B, K, D] at `ids` [B, K] of `grid`.
/// @param generator draws SIGReg's slices
/// @throws ConfigError for an unknown `kind` or `on`.
RegulariserTerms regularise(const torch::Tensor& tokens, const torch::Tensor& ids,
                            const TokenGrid& grid, const RegulariserOptions& options,
                            at::Generator generator);

}  // namespace jepa

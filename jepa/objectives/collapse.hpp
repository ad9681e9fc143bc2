// Is the encoder still saying something? Cheap numbers on a batch of tokens, and what they mean in
// plain words. The loss cannot tell: it falls both when a model learns and when it collapses.
#pragma once

#include <jepa/options.hpp>

#include <torch/types.h>

#include <map>
#include <string>

namespace jepa {

/// Diagnostics of tokens [B, N, D]. Every field is a plain number, so that a report can be logged
/// and stored; all are zero for tokens that are one and the same point.
struct CollapseReport {
  /// exp of the entropy of the singular values of all B*N tokens, uncentred (RankMe, Garrido et
  /// al. 2023, eps 1e-7); at most D.
  double rankme = 0;
  /// The same entropy over the eigenvalues of the tokens' covariance.
  double effective_rank = 0;
  /// Effective rank of the tokens less the mean of their position: of what tells clips apart.
  double content_rank = 0;
  double std_min = 0;     ///< smallest per-dimension standard deviation over all tokens
  double std_median = 0;  ///< median of the same
  double cosine = 0;      ///< mean cosine between two different tokens
  /// Shares of the tokens' variance: explained by where a token stands (mean over clips), by which
  /// clip it is from (mean over positions), and the rest, which is what a token should carry.
  /// They sum to 1.
  double position_share = 0;
  double clip_share = 0;
  double rest_share = 0;

  /// Field names and values, for logs and checkpoints.
  std::map<std::string, double> values() const;
  /// The inverse of `values`.
  /// @throws CheckpointError naming a field that is missing.
  static CollapseReport from_values(const std::map<std::string, double>& values);
};

/// Measures tokens [B, N, D], B and N at least 2, without gradient. Costs about B N D^2
/// multiply-adds and three D x D eigenvalue problems: milliseconds for 64 x 64 tokens of 96.
/// @throws Error where a token is not finite.
CollapseReport measure_collapse(const torch::Tensor& tokens);

/// When a report is a bad sign. Every measure is taken relative to the same model at
/// initialisation, on the same data: a random encoder's tokens are mostly position already (0.8 in
/// a small one), and how different clips look depends on the data.
struct CollapseOptions {
  /// A measure below this share of its value at initialisation is named as a drift.
  double drift = 0.5;
  /// Below this share it is named a collapse, which `stop_on_collapse` acts on.
  double collapse = 0.25;

  void describe(OptionVisitor& visit);
};

/// Which way a run is going.
enum class CollapseState {
  healthy,
  position_codes,  ///< tokens say where they stand and little about the clip
  clip_codes,      ///< all tokens of a clip say the same
  dimensional,     ///< few directions, or no variance, are left
};

struct Verdict {
  CollapseState state = CollapseState::healthy;
  bool collapsed = false;  ///< beyond `CollapseOptions::collapse`, not only drifting
  std::string text;        ///< one plain sentence with the numbers it rests on
};

/// Judges `report` against `initial`, the report of the same model when it was initialised.
///
/// Position codes: content (clip + rest) holds a smaller share of the variance than it did. Clip
/// codes: the rest holds a smaller share of the content. Dimensional collapse: RankMe, the rank of
/// the content or the median standard deviation has fallen. The worst of them is named. A small
/// V-JEPA without regulariser drifts after 150 steps and has collapsed after 250, its loss falling
/// all the while from 0.9 to 0.02, its shares of variance hardly changing.
Verdict assess(const CollapseReport& report, const CollapseReport& initial,
               const CollapseOptions& options = {});

}  // namespace jepa

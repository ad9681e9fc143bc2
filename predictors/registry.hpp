// Predictors by name.
#pragma once

#include <predictors/masked.hpp>

#include <functional>
#include <string>
#include <vector>

namespace jepa::predictors {

/// Which predictor, and its options.
struct PredictorOptions {
  std::string type = "masked";
  /// The masked predictor's; others take width, depth and heads from here too.
  MaskedPredictorOptions masked = {};

  void describe(OptionVisitor& visit);
};

/// A predictor by name, and what builds it (weights uninitialised) from the options.
struct PredictorEntry {
  std::string name;
  std::function<Predictor(const PredictorOptions&, const ModelShape&)> make;
};

/// All predictors that `predictor.type` may name. A program adds its own before it reads options.
/// Not for use from several threads.
std::vector<PredictorEntry>& predictor_table();

/// Builds the predictor that the options name, weights uninitialised.
/// @throws ConfigError for an unknown type, or sizes that do not fit together
Predictor make_predictor(const PredictorOptions& options, const ModelShape& shape);

}  // namespace jepa::predictors

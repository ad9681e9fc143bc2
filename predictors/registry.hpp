// Predictors by name.
#pragma once

#include <predictors/masked.hpp>

#include <string>

namespace jepa::predictors {

/// Which predictor, and its options.
struct PredictorOptions {
  std::string type = "masked";
  MaskedPredictorOptions masked = {};

  void describe(OptionVisitor& visit);
};

/// Builds the predictor that the options name, weights uninitialised.
/// @throws ConfigError for an unknown type, or sizes that do not fit together
Predictor make_predictor(const PredictorOptions& options, const ModelShape& shape);

}  // namespace jepa::predictors

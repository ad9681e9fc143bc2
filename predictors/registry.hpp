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

/// All predictors that `predictor.type` may name.
const std::vector<PredictorEntry>& predictor_table();

/// Adds one: `add_predictor({"mine", make_mine})`, before options are read. Not for use from
/// several threads.
/// @throws ConfigError where the name is taken
void add_predictor(PredictorEntry entry);

/// Builds the predictor that the options name, weights uninitialised.
/// @throws ConfigError for an unknown type, or sizes that do not fit together
Predictor make_predictor(const PredictorOptions& options, const ModelShape& shape);

}  // namespace jepa::predictors

#include <jepa/errors.hpp>
#include <predictors/registry.hpp>

namespace jepa::predictors {

void PredictorOptions::describe(OptionVisitor& visit) {
  visit("type", type, {.help = "kind of predictor", .choices = {"masked"}});
  masked.describe(visit);
}

Predictor make_predictor(const PredictorOptions& options, const ModelShape& shape) {
  if (options.type == "masked") {
    std::shared_ptr<PredictorImpl> predictor =
        std::make_shared<MaskedPredictorImpl>(options.masked, shape);
    return Predictor(std::move(predictor));
  }
  throw ConfigError("predictor.type: expected masked, found '" + options.type + "'");
}

}  // namespace jepa::predictors

#include <jepa/errors.hpp>
#include <predictors/registry.hpp>

namespace jepa::predictors {

std::vector<PredictorEntry>& predictor_table() {
  static std::vector<PredictorEntry> table = {
      {"masked",
       [](const PredictorOptions& options, const ModelShape& shape) {
         std::shared_ptr<PredictorImpl> predictor =
             std::make_shared<MaskedPredictorImpl>(options.masked, shape);
         return Predictor(std::move(predictor));
       }},
  };
  return table;
}

void PredictorOptions::describe(OptionVisitor& visit) {
  std::vector<std::string> types;
  for (const auto& entry : predictor_table()) types.push_back(entry.name);
  visit("type", type, {.help = "kind of predictor", .choices = types});
  masked.describe(visit);
}

Predictor make_predictor(const PredictorOptions& options, const ModelShape& shape) {
  std::string names;
  for (const auto& entry : predictor_table()) {
    if (entry.name == options.type) return entry.make(options, shape);
    names += (names.empty() ? "" : ", ") + entry.name;
  }
  throw ConfigError("predictor.type: expected one of " + names + ", found '" + options.type + "'");
}

}  // namespace jepa::predictors

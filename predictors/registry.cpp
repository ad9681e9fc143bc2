#include <jepa/errors.hpp>
#include <predictors/registry.hpp>

#include <utility>

namespace jepa::predictors {
namespace {

std::vector<PredictorEntry>& entries() {
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

}  // namespace

const std::vector<PredictorEntry>& predictor_table() { return entries(); }

void add_predictor(PredictorEntry entry) {
  for (const auto& there : entries()) {
    if (there.name == entry.name) {
      throw ConfigError("predictor '" + entry.name + "': the name is taken");
    }
  }
  entries().push_back(std::move(entry));
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

#include <eval/diffusion/saved_run.hpp>
#include <eval/dynamics/protocol.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

namespace jepa::eval::dynamics {

void EvaluationProtocol::describe(OptionVisitor& visit) {
  visit("world", world, {.help = "that the model is evaluated in; gym:ID too"});
  visit("steps", steps, {.help = "of an episode; success counts at the last", .min = 1});
  visit("history", history, {.help = "frames that the model sees before it plans", .min = 1});
  visit("longest_step", longest_step,
        {.help = "longest action of a step; 0: any", .unit = "px", .min = 0});
}

std::vector<OptionSection> RunShape::sections() {
  return {{"model", "encoder, inverse dynamics, pixels",
           [this](OptionVisitor& visit) { model.describe(visit); }},
          {"predictor", "of the first phase",
           [this](OptionVisitor& visit) { predictor.describe(visit); }},
          {"second", "phase: encoder frozen, a fresh predictor",
           [this](OptionVisitor& visit) { second.describe(visit); }},
          {"protocol", "how it is evaluated",
           [this](OptionVisitor& visit) { protocol.describe(visit); }}};
}

SavedDynamics open_dynamics(const std::string& path) {
  const std::string folder = diffusion::weights_folder(path, "encoder", "train_dynamics");
  RunShape shape;
  diffusion::apply_saved_options(folder, shape.sections());
  return {shape, folder,
          load_dynamics(folder, shape.model, shape.predictor, shape.second.predictor)};
}

void require_same(const SavedDynamics& run, const OptionValues& asked) {
  RunShape shape = run.shape;
  const auto sections = shape.sections();
  const OptionValues trained = dump_options(sections);
  OptionValues known;
  for (const auto& [key, value] : asked) {
    if (trained.contains(key)) known[key] = value;
  }
  apply_options(sections, known);
  for (const auto& [key, value] : dump_options(sections)) {
    if (value == trained.at(key)) continue;
    throw CheckpointError(run.checkpoint + ": trained with " + key + " = " + trained.at(key) +
                          ", asked for " + value);
  }
}

}  // namespace jepa::eval::dynamics

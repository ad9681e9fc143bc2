#include <eval/diffusion/saved_run.hpp>
#include <eval/dynamics/protocol.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/text_values.hpp>

#include <torch/types.h>

#include <filesystem>

namespace jepa::eval::dynamics {

void EvaluationProtocol::describe(OptionVisitor& visit) {
  visit("world", world, {.help = "that the model is evaluated in; gym:ID too"});
  visit("steps", steps, {.help = "of an episode; success counts at the last", .min = 1});
  visit("history", history, {.help = "frames that the model sees before it plans", .min = 1});
  visit("longest_step", longest_step,
        {.help = "longest action of a step, of whatever acts; 0: any", .unit = "px", .min = 0});
  visit("factors", factors,
        {.help = "of the world in the training data: standard, training, or one drawn from its "
                 "unseen values; empty: what the data say"});
  visit("frame_skip", frame_skip,
        {.help = "of a Gymnasium environment; 0: what the data say, if they do", .min = 0});
  visit("gym_make", gym_make, {.help = "its arguments, as gym.make; empty: what the data say"});
}

std::vector<OptionSection> RunShape::sections() {
  std::vector<OptionSection> all = {{"model", "encoder, inverse dynamics, pixels",
                                     [this](OptionVisitor& visit) { model.describe(visit); }},
                                    {"predictor", "of the first phase",
                                     [this](OptionVisitor& visit) { predictor.describe(visit); }},
                                    {"second", "phase: encoder frozen, a fresh predictor",
                                     [this](OptionVisitor& visit) { second.describe(visit); }}};
  for (auto& section : patches.sections()) all.push_back(std::move(section));
  all.push_back({"protocol", "how it is evaluated",
                 [this](OptionVisitor& visit) { protocol.describe(visit); }});
  return all;
}

Seen unseen_values_seen(const worlds::Factor& factor, const std::string& factors) {
  if (factors.empty()) return Seen::unknown;
  if (factors == factor.name) return Seen::yes;
  if (factors != "standard" || !factor.varies) return Seen::no;
  // Drawn from the span of its training values, gap included.
  const bool apart =
      factor.unseen.low > factor.training.high || factor.unseen.high < factor.training.low;
  return apart ? Seen::no : Seen::yes;
}

namespace {

void require_folder(const std::string& path) {
  if (std::filesystem::is_regular_file(path)) {
    throw CheckpointError(path + ": is a file, expected the folder of a run or a checkpoint");
  }
  if (!std::filesystem::exists(path)) {
    throw CheckpointError(path +
                          ": no such folder, expected a run of train_dynamics or a checkpoint");
  }
}

/// @param kept the run's config.ini, which holds more than its shape
RunShape shape_of(const OptionValues& kept) {
  RunShape shape;
  diffusion::apply_known_options(kept, shape.sections());
  // Runs of before it was noted: what made their clips tells.
  if (!kept.contains("protocol.factors") && value_or_empty(kept, "data") == worlds::kTwoRooms) {
    shape.protocol.factors =
        value_or_empty(kept, "two_rooms.unseen") == "true" ? "standard" : "training";
  }
  // Its default was that of two rooms whatever the world, and bound no one but the search.
  if (!kept.contains("protocol.factors") && shape.protocol.world != worlds::kTwoRooms &&
      value_or_empty(kept, "protocol.longest_step") == "1.8") {
    shape.protocol.longest_step = 0;
  }
  return shape;
}

}  // namespace

RunShape read_run_shape(const std::string& folder) {
  return shape_of(diffusion::read_saved_options(folder));
}

std::string encoder_folder(const std::string& path) {
  require_folder(path);
  if (is_patch_run(path)) {
    throw CheckpointError(path +
                          ": a run over a frozen encoder of patches (option "
                          "patches.weights), which has no encoder of its own");
  }
  return diffusion::weights_folder(path, "encoder", "train_dynamics");
}

SavedDynamics open_dynamics(const std::string& path) {
  const std::string folder = encoder_folder(path);
  const OptionValues kept = diffusion::read_saved_options(folder);
  const RunShape shape = shape_of(kept);
  SavedDynamics saved{shape, folder,
                      load_dynamics(folder, shape.model, shape.predictor, shape.second.predictor)};
  // Runs of before stored inverse dynamics that nothing had trained.
  if (value_or_empty(kept, "objective.inverse") == "0" && value_or_empty(kept, "encoder").empty()) {
    saved.model.inverse = nullptr;
  }
  return saved;
}

SavedPatchDynamics open_patch_dynamics(const std::string& path, const std::string& weights) {
  require_folder(path);
  const std::string folder = diffusion::weights_folder(path, kFrozenEncoder, "train_dynamics");
  RunShape shape = read_run_shape(folder);
  if (!weights.empty()) shape.patches.weights = weights;
  auto model = std::make_unique<PatchDynamicsModel>(shape.model, shape.patches);
  load_patch_predictor(folder, *model);
  return {std::move(shape), folder, std::move(model)};
}

void require_same(const RunShape& run, const std::string& checkpoint, const OptionValues& asked) {
  RunShape shape = run;
  const auto sections = shape.sections();
  const OptionValues trained = dump_options(sections);
  OptionValues known;
  for (const auto& [key, value] : asked) {
    if (trained.contains(key) && key != "patches.weights") known[key] = value;
  }
  apply_options(sections, known);
  for (const auto& [key, value] : dump_options(sections)) {
    if (value == trained.at(key)) continue;
    throw CheckpointError(checkpoint + ": trained with " + key + " = " + trained.at(key) +
                          ", asked for " + value);
  }
}

}  // namespace jepa::eval::dynamics

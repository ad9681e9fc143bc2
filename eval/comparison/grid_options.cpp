// What a comparison is asked to do, and the cells that come of it.
#include <eval/comparison/distinct.hpp>
#include <eval/comparison/grid.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>

namespace jepa::eval::comparison {

std::vector<OptionSection> ComparisonOptions::sections() {
  std::vector<OptionSection> sections{
      {"", "",
       [this](OptionVisitor& visit) {
         visit("run", run, {.help = "folder; cells that are done are not run again"});
         visit("arms", arms, {.help = "comma-separated: " + c10::Join(", ", arm_names())});
         visit("budgets", budgets, {.help = "of training", .unit = "TFLOP", .min = 0});
         visit("seeds", seeds, {.help = "each a cell", .min = 0});
         visit("noises", noises,
               {.help = "brightest background pixel; beyond the first at the first budget only",
                .min = 0,
                .max = 1});
         visit("widths", widths,
               {.help = "of every arm's transformers, each a model size; 0: as the options say",
                .min = 0});
         questions.describe_data(visit);
       }},
      {"clip", "how one's own clips are cut",
       [this](OptionVisitor& visit) { questions.clip.describe(visit); }},
      {"clips", "generated video",
       [this](OptionVisitor& visit) { questions.clips.describe(visit); }},
      {"creatures", "of the world of creatures, those that are trained on",
       [this](OptionVisitor& visit) { questions.describe_creatures(visit); }},
      {"balls", "factors of the world of balls: trained on, near and far outside",
       [this](OptionVisitor& visit) { questions.balls.describe(visit); }},
      {"questions", "", [this](OptionVisitor& visit) { questions.describe(visit); }},
      {"attentive", "training of the attentive probes",
       [this](OptionVisitor& visit) { questions.attentive_probe.describe(visit); }},
      {"arm", "",
       [this](OptionVisitor& visit) {
         visit("batch", arm.batch, {.help = "clips a step", .min = 2});
         visit("context_frames", arm.context_frames,
               {.help = "shown when a future is asked for", .min = 2});
         visit(
             "decoder_tera", arm.decoder_tera,
             {.help = "to train the decoder of latents, counted apart", .unit = "TFLOP", .min = 0});
         visit("autoencoder_share", arm.autoencoder_share,
               {.help = "of the budget of diffusion in latents", .min = 0.01, .max = 0.99});
         visit("feature_times", arm.feature_times,
               {.help = "at which diffusion features are read; 1: clean", .min = 0, .max = 1});
       }},
      {"tuning", "how settings were found on the validation split: `RUNS: grid`, for the report",
       [this](OptionVisitor& visit) {
         for (const auto& arm : arm_names()) {
           if (arm != "random_init") visit(arm, tuning[arm], {.help = "empty: not stated"});
         }
       }},
      {"judge", "reads digits and places from frames",
       [this](OptionVisitor& visit) { judge.describe(visit); }},
      {"model", "diffusion transformer",
       [this](OptionVisitor& visit) { arm.generative.transformer.describe(visit); }},
      {"diffusion", "", [this](OptionVisitor& visit) { arm.generative.diffusion.describe(visit); }},
      {"times", "of training",
       [this](OptionVisitor& visit) { arm.generative.diffusion.times.describe(visit); }},
      {"diffusion_optimisation", "of diffusion, autoencoder and decoder",
       [this](OptionVisitor& visit) { arm.diffusion_optimisation.describe(visit); }},
      {"autoencoder", "", [this](OptionVisitor& visit) { arm.autoencoder.describe(visit); }},
      {"sampler", "", [this](OptionVisitor& visit) { arm.sampler.describe(visit); }}};
  for (auto& section : arm.jepa.sections()) sections.push_back(std::move(section));
  return sections;
}

void ComparisonOptions::settle() {
  if (questions.data.empty() && questions.world == "creatures") {
    arm.generative.prompts = "creatures";
  }
}

OptionValues ComparisonOptions::quick(const OptionValues& given) {
  const auto is_list = [&](const char* key) {
    const auto found = given.find(key);
    return found != given.end() && found->second.find(',') != std::string::npos;
  };
  OptionValues values = {{"seeds", "0"},
                         {"budgets", is_list("budgets") ? "0.02,0.04" : "0.03"},
                         {"arm.batch", "4"},
                         {"arm.decoder_tera", "0.02"},
                         {"sampler.steps", "2"},
                         {"autoencoder.width", "8"},
                         {"encoder.preset", "custom"},
                         {"judge.width", "4"},
                         {"judge.steps", "20"},
                         {"judge.batch", "16"},
                         {"questions.shift_clips", "20"},
                         {"questions.predicted_clips", "8"},
                         {"questions.prompted_clips", "8"},
                         {"questions.futures", "2"}};
  if (is_list("widths")) values["widths"] = "12,24";
  for (const char* part : {"encoder", "predictor", "model"}) {
    const std::string name = part;
    values[name + ".dim"] = "24";
    values[name + ".heads"] = "2";
    values[name + ".depth"] = "1";
  }
  for (const char* clips :
       {"judge.clips", "judge.held_out_clips", "questions.train_clips", "questions.probe_clips",
        "questions.validation_clips", "questions.test_clips"}) {
    values[clips] = "60";
  }
  return values;
}

ArmPlan cell_plan(const ComparisonOptions& options, const CellRecord& cell) {
  const std::string width = cell.width == 0 ? "" : c10::str("-w", cell.width);
  return {cell.arm, cell.tera, cell.seed,
          c10::str(options.run, "/cells/", cell.arm, "-b", cell.tera, width, "-n", cell.noise, "-s",
                   cell.seed)};
}

ArmOptions cell_arm(const ComparisonOptions& options, const CellRecord& cell) {
  ArmOptions arm = options.arm;
  if (cell.width == 0) return arm;
  const auto widen = [&](const char* what, int64_t& dim, int64_t& heads) {
    const int64_t each = heads > 0 && dim > 0 ? dim / heads : 0;
    if (each == 0 || cell.width % each != 0) {
      throw ConfigError(c10::str("option widths: ", cell.width, " is no multiple of the ", each,
                                 " of one head of ", what,
                                 ", whose width and heads have to be "
                                 "given"));
    }
    heads = cell.width / each;
    dim = cell.width;
  };
  widen("encoder", arm.jepa.encoder.vit.dim, arm.jepa.encoder.vit.heads);
  widen("predictor", arm.jepa.predictor.masked.dim, arm.jepa.predictor.masked.heads);
  widen("model", arm.generative.transformer.dim, arm.generative.transformer.heads);
  return arm;
}

std::vector<CellRecord> plan_cells(const ComparisonOptions& options) {
  const auto names = probes::split_names(options.arms);
  for (const auto& name : names) {
    if (std::find(arm_names().begin(), arm_names().end(), name) == arm_names().end()) {
      throw ConfigError("option arms: " + name + " is not one of " + c10::Join(", ", arm_names()));
    }
  }
  require_distinct("arms", names);
  require_distinct("budgets", options.budgets);
  require_distinct("seeds", options.seeds);
  require_distinct("noises", options.noises);
  require_distinct("widths", options.widths);
  const auto& questions = options.questions;
  const bool noisy = options.noises.size() != 1 || options.noises.front() != 0;
  if (noisy && (!questions.data.empty() || questions.world != "digits")) {
    throw ConfigError("option noises: of generated digits; with data or another world it is 0");
  }
  if (options.widths.empty()) {
    throw ConfigError("option widths: expected at least one; 0: as it is");
  }
  const bool tuned = questions.report_on == "validation";
  const int64_t reported = tuned ? questions.validation_clips : questions.test_clips;
  if (3 * questions.predicted_clips > reported) {
    throw ConfigError(
        "option questions.predicted_clips: twice as many other test clips are needed beside them; "
        "there are " +
        std::to_string(reported));
  }
  const auto& objective = options.arm.jepa.objective;
  if (objective.target_norm == "content") {
    throw ConfigError(
        "option objective.target_norm = content: such predictions are relative to a batch's means "
        "and cannot be decoded; use token");
  }
  if (objective.freeze_encoder) {
    throw ConfigError("option objective.freeze_encoder: the arm frozen_random is what does it");
  }
  std::vector<CellRecord> cells;
  for (size_t n = 0; n < options.noises.size(); ++n) {
    for (size_t b = 0; b < options.budgets.size(); ++b) {
      if (n > 0 && b > 0) continue;
      for (const int64_t seed : options.seeds) {
        for (const int64_t width : options.widths) {
          for (const auto& arm : names) {
            if (arm == "random_init" && b > 0) continue;
            cells.push_back({.arm = arm,
                             .tera = arm == "random_init" ? 0 : options.budgets[b],
                             .seed = seed,
                             .noise = options.noises[n],
                             .width = width});
          }
        }
      }
    }
  }
  return cells;
}

}  // namespace jepa::eval::comparison

#include <examples/plan_options.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>

#include <algorithm>

namespace jepa::examples {

void PlanOptions::describe(OptionVisitor& visit) {
  visit("run", run, {.help = "run of train_dynamics, or one of its checkpoints"});
  visit("members", members,
        {.help = "further runs, comma-separated, that plan with it as an ensemble; row `untrained` "
                 "and what is read from latents are of the first alone"});
  visit("weights", weights,
        {.help = "instead of a run: eb_jepa's published checkpoint, or LeWorldModel's folder"});
  visit("action_mean", action_mean,
        {.help = "with weights: of a step's action in their data, one value or one a number"});
  visit("action_std", action_std, {.help = "with weights: likewise"});
  visit("out", out, {.help = "folder of the results; empty: RUN/plan"});
  visit("episodes", episodes, {.help = "with factors as in training", .min = 1});
  visit("factors", factors, {.help = "of these episodes", .choices = {"training", "standard"}});
  visit("unseen_episodes", unseen_episodes,
        {.help = "for each factor whose unseen values were kept out of training", .min = 0});
  visit("ahead_episodes", ahead_episodes,
        {.help = "towards a frame that the world's script reached (Push-T's published protocol); "
                 "worlds without goals: episodes of them",
         .min = 0});
  visit("ahead", ahead, {.help = "steps from start to that frame", .min = 1});
  visit("ahead_steps", ahead_steps, {.help = "steps to get there; success at any", .min = 1});
  visit("at_once", at_once, {.help = "episodes side by side", .min = 1});
  visit("films", films, {.help = "episodes shown", .min = 0});
  visit("controls", controls,
        {.help = "what runs beside the model, a list; all: what there is; empty: nothing"});
  visit("probe_clips", probe_clips, {.help = "that the position probe is fitted on", .min = 8});
  visit("wall_cases", wall_cases, {.help = "pushes at the wall of each kind", .min = 1});
  visit("landscape", landscape,
        {.help = "also write the picture of costs over two numbers of an action (.png)"});
  visit("landscape_side", map.side,
        {.help = "plans along its axes, 2 or more; 0: no picture", .min = 0});
}

std::vector<OptionSection> PlanOptions::sections() {
  std::vector<OptionSection> sections = {
      {"", "", [this](OptionVisitor& visit) { describe(visit); }},
      {"planner", "", [this](OptionVisitor& visit) { planner.describe(visit); }},
      {"cem", "", [this](OptionVisitor& visit) { planner.cem.describe(visit); }},
      {"mppi", "", [this](OptionVisitor& visit) { planner.mppi.describe(visit); }},
      {"gradient", "", [this](OptionVisitor& visit) { planner.gradient.describe(visit); }},
      {"shooting", "", [this](OptionVisitor& visit) { planner.random.describe(visit); }},
      {"horizon", "", [this](OptionVisitor& visit) { horizon.describe(visit); }},
      {"cost", "distance to the goal's latent", [this](OptionVisitor& visit) {
         visit("over_time", cost.over_time,
               {.help = "of the distances along the horizon", .choices = {"sum", "last", "min"}});
         visit("disagreement", cost.disagreement,
               {.help = "with members: so many standard deviations over them are added to the mean "
                        "of their distances",
                .min = 0});
       }}};
  sections.push_back({"gym",
                      "of Gymnasium environments; frames are of the run's size where none is given",
                      [this](OptionVisitor& visit) { gym.describe(visit); }});
  for (auto& section : asked.sections()) sections.push_back(std::move(section));
  return sections;
}

void require_block(const std::string& source, int64_t block, PlanOptions& options,
                   const OptionValues& given) {
  if (given.contains("horizon.block") && options.horizon.block != block) {
    throw CheckpointError(
        source + ": trained with blocks of " + std::to_string(block) +
        " steps, asked for horizon.block = " + std::to_string(options.horizon.block));
  }
  options.horizon.block = block;
}

void take_environment(const std::string& source, const eval::dynamics::RunShape& run,
                      PlanOptions& options, const OptionValues& given) {
  const auto& protocol = run.protocol;
  const auto take = [&](const char* key, const auto& trained, auto& asked) {
    if (given.contains(key) && asked != trained) {
      throw CheckpointError(c10::str(source, ": its data were made with ", key, " = ", trained,
                                     ", asked for ", asked));
    }
    asked = trained;
  };
  if (protocol.frame_skip > 0) take("gym.frame_skip", protocol.frame_skip, options.gym.frame_skip);
  if (!protocol.gym_make.empty()) take("gym.make", protocol.gym_make, options.gym.make);
  if (!protocol.world.starts_with("gym:")) return;
  const auto take_size = [&](const char* key, int64_t trained, int64_t& asked) {
    if (!given.contains(key) || asked != 0) take(key, trained, asked);  // 0: as they come
  };
  take_size("gym.height", run.model.encoder.height, options.gym.height);
  take_size("gym.width", run.model.encoder.width, options.gym.width);
}

void take_variant(PlanOptions& options, const OptionValues& given) {
  auto& planner = options.planner;
  if (planner.variant == "none") return;
  if (planner.type != "cem") {
    throw ConfigError("option planner.variant: " + planner.variant +
                      " is one of cem, the planner is " + planner.type);
  }
  planner.cem = eval::planning::cem_variant(planner.variant);
  OptionValues own;
  for (const auto& [key, value] : given) {
    if (key.starts_with("cem.")) own[key] = value;
  }
  apply_options({{"cem", "", [&](OptionVisitor& visit) { planner.cem.describe(visit); }}}, own);
  options.variant = planner.variant;
  planner.variant = "none";
}

double planner_length(const eval::dynamics::ActionScale& scale) {
  const double unit = scale.std.front();
  const bool even =
      std::all_of(scale.std.begin(), scale.std.end(), [&](double x) { return x == unit; }) &&
      std::all_of(scale.mean.begin(), scale.mean.end(), [](double x) { return x == 0; });
  return even ? scale.longest / unit : 0;
}

void bound_actions(PlanOptions& options, const OptionValues& given,
                   const eval::worlds::WorldInfo& info, const eval::dynamics::ActingModel& acting,
                   bool world_bounds) {
  auto& cem = options.planner.cem;
  const double longest = planner_length(acting.scale);
  if (!given.contains("cem.max_norm")) {
    if (longest > 0 && (cem.max_norm == 0 || cem.max_norm > longest)) cem.max_norm = longest;
  } else if (options.planner.type == "cem" && longest > 0 && cem.max_norm > longest) {
    throw ConfigError(c10::str("option cem.max_norm: ", cem.max_norm,
                               " is longer than the protocol's longest_step ", acting.scale.longest,
                               longest == acting.scale.longest
                                   ? std::string()
                                   : c10::str(" (", longest, " as the model takes it)")));
  }
  const bool side_by_side = !options.horizon.hold && acting.block > 1;
  if (side_by_side && !given.contains("cem.step_width")) cem.step_width = acting.step_width;
  if (!world_bounds) return;
  const auto fill = [&](const char* key, const std::vector<double>& from, std::vector<double>& to) {
    if (given.contains(key) || from.empty() || !to.empty()) return;
    for (size_t k = 0; k < from.size(); ++k) {
      const auto of = [k](const std::vector<double>& x) { return x[x.size() == 1 ? 0 : k]; };
      to.push_back((from[k] - of(acting.scale.mean)) / of(acting.scale.std));
    }
    const auto once = to;
    for (int64_t b = 1; side_by_side && b < acting.block; ++b) {
      to.insert(to.end(), once.begin(), once.end());
    }
  };
  fill("cem.low", info.action_low, cem.low);
  fill("cem.high", info.action_high, cem.high);
}

namespace {

/// A struct's options as numbers, words and truth values.
template <class Options>
nlohmann::json values_of(Options options) {
  nlohmann::json all = nlohmann::json::object();
  const std::vector<OptionSection> section = {
      {"", "", [&](OptionVisitor& visit) { options.describe(visit); }}};
  for (const auto& [key, text] : dump_options(section)) {
    const auto value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    const bool plain = value.is_number() || value.is_boolean();
    all[key] = plain ? value : nlohmann::json(text);
  }
  return all;
}

}  // namespace

nlohmann::json plan_settings(const PlanOptions& options,
                             const eval::dynamics::EvaluationProtocol& protocol) {
  const auto& planner = options.planner;
  nlohmann::json how = planner.type == "mppi"       ? values_of(planner.mppi)
                       : planner.type == "gradient" ? values_of(planner.gradient)
                       : planner.type == "random"   ? values_of(planner.random)
                                                    : values_of(planner.cem);
  how["type"] = planner.type;
  if (!options.variant.empty()) how["variant"] = options.variant;
  return {{"planner", how},
          {"horizon", values_of(options.horizon)},
          {"cost",
           {{"over_time", options.cost.over_time},
            {"include_start", options.cost.include_start},
            {"sum_width", options.cost.sum_width},
            {"disagreement", options.cost.disagreement}}},
          {"factors", options.factors},
          {"protocol", values_of(protocol)}};
}

}  // namespace jepa::examples

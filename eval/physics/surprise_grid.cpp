#include <eval/comparison/distinct.hpp>
#include <eval/physics/surprise_grid.hpp>
#include <eval/physics/surprise_models.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/safetensors.hpp>
#include <jepa/stopped.hpp>

#include <c10/util/StringUtil.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <filesystem>
#include <set>

namespace jepa::eval::physics {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kUntrainedSeed = 1000;  // none of them is a trained one's start
constexpr int64_t kScenesAtOnce = 8;

const std::string kUntrained = "untrained_";  // before an arm's name

bool is_untrained(const std::string& arm) { return arm.starts_with(kUntrained); }

/// Films of test scenes: untrained networks are many and are not asked about the matched changes.
int64_t kinds_of(const std::string& arm) { return is_untrained(arm) ? 2 : 3; }

comparison::ArmPlan plan_of(const SurpriseOptions& options, const std::string& arm, int64_t seed,
                            double tera) {
  const std::string budget = tera > 0 ? c10::str("-b", tera) : "";
  return {arm, tera > 0 ? tera : options.tera, seed,
          c10::str(options.run, "/cells/", arm, budget, "-s", seed)};
}

/// How many networks stand for an arm before training. Diffusion in pixels has one: whatever its
/// seed, it says 0 at first.
int64_t untrained_draws(const SurpriseOptions& options, const std::string& arm) {
  if (arm == kUntrained + "pixels") return 1;
  return arm == kUntrained + "latents" ? options.untrained_latents : options.untrained;
}

/// The seeds that an arm has.
std::vector<int64_t> seeds_of(const SurpriseOptions& options, const std::string& arm) {
  if (arm == "copy_last" || arm == "pixel_difference") return {0};
  if (!is_untrained(arm)) return options.seeds;
  std::vector<int64_t> seeds;
  for (int64_t i = 0; i < untrained_draws(options, arm); ++i) seeds.push_back(i);
  return seeds;
}

std::vector<int64_t> clip_sizes(const SurpriseOptions& options) {
  return {1, 3, options.clip_frames, options.world.side, options.world.side};
}

/// The arm as its first seed's run has it, with fresh weights.
SurpriseModel untrained_model(const SurpriseOptions& options, const std::string& arm,
                              int64_t seed) {
  const std::string trained = arm.substr(kUntrained.size());
  const auto run = comparison::model_folder(plan_of(options, trained, options.seeds.front(), 0));
  return untrained_surprise(run, options.clip_frames, static_cast<uint64_t>(kUntrainedSeed + seed),
                            options.training.arm.device);
}

/// Frames that share a token of an arm.
int64_t frames_of_token(const SurpriseOptions& options, const std::string& arm) {
  const auto& training = options.training.arm;
  if (arm == "pixels") return training.generative.transformer.tubelet;
  if (arm == "latents") return diffusion::AutoencoderOptions::kTimeFactor;
  const auto recipe = training.jepa.fitted(clip_sizes(options));
  return encoders::make_encoder(recipe.encoder)->patch().t;
}

/// A cell whose model is made when it is first asked: scores that are on disk need none.
class LazyCell {
 public:
  LazyCell(const SurpriseOptions& options, std::string arm, int64_t seed,
           const comparison::ComparisonHooks& hooks, double tera = 0)
      : options_(options), arm_(std::move(arm)), seed_(seed), hooks_(hooks), tera_(tera) {}

  /// Surprises of a rule's scenes, kept in the cell's folder.
  torch::Tensor surprises(const std::string& rule, const std::string& split, int64_t past,
                          int64_t kinds) {
    const std::string folder = plan_of(options_, arm_, seed_, tera_).folder;
    const std::string path = c10::str(folder, "/", split, "-c", past, "-", rule, ".safetensors");
    if (fs::exists(path)) return read_safetensors(path).tensors.at("surprise").clone();
    stop_if_asked(hooks_.stop, "surprise");
    if (!model_.tokens) model_ = cell_model(options_, arm_, seed_, hooks_, tera_);
    const auto scored = rule_surprises(model_, options_, rule, split, past, kinds);
    fs::create_directories(folder);
    write_safetensors(path, {{"surprise", scored}});
    return scored;
  }
  std::vector<torch::Tensor> all(const std::string& split, int64_t past, int64_t kinds) {
    std::vector<torch::Tensor> rules;
    for (const auto& rule : rule_names()) rules.push_back(surprises(rule, split, past, kinds));
    return rules;
  }

 private:
  const SurpriseOptions& options_;
  std::string arm_;
  int64_t seed_;
  const comparison::ComparisonHooks& hooks_;
  double tera_;
  SurpriseModel model_;
};

/// The past at which an arm's seeds together do best on validation; of equals the longer one.
int64_t choose_past(const SurpriseOptions& options, std::vector<LazyCell>& cells) {
  const size_t asked =
      std::min<size_t>(cells.size(), std::max<size_t>(options.seeds.size(), kChoosingDraws));
  std::vector<double> scores;
  for (const int64_t past : options.contexts) {
    double sum = 0;
    for (size_t i = 0; i < asked; ++i) sum += validation_score(cells[i].all("validation", past, 2));
    scores.push_back(sum);
  }
  return best_past(options.contexts, scores);
}

std::vector<SurpriseCell> score_arm(const SurpriseOptions& options, const std::string& arm,
                                    const comparison::ComparisonHooks& hooks) {
  std::vector<LazyCell> cells;
  const auto seeds = seeds_of(options, arm);
  for (const int64_t seed : seeds) cells.emplace_back(options, arm, seed, hooks);
  const int64_t past = choose_past(options, cells);
  hooks.say(c10::str(arm, ": a past of ", past, " frames by validation"));
  std::vector<SurpriseCell> made;
  for (size_t i = 0; i < cells.size(); ++i) {
    SurpriseCell cell{.arm = arm, .seed = seeds[i], .past = past};
    cell.threshold = best_threshold(cells[i].all("validation", past, 2), kMax);
    cell.test = cells[i].all("test", past, kinds_of(arm));
    hooks.say(c10::str(arm, ", seed ", cell.seed, ": scored"));
    made.push_back(std::move(cell));
  }
  if (!is_trained(options, arm)) return made;
  for (const double tera : options.scale) {
    for (const int64_t seed : seeds) {
      SurpriseCell cell{.arm = arm, .seed = seed, .tera = tera, .past = past};
      cell.test = LazyCell(options, arm, seed, hooks, tera).all("test", past, 2);
      hooks.say(c10::str(arm, ", ", tera, " TFLOP, seed ", seed, ": scored"));
      made.push_back(std::move(cell));
    }
  }
  return made;
}

}  // namespace

std::vector<OptionSection> SurpriseOptions::sections() {
  std::vector<OptionSection> sections{
      {"", "",
       [this](OptionVisitor& visit) {
         visit("run", run, {.help = "folder; what is done in it is not done again"});
         visit("arms", arms, {.help = "comma-separated: jepa, masked_pixels, pixels, latents"});
         visit("seeds", seeds, {.help = "each a cell", .min = 0});
         visit("tera", tera, {.help = "training of an arm and seed", .unit = "TFLOP", .min = 0});
         visit("scale", scale,
               {.help = "other budgets, at which the arms are asked too: errors over compute",
                .unit = "TFLOP",
                .min = 1e-6});
         visit("untrained", untrained,
               {.help = "networks with an arm's own initialisation, as its control; of pixels one, "
                        "since a fresh diffusion network says 0 whatever its seed",
                .min = 1});
         visit("untrained_latents", untrained_latents,
               {.help = "the same of latents (of a benchmark: of any diffusion), which take longer "
                        "to ask",
                .min = 1});
         visit("batch", training.arm.batch, {.help = "clips a step, of every arm", .min = 2});
         visit("clip_frames", clip_frames, {.help = "of training clips and of windows", .min = 4});
         visit("train_films", train_films, {.help = "lawful ones", .min = 1});
         visit("light_share", light_share,
               {.help = "of training films, in which a light comes on", .min = 0, .max = 1});
         visit("validation_scenes", validation_scenes,
               {.help = "of each rule; they choose the past and the threshold", .min = 1});
         visit("test_scenes", test_scenes,
               {.help = "of each rule: four films, and two matched "
                        "changes",
                .min = 1});
         visit("contexts", contexts,
               {.help = "frames of the past, from which validation chooses once for each arm",
                .min = 1});
         visit("stride", stride, {.help = "frames from window to window", .min = 1});
         visit("resamples", resamples, {.help = "of the bootstrap over scenes", .min = 10});
       }},
      {"world", "", [this](OptionVisitor& visit) { world.describe(visit); }}};
  const std::set<std::string> others{"",       "clip",  "clips",   "questions", "attentive", "arm",
                                     "tuning", "judge", "sampler", "creatures", "balls"};
  for (auto& section : training.sections()) {
    if (!others.contains(section.name)) sections.push_back(std::move(section));
  }
  return sections;
}

OptionValues SurpriseOptions::quick() {
  return {
      {"tera", "0.1"},      {"untrained", "2"}, {"untrained_latents", "1"}, {"seeds", "0"},
      {"contexts", "6"},    {"stride", "4"},    {"validation_scenes", "1"}, {"test_scenes", "1"},
      {"resamples", "100"}, {"batch", "4"}};
}

std::vector<std::string> surprise_arms(const SurpriseOptions& options) {
  auto arms = probes::split_names(options.arms);
  for (const auto& arm : probes::split_names(options.arms)) arms.push_back(kUntrained + arm);
  for (const char* control : {"copy_last", "pixel_difference"}) arms.emplace_back(control);
  return arms;
}

bool is_trained(const SurpriseOptions& options, const std::string& arm) {
  const auto arms = probes::split_names(options.arms);
  return std::find(arms.begin(), arms.end(), arm) != arms.end();
}

void require_askable(const SurpriseOptions& options) {
  const auto arms = probes::split_names(options.arms);
  if (arms.empty()) throw ConfigError("option arms: name one at least");
  if (options.seeds.empty()) throw ConfigError("option seeds: name one at least");
  if (options.contexts.empty()) throw ConfigError("option contexts: name one at least");
  comparison::require_distinct("arms", arms);
  comparison::require_distinct("seeds", options.seeds);
  auto budgets = options.scale;
  budgets.push_back(options.tera);
  comparison::require_distinct("scale", budgets, ", or is the run's own tera");
  for (const auto& arm : arms) {
    comparison::model_folder({.arm = arm, .folder = ""});
    const int64_t together = frames_of_token(options, arm);
    for (const int64_t past : options.contexts) {
      if (past < options.clip_frames && past % together == 0) continue;
      throw ConfigError(c10::str("option contexts: arm ", arm, " can not be told a past of ", past,
                                 " frames; expected multiples of ", together, " below ",
                                 options.clip_frames));
    }
  }
}

SurpriseModel cell_model(const SurpriseOptions& options, const std::string& arm, int64_t seed,
                         const comparison::ComparisonHooks& hooks, double tera) {
  const auto& vit = options.training.arm.jepa.encoder.vit;
  if (is_untrained(arm)) return untrained_model(options, arm, seed);
  if (arm == "copy_last") return copy_last_surprise(options.clip_frames, vit.tubelet, vit.patch);
  if (arm == "pixel_difference") {
    return pixel_difference_surprise(options.clip_frames, vit.tubelet, vit.patch);
  }
  const auto films = std::make_shared<LawfulFilms>(
      options.world, options.train_films, options.clip_frames, kWorldSeed, options.light_share);
  const auto run = comparison::train_model(plan_of(options, arm, seed, tera), options.training.arm,
                                           films, hooks.training);
  return load_surprise(run, options.clip_frames, options.training.arm.device);
}

torch::Tensor rule_surprises(const SurpriseModel& model, const SurpriseOptions& options,
                             const std::string& rule, const std::string& split, int64_t past,
                             int64_t kinds) {
  const int64_t scenes = split == "test" ? options.test_scenes : options.validation_scenes;
  std::vector<torch::Tensor> parts;
  for (int64_t start = 0; start < scenes; start += kScenesAtOnce) {
    std::vector<torch::Tensor> films;
    for (int64_t i = start; i < std::min(start + kScenesAtOnce, scenes); ++i) {
      const Scene scene = make_scene(rule, options.world, kWorldSeed, split, i);
      for (size_t pair = 0; pair < 2; ++pair) {
        films.push_back(scene.lawful[pair].clip());
        films.push_back(scene.broken[pair].clip());
        if (kinds > 2) films.push_back(scene.changed[pair].clip());
      }
    }
    const auto surprise =
        surprise_of(model, torch::stack(films), {.past = past, .stride = options.stride});
    parts.push_back(torch::stack({surprise.mean(), surprise.max()}, 1)
                        .to(torch::kFloat64)
                        .view({-1, 2, kinds, 2}));
  }
  return torch::cat(parts);
}

std::vector<SurpriseCell> run_surprise(const SurpriseOptions& options,
                                       const comparison::ComparisonHooks& hooks) {
  require_askable(options);
  // Seed by seed, so that a run that is cut off has all arms.
  for (const int64_t seed : options.seeds) {
    for (const auto& arm : probes::split_names(options.arms)) {
      hooks.say(c10::str("cell ", arm, ", seed ", seed));
      cell_model(options, arm, seed, hooks);
    }
  }
  std::vector<SurpriseCell> cells;
  for (const auto& arm : surprise_arms(options)) {
    for (auto& cell : score_arm(options, arm, hooks)) cells.push_back(std::move(cell));
  }
  return cells;
}

}  // namespace jepa::eval::physics

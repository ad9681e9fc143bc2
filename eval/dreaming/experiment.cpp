#include <eval/dreaming/experiment.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/random.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstdio>

namespace jepa::eval::dreaming {
namespace {

void save_module(const std::string& path, const torch::nn::Module& module) {
  write_safetensors(path, state_dict(module));
}

void load_module(const std::string& path, torch::nn::Module& module) {
  load_into(module, read_safetensors(path).tensors, path);
}

std::string numbered(const char* what, int64_t round) { return c10::str(what, "-", round); }

}  // namespace

std::string controller_stage(int64_t round, double temperature) {
  char text[64];
  std::snprintf(text, sizeof text, "controller-%lld-t%g", static_cast<long long>(round),
                temperature);
  return text;
}

void PlayOptions::describe(OptionVisitor& visit) {
  visit("collected", collected, {.help = "episodes collected in each round", .min = 2});
  visit("hold", hold,
        {.help = "of the held random policy, at most", .unit = "decisions", .min = 1});
  visit(
      "rounds", rounds,
      {.help = "of collecting, training and dreaming; from the second on what was learned collects",
       .min = 1,
       .max = 20});
  visit("episodes", episodes, {.help = "real ones that everything is scored on", .min = 2});
  visit(
      "swap_periods", swap_periods,
      {.help = "of the policy that swaps sides; the best is kept", .unit = "decisions", .min = 1});
  visit("tuning_episodes", tuning_episodes,
        {.help = "other ones, that the best constant and period are found on", .min = 2});
  visit("real", real,
        {.help =
             "train the same controller in the real game, by as many candidates and generations"});
  visit("film", film, {.help = "film of a real episode beside the dream"});
}

std::vector<OptionSection> ExperimentOptions::sections() {
  std::vector<OptionSection> sections = {
      {"", "",
       [this](OptionVisitor& visit) {
         visit("run", run, {.help = "folder of the run; one that exists goes on"});
         visit("data", data,
               {.help = "clip store of the first round's episodes; empty: they are collected"});
         visit("temperatures", temperatures,
               {.help = "of the table, one controller each", .min = 1e-3});
       }},
      {"play", "collecting and scoring", [this](OptionVisitor& visit) { play.describe(visit); }},
      {"vision", "V, frames to latents", [this](OptionVisitor& visit) { vision.describe(visit); }},
      {"model", "M, the dream", [this](OptionVisitor& visit) { model.describe(visit); }},
      {"controller", "C, searched in the dream",
       [this](OptionVisitor& visit) { controller.describe(visit); }},
      {"actor_critic", "with controller.kind actor_critic",
       [this](OptionVisitor& visit) { actor_critic.describe(visit); }}};
  for (auto& section : game.sections()) sections.push_back(std::move(section));
  return sections;
}

Experiment::Experiment(ExperimentOptions options, MakeGame make, ExperimentHooks hooks)
    : options_(std::move(options)),
      make_(stoppable(std::move(make), hooks.stop)),
      hooks_(std::move(hooks)),
      stages_(options_.run, hooks_.say),
      info_(make_(1)->info()) {
  if (options_.controller.ending == "chance" && options_.model.done_weight <= 0) {
    throw ConfigError("option controller.ending: chance divides by model.done_weight, which is 0");
  }
  auto& table = options_.temperatures;
  table.push_back(options_.controller.temperature);
  std::sort(table.begin(), table.end());
  table.erase(std::unique(table.begin(), table.end()), table.end());
}

TrainingProgress Experiment::progress(const std::string& stage) const {
  return [this, stage](int64_t step, int64_t steps, double value) {
    stop_if_asked(hooks_.stop, stage);
    if (hooks_.progress) hooks_.progress(stage, step, steps, value);
  };
}

uint64_t Experiment::seed_of(const std::string& stage, int64_t index) const {
  return stream_seed(static_cast<uint64_t>(options_.seed), stage, static_cast<uint64_t>(index));
}

LinearController Experiment::shape() const {
  return {.latent = options_.vision.latent,
          .hidden = options_.model.hidden,
          .outputs = info_.action_width};
}

void Experiment::run() {
  const int64_t rounds = options_.play.rounds;
  play_controls();
  for (int64_t round = 1; round <= rounds; ++round) {
    collect(round);
    train_vision_of(round);
    train_model_of(round);
    if (round < rounds) {
      train_controller(controller_stage(round, options_.controller.temperature),
                       options_.controller.temperature);
    }
  }
  for (const double temperature : options_.temperatures) {
    train_controller(controller_stage(rounds, temperature), temperature);
  }
  play_untrained();
  if (options_.play.real && options_.controller.kind == "cma_es") train_real_controller();
}

void Experiment::collect(int64_t round) {
  const auto stage = numbered("collect", round);
  stages_.run(stage, [&](StageRecord& record) {
    if (round == 1 && !options_.data.empty()) {
      const Episodes read = read_episodes(options_.data, info_, options_.play.collected);
      record.decisions = read.decisions();
      record.frames = read.decisions() * info_.repeat;
      record.scores["collected"] = score_interval(read.scores());
      return;
    }
    std::unique_ptr<Controller> controller;
    std::unique_ptr<Policy> policy;
    if (round == 1) {
      policy = held_random(info_, options_.play.hold);
    } else {
      load_parts(round - 1);
      controller = load_controller(controller_stage(round - 1, options_.controller.temperature),
                                   options_.play.collected);
      policy = std::make_unique<Agent>(*vision_, model_, *controller, info_);
    }
    Scores scores;
    const Episodes some =
        collect_episodes(make_, *policy, seed_of(stage), options_.play.collected, scores);
    keep(record, "collected", scores);
    write_episodes(stages_.file(stage + ".h5"), some, info_,
                   {{"world", info_.name},
                    {"policy", round == 1 ? "held random" : "learned in the dream"},
                    {"repeat", c10::str(info_.repeat)},
                    {"seed", c10::str(options_.seed)}});
  });
  round_ = round;
  episodes_.reset();
  latents_.reset();
}

const Episodes& Experiment::episodes() {
  if (!episodes_) {
    std::vector<Episodes> parts;
    for (int64_t round = 1; round <= round_; ++round) {
      const bool given = round == 1 && !options_.data.empty();
      parts.push_back(
          read_episodes(given ? options_.data : stages_.file(numbered("collect", round) + ".h5"),
                        info_, options_.play.collected));
    }
    episodes_ = join(parts);
  }
  return *episodes_;
}

const LatentSplit& Experiment::latents() {
  if (!latents_) {
    const double held_out = options_.model.held_out;
    latents_ = split_episodes(encode_episodes(*vision_, episodes(), false, hooks_.stop), held_out);
    if (options_.model.mirror) {
      const auto mirrored = encode_episodes(*vision_, episodes(), true, hooks_.stop);
      latents_->training =
          dreaming::join(latents_->training, split_episodes(mirrored, held_out).training);
    }
    episodes_.reset();  // frames are large, and nothing more is read from them in this round
  }
  return *latents_;
}

void Experiment::load_parts(int64_t round) {
  vision_ = make_vision(options_.vision, info_);
  load_module(stages_.file(numbered("vision", round) + ".safetensors"), *vision_);
  vision_->eval();
  model_ = make_model(options_.model, options_.vision.latent, info_.action_width);
  load_module(stages_.file(numbered("model", round) + ".safetensors"), *model_);
  model_->eval();
}

void Experiment::train_vision_of(int64_t round) {
  const auto stage = numbered("vision", round);
  const auto file = stages_.file(stage + ".safetensors");
  vision_ = make_vision(options_.vision, info_);
  stages_.run(stage, [&](StageRecord& record) {
    vision_->initialise(seeded_generator(seed_of("vision")));
    if (round > 1) {
      load_module(stages_.file(numbered("vision", round - 1) + ".safetensors"), *vision_);
    }
    record.numbers["loss"] = train_vision(*vision_, episodes(), options_.model.held_out,
                                          seed_of(stage), progress(stage));
    save_module(file, *vision_);
  });
  load_module(file, *vision_);
  vision_->eval();
}

void Experiment::train_model_of(int64_t round) {
  const auto stage = numbered("model", round);
  const auto file = stages_.file(stage + ".safetensors");
  model_ = make_model(options_.model, options_.vision.latent, info_.action_width);
  stages_.run(stage, [&](StageRecord& record) {
    model_->initialise(seeded_generator(seed_of("model")));
    if (round > 1) {
      load_module(stages_.file(numbered("model", round - 1) + ".safetensors"), *model_);
    }
    const auto& split = latents();
    const ModelLoss loss =
        train_model(model_, options_.model, split.training, seed_of(stage), progress(stage));
    save_module(file, *model_);
    const Recall known =
        termination_recall(model_, split.held_out, options_.model.recall_window, death_weight());
    record.numbers = {
        {"density", loss.density},
        {"termination", loss.termination},
        {"recall", known.recall},
        {"false_alarms", known.false_alarms},
        {"held_out_deaths", static_cast<double>(known.deaths)},
        {"episodes", static_cast<double>(split.training.size() + split.held_out.size())}};
  });
  load_module(file, *model_);
  model_->eval();
}

std::unique_ptr<Controller> Experiment::load_controller(const std::string& name, int64_t episodes) {
  const auto file = stages_.file(name + ".safetensors");
  if (options_.controller.kind == "actor_critic") {
    actor_ = std::make_unique<ActorCritic>(
        make_actor_critic(options_.actor_critic, info_, model_, seed_of("actor")));
    load_module(file, *actor_->actor());
    return std::make_unique<ActorController>(*actor_);
  }
  const auto weights = read_safetensors(file).tensors.at("weights");
  return std::make_unique<LinearControllers>(shape(), weights.unsqueeze(0), episodes);
}

void Experiment::train_controller(const std::string& name, double temperature) {
  stages_.run(name, [&](StageRecord& record) {
    auto search = options_.controller;
    search.temperature = temperature;
    const auto& training = latents().training;
    if (search.kind == "actor_critic") {
      auto agent = make_actor_critic(options_.actor_critic, info_, model_, seed_of("actor"));
      record.imagined = train_actor_critic(agent, model_, training, options_.actor_critic, search,
                                           death_weight(), seed_of(name), progress(name));
      save_module(stages_.file(name + ".safetensors"), *agent.actor());
      return;
    }
    const auto starts = search.start == "memory" ? remembered(model_, training, hooks_.stop)
                                                 : first_latents(training);
    const Searched found =
        search_controller(shape().parameters(), search, seed_of("search"),
                          score_in_dream(model_, shape(), starts, search, death_weight(), info_,
                                         seed_of(name), hooks_.stop),
                          progress(name));
    record.imagined = found.decisions;
    record.curves["score"] = found.curve;
    write_safetensors(stages_.file(name + ".safetensors"), {{"weights", found.weights}});
  });
  stages_.run("play-" + name, [&](StageRecord& record) { score(record, name, temperature); });
}

void Experiment::train_real_controller() {
  stages_.run("controller-real", [&](StageRecord& record) {
    auto search = options_.controller;
    if (search.real_episodes > 0) search.episodes = search.real_episodes;
    if (search.start == "memory") search.limit = 0;  // nothing threatens where an episode begins
    const Searched found =
        search_controller(shape().parameters(), search, seed_of("search"),
                          score_in_game(make_, *vision_, model_, shape(), search, seed_of("real")),
                          progress("controller-real"));
    record.decisions = found.decisions;
    record.frames = found.frames;
    record.curves["score"] = found.curve;
    write_safetensors(stages_.file("controller-real.safetensors"), {{"weights", found.weights}});
  });
  stages_.run("play-controller-real",
              [&](StageRecord& record) { score(record, "controller-real", 0); });
}

}  // namespace jepa::eval::dreaming

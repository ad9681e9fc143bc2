#include <eval/dreaming/agent.hpp>
#include <eval/dreaming/cma_es.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/random.hpp>

#include <ATen/ATen.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace jepa::eval::dreaming {

using predictors::MixtureDensityRnn;
using State = predictors::MixtureDensityRnnImpl::State;

torch::Tensor remembered(MixtureDensityRnn& model, const LatentEpisodes& episodes,
                         const StopRequest& stop) {
  const torch::NoGradGuard no_grad;
  State state = model->start(episodes.size());
  auto alive = torch::arange(episodes.size(), torch::kInt64);  // all side by side
  std::vector<torch::Tensor> seen;
  for (int64_t t = 0;; ++t) {
    stop_if_asked(stop, "dream");
    std::vector<int64_t> going, rows;
    for (int64_t i = 0; i < alive.size(0); ++i) {
      const int64_t e = alive.const_data_ptr<int64_t>()[i], row = episodes.offsets[e] + t;
      if (row + 1 < episodes.offsets[e + 1]) going.push_back(i), rows.push_back(row);
    }
    if (going.empty()) break;
    const auto kept = torch::tensor(going, torch::kInt64), now = torch::tensor(rows, torch::kInt64);
    alive = alive.index_select(0, kept);
    state = {state.hidden.index_select(0, kept), state.cell.index_select(0, kept)};
    const auto latent = episodes.latents.index_select(0, now);
    seen.push_back(join_memory(latent, state));
    model->forward(latent.unsqueeze(1), episodes.actions.index_select(0, now).unsqueeze(1), state);
  }
  return torch::cat(seen);
}

void SearchOptions::describe(OptionVisitor& visit) {
  visit("kind", kind,
        {.help = "linear and searched by CMA-ES, or an actor-critic on imagined rollouts",
         .choices = {"cma_es", "actor_critic"}});
  visit("population", population, {.help = "candidates a generation", .min = 4});
  visit("episodes", episodes, {.help = "of each candidate in each generation", .min = 1});
  visit("real_episodes", real_episodes,
        {.help = "the same in the real game, where it learns there; 0: episodes", .min = 0});
  visit("generations", generations, {.help = "of each search", .min = 1});
  visit("step", step, {.help = "first standard deviation of weights", .min = 1e-6});
  visit("diagonal", diagonal, {.help = "learn only the diagonal of the covariance"});
  visit("limit", limit,
        {.help = "of an episode in training; 0: the game's own", .unit = "decisions", .min = 0});
  visit("ending", ending,
        {.help = "of a dream: where M's termination logit is above 0, or by M's chance of it, its "
                 "odds divided by model.done_weight",
         .choices = {"threshold", "chance"}});
  visit(
      "start", start,
      {.help = "of a dream that cma_es scores by: an episode's first frame, nothing remembered, or "
               "any decision of a real episode with what M remembers then (set a limit)",
       .choices = {"episode", "memory"}});
  visit("temperature", temperature, {.help = "of the dream", .min = 1e-3});
  visit("updates", updates, {.help = "actor_critic: of actor and critic", .min = 1});
  visit("batch", batch, {.help = "actor_critic: imagined rollouts an update", .min = 1});
}

void Agent::start(int64_t episodes, uint64_t) {
  const auto zero = model_->start(episodes);
  state_ = {zero.hidden.clone(), zero.cell.clone()};  // they may share memory, and are written to
}

torch::Tensor Agent::act(const torch::Tensor& pixels, const torch::Tensor& rows, int64_t) {
  const torch::NoGradGuard no_grad;
  const auto latents = vision_.encode(pixels);
  State state{state_.hidden.index_select(0, rows), state_.cell.index_select(0, rows)};
  const auto actions = game_actions(info_, controller_.act(rows, latents, state));
  model_->forward(latents.unsqueeze(1), actions.unsqueeze(1), state);
  state_.hidden.index_copy_(0, rows, state.hidden);
  state_.cell.index_copy_(0, rows, state.cell);
  return actions;
}

Searched search_controller(int64_t parameters, const SearchOptions& options, uint64_t seed,
                           const ScoreCandidates& score, const TrainingProgress& progress) {
  CmaEs search(std::vector<double>(parameters, 0.0), {.population = options.population,
                                                      .step = options.step,
                                                      .seed = seed,
                                                      .diagonal = options.diagonal});
  Searched result;
  for (int64_t g = 0; g < options.generations; ++g) {
    const auto scores = score(search.ask(), g, result).to(torch::kFloat64);
    search.tell(-scores);
    result.curve.push_back(scores.mean().item<double>());
    if (progress) progress(g + 1, options.generations, result.curve.back());
  }
  result.weights = search.mean().to(torch::kFloat32);
  return result;
}

ScoreCandidates score_in_dream(MixtureDensityRnn& model, const LinearController& shape,
                               const torch::Tensor& starts, const SearchOptions& options,
                               double death_weight, const GameInfo& info, uint64_t seed,
                               const StopRequest& stop) {
  return [&model, shape, starts, options, death_weight, info, seed, stop](
             const torch::Tensor& candidates, int64_t generation, Searched& cost) {
    const auto index = static_cast<uint64_t>(generation);
    Random random(seed, "starts", index);
    auto rows = torch::zeros({options.episodes}, torch::kInt64);
    for (int64_t i = 0; i < options.episodes; ++i) rows[i] = random.below(starts.size(0));
    LinearControllers controllers(shape, candidates, options.episodes);
    const auto dreamed = dream_lives(model, controllers, candidates.size(0) * options.episodes,
                                     starts.index_select(0, rows),
                                     {.episodes = options.episodes,
                                      .limit = options.limit > 0 ? options.limit : info.limit(),
                                      .temperature = options.temperature,
                                      .seed = stream_seed(seed, "generation", index),
                                      .death_weight = death_weight,
                                      .three_way = info.three_way,
                                      .stop = stop});
    cost.decisions += dreamed.steps;
    return dreamed.lives.view({candidates.size(0), options.episodes}).mean(1);
  };
}

ScoreCandidates score_in_game(const MakeGame& make, VisionImpl& vision, MixtureDensityRnn& model,
                              const LinearController& shape, const SearchOptions& options,
                              uint64_t seed) {
  return [&vision, &model, make, shape, options, seed](const torch::Tensor& candidates,
                                                       int64_t generation, Searched& cost) {
    const GameInfo info = make(1)->info();
    const int64_t at_once = std::max<int64_t>(1, info.side_by_side / options.episodes);
    const int64_t first = generation * options.episodes;
    std::vector<torch::Tensor> scores;
    for (const auto& some : candidates.split(at_once)) {
      const auto game = make(some.size(0) * options.episodes);
      LinearControllers controllers(shape, some, options.episodes);
      Agent agent(vision, model, controllers, info);
      const Scores played =
          play(*game, agent, seed, first, {}, options.limit, /*different=*/options.episodes);
      cost.decisions += played.decisions;
      cost.frames += played.frames;
      scores.push_back(played.scores);
    }
    return torch::cat(scores).view({candidates.size(0), options.episodes}).mean(1) /
           static_cast<double>(info.repeat);
  };
}

torch::Tensor ActorController::act(const torch::Tensor&, const torch::Tensor& latents,
                                   const State& state) {
  const auto actions = agent_.act(join_memory(latents, state));
  return (actions - 1).to(torch::kFloat32).unsqueeze(1);
}

ActorCritic make_actor_critic(ActorCriticOptions options, const GameInfo& info,
                              const MixtureDensityRnn& model, uint64_t seed) {
  if (!info.three_way || info.action_width != 1) {
    throw ConfigError("option controller.kind: actor_critic plays games of three actions, which " +
                      info.name + " is not");
  }
  options.latent = model->options().latent + 2 * model->options().hidden;
  options.actions = 3;
  return {options, seeded_generator(seed, "actor")};
}

int64_t train_actor_critic(ActorCritic& agent, MixtureDensityRnn& model,
                           const LatentEpisodes& episodes, const ActorCriticOptions& options,
                           const SearchOptions& search, double death_weight, uint64_t seed,
                           const TrainingProgress& progress) {
  const auto pool = remembered(model, episodes);
  auto generator = seeded_generator(seed, "imagined");
  const ImaginedStep imagine = [&](const torch::Tensor& seen, const torch::Tensor& actions) {
    auto [latents, state] = split_memory(seen, model);
    const auto next = model->imagine(latents, (actions - 1).to(torch::kFloat32).unsqueeze(1),
                                     search.temperature, state, generator);
    const auto alive = 1 - chance_of_end(next, death_weight).squeeze(1);
    return Imagined{join_memory(next.latent.squeeze(1), state), alive, alive};
  };
  for (int64_t update = 1; update <= search.updates; ++update) {
    const auto rows = at::randint(pool.size(0), {search.batch}, generator, torch::kInt64);
    const Improvement seen = agent.improve(imagine, pool.index_select(0, rows), generator);
    if (progress) progress(update, search.updates, seen.mean_return);
  }
  return search.updates * search.batch * options.horizon;
}

}  // namespace jepa::eval::dreaming

#include "temporary_folder.hpp"

#include <eval/dreaming/experiment.hpp>
#include <eval/worlds/dodge.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/safetensors.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <filesystem>

namespace jepa::eval::dreaming {
namespace {

namespace fs = std::filesystem;

GameOptions dodge(int64_t repeat) { return {.world = "dodge", .repeat = repeat}; }

TEST(DreamGame, ActionsAreThreeWays) {
  const GameInfo info{.three_way = true};
  const auto actions = torch::tensor({-1.0, -0.34, -0.3, 0.0, 0.33, 0.34, 1.0});
  EXPECT_TRUE(torch::equal(game_actions(info, actions),
                           torch::tensor({-1.0F, -1.0F, 0.0F, 0.0F, 0.0F, 1.0F, 1.0F})));
  EXPECT_TRUE(
      torch::equal(game_actions({}, torch::tensor({-2.0, 0.5})), torch::tensor({-1.0, 0.5})));
  EXPECT_THROW(make_game({.world = "push"})(1), ConfigError);  // it has no end
  EXPECT_THROW(make_game({.world = "dodge", .factors = "speed"})(1), ConfigError);
}

// Held for four frames, a game is the world stepped four times.
TEST(DreamGame, HeldActionsAreTheWorldsSteps) {
  const auto game = make_game(dodge(4))(8);
  worlds::Dodge world(8);
  game->reset(3, 0);
  world.reset(3);
  const auto rows = torch::arange(8, torch::kInt64);
  auto done = torch::zeros({8}, torch::kBool);
  int64_t frames = 0, expected_frames = 0;
  for (int64_t decision = 0; decision < 200; ++decision) {
    EXPECT_TRUE(torch::equal(game->pixels(rows), world.pixels()));
    const auto action = torch::full({8, 1}, decision % 20 < 10 ? 1.0F : -1.0F);
    auto reward = torch::zeros({8});
    for (int64_t i = 0; i < 4; ++i) {
      expected_frames += 8 - done.sum().item<int64_t>();
      const auto next = world.step(action);
      reward += next.reward;
      done = next.done.clone();
    }
    const Decision decided = game->step(action);
    frames += decided.frames;
    EXPECT_TRUE(torch::equal(decided.reward, reward));
    EXPECT_TRUE(torch::equal(decided.done, done));
    if (done.all().item<bool>()) break;
  }
  EXPECT_EQ(frames, expected_frames);
}

TEST(DreamLedger, CountsEveryFrame) {
  const auto make = make_game(dodge(1));
  const auto still = constant_action(make(1)->info(), 0);
  const Scores scores = play_episodes(make, *still, 5, 30, 8);
  EXPECT_EQ(scores.scores.size(0), 30);
  // A frame more than the score for each that died, and of this policy all die.
  EXPECT_EQ(scores.frames, scores.scores.sum().item<double>() + 30);
  EXPECT_EQ(scores.decisions, scores.frames);
  EXPECT_TRUE(torch::equal(scores.lived, scores.scores + 1));
  // Batches change nothing.
  EXPECT_TRUE(torch::equal(scores.scores, play_episodes(make, *still, 5, 30, 30).scores));
  const std::vector<StageRecord> records = {{.name = "collect-1", .seconds = 2, .frames = 10},
                                            {.name = "play-x", .seconds = 5, .frames = 100},
                                            {.name = "model-1", .seconds = 3, .imagined = 7}};
  const Cost cost =
      cost_of(records, [](const std::string& name) { return !name.starts_with("play"); });
  EXPECT_EQ(cost.seconds, 5);
  EXPECT_EQ(cost.frames, 10);
  EXPECT_EQ(cost.imagined, 7);
}

TEST(DreamRecall, OfPerfectBlindAndNervousHeads) {
  const auto bools = [](std::vector<int64_t> at, int64_t count) {
    auto result = torch::zeros({count}, torch::kBool);
    for (const int64_t i : at) result[i] = true;
    return result;
  };
  const std::vector<char> dead = {1, 1, 0};
  const Recall perfect = recall_of({bools({9}, 10), bools({1}, 2), bools({}, 7)}, dead, 3);
  EXPECT_EQ(perfect.recall, 1);
  EXPECT_EQ(perfect.false_alarms, 0);
  EXPECT_EQ(perfect.deaths, 2);
  const Recall blind = recall_of({bools({}, 10), bools({}, 2), bools({}, 7)}, dead, 3);
  EXPECT_EQ(blind.recall, 0);
  // Foreseen at the window's first decision, an alarm before it, and one where nobody died.
  const Recall nervous = recall_of({bools({6, 7}, 10), bools({}, 2), bools({6}, 7)}, dead, 3);
  EXPECT_EQ(nervous.recall, 0.5);
  EXPECT_DOUBLE_EQ(nervous.false_alarms, 1000 * 2.0 / 14);
}

TEST(DreamWindows, EndsStandWhereTheyHappened) {
  LatentEpisodes episodes{.latents = torch::arange(9).view({9, 1}).to(torch::kFloat32),
                          .actions = torch::zeros({9, 1}),
                          .offsets = {0, 4, 9},
                          .dead = {1, 0}};
  const Windows some = cut_windows(episodes, {{0, 1}, {1, 0}}, 3);
  EXPECT_TRUE(torch::equal(some.latents.squeeze(2),
                           torch::tensor({{1.0F, 2.0F, 3.0F, 3.0F}, {4.0F, 5.0F, 6.0F, 7.0F}})));
  EXPECT_TRUE(torch::equal(some.done, torch::tensor({{0.0F, 1.0F, 0.0F}, {0.0F, 0.0F, 0.0F}})));
  EXPECT_TRUE(torch::equal(some.counted, torch::tensor({{1.0F, 1.0F, 0.0F}, {1.0F, 1.0F, 1.0F}})));
  const LatentSplit split = split_episodes(episodes, 0.5);
  EXPECT_EQ(split.held_out.size(), 1);
  EXPECT_TRUE(torch::equal(first_latents(split.training), torch::tensor({{4.0F}})));
}

// Rewards are the game's, frames lived are counted: only of dodge are they about the same.
TEST(DreamLedger, FramesLivedAreNotRewards) {
  class Generous : public Game {
   public:
    explicit Generous(std::unique_ptr<Game> game) : game_(std::move(game)) {}
    const GameInfo& info() const override { return game_->info(); }
    int64_t batch() const override { return game_->batch(); }
    using Game::reset;
    void reset(uint64_t seed, int64_t first, int64_t different) override {
      game_->reset(seed, first, different);
    }
    Decision step(const torch::Tensor& actions) override {
      Decision decision = game_->step(actions);
      decision.reward = decision.reward * 10;
      return decision;
    }
    torch::Tensor pixels(const torch::Tensor& rows) const override { return game_->pixels(rows); }

   private:
    std::unique_ptr<Game> game_;
  };
  const auto make = make_game(dodge(4));
  const MakeGame generous = [&](int64_t batch) { return std::make_unique<Generous>(make(batch)); };
  const auto still = constant_action(make(1)->info(), 0);
  const Scores plain = play_episodes(make, *still, 5, 6);
  const Scores rich = play_episodes(generous, *still, 5, 6);
  EXPECT_TRUE(torch::equal(rich.lived, plain.lived));
  EXPECT_TRUE(torch::equal(rich.scores, plain.scores * 10));
  StageRecord record;
  keep(record, "real", rich);
  EXPECT_DOUBLE_EQ(record.scores.at("real").mean, 10 * plain.scores.mean().item<double>());
  EXPECT_DOUBLE_EQ(record.scores.at(lived_name("real")).mean, plain.lived.mean().item<double>());
}

TEST(DreamSearch, CandidatesOfAGenerationPlayTheSameGames) {
  GameOptions few = dodge(4);
  few.side_by_side = 6;  // two candidates at once
  const auto make = make_game(few);
  const auto info = make(1)->info();
  const auto vision = make_vision({.latent = 4, .width = 2, .shrink = 4}, info);
  vision->initialise(seeded_generator(1));
  auto model = make_model({.hidden = 8, .mixtures = 2}, 4, 1);
  model->initialise(seeded_generator(2));
  const LinearController shape{.latent = 4, .hidden = 8, .outputs = 1};
  SearchOptions options;
  options.episodes = 3;
  const auto score = score_in_game(make, *vision, model, shape, options, 5);
  const auto alike = torch::zeros({5, shape.parameters()});
  Searched cost;
  const auto first = score(alike, 0, cost), second = score(alike, 1, cost);
  EXPECT_TRUE(first.eq(first[0]).all().item<bool>()) << first;
  EXPECT_TRUE(second.eq(second[0]).all().item<bool>()) << second;
  EXPECT_FALSE(first.equal(second));
}

class DreamRunTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.file(name); }
  ExperimentOptions small(const std::string& name, const std::string& kind) const {
    ExperimentOptions options;
    options.run = path(name);
    options.play = {
        .collected = 8, .rounds = 2, .episodes = 4, .swap_periods = {10}, .tuning_episodes = 4};
    options.vision.latent = 4;
    options.vision.width = 2;
    options.vision.shrink = 4;
    options.vision.steps = options.model.steps = 3;
    options.model.hidden = 8;
    options.model.mixtures = 2;
    options.controller.kind = kind;
    options.controller.population = 4;
    options.controller.episodes = 2;
    options.controller.generations = 2;
    options.controller.limit = 30;
    options.controller.updates = 3;
    options.actor_critic.hidden = 8;
    options.temperatures = {0.5};
    options.seed = 3;
    return options;
  }
  static Experiment run(const ExperimentOptions& options, const std::string& stop_before = {}) {
    ExperimentHooks hooks;
    hooks.say = [stop_before](const std::string& stage) {
      if (stage == stop_before) throw Error("stopped");
    };
    Experiment experiment(options, make_game(options.game), hooks);
    experiment.run();
    return experiment;
  }
  static std::string without_seconds(const Experiment& experiment) {
    std::string text;
    for (auto record : experiment.records()) {
      record.seconds = 0;
      text += record_json(record);
    }
    return text;
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(DreamRunTest, EndsByChanceNeedTheWeightOfEnds) {
  ExperimentOptions options = small("a", "cma_es");
  options.controller.ending = "chance";
  options.model.done_weight = 0;
  EXPECT_EQ(message_of<ConfigError>([&] { Experiment(options, make_game(options.game), {}); }),
            "option controller.ending: chance divides by model.done_weight, which is 0");
}

TEST_F(DreamRunTest, StagesAreAFunctionOfTheSeedAndGoOnWhereTheyWereKilled) {
  const auto whole = run(small("whole", "cma_es"));
  EXPECT_NE(whole.records().size(), 0);
  EXPECT_THROW(run(small("parts", "cma_es"), "model-1"), Error);
  EXPECT_TRUE(fs::exists(path("parts/stages/vision-1.json")));
  EXPECT_FALSE(fs::exists(path("parts/stages/model-1.json")));
  EXPECT_THROW(run(small("parts", "cma_es"), "vision-2"), Error);
  EXPECT_THROW(run(small("parts", "cma_es"), "controller-real"), Error);
  EXPECT_EQ(without_seconds(run(small("parts", "cma_es"))), without_seconds(whole));
  const auto other = [&] {
    auto options = small("other", "cma_es");
    options.seed = 4;
    return run(options);
  }();
  EXPECT_NE(without_seconds(other), without_seconds(whole));
  // The real arm rests on V and M and on its own frames, not on the dream's last controller.
  const Cost dream = dream_cost(whole), real = real_cost(whole);
  int64_t searched = 0, collected = 0;
  for (const auto& record : whole.records()) {
    if (record.name == "controller-real") searched = record.frames;
    if (record.name.starts_with("collect")) collected += record.frames;
  }
  EXPECT_EQ(dream.frames, collected);
  EXPECT_EQ(real.frames, collected + searched);
  EXPECT_GT(searched, 0);
  const auto summary = nlohmann::json::parse(experiment_summary(whole));
  EXPECT_TRUE(summary.contains("share_of_real"));
  for (const auto& entry :
       {summary["arms"]["dream"], summary["arms"]["real"], summary["controls"]["held_random"],
        summary["controls"]["untrained"], summary["temperatures"][0]}) {
    EXPECT_GE(entry["real_lived"]["mean"], entry["real"]["mean"]) << entry;  // of dodge
  }
  EXPECT_EQ(summary["units"]["dream"], summary["units"]["real_lived"]);
  EXPECT_NE(experiment_section(whole).find("Temperatures"), std::string::npos);
}

// Wherever it is asked to stop, it stops there, and goes on to the same end.
TEST_F(DreamRunTest, StopsWithinAStage) {
  const auto options = small("stopped", "cma_es");
  std::string stage;
  int64_t asked = 0;
  const auto stopped_in = [&](const std::string& in, int64_t after) {
    ExperimentHooks hooks;
    stage.clear();
    asked = 0;
    hooks.say = [&](const std::string& name) { stage = name, asked = 0; };
    hooks.stop = [&] { return stage == in && ++asked > after; };
    Experiment experiment(options, make_game(options.game), hooks);
    EXPECT_THROW(experiment.run(), Stopped) << in;
    EXPECT_FALSE(fs::exists(path("stopped/stages/" + in + ".json"))) << in;
    EXPECT_LE(asked, after + 1) << in;
  };
  for (const char* in : {"play-controls", "collect-1", "vision-1", "model-1", "controller-1-t1.15",
                         "play-controller-1-t1.15", "collect-2", "play-untrained",
                         "controller-real", "play-controller-real"}) {
    stopped_in(in, 2);
  }
  EXPECT_EQ(without_seconds(run(options)), without_seconds(run(small("whole", "cma_es"))));
}

TEST_F(DreamRunTest, ActorCriticAndPredictedLatents) {
  auto options = small("actor", "actor_critic");
  options.vision.kind = "jepa";
  options.vision.width = 8;
  auto experiment = run(options);
  EXPECT_EQ(experiment.film().size(3), 3);
  EXPECT_EQ(without_seconds(run(options)), without_seconds(experiment));
}

TEST(DreamGame, ChoicesThereAndBack) {
  const GameInfo info{.name = "gym:X", .three_way = true, .choices = {2, 0, 1}};
  const auto actions = torch::tensor({-1.0F, 0.0F, 1.0F});
  const auto sent = sent_actions(info, actions);
  EXPECT_TRUE(torch::equal(sent, torch::tensor({2, 0, 1}, torch::kInt64)));
  EXPECT_TRUE(torch::equal(received_actions(info, sent.to(torch::kFloat32), "x.h5"), actions));
  EXPECT_THROW(received_actions(info, torch::tensor({3.0F}), "x.h5"), DataError);
  EXPECT_THROW(make_game({.world = "dodge", .choices = {2, 0, 1}})(1), ConfigError);
}

TEST_F(DreamRunTest, EpisodesInAStoreComeBack) {
  const auto make = make_game(dodge(4));
  const auto info = make(1)->info();
  const auto policy = held_random(info, 3);
  Scores scores;
  const Episodes some = collect_episodes(make, *policy, 2, 5, scores, 3);
  EXPECT_EQ(some.size(), 5);
  EXPECT_TRUE(torch::equal(some.scores(), scores.scores));
  EXPECT_EQ(some.decisions(), scores.decisions);
  // The first row is what a reset shows, and every action is what the game was sent.
  const auto game = make(3);
  game->reset(2, 0);
  const auto rows = torch::arange(3, torch::kInt64);
  EXPECT_TRUE(torch::equal(some.frames[some.offsets[1]], game->pixels(rows)[1]));
  for (int64_t t = 0; t < some.decisions(1); ++t) {
    auto actions = torch::zeros({3, 1});
    actions[1] = some.actions[some.offsets[1] + t];
    const auto next = game->step(actions);
    EXPECT_TRUE(torch::equal(some.frames[some.offsets[1] + t + 1], game->pixels(rows)[1]));
    EXPECT_EQ(next.done[1].item<bool>(), t + 1 == some.decisions(1));
  }
  write_episodes(path("some.h5"), some, info, {});
  const Episodes again = read_episodes(path("some.h5"), info);
  EXPECT_TRUE(torch::equal(again.frames, some.frames));
  EXPECT_TRUE(torch::equal(again.actions, some.actions));
  EXPECT_TRUE(torch::equal(again.rewards, some.rewards));
  EXPECT_EQ(again.offsets, some.offsets);
  EXPECT_EQ(again.dead, some.dead);
  EXPECT_EQ(read_episodes(path("some.h5"), info, 2).size(), 2);
  auto other = info;
  other.name = "gym:Other-v0";
  write_episodes(path("named.h5"), some, info, {{"world", info.name}, {"repeat", "4"}});
  EXPECT_THROW(read_episodes(path("named.h5"), other), DataError);
  other = info;
  other.repeat = 4;
  EXPECT_EQ(read_episodes(path("named.h5"), other).size(), some.size());
  other.repeat = 2;
  EXPECT_THROW(read_episodes(path("named.h5"), other), DataError);
  other = info;
  other.action_width = 2;
  EXPECT_THROW(read_episodes(path("some.h5"), other), DataError);
  other = info;
  other.frame = {3, 32, 64};
  EXPECT_THROW(read_episodes(path("some.h5"), other), DataError);
}

}  // namespace
}  // namespace jepa::eval::dreaming

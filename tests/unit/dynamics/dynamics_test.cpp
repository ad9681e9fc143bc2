#include <eval/dynamics/episodes.hpp>
#include <eval/dynamics/protocol.hpp>
#include <eval/dynamics/training.hpp>
#include <eval/dynamics/two_rooms_clips.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/objectives/vicreg.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>

namespace jepa::eval::dynamics {
namespace {

ModelOptions small_shape() {
  ModelOptions options;
  options.encoder = {.channels = 2,
                     .height = 65,
                     .width = 65,
                     .widths = {4, 8},
                     .kernels = {7, 3},
                     .strides = {4, 2},
                     .dim = 6};
  options.action_width = 2;
  options.inverse_hidden = 8;
  return options;
}

torch::Tensor step_of(DynamicsModel& model, const torch::Tensor& from,
                      const torch::Tensor& action) {
  return model.predictor->predict(from.unsqueeze(1), action.unsqueeze(1)).squeeze(1);
}

DynamicsModel small_model(uint64_t seed = 1) {
  DynamicsModel model(small_shape(), {.hidden = 16, .layers = 1});
  model.initialise(seed);
  return model;
}

ClipBatch some_batch(int64_t clips, uint64_t seed = 3, TwoRoomsClipOptions options = {}) {
  options.frames = 4;
  LoaderOptions loader{.batch = clips, .threads = 0, .shuffle = false};
  return ClipLoader(std::make_shared<TwoRoomsClips>(options), loader, seed).next();
}

TEST(TwoRoomsClips, ActionsLeadFromFrameToFrame) {
  for (const char* physics : {"environment", "published"}) {
    const auto batch = some_batch(64, 5, {.physics = physics});
    EXPECT_EQ(batch.clips.sizes(), at::IntArrayRef({64, 2, 4, 65, 65}));
    const auto& state = batch.signals.at("state");
    const auto position = state.narrow(2, 0, 2);
    const auto moved = position.narrow(1, 1, 3) - position.narrow(1, 0, 3);
    const auto asked = actions_between(batch).unflatten(2, {5, 2}).sum(2);
    const auto same = (moved - asked).norm(2, {2}).lt(1e-3);
    // Most blocks touch nothing; those that do are held back.
    EXPECT_GT(same.to(torch::kFloat32).mean().item<double>(), 0.3) << physics;
    EXPECT_LT(same.to(torch::kFloat32).mean().item<double>(), 0.95) << physics;
    // The brightest pixel of the first channel is where the state says.
    const auto brightest = batch.clips.select(1, 0).flatten(2).argmax(2);
    const auto x = brightest.remainder(65), y = brightest.div(65, "floor");
    EXPECT_LE((x - state.select(2, 0)).abs().max().item<double>(), 0.51);
    EXPECT_LE((y - state.select(2, 1)).abs().max().item<double>(), 0.51);
    EXPECT_EQ(batch.signals.at("action").select(1, 3).abs().sum().item<double>(), 0);
  }
}

TEST(TwoRoomsClips, SharesDecideWhatIsSeen) {
  const auto coverage = [](TwoRoomsClipOptions options) {
    return TwoRoomsClips(options).coverage(1, 500);
  };
  const auto none = coverage({.crossing = 0, .wall_seeking = 0});
  const auto wall = coverage({.crossing = 0, .wall_seeking = 1});
  const auto door = coverage({.crossing = 1});
  EXPECT_GT(wall.contact, none.contact + 0.2);
  EXPECT_GT(wall.near_wall, none.near_wall + 0.2);
  EXPECT_GT(door.crossings, 0.6);
  EXPECT_LT(none.crossings, 0.2);
  const auto again = coverage({.crossing = 0, .wall_seeking = 1});
  EXPECT_EQ(again.contact, wall.contact);
  EXPECT_THROW(TwoRoomsClips({.physics = "none"}), ConfigError);
}

TEST(TwoRoomsClips, UnseenLayoutsStayOut) {
  const auto layouts = [](bool unseen) {
    const auto state = some_batch(600, 2, {.unseen = unseen}).signals.at("state").select(1, 0);
    const auto wall = state.select(1, 2), door = state.select(1, 3);
    return wall.ge(29)
        .logical_and(wall.le(35))
        .logical_or(door.ge(27).logical_and(door.le(37)))
        .any()
        .item<bool>();
  };
  EXPECT_FALSE(layouts(false));
  EXPECT_TRUE(layouts(true));
}

TEST(DynamicsModel, LatentsAndRollouts) {
  auto model = small_model();
  const torch::NoGradGuard no_grad;
  const auto batch = some_batch(5);
  const auto z = model.encode_clips(batch.clips);
  EXPECT_EQ(z.sizes(), at::IntArrayRef({5, 4, 6}));
  EXPECT_TRUE(torch::allclose(model.encode(batch.clips.select(2, 1)), z.select(1, 1), 1e-4, 1e-5));
  const auto actions = actions_between(batch);
  const auto imagined = model.rollout(z.narrow(1, 0, 1), {}, actions);
  auto step = z.select(1, 0);
  for (int64_t t = 0; t < 3; ++t) {
    step = step_of(model, step, actions.select(1, t));
    EXPECT_TRUE(torch::equal(step, imagined.select(1, t)));
  }
  EXPECT_THROW(model.encode(torch::zeros({1, 2, 64, 65}, torch::kUInt8)), DataError);
  EXPECT_THROW(model.encode(torch::zeros({1, 3, 65, 65}, torch::kUInt8)), DataError);
  EXPECT_THROW(small_shape().fitted({1, 2, 4, 65, 65}, 12), DataError);  // blocks of 5
  EXPECT_THROW(small_shape().fitted({1, 2, 4, 65, 65}, 15), DataError);  // 3 numbers a step
  EXPECT_THROW(small_shape().fitted({1, 2, 4, 65, 64}, 10), DataError);
}

TEST(DynamicsModel, FramesAreNormalisedAsThePixelStatisticsSay) {
  auto options = small_shape();
  options.pixels = {{1, 25}, {9, 76}};
  DynamicsModel model(options, {.hidden = 16, .layers = 1});
  model.initialise(1);
  const torch::NoGradGuard no_grad;
  const auto clips = some_batch(2).clips;
  const auto x = options.pixels.normalise(clips).transpose(1, 2).flatten(0, 1);
  EXPECT_TRUE(torch::allclose(model.encode_clips(clips).flatten(0, 1), model.encoder->frames(x),
                              1e-4, 1e-5));
}

TEST(DynamicsLoss, TermsByHand) {
  auto model = small_model();
  const torch::NoGradGuard no_grad;
  const auto batch = some_batch(7);
  const auto z = model.encode_clips(batch.clips), actions = actions_between(batch);
  ObjectiveWeights weights{
      .rollout = 2, .one_step = 3, .variance = 5, .covariance = 7, .similarity = 11, .inverse = 13};
  const auto generator = seeded_generator(1);
  const auto loss = joint_loss(model, z, actions, weights, generator);
  const auto square = [](const torch::Tensor& x) { return x.square().mean().item<double>(); };
  double rollout = 0, one_step = 0;
  auto step = z.select(1, 0);
  for (int64_t t = 0; t < 3; ++t) {
    step = step_of(model, step, actions.select(1, t));
    rollout += square(step - z.select(1, t + 1)) / 3;
    const auto next = step_of(model, z.select(1, t), actions.select(1, t));
    one_step += square(next - z.select(1, t + 1)) / 3;
  }
  EXPECT_NEAR(loss.rollout.item<double>(), rollout, 1e-6);
  EXPECT_NEAR(loss.one_step.item<double>(), one_step, 1e-6);
  EXPECT_NEAR(loss.similarity.item<double>(), square(z.narrow(1, 1, 3) - z.narrow(1, 0, 3)), 1e-6);
  const auto mean = actions.unflatten(2, {5, 2}).mean(2);
  EXPECT_NEAR(loss.inverse.item<double>(),
              square(model.inverse->forward(z.narrow(1, 0, 3), z.narrow(1, 1, 3)) - mean), 1e-5);
  EXPECT_NEAR(loss.variance.item<double>(), variance_hinge(z.flatten(0, 1)).item<double>(), 1e-6);
  const auto centred = z.flatten(0, 1) - z.flatten(0, 1).mean(0);
  const auto covariance = centred.t().mm(centred) / 27;
  const auto off = covariance - covariance.diag().diag();
  EXPECT_NEAR(loss.covariance.item<double>(), off.square().sum().item<double>() / 30, 1e-6);
  EXPECT_NEAR(loss.total.item<double>(),
              2 * loss.rollout.item<double>() + 3 * loss.one_step.item<double>() +
                  5 * loss.variance.item<double>() + 7 * loss.covariance.item<double>() +
                  11 * loss.similarity.item<double>() + 13 * loss.inverse.item<double>(),
              1e-4);
  EXPECT_FALSE(loss.sigreg.defined());
  weights.inverse = 0;
  weights.sigreg = 1;
  const auto other = joint_loss(model, z, actions, weights, generator);
  EXPECT_FALSE(other.inverse.defined());
  EXPECT_TRUE(other.sigreg.defined());
}

DynamicsTrainingOptions two_phases() {
  DynamicsTrainingOptions options;
  options.second = {.from_step = 2,
                    .predictor = {.hidden = 24, .layers = 2},
                    .updates = 3,
                    .batch = 8,
                    .buffer = 20};
  return options;
}

TEST(DynamicsTask, SecondPhaseTrainsThePredictorAlone) {
  auto model = small_model();
  DynamicsTask task(model, two_phases(), held_out(some_batch(16)));
  std::map<std::string, std::string> texts;
  const auto copy = [](const torch::nn::Module& module) {
    TensorMap all;
    for (const auto& [name, value] : state_dict(module)) all[name] = value.clone();
    return all;
  };
  const auto equal = [](const TensorMap& a, const TensorMap& b) {
    for (const auto& [name, value] : a) {
      if (!torch::equal(value, b.at(name))) return false;
    }
    return a.size() == b.size();
  };
  const auto fresh = copy(*model.encoder);
  task.step(some_batch(8, 1), false, texts);
  task.step(some_batch(8, 2), false, texts);
  const auto joint = copy(*model.encoder);
  EXPECT_FALSE(equal(fresh, joint));
  EXPECT_FALSE(task.second_phase());
  const auto inverse = copy(*model.inverse);
  task.step(some_batch(8, 3), false, texts);
  EXPECT_TRUE(task.second_phase());
  EXPECT_EQ(model.predictor_shape.hidden, 24);
  const auto predictor = model.predictor->modules().at("predictor");
  const auto before = copy(*predictor);
  const auto metrics = task.step(some_batch(8, 4), false, texts);
  EXPECT_TRUE(equal(joint, copy(*model.encoder)));
  EXPECT_TRUE(equal(inverse, copy(*model.inverse)));
  EXPECT_FALSE(equal(before, copy(*predictor)));
  EXPECT_TRUE(metrics.contains("one_step"));
  EXPECT_FALSE(metrics.contains("variance"));
  const auto found = task.evaluate();
  for (const char* name : {"skill_1", "skill_k", "within_clip", "r2_0", "r2_3", "error_1"}) {
    EXPECT_TRUE(found.contains(name)) << name;
  }
  EXPECT_EQ(task.numbers().at("phase"), 2);
}

TEST(DynamicsTask, InverseDynamicsThatNothingTrainedAreNotStored) {
  auto model = small_model();
  auto options = two_phases();
  EXPECT_TRUE(DynamicsTask(model, options, {}).tensors().contains("inverse"));
  options.weights.inverse = 0;
  DynamicsTask task(model, options, {});
  EXPECT_FALSE(task.tensors().contains("inverse"));
  std::map<std::string, std::string> texts;
  for (uint64_t seed = 0; seed < 4; ++seed) task.step(some_batch(8, seed), false, texts);
  EXPECT_TRUE(task.second_phase());
  EXPECT_THROW(inverse_policy(model, 1), ConfigError);
}

TEST(WallTest, TheWorldItselfLetsNobodyThroughTheWall) {
  auto model = small_model();
  StateProbe probe;
  measure(model, held_out(some_batch(32)), {}, &probe);
  const auto test = wall_test(model, probe, 200, 1);
  EXPECT_EQ(test.true_far, 0);
  EXPECT_LT(test.true_depth, -1);  // the wall's face
  EXPECT_LT(test.true_near, 0.1);
  EXPECT_GT(test.true_door, 0.95);
  const auto again = wall_test(model, probe, 200, 1);
  EXPECT_EQ(again.far, test.far);
  auto options = small_shape();
  options.block = 4;
  DynamicsModel other(options, {});
  EXPECT_THROW(wall_test(other, probe, 10, 1), DataError);
}

TEST(Episodes, Wilson) {
  const auto none = wilson(0, 200);
  EXPECT_EQ(none.rate, 0);
  EXPECT_NEAR(none.low, 0, 1e-12);
  EXPECT_NEAR(none.high, 0.01885, 1e-4);
  const auto most = wilson(190, 200);
  EXPECT_NEAR(most.low, 0.9104, 1e-3);
  EXPECT_NEAR(most.high, 0.9726, 1e-3);
}

TEST(Episodes, ControlsAreWhatTheyAre) {
  const worlds::TwoRooms world(1);
  EpisodeOptions options{
      .episodes = 30, .at_once = 20, .seed = 4, .ranges = worlds::training_ranges(world)};
  const auto straight = run_episodes(*straight_line(1.8), options);
  EXPECT_EQ(straight.episodes, 30);
  EXPECT_EQ(straight.dropped, 0);
  EXPECT_GT(straight.at_end, 3);
  EXPECT_LT(straight.at_end, 25);
  EXPECT_GE(straight.ever, straight.at_end);
  // Batches make no difference.
  options.at_once = 30;
  EXPECT_EQ(run_episodes(*straight_line(1.8), options).at_end, straight.at_end);
  EXPECT_LE(run_episodes(*random_walk(1), options).at_end, 2);
}

TEST(Episodes, TheTrueSimulatorWithTheRightCostGetsThere) {
  const auto planner = std::make_shared<planning::Cem>(planning::CemOptions{.samples = 64,
                                                                            .elites = 8,
                                                                            .iterations = 3,
                                                                            .max_norm = 1.8,
                                                                            .correlation = 0.7,
                                                                            .fresh_share = 0.5});
  const worlds::TwoRooms world(1);
  const auto controller = simulator_planner(planner, {}, true, "sum", 1);
  const auto result = run_episodes(
      *controller,
      {.episodes = 6, .at_once = 6, .seed = 4, .ranges = worlds::training_ranges(world)});
  EXPECT_GE(result.at_end, 5);
  EXPECT_GT(result.seconds_per_decision, 0);
  EXPECT_THROW(simulator_planner(planner, {}, true, "mean", 1), ConfigError);
}

TEST(Episodes, ModelsOfOtherBlocksAreRefused) {
  auto model = small_model();
  const auto planner = std::make_shared<planning::Cem>(planning::CemOptions{});
  EXPECT_THROW(model_planner(model, planner, {.block = 4}, {}, 1), DataError);
  const auto controller = model_planner(model,
                                        std::make_shared<planning::Cem>(planning::CemOptions{
                                            .samples = 8, .elites = 4, .iterations = 1}),
                                        {.horizon = 3}, {.over_time = "min"}, 1);
  worlds::TwoRooms world(2);
  world.reset(1);
  controller->begin(world);
  EXPECT_EQ(controller->act(world, 200).sizes(), at::IntArrayRef({2, 2}));
  EXPECT_EQ(controller->imagined().sizes(), at::IntArrayRef({2, 3, 6}));
}

TEST(Episodes, NoStepIsLongerThanTheProtocolSays) {
  // A planner that is told nothing of lengths, in units of its own.
  const auto wild = std::make_shared<planning::RandomShooting>(
      planning::RandomShootingOptions{.samples = 8, .std = {30}});
  auto options = small_shape();
  options.action_mean = {0.5, 0};
  options.action_std = {2, 0.25};
  DynamicsModel model(options, {.hidden = 16, .layers = 1});
  model.initialise(1);
  worlds::TwoRooms world(3);
  world.reset(1);
  const auto longest_of = [&](Controller& controller) {
    controller.begin(world);
    return controller.act(world, 200).norm(2, {1}).max().item<double>();
  };
  for (const bool hold : {true, false}) {
    const planning::RecedingHorizonOptions horizon{.horizon = 2, .hold = hold};
    EXPECT_NEAR(longest_of(*model_planner(model, wild, horizon, {}, 1, 1.8)), 1.8, 1e-5);
    EXPECT_GT(longest_of(*model_planner(model, wild, horizon, {}, 1)), 2);
    EXPECT_NEAR(longest_of(*simulator_planner(wild, horizon, true, "min", 1,
                                              {options.action_mean, options.action_std, 1.8})),
                1.8, 1e-5);
  }
  EXPECT_LE(longest_of(*inverse_policy(model, 0.1)), 0.1 + 1e-6);
  // The planner's numbers that come to the same are what the model imagines.
  const ActionScale scale{options.action_mean, options.action_std, 1.8};
  const auto asked = torch::tensor({{3.0, 4.0, 0.1, 0.0}}, torch::kFloat32);
  const auto same = scale.to_world(scale.cut(asked, 2).view({2, 2}));
  EXPECT_TRUE(torch::allclose(same, scale.to_world(asked.view({2, 2}))));
  EXPECT_NEAR(same[0].norm().item<double>(), 1.8, 1e-5);
  EXPECT_NEAR(same[1].norm().item<double>(), 0.7, 1e-5);
  EXPECT_TRUE(torch::equal(cut_length(asked, 5.1), asked));
}

TEST(Episodes, WhoeverActsIsHeldToTheLongestStep) {
  EpisodeOptions options{.episodes = 4, .at_once = 4, .steps = 30, .seed = 2, .longest_step = 0.1};
  const auto held = run_episodes(*straight_line(0), options);
  options.longest_step = 0;
  EXPECT_GT(held.distance, run_episodes(*straight_line(0), options).distance + 5);
}

TEST(Episodes, GradientsReachTheActionsThroughTheModel) {
  auto model = small_model();
  const auto planner = std::make_shared<planning::GradientPlanner>(
      planning::GradientOptions{.starts = 2, .iterations = 3});
  const auto controller =
      model_planner(model, planner, {.horizon = 3}, {.over_time = "min"}, 1, 1.8);
  worlds::TwoRooms world(2);
  world.reset(1);
  controller->begin(world);
  EXPECT_EQ(controller->act(world, 200).sizes(), at::IntArrayRef({2, 2}));
}

TEST(Protocol, WhatTrainingHasSeenIsTold) {
  const worlds::Factor gap{
      .name = "wall", .training = {20, 44, 29, 35}, .unseen = {29, 35}, .varies = true};
  auto beyond = gap;
  beyond.training = {1, 3};
  auto still = gap;
  still.varies = false;
  EXPECT_EQ(unseen_values_seen(gap, "training"), Seen::no);
  EXPECT_EQ(unseen_values_seen(gap, "standard"), Seen::yes);
  EXPECT_EQ(unseen_values_seen(beyond, "standard"), Seen::no);
  EXPECT_EQ(unseen_values_seen(still, "standard"), Seen::no);
  EXPECT_EQ(unseen_values_seen(gap, "door"), Seen::no);
  EXPECT_EQ(unseen_values_seen(gap, "wall"), Seen::yes);
  EXPECT_EQ(unseen_values_seen(gap, ""), Seen::unknown);
}

TEST(Protocol, WhatDiffersFromTheRunIsNamed) {
  RunShape shape;
  shape.model = small_shape();
  const auto asked = [&](const OptionValues& values) { require_same(shape, "runs/x", values); };
  EXPECT_NO_THROW(asked({{"run", "runs/x"}, {"model.block", "5"}}));
  try {
    asked({{"model.block", "4"}});
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_NE(std::string(error.what()).find("model.block = 5, asked for 4"), std::string::npos)
        << error.what();
  }
  EXPECT_THROW(asked({{"protocol.steps", "100"}}), CheckpointError);
}

}  // namespace
}  // namespace jepa::eval::dynamics

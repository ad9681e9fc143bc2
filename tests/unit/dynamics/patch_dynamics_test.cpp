#include "temporary_folder.hpp"
#include "tiny_encoder.hpp"

#include <eval/dynamics/patch_training.hpp>
#include <eval/dynamics/protocol.hpp>
#include <eval/dynamics/two_rooms_clips.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/objectives/latent_regression.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::eval::dynamics {
namespace {

// Two rooms' frames, 65 px, scaled to 3 x 3 patches of a tiny encoder of two channels.
class PatchDynamics : public testing::Test {
 protected:
  PatchDynamics() { write_tiny_encoder(folder_.file("encoder"), 2, 24); }

  PatchOptions patches(const std::string& predictor) const {
    PatchOptions o;
    o.weights = folder_.file("encoder");
    o.size = 24;
    o.predictor = predictor;
    o.action_conditioned.dim = 24;
    o.action_conditioned.depth = 1;
    o.action_conditioned.heads = 2;
    o.adaln.depth = 1;
    o.adaln.heads = 2;
    o.adaln.head_dim = 8;
    o.adaln.mlp_hidden = 32;
    return o;
  }
  static ModelOptions frames() {
    ModelOptions o;
    o.encoder = {.channels = 2, .height = 65, .width = 65};
    o.action_width = 2;
    return o;
  }
  std::unique_ptr<PatchDynamicsModel> model(const PatchOptions& patches, uint64_t seed = 1) const {
    auto made = std::make_unique<PatchDynamicsModel>(frames(), patches);
    made->initialise(seed);
    return made;
  }
  static ClipBatch batch(uint64_t seed, int64_t clips = 6, int64_t frames = 6) {
    const auto source = std::make_shared<TwoRoomsClips>(TwoRoomsClipOptions{.frames = frames});
    const LoaderOptions loader{.batch = clips, .threads = 0, .shuffle = false};
    return ClipLoader(source, loader, seed).next();
  }
  // A checkpoint as the training loop writes it.
  std::string keep(const PatchDynamicsTask& task, const std::string& name) const {
    const std::string folder = folder_.file(name);
    std::filesystem::create_directories(folder);
    for (const auto& [file, tensors] : task.tensors()) {
      write_safetensors(folder + "/" + file + ".safetensors", tensors);
    }
    return folder;
  }

  TemporaryFolder folder_;
  std::map<std::string, std::string> texts_;
};

OptimisationOptions fast() { return {.lr = 3e-3, .weight_decay = 0, .final_weight_decay = 0}; }

TensorMap copy_of(const torch::nn::Module& module) {
  TensorMap all;
  for (const auto& [name, value] : state_dict(module)) all[name] = value.clone();
  return all;
}

bool same(const TensorMap& a, const TensorMap& b) {
  for (const auto& [name, value] : a) {
    if (!torch::equal(value, b.at(name))) return false;
  }
  return a.size() == b.size();
}

TEST_F(PatchDynamics, LatentsAreNormalisedTokensOfEachFrame) {
  auto made = model(patches("adaln"));
  EXPECT_EQ(made->grid, (TokenGrid{1, 3, 3}));
  const auto clips = batch(3).clips;
  const auto z = made->encode_clips(clips);
  EXPECT_EQ(z.sizes(), at::IntArrayRef({6, 6, 9 * 24}));
  EXPECT_FALSE(z.requires_grad());
  // A frame's latent is its own, whatever stands beside it.
  EXPECT_TRUE(torch::allclose(made->encode(clips.select(2, 4)), z.select(1, 4), 1e-5, 1e-5));
  const auto tokens = z.view({6, 6, 9, 24});
  EXPECT_LT(tokens.mean(-1).abs().max().item<double>(), 1e-5);
  EXPECT_LT((tokens.square().mean(-1) - 1).abs().max().item<double>(), 1e-2);
  // Repeated to fill the encoder's two frames.
  auto frame = clips.select(2, 4).to(torch::kFloat32);
  frame = at::_upsample_bilinear2d_aa(frame, {24, 24}, false);
  const auto twice = made->pixels.normalise(torch::stack({frame, frame}, 2));
  EXPECT_TRUE(torch::allclose(normalise_targets(made->encoder->forward(twice)).flatten(1),
                              z.select(1, 4), 1e-4, 1e-4));
}

TEST_F(PatchDynamics, TheLossFallsAndTheEncoderStays) {
  for (const char* predictor : {"action_conditioned", "adaln"}) {
    SCOPED_TRACE(predictor);
    auto made = model(patches(predictor));
    const auto encoder = copy_of(*made->encoder);
    const auto trained = copy_of(*made->trained().at("predictor"));
    PatchDynamicsTask task(*made, fast(), 7, held_out(batch(9)));
    const double first = task.step(batch(3), false, texts_).at("loss");
    double last = first;
    for (int i = 0; i < 40; ++i) last = task.step(batch(3), false, texts_).at("loss");
    EXPECT_LT(last, 0.8 * first);
    EXPECT_TRUE(same(encoder, copy_of(*made->encoder)));
    EXPECT_FALSE(same(trained, copy_of(*made->trained().at("predictor"))));
    const auto found = task.evaluate();
    EXPECT_GT(found.at("validation_loss"), 0);
    EXPECT_LT(found.at("skill_1"), 1);
    EXPECT_TRUE(found.contains("skill_k"));
    EXPECT_EQ(task.numbers(), found);
  }
}

TEST_F(PatchDynamics, ARestoredTaskGoesOnBitForBit) {
  for (const char* predictor : {"action_conditioned", "adaln"}) {
    SCOPED_TRACE(predictor);
    auto shape = patches(predictor);
    shape.adaln.dropout = 0.2;
    auto optimisation = fast();
    optimisation.accumulate = 2;
    auto whole = model(shape);
    PatchDynamicsTask task(*whole, optimisation, 7, {});
    std::string cut;
    for (uint64_t i = 0; i < 4; ++i) {
      if (i == 2) cut = keep(task, std::string("cut_") + predictor);
      task.step(batch(i), false, texts_);
    }
    auto other = model(shape, 5);
    PatchDynamicsTask again(*other, optimisation, 7, {});
    again.restore(2, cut);
    for (uint64_t i = 2; i < 4; ++i) again.step(batch(i), false, texts_);
    EXPECT_EQ(again.steps_done(), 4);
    for (const auto& [name, tensors] : task.tensors()) {
      EXPECT_TRUE(same(tensors, again.tensors().at(name))) << name;
    }
    auto read = model(shape, 6);
    load_patch_predictor(keep(task, "end"), *read);
    const auto predicted = [](const PatchDynamicsModel& of) {
      return copy_of(*of.trained().at("predictor"));
    };
    EXPECT_TRUE(same(predicted(*read), predicted(*whole)));
    // A control shares the encoder alone.
    const auto fresh = whole->untrained(1);
    EXPECT_TRUE(same(predicted(*fresh), predicted(*model(shape, 1))));
    EXPECT_TRUE(same(predicted(*read), predicted(*whole)));
    EXPECT_EQ(fresh->encoder.get(), whole->encoder.get());
  }
}

TEST_F(PatchDynamics, RolloutsFromTrueFramesAreTheTeacherForcedPass) {
  const torch::NoGradGuard no_grad;
  for (const char* predictor : {"action_conditioned", "adaln"}) {
    SCOPED_TRACE(predictor);
    auto made = model(patches(predictor));
    PatchDynamicsTask task(*made, fast(), 7, {});  // away from gates of zero
    {
      const at::AutoGradMode gradient(true);
      for (int i = 0; i < 3; ++i) task.step(batch(3), false, texts_);
    }
    const auto one = batch(4);
    const auto z = made->encode_clips(one.clips);
    const auto actions = actions_between(one);
    for (int64_t h = 1; h <= 5; ++h) {
      const auto past = z.narrow(1, 0, h);
      const auto before = h == 1 ? torch::Tensor() : actions.narrow(1, 0, h - 1);
      const auto next = made->rollout(past, before, actions.narrow(1, h - 1, 1)).squeeze(1);
      const int64_t seen = made->window() > 0 ? std::min(h, made->window()) : h;
      const auto forced =
          made->predict(z.narrow(1, h - seen, seen), actions.narrow(1, h - seen, seen));
      EXPECT_TRUE(torch::allclose(next, forced.select(1, seen - 1), 1e-4, 1e-4)) << h;
    }
    // Two frames ahead: the first is fed back, and actions and history count.
    const auto two =
        made->rollout(z.narrow(1, 0, 2), actions.narrow(1, 0, 1), actions.narrow(1, 1, 2));
    const auto known = torch::cat({z.narrow(1, 0, 2), two.narrow(1, 0, 1)}, 1);
    const auto again = made->rollout(known, actions.narrow(1, 0, 2), actions.narrow(1, 2, 1));
    EXPECT_TRUE(torch::allclose(two.select(1, 1), again.select(1, 0), 1e-4, 1e-4));
    const auto other =
        made->rollout(z.narrow(1, 0, 2), actions.narrow(1, 0, 1), -actions.narrow(1, 1, 2));
    EXPECT_FALSE(torch::allclose(two, other, 1e-4, 1e-4));
    // With gradient, as a planner by gradients asks.
    const at::AutoGradMode gradient(true);
    auto held = actions.narrow(1, 0, 2).clone().set_requires_grad(true);
    const auto ends = made->rollout(z.narrow(1, 0, 1), {}, held);
    EXPECT_TRUE(torch::allclose(ends.detach(), made->rollout(z.narrow(1, 0, 1), {}, held.detach()),
                                1e-4, 1e-4));
    ends.square().mean().backward();
    EXPECT_TRUE(held.grad().defined());
  }
}

TEST_F(PatchDynamics, LossesByHand) {
  const torch::NoGradGuard no_grad;
  const auto one = batch(4);
  const auto actions = actions_between(one);
  auto ahead = model(patches("action_conditioned"));
  const auto z = ahead->encode_clips(one.clips);
  auto loss = patch_loss(*ahead, z, actions, {});
  const auto forced = ahead->predict(z.narrow(1, 0, 5), actions);
  EXPECT_NEAR(loss.one_step.item<double>(),
              (forced - z.narrow(1, 1, 5)).abs().mean().item<double>(), 1e-5);
  const auto rolled = ahead->imagine(z.narrow(1, 0, 1), actions, {}, 2);
  EXPECT_NEAR(loss.rollout.item<double>(), (rolled - z.narrow(1, 1, 2)).abs().mean().item<double>(),
              1e-5);
  EXPECT_NEAR(loss.total.item<double>(), (loss.one_step + loss.rollout).item<double>(), 1e-6);
  // Windows of three of five frames: 0 to 2, and 2 to 4, of which the first has counted.
  auto windows = model(patches("adaln"));
  loss = patch_loss(*windows, z, actions, {});
  double by_hand = 0;
  for (const int64_t from : {0, 2}) {
    const auto next = windows->predict(z.narrow(1, from, 3), actions.narrow(1, from, 3));
    const int64_t counted = from == 0 ? 0 : 1;
    const auto off = next.slice(1, counted) - z.narrow(1, from + 1, 3).slice(1, counted);
    by_hand += off.square().mean().item<double>() * static_cast<double>(3 - counted) / 5;
  }
  EXPECT_NEAR(loss.total.item<double>(), by_hand, 1e-5);
  EXPECT_FALSE(loss.rollout.defined());
}

TEST_F(PatchDynamics, StatesStandBesideTheActions) {
  auto shape = patches("action_conditioned");
  shape.states = true;
  PatchDynamicsModel made(frames(), shape, /*state_width=*/4);
  made.initialise(1);
  EXPECT_EQ(made.patches.action_conditioned.state_width, 4);
  PatchDynamicsTask task(made, fast(), 7, held_out(batch(9)));
  auto one = batch(3);
  task.step(one, false, texts_);
  EXPECT_TRUE(task.evaluate().contains("skill_k"));
  const auto z = made.encode_clips(one.clips);
  const auto actions = actions_between(one), states = one.signals.at("state");
  EXPECT_FALSE(torch::allclose(made.predict(z.narrow(1, 0, 5), actions, states),
                               made.predict(z.narrow(1, 0, 5), actions), 1e-4, 1e-4));
  one.signals.erase("state");
  EXPECT_THROW(task.step(one, false, texts_), DataError);
  shape.predictor = "adaln";
  EXPECT_THROW(PatchDynamicsModel(frames(), shape), ConfigError);
}

TEST_F(PatchDynamics, WhatDoesNotFitIsRefused) {
  const auto refused = [&](const ModelOptions& of, const PatchOptions& shape) {
    return message_of<Error>([&] { PatchDynamicsModel(of, shape); });
  };
  const auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos && text.find('\n') == std::string::npos;
  };
  auto shape = patches("action_conditioned");
  shape.weights = folder_.file("nothing");
  EXPECT_TRUE(has(refused(frames(), shape), "nothing"));
  shape = patches("action_conditioned");
  shape.size = 0;
  EXPECT_TRUE(has(refused(frames(), shape), "65 x 65 px do not divide"))
      << refused(frames(), shape);
  shape = patches("action_conditioned");
  shape.action_conditioned.action_width = 7;
  EXPECT_TRUE(has(refused(frames(), shape), "action_width is 7")) << refused(frames(), shape);
  auto coloured = frames();
  coloured.encoder.channels = 3;
  EXPECT_TRUE(has(refused(coloured, patches("adaln")), "frames of 2 channels"));
  shape = patches("adaln");
  shape.adaln.dim = 32;
  EXPECT_TRUE(has(refused(frames(), shape), "adaln.dim is 32")) << refused(frames(), shape);

  auto made = model(patches("adaln"));
  PatchDynamicsTask task(*made, fast(), 7, {});
  auto one = batch(3);
  EXPECT_THROW(made->encode_clips(one.clips.slice(3, 0, 64)), DataError);
  one.signals.clear();
  EXPECT_TRUE(has(message_of<DataError>([&] { task.step(one, false, texts_); }), "'action'"));
  auto short_clips = model(patches("action_conditioned"));
  EXPECT_THROW(PatchDynamicsTask(*short_clips, fast(), 7, {}).step(batch(3, 2, 2), false, texts_),
               ConfigError);
  // Another encoder of the same shape.
  const auto kept = keep(task, "kept");
  write_tiny_encoder(folder_.file("other"), 2, 24, 2);
  shape = patches("adaln");
  shape.weights = folder_.file("other");
  auto other = model(shape);
  PatchDynamicsTask stranger(*other, fast(), 7, {});
  EXPECT_TRUE(
      has(message_of<CheckpointError>([&] { stranger.restore(0, kept); }), "another encoder than"));
  EXPECT_TRUE(is_patch_run(kept));
  EXPECT_FALSE(is_patch_run(folder_.file("encoder")));
  EXPECT_TRUE(has(message_of<CheckpointError>([&] { open_dynamics(kept); }), "frozen encoder"));
}

}  // namespace
}  // namespace jepa::eval::dynamics

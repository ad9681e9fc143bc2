// A trainer in a person's own hands: loops that fail and go on, terms that do not fit, resume.
#include "temporary_folder.hpp"
#include "tiny_recipe.hpp"

#include <jepa/errors.hpp>
#include <jepa/io/safetensors.hpp>

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <filesystem>

namespace jepa {
namespace {

const std::vector<int64_t> kClips{4, 1, 4, 16, 16};

ClipBatch random_clips() {
  torch::manual_seed(9);
  return {.clips = torch::randint(0, 256, kClips, torch::kUInt8)};
}

/// Asks for views, or has a module of a name; what it adds to the loss is nothing.
class OtherTerm : public ObjectiveTerm {
 public:
  explicit OtherTerm(std::string name, int64_t views = 1, bool with_module = false)
      : name_(std::move(name)), views_(views), with_module_(with_module) {}
  std::string name() const override { return name_; }
  torch::Tensor loss(const StepContext& step, MetricSums&) override {
    if (signal_.empty()) return wide_ ? step.visible.sum(0) : torch::Tensor();
    return step.signal(signal_).sum() * 0.0;
  }
  int64_t views() const override { return views_; }
  std::shared_ptr<torch::nn::Module> module() const override {
    return with_module_ ? linear_.ptr() : nullptr;
  }
  OtherTerm& wide() { return (wide_ = true, *this); }
  OtherTerm& asks(const std::string& signal) { return (signal_ = signal, *this); }

 private:
  std::string name_, signal_;
  int64_t views_;
  bool with_module_, wide_ = false;
  torch::nn::Linear linear_{1, 1};
};

Trainer make_trainer(const std::vector<OtherTerm>& terms = {},
                     torch::ScalarType precision = torch::kFloat32) {
  auto recipe = tiny_recipe().fitted(kClips);
  for (const auto& term : terms) {
    recipe.extra.push_back([term](int64_t, uint64_t) { return std::make_shared<OtherTerm>(term); });
  }
  return recipe.make_trainer(0, torch::kCPU, precision);
}

void accumulate(Trainer& trainer) {
  const auto batch = random_clips();
  trainer.accumulate(batch, trainer.draw_masks(tiny_recipe().samplers(), batch));
}

TEST(OwnLoop, AStepThatFailedIsDiscardedAndTakenAgain) {
  Trainer whole = make_trainer(), failed = make_trainer();
  accumulate(whole);
  accumulate(failed);
  const auto batch = random_clips();
  auto masks = failed.draw_masks(tiny_recipe().samplers(), batch);
  masks[1].target = torch::full_like(masks[1].target, 1000);
  EXPECT_ANY_THROW(failed.accumulate(batch, masks, 0.5));
  EXPECT_NE(message_of<c10::Error>([&] { failed.apply(); }).find("discard"), std::string::npos);
  EXPECT_THROW(accumulate(failed), c10::Error);
  failed.discard();
  accumulate(failed);
  EXPECT_EQ(whole.apply(), failed.apply());
}

TEST(OwnLoop, GoesOnBitForBitFromWhatTensorsGave) {
  const TemporaryFolder folder;
  const auto steps = [](Trainer& trainer, int64_t count) {
    StepMetrics last;
    for (int64_t i = 0; i < count; ++i) {
      accumulate(trainer);
      last = trainer.apply();
    }
    return last;
  };
  Trainer whole = make_trainer({OtherTerm("head", 1, true)});
  steps(whole, 2);
  for (const auto& [name, tensors] : whole.tensors()) {
    write_safetensors(folder.file(name + ".safetensors"), tensors);
  }
  Trainer continued = make_trainer({OtherTerm("head", 1, true)});
  continued.restore(2, folder.file(""));
  EXPECT_EQ(continued.steps_done(), 2);
  EXPECT_EQ(steps(whole, 2), steps(continued, 2));
  const auto expected = whole.tensors(), found = continued.tensors();
  ASSERT_EQ(found.size(), 5U);  // encoder, target_encoder, predictor, optimizer, head
  for (const auto& [file, tensors] : expected) {
    for (const auto& [name, tensor] : tensors) {
      EXPECT_TRUE(torch::equal(tensor, found.at(file).at(name))) << file << ' ' << name;
    }
  }
}

TEST(OwnTerms, ThatDoNotFitAreNamed) {
  EXPECT_EQ(message_of<ConfigError>([] {
              make_trainer({OtherTerm("a", 2), OtherTerm("b", 4)});
            }),
            "objective: a and b both ask for views of the clips; one term may");
  for (const std::string name : {"target_encoder", "optimizer", "predictor"}) {
    EXPECT_EQ(message_of<ConfigError>([&] { make_trainer({OtherTerm(name, 1, true)}); }),
              "objective: term " + name + ": a module cannot be called " + name + ", there is one");
  }
  Trainer wide = make_trainer({OtherTerm("mine").wide()});
  EXPECT_NE(message_of<c10::Error>([&] { accumulate(wide); }).find("term mine: its loss"),
            std::string::npos);
  Trainer asks = make_trainer({OtherTerm("mine").asks("action")});
  EXPECT_EQ(message_of<DataError>([&] { accumulate(asks); }),
            "no signal 'action' comes with the clips; there is none");
  asks.discard();
  auto batch = random_clips();
  batch.signals["action"] = torch::ones({4, 4, 2});
  asks.accumulate(batch, asks.draw_masks(tiny_recipe().samplers(), batch));
}

TEST(OwnTerms, EveryTrainerOfARecipeHasItsOwn) {
  auto recipe = tiny_recipe().fitted(kClips);
  recipe.extra = {[](int64_t, uint64_t) { return std::make_shared<OtherTerm>("head", 1, true); }};
  Trainer one = recipe.make_trainer(0, torch::kCPU, torch::kFloat32);
  Trainer two = recipe.make_trainer(0, torch::kCPU, torch::kFloat32);
  EXPECT_NE(one.objective().back(), two.objective().back());
}

TEST(OwnLoop, WhatCannotBeTrainedIsRefused) {
  for (const auto precision : {torch::kHalf, torch::kDouble}) {
    EXPECT_NE(message_of<ConfigError>([&] { make_trainer({}, precision); }).find("precision"),
              std::string::npos);
  }
  Trainer trainer = make_trainer();
  for (const ClipBatch& none :
       {ClipBatch{}, ClipBatch{.clips = torch::zeros({1, 4, 16, 16}, torch::kUInt8)},
        ClipBatch{.clips = torch::zeros({0, 1, 4, 16, 16}, torch::kUInt8)}}) {
    EXPECT_NE(message_of<DataError>([&] {
                trainer.draw_masks(tiny_recipe().samplers(), none);
              }).find("clips [B, C, T, H, W]"),
              std::string::npos);
  }
  auto recipe = tiny_recipe().fitted(kClips);
  recipe.optimisation.final_lr = std::nan("");
  EXPECT_EQ(message_of<ConfigError>([&] { recipe.make_trainer(0, torch::kCPU, torch::kFloat32); }),
            "optimisation.final_lr: must be a number of at least 0");
}

TEST(Recipes, SectionsOfOtherKindsAreRefused) {
  const TemporaryFolder folder;
  const auto failure = [&](const std::string& text) {
    write_bytes(folder.file("a.ini"), text);
    return message_of<ConfigError>([&] { eval::training::read_recipe(folder.file("a.ini")); });
  };
  const std::string path = folder.file("a.ini");
  EXPECT_EQ(failure("[optimizer]\nlr = 3\n"),
            path + ": key optimizer.lr: a recipe has no section [optimizer]");
  EXPECT_NE(failure("[mask.1x]\nkind = causal\n").find("mask.1x"), std::string::npos);
  EXPECT_EQ(failure("[mask.2]\nkind = causal\n"), path + ": [mask.2] is given but [mask.1] is not");
  EXPECT_NE(failure("[encoder]\ndimm = 3\n").find("dimm"), std::string::npos);
  write_bytes(path, "seed = 3\n[loader]\nbatch = 3\n[mask.1]\nkind = causal\n");
  EXPECT_EQ(eval::training::read_recipe(path).masks.size(), 1U);
}

TEST(Recipes, AreCheckedForTheClipsThatTheyGet) {
  auto recipe = tiny_recipe();
  recipe.encoder.vit.patch = 12;
  recipe.encoder.vit.tubelet = 3;
  const auto fitted = recipe.fitted({2, 1, 12, 36, 36});
  EXPECT_NO_THROW(fitted.make_trainer(0, torch::kCPU, torch::kFloat32));
  EXPECT_THROW(recipe.fitted({2, 1, 12, 32, 32}).make_trainer(0, torch::kCPU, torch::kFloat32),
               ConfigError);
}

TEST(Recipes, NamesOfEncodersAndPredictorsAreTakenOnce) {
  EXPECT_EQ(message_of<ConfigError>([] {
              encoders::add_encoder({"vision_transformer", {}});
            }),
            "encoder 'vision_transformer': the name is taken");
  EXPECT_THROW(predictors::add_predictor({"masked", {}}), ConfigError);
}

}  // namespace
}  // namespace jepa

#include "temporary_folder.hpp"

#include <encoders/vision_transformer.hpp>
#include <jepa/data/memory_source.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/training/checkpoint.hpp>
#include <jepa/training/metrics_log.hpp>
#include <jepa/training/pretraining.hpp>
#include <predictors/registry.hpp>

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace jepa {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBatch = 4;

encoders::VisionTransformerOptions tiny_encoder() {
  return {.dim = 24,
          .depth = 2,
          .heads = 2,
          .mlp_ratio = 2,
          .channels = 1,
          .frames = 4,
          .height = 16,
          .width = 16,
          .patch = 4,
          .tubelet = 2,
          .drop_path = 0.1};
}

Trainer make_trainer(OptimisationOptions optimisation = {}, int64_t dim = 24,
                     const std::string& regulariser = "sigreg", bool freeze_encoder = false,
                     double drop_path = 0.1, const std::string& positions = "sincos",
                     Objective extra = {}) {
  auto options = tiny_encoder();
  options.dim = dim;
  options.drop_path = drop_path;
  options.positions = positions;
  Encoder encoder(std::static_pointer_cast<EncoderImpl>(
      std::make_shared<encoders::VisionTransformerImpl>(options)));
  Encoder target(std::static_pointer_cast<EncoderImpl>(
      std::make_shared<encoders::VisionTransformerImpl>(options)));
  predictors::PredictorOptions predictor_options;
  predictor_options.masked.dim = 12;
  predictor_options.masked.depth = 1;
  predictor_options.masked.heads = 1;
  Predictor predictor = predictors::make_predictor(
      predictor_options,
      {.encoder_width = dim, .encoder_heads = 2, .masks = 2, .grid = options.grid()});
  encoder->initialise(seeded_generator(1));
  predictor->initialise(seeded_generator(2));
  if (optimisation.total_steps == 0) optimisation.total_steps = 20;
  TrainerOptions trainer{.optimisation = optimisation, .seed = 3};
  trainer.objective.regulariser.kind = regulariser;
  trainer.objective.freeze_encoder = freeze_encoder;
  Objective objective = make_objective(trainer.objective, dim, trainer.seed);
  objective.insert(objective.end(), extra.begin(), extra.end());
  return Trainer(encoder, target, predictor, trainer, objective);
}

std::shared_ptr<ClipSource> make_source() {
  torch::manual_seed(5);
  const torch::Tensor clips = torch::randint(0, 256, {10, 4, 16, 16, 1}, torch::kUInt8);
  return std::make_shared<MemorySource>(clips, std::map<std::string, torch::Tensor>{});
}

MaskSamplers make_samplers() {
  MaskOptions small;
  small.blocks = 2;
  MaskOptions large;
  large.blocks = 1;
  large.spatial_scale = {0.5, 0.5};
  MaskSamplers samplers;
  samplers.push_back(make_mask_sampler(small));
  samplers.push_back(make_mask_sampler(large));
  return samplers;
}

torch::Tensor random_clips() {
  torch::manual_seed(9);
  return torch::randint(0, 256, {kBatch, 1, 4, 16, 16}, torch::kUInt8);
}

std::vector<torch::Tensor> all_weights(Trainer& trainer) {
  std::vector<torch::Tensor> weights;
  for (torch::nn::Module* module : {static_cast<torch::nn::Module*>(trainer.encoder().get()),
                                    static_cast<torch::nn::Module*>(trainer.target_encoder().get()),
                                    static_cast<torch::nn::Module*>(trainer.predictor().get())}) {
    for (const auto& p : module->parameters()) weights.push_back(p.detach().clone());
  }
  return weights;
}

/// Trains in `folder` until `steps` or until `stop_after` steps have been taken here.
std::vector<double> train(const std::string& folder, int64_t steps, int64_t stop_after,
                          std::vector<torch::Tensor>* weights = nullptr) {
  Trainer trainer = make_trainer();
  LoaderOptions options;
  options.batch = kBatch;
  ClipLoader loader(make_source(), options, 3);
  std::vector<double> losses;
  LoopHooks hooks;
  hooks.on_step = [&](int64_t, const StepMetrics& metrics) {
    losses.push_back(metrics.at("loss"));
  };
  hooks.stop = [&] { return static_cast<int64_t>(losses.size()) >= stop_after; };
  TrainingOptions training;
  training.steps = steps;
  training.checkpoint_every = 2;
  const MaskSamplers samplers = make_samplers();
  MaskedPrediction task(trainer, samplers, training);
  run_training(task, loader, training.loop(), {.folder = folder, .config_ini = "x = 1\n"}, hooks);
  if (weights != nullptr) *weights = all_weights(trainer);
  return losses;
}

/// What MaskedPrediction makes of `steps` steps of 7 clips in 3 micro-batches that the loader hands
/// out in `parts`; where `parts` is 1, whole.
std::vector<torch::Tensor> train_in_parts(int64_t parts, int64_t steps, int64_t* deliveries) {
  Trainer trainer = make_trainer({.lr = 1e-3, .accumulate = 3});
  ClipLoader loader(make_source(), {.batch = 7}, 3, parts);
  TrainingOptions training;
  training.steps = steps;
  const MaskSamplers samplers = make_samplers();
  MaskedPrediction task(trainer, samplers, training);
  const TemporaryFolder folder;
  std::vector<torch::Tensor> all;
  LoopHooks hooks;
  hooks.on_step = [&](int64_t, const StepMetrics& metrics) {
    all.push_back(torch::tensor(metrics.at("loss"), torch::kFloat64));
    all.push_back(torch::tensor(metrics.at("grad_norm_encoder"), torch::kFloat64));
  };
  run_training(task, loader, training.loop(), {.folder = folder.path(), .config_ini = "x = 1\n"},
               hooks);
  *deliveries = loader.stats().batches;
  for (const auto& weights : all_weights(trainer)) all.push_back(weights);
  return all;
}

TEST(Loop, MicroBatchesOfTheLoaderAreTheBatch) {
  int64_t whole = 0, parts = 0;
  const auto expected = train_in_parts(1, 4, &whole);
  const auto found = train_in_parts(3, 4, &parts);
  EXPECT_EQ(whole, 4);
  EXPECT_EQ(parts, 12);  // no whole batch was asked for
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_TRUE(found[i].equal(expected[i])) << i;
}

TEST(Schedules, FollowTheirFormulas) {
  OptimisationOptions options;
  options.total_steps = 100;
  options.warmup_steps = 10;
  options.start_lr = 1e-4;
  options.lr = 1e-3;
  options.final_lr = 1e-5;
  options.weight_decay = 0.04;
  options.final_weight_decay = 0.4;
  options.momentum = 0.9;
  options.final_momentum = 1.0;
  EXPECT_NEAR(rates_at(options, 5).lr, 1e-4 + 0.5 * 9e-4, 1e-15);
  EXPECT_NEAR(rates_at(options, 10).lr, 1e-3, 1e-15);
  EXPECT_NEAR(rates_at(options, 55).lr, 1e-5 + 0.5 * (1e-3 - 1e-5), 1e-15);
  EXPECT_NEAR(rates_at(options, 100).lr, 1e-5, 1e-15);
  EXPECT_NEAR(rates_at(options, 50).weight_decay, 0.22, 1e-15);
  EXPECT_NEAR(rates_at(options, 1).momentum, 0.9, 1e-15);
  EXPECT_NEAR(rates_at(options, 51).momentum, 0.95, 1e-15);
  options.momentum_from_step = 50;
  EXPECT_EQ(rates_at(options, 50).momentum, 1.0);
  EXPECT_NEAR(rates_at(options, 51).momentum, 0.95, 1e-15);
  options.schedule = "wsd";
  options.decay_steps = 20;
  EXPECT_NEAR(rates_at(options, 79).lr, 1e-3, 1e-15);
  EXPECT_NEAR(rates_at(options, 90).lr, 0.5 * (1e-3 + 1e-5), 1e-15);
  options.schedule = "linear";
  EXPECT_NEAR(rates_at(options, 55).lr, 0.5 * (1e-3 + 1e-5), 1e-15);
  options.schedule = "constant";
  EXPECT_NEAR(rates_at(options, 99).lr, 1e-3, 1e-15);
}

TEST(AdamW, StepsAsLibTorchsOwn) {
  torch::manual_seed(1);
  torch::nn::Linear ours(5, 3), theirs(5, 3);
  copy_parameters(*ours, *theirs);
  OptimisationOptions options;
  AdamW optimizer({{"m", ours.ptr()}}, options);
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(std::vector<torch::Tensor>{theirs->weight},
                      std::make_unique<torch::optim::AdamWOptions>(
                          torch::optim::AdamWOptions(0.01).weight_decay(0.1)));
  groups.emplace_back(std::vector<torch::Tensor>{theirs->bias},
                      std::make_unique<torch::optim::AdamWOptions>(
                          torch::optim::AdamWOptions(0.01).weight_decay(0.0)));
  torch::optim::AdamW reference(groups, torch::optim::AdamWOptions(0.01));
  const torch::Tensor x = torch::randn({7, 5});
  for (int i = 0; i < 5; ++i) {
    optimizer.zero_gradients();
    reference.zero_grad();
    ours(x).square().sum().backward();
    theirs(x).square().sum().backward();
    optimizer.step({.lr = 0.01, .weight_decay = 0.1});
    reference.step();
  }
  EXPECT_LT((ours->weight - theirs->weight).abs().max().item<double>(), 1e-6);
  EXPECT_LT((ours->bias - theirs->bias).abs().max().item<double>(), 1e-6);
}

TEST(MovingAverage, MovesByOneMinusMomentum) {
  torch::nn::Linear online(4, 4), target(4, 4);
  const torch::Tensor before = target->weight.detach().clone();
  const torch::Tensor goal = online->weight.detach().clone();
  MovingAverage average(*online, *target);
  average.update(0.75);
  EXPECT_LT((target->weight - (0.75 * before + 0.25 * goal)).abs().max().item<double>(), 1e-6);
}

TEST(MovingAverage, RefusesAnotherShape) {
  torch::nn::Linear online(4, 4), target(4, 5);
  EXPECT_THROW(MovingAverage(*online, *target), Error);
}

TEST(Trainer, LossFallsAndTargetFollows) {
  OptimisationOptions optimisation;
  optimisation.lr = 3e-3;
  optimisation.momentum = 0.999;
  optimisation.final_momentum = 0.999;
  optimisation.schedule = "constant";
  Trainer trainer = make_trainer(optimisation);
  const auto samplers = make_samplers();
  const torch::Tensor clips = random_clips();
  const auto target_before = all_weights(trainer);
  double first = 0, last = 0;
  for (int i = 0; i < 80; ++i) {
    const auto metrics =
        trainer.step(clips, draw_masks(samplers, kBatch, tiny_encoder().grid(), 1, 0));
    (i == 0 ? first : last) = metrics.at("loss_prediction");
  }
  EXPECT_LT(last, 0.9 * first);
  const auto target_after = all_weights(trainer);
  EXPECT_FALSE(torch::equal(target_before.back(), target_after.back()));
}

TEST(Trainer, FrozenEncoderStaysAndItsPredictorLearns) {
  Trainer trainer = make_trainer({.lr = 3e-3, .momentum = 0.9}, 24, "none", true);
  const auto samplers = make_samplers();
  const auto before = all_weights(trainer);
  for (int i = 0; i < 3; ++i) {
    const auto metrics =
        trainer.step(random_clips(), draw_masks(samplers, kBatch, tiny_encoder().grid(), 1, 0));
    EXPECT_EQ(metrics.at("grad_norm_encoder"), 0);
    EXPECT_GT(metrics.at("grad_norm_predictor"), 0);
  }
  const auto after = all_weights(trainer);
  const size_t encoders = trainer.encoder()->parameters().size() * 2;  // and its target
  for (size_t i = 0; i < encoders; ++i) EXPECT_TRUE(torch::equal(before[i], after[i])) << i;
  EXPECT_FALSE(torch::equal(before.back(), after.back()));
}

Mask rows_of(const Mask& mask, int64_t start, int64_t count) {
  return {mask.context.narrow(0, start, count), mask.target.narrow(0, start, count)};
}

TEST(Trainer, AccumulatedGradientsAreThoseOfTheWholeBatch) {
  const auto masks = draw_masks(make_samplers(), kBatch, tiny_encoder().grid(), 1, 0);
  const auto gradient = [&](int64_t parts) {
    Trainer trainer = make_trainer({}, 24, "none", false, /*drop_path=*/0);
    const int64_t count = kBatch / parts;
    for (int64_t part = 0; part < parts; ++part) {
      std::vector<Mask> own;
      for (const auto& mask : masks) own.push_back(rows_of(mask, part * count, count));
      trainer.accumulate({.clips = random_clips().narrow(0, part * count, count)}, own,
                         1.0 / static_cast<double>(parts));
    }
    const auto metrics = trainer.apply();
    return std::pair(trainer.encoder()->parameters().front().grad().clone(), metrics.at("loss"));
  };
  const auto [whole, loss] = gradient(1);
  const auto [sum, mean_loss] = gradient(2);
  EXPECT_LT((sum - whole).abs().max().item<double>(),
            1e-5 * whole.abs().max().item<double>() + 1e-8);
  EXPECT_NEAR(mean_loss, loss, 1e-6);
}

TEST(Trainer, MicroBatchesDrawTheirOwnMasks) {
  // Drawn for many clips at once, all would be cut to the one that shows fewest tokens.
  const auto grid = TokenGrid{8, 14, 14};
  MaskOptions options;
  options.blocks = 8;
  MaskSamplers samplers;
  samplers.push_back(make_mask_sampler(options));
  const auto first = draw_masks(samplers, 2, grid, 7, 3, 0)[0];
  const auto second = draw_masks(samplers, 2, grid, 7, 3, 1)[0];
  EXPECT_TRUE(torch::equal(first.context, draw_masks(samplers, 2, grid, 7, 3)[0].context));
  EXPECT_FALSE(first.context.sizes() == second.context.sizes() &&
               torch::equal(first.context, second.context));
  int64_t shown = 0;
  for (int64_t part = 0; part < 8; ++part) {
    shown += draw_masks(samplers, 2, grid, 7, 3, part)[0].context.size(1);
  }
  EXPECT_GT(shown, 8 * draw_masks(samplers, 16, grid, 7, 3)[0].context.size(1));
}

TEST(Trainer, DefaultOptionsTrainAndTheTargetFollows) {
  const OptimisationOptions options;
  for (const int64_t step : {1, 2, 1000}) {
    EXPECT_EQ(rates_at(options, step).lr, options.lr);
    EXPECT_EQ(rates_at(options, step).momentum, options.momentum);
  }
  EXPECT_THROW(check({.momentum = 1.5}), ConfigError);
  EXPECT_THROW(check({.total_steps = 10, .decay_steps = 20}), ConfigError);
  Trainer trainer = make_trainer();  // its target encoder was never initialised
  const auto ours = trainer.encoder()->parameters();
  const auto copies = trainer.target_encoder()->parameters();
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(torch::equal(ours[i], copies[i]));
}

TEST(Trainer, LeavesTheCallersStateAsItWas) {
  Trainer trainer = make_trainer();
  const auto clips = random_clips();
  const auto masks = draw_masks(make_samplers(), kBatch, tiny_encoder().grid(), 1, 0);
  torch::manual_seed(77);
  const auto expected = torch::rand({3});
  torch::manual_seed(77);
  {
    const AutocastScope callers(torch::kCPU, torch::kBFloat16);
    trainer.step(clips, masks);
    EXPECT_TRUE(at::autocast::is_autocast_enabled(at::kCPU));
    EXPECT_EQ(at::autocast::get_autocast_dtype(at::kCPU), torch::kBFloat16);
  }
  EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
  EXPECT_TRUE(torch::equal(torch::rand({3}), expected));
}

TEST(Trainer, InferenceOnAnotherGridLeavesTrainingAlone) {
  Trainer trainer = make_trainer({}, 24, "none", false, 0.1, "rope");
  const auto masks = draw_masks(make_samplers(), kBatch, tiny_encoder().grid(), 1, 0);
  trainer.step(random_clips(), masks);
  {
    const torch::InferenceMode inference;
    trainer.encoder()->forward(torch::zeros({1, 1, 2, 24, 8}));
    trainer.encoder()->forward(torch::zeros({1, 1, 4, 16, 16}));
  }
  EXPECT_NO_THROW(trainer.step(random_clips(), masks));
}

/// A term from outside the library, with parameters of its own.
class ScaleTerm : public ObjectiveTerm {
 public:
  std::string name() const override { return "scale"; }
  torch::Tensor loss(const StepContext& step, MetricSums& metrics) override {
    const auto loss = (step.visible.square().mean() - gain_->forward(torch::ones({1}))).square();
    metrics.add("loss_scale", loss.sum());
    return loss.sum();
  }
  std::shared_ptr<torch::nn::Module> module() const override { return gain_.ptr(); }

 private:
  torch::nn::Linear gain_{1, 1};
};

TEST(Trainer, TakesTermsFromOutside) {
  const auto extra = std::make_shared<ScaleTerm>();
  Trainer trainer = make_trainer({.lr = 1e-2}, 24, "none", false, 0.1, "sincos", {extra});
  const auto before = extra->module()->parameters().front().detach().clone();
  const auto metrics = trainer.step(
      random_clips(), draw_masks(make_samplers(), kBatch, tiny_encoder().grid(), 1, 0));
  EXPECT_GT(metrics.at("loss_scale"), 0);
  EXPECT_GT(metrics.at("grad_norm_scale"), 0);
  EXPECT_FALSE(torch::equal(before, extra->module()->parameters().front()));
  EXPECT_TRUE(trainer.trained_modules().contains("scale"));
}

TEST(Trainer, NonFiniteInputStopsWithTheWeightsUntouched) {
  Trainer trainer = make_trainer();
  const auto before = all_weights(trainer);
  const auto masks = draw_masks(make_samplers(), kBatch, tiny_encoder().grid(), 1, 0);
  const torch::Tensor clips = torch::full({kBatch, 1, 4, 16, 16}, std::nan(""));
  EXPECT_THROW(trainer.step(clips, masks), Error);
  const auto after = all_weights(trainer);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(torch::equal(before[i], after[i]));
  EXPECT_EQ(trainer.steps_done(), 0);
}

TEST(Pretraining, InterruptedRunEndsBitForBitAsTheUninterrupted) {
  std::vector<torch::Tensor> whole, parts;
  const TemporaryFolder uninterrupted;
  const auto losses = train(uninterrupted.path(), 9, 100, &whole);
  ASSERT_EQ(losses.size(), 9u);
  const TemporaryFolder temporary;
  const std::string folder = temporary.path();
  std::vector<double> joined;
  for (const int64_t stop_after : {3, 1, 100}) {
    const auto some = train(folder, 9, stop_after, &parts);
    joined.insert(joined.end(), some.begin(), some.end());
  }
  EXPECT_EQ(joined, losses);
  ASSERT_EQ(whole.size(), parts.size());
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(torch::equal(whole[i], parts[i])) << i;
}

TEST(Pretraining, LogIsCutBackToTheCheckpoint) {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path();
  train(folder, 9, 5);
  // As after a kill: a later step was logged, the newest checkpoint is older, a line is cut short.
  std::ofstream(folder + "/metrics.jsonl", std::ios::app)
      << "{\"type\":\"step\",\"step\":6}\n{\"type\":\"st";
  train(folder, 9, 100);
  std::ifstream log(folder + "/metrics.jsonl");
  std::vector<int64_t> steps;
  for (std::string line; std::getline(log, line);) {
    const auto at = line.find("\"step\":");
    if (line.find("\"type\":\"step\"") != std::string::npos) {
      steps.push_back(std::stoll(line.substr(at + 7)));
    }
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(Checkpoint, OfAnotherModelIsRefusedByKey) {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path();
  train(folder, 2, 100);
  Trainer other = make_trainer({}, /*dim=*/48);
  try {
    MaskedPrediction(other, make_samplers(), {}).restore(2, find_checkpoint(folder));
    FAIL();
  } catch (const CheckpointError& error) {
    EXPECT_NE(std::string(error.what()).find("encoder.safetensors: '"), std::string::npos);
  }
}

TEST(Checkpoint, BrokenOnesAreNamed) {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path();
  train(folder, 2, 100);
  const std::string checkpoint = find_checkpoint(folder);
  Trainer trainer = make_trainer();
  fs::resize_file(checkpoint + "/predictor.safetensors", 100);
  EXPECT_THROW(MaskedPrediction(trainer, make_samplers(), {}).restore(2, checkpoint),
               CheckpointError);
  std::ofstream(checkpoint + "/state.json") << "{";
  EXPECT_THROW(read_checkpoint_state(checkpoint), CheckpointError);
  fs::remove_all(checkpoint);
  EXPECT_THROW(find_checkpoint(folder), CheckpointError);
}

// After damage to the newest checkpoint the older one that is whole is named.
TEST(Checkpoint, DamageNamesTheWholeOne) {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path().string();
  const auto save = [&](int64_t step) {
    save_checkpoint(folder, {{"encoder", {{"w", torch::ones({64})}}}},
                    {.step = step, .numbers = {}, .texts = {}}, "[encoder]\nx = 1\n", 5, false);
  };
  const std::string names = folder + "/checkpoints/";
  const auto error = [&] {
    return message_of<CheckpointError>([&] { require_whole(find_checkpoint(folder)); });
  };
  const auto says = [&](const std::string& part) {
    const std::string text = error();
    EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_NE(text.find("step-00000002 is whole: to go on from it, echo step-00000002 > " + names +
                        "latest"),
              std::string::npos)
        << text;
  };
  save(2);
  save(4);
  EXPECT_EQ(error(), "");
  fs::resize_file(names + "step-00000004/config.ini", 9);
  says("config.ini: cut short, 9 of 16 bytes");
  save(4);
  fs::resize_file(names + "step-00000004/encoder.safetensors", 100);
  says("encoder.safetensors");
  fs::resize_file(names + "latest", 0);
  says("latest is empty");
}

TEST(Checkpoint, OldOnesGoAndTheBestStays) {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path();
  train(folder, 3, 100);
  std::ofstream(folder + "/checkpoints/best") << "step-00000003\n";
  train(folder, 9, 100);
  EXPECT_TRUE(fs::exists(find_checkpoint(folder, "best")));
  int64_t count = 0;
  for (const auto& entry : fs::directory_iterator(folder + "/checkpoints")) {
    count += entry.is_directory() ? 1 : 0;
  }
  EXPECT_EQ(count, 3);  // the two newest and the best
}

TEST(Checkpoint, ARunThatWasSetBackKeepsWhereItStands) {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path();
  train(folder, 9, 100);  // leaves steps 8 and 9
  std::ofstream(folder + "/checkpoints/latest") << "step-00000008\n";
  fs::remove(folder + "/checkpoints/best");
  fs::copy(folder + "/checkpoints/step-00000008", folder + "/checkpoints/step-00000007",
           fs::copy_options::recursive);
  save_checkpoint(folder, {}, {.step = 8, .numbers = {}, .texts = {}}, "x = 1\n", 2, false);
  EXPECT_EQ(find_checkpoint(folder), folder + "/checkpoints/step-00000008");
  EXPECT_TRUE(fs::exists(folder + "/checkpoints/step-00000007"));
  EXPECT_TRUE(fs::exists(folder + "/checkpoints/step-00000009"));
}

TEST(MetricsLog, CsvHasEveryRowAndColumnHoweverOftenItIsWritten) {
  const TemporaryFolder temporary;
  MetricsLog log(temporary.path(), -1);
  log.step(1, {{"loss", 1.5}});
  log.write_csv();
  log.step(2, {{"loss", 1.25}});
  log.write_csv();
  log.step(3, {{"loss", 1.0}, {"probe", 0.5}});
  log.write_csv();
  log.step(4, {{"loss", 0.75}});
  log.write_csv();
  EXPECT_EQ(read_bytes(temporary.file("metrics.csv")),
            "step,loss,probe\n1,1.5,\n2,1.25,\n3,1.0,0.5\n4,0.75,\n");
}

/// A run of the tiny model: its task, what it took, and the scores that its probe is to give.
struct TinyRun {
  explicit TinyRun(const std::string& run_folder, int64_t batch = kBatch)
      : folder(run_folder),
        trainer(make_trainer({}, 24, batch > 1 ? "sigreg" : "none")),
        samplers(make_samplers()) {
    loader.batch = batch;
    options.steps = 6;
    options.checkpoint_every = 100;
    options.diagnose_every = 3;
    options.probe_every = 2;
  }

  LoopResult run(const LoopHooks& hooks = {}) {
    PretrainingHooks watching;
    watching.on_verdict = [this](int64_t, const Verdict&) { ++verdicts; };
    if (!scores.empty()) {
      watching.probe = [this](Encoder&) {
        const auto step = static_cast<size_t>(trainer.steps_done());
        return StepMetrics{{"probe_score", scores.at(step)}};
      };
    }
    task = std::make_unique<MaskedPrediction>(trainer, samplers, options, watching);
    ClipLoader clips(make_source(), loader, 3);
    return run_training(*task, clips, options.loop(), {.folder = folder}, hooks);
  }

  std::string folder;
  Trainer trainer;
  MaskSamplers samplers;
  LoaderOptions loader;
  TrainingOptions options;
  std::map<size_t, double> scores;
  int verdicts = 0;
  std::unique_ptr<MaskedPrediction> task;
};

TEST(Pretraining, AFinishedRunIsLeftAsItIsAndSaysTheSame) {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path();
  TinyRun first(folder), again(folder);
  const LoopResult before = first.run();
  const std::string log = read_bytes(folder + "/metrics.jsonl");
  const LoopResult after = again.run();
  EXPECT_EQ(read_bytes(folder + "/metrics.jsonl"), log);
  EXPECT_EQ(after.end, RunEnd::finished);
  EXPECT_EQ(after.steps, 6);
  EXPECT_EQ(after.clips, 6.0 * kBatch);
  EXPECT_GT(after.train_seconds, 0);
  EXPECT_EQ(after.train_seconds, before.train_seconds);
  EXPECT_EQ(after.loader_wait_share, before.loader_wait_share);
  EXPECT_EQ(after.peak_rss_mb, before.peak_rss_mb);
  ASSERT_TRUE(again.task->last() && again.task->initial());
  EXPECT_EQ(again.task->last()->values(), first.task->last()->values());
  EXPECT_EQ(again.task->initial()->values(), first.task->initial()->values());
  EXPECT_EQ(again.task->verdict().text, first.task->verdict().text);
  EXPECT_EQ(again.verdicts, 0);
}

TEST(Pretraining, StoppedBeforeTheNextDiagnosisItKeepsTheLast) {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path();
  TinyRun first(folder), second(folder);
  first.options.steps = second.options.steps = 30;
  const auto stop_at = [](TinyRun& run, int64_t step) {
    return LoopHooks{.on_step = {},
                     .stop = [&run, step] { return run.trainer.steps_done() == step; }};
  };
  first.run(stop_at(first, 4));
  EXPECT_EQ(second.run(stop_at(second, 5)).end, RunEnd::stopped);
  ASSERT_TRUE(second.task->last());
  EXPECT_EQ(second.task->last()->values(), first.task->last()->values());
  const std::string log = read_bytes(folder + "/metrics.jsonl");
  const auto end = log.find("\"type\":\"end\"");
  ASSERT_NE(end, std::string::npos);
  EXPECT_EQ(log.find("\"type\":\"end\"", end + 1), std::string::npos);
  EXPECT_NE(log.find("\"rankme\"", end), std::string::npos);
  EXPECT_NE(log.find("\"verdict\"", end), std::string::npos);
}

TEST(Pretraining, KilledBetweenTheTwoNamesItGoesOnFromTheBest) {
  const TemporaryFolder temporary;
  const std::string folder = temporary.path();
  TinyRun first(folder), second(folder);
  first.scores = {{2, 0.1}, {4, 0.5}, {6, 0.4}};
  second.scores = {{6, 0.3}};
  const LoopHooks stop{.on_step = {}, .stop = [&] { return first.trainer.steps_done() == 4; }};
  first.run(stop);
  const std::string best = folder + "/checkpoints/step-00000004";
  EXPECT_EQ(find_checkpoint(folder, "best"), best);
  std::ofstream(folder + "/checkpoints/latest") << "step-00000002\n";
  EXPECT_EQ(find_checkpoint(folder), best);
  EXPECT_EQ(second.run().steps, 6);  // its probe knows no step but the last
  EXPECT_EQ(find_checkpoint(folder, "best"), best);
  EXPECT_EQ(find_checkpoint(folder), folder + "/checkpoints/step-00000006");
  EXPECT_EQ(read_checkpoint_state(find_checkpoint(folder)).numbers.at("best_score"), 0.5);
}

TEST(Pretraining, BatchesOfOneClipGoWithoutDiagnostics) {
  const TemporaryFolder folder;
  TinyRun run(folder.path(), /*batch=*/1);
  EXPECT_EQ(run.run().steps, 6);
  EXPECT_FALSE(run.task->last());
  EXPECT_TRUE(run.task->numbers().empty());
  EXPECT_TRUE(run.task->verdict().text.empty());
}

TEST(Trainer, SaysHowMuchOfTheContentIsPredicted) {
  const auto grid = tiny_encoder().grid();
  const auto all = torch::arange(grid.size()).expand({kBatch, -1});
  const Mask mask{all.slice(1, 0, grid.size() / 2).contiguous(),
                  all.slice(1, grid.size() / 2).contiguous()};
  StepTrace trace;
  const StepMetrics metrics = make_trainer().step(random_clips(), {mask}, &trace);
  const auto& target = trace.targets[0];  // one position a column: all clips have the same mask
  const auto missed = (trace.predictions[0] - target).square().sum();
  const auto content = (target - target.mean(0, true)).square().sum();
  EXPECT_NEAR(metrics.at("predicted_content"), 1 - (missed / content).item<double>(), 1e-4);
  EXPECT_FALSE(make_trainer().step(random_clips(), {mask}).contains("predicted_content"));
}

TEST(Trainer, TermsThatCompareClipsRefuseMicroBatchesOfOne) {
  ObjectiveOptions options;
  const auto terms = [&] { return make_objective(options, 8, 0); };
  EXPECT_NO_THROW(check_clips(terms(), 1));
  options.regulariser.kind = "vicreg";
  options.regulariser.on = "pooled";
  EXPECT_NO_THROW(check_clips(terms(), 2));
  EXPECT_THROW(check_clips(terms(), 1), ConfigError);
  options.regulariser.kind = "none";
  options.agreement.weight = 1;
  EXPECT_THROW(check_clips(terms(), 1), ConfigError);
}

TEST(Pretraining, StopsOnCollapse) {
  Trainer trainer = make_trainer();
  LoaderOptions options;
  options.batch = kBatch;
  ClipLoader loader(make_source(), options, 3);
  TrainingOptions training;
  training.steps = 50;
  training.diagnose_every = 1;
  training.stop_on_collapse = true;
  // Nothing passes this: every measure would have to grow at once.
  training.collapse.drift = 1e9;
  training.collapse.collapse = 1e9;
  const MaskSamplers samplers = make_samplers();
  MaskedPrediction task(trainer, samplers, training);
  const TemporaryFolder folder;
  const auto result = run_training(task, loader, training.loop(), {.folder = folder.path()}, {});
  EXPECT_EQ(result.end, RunEnd::gave_up);
  EXPECT_EQ(result.steps, 1);
}

}  // namespace
}  // namespace jepa

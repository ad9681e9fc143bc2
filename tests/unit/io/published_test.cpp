#include "temporary_folder.hpp"

#include <encoders/published.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/name_map.hpp>
#include <jepa/io/published.hpp>
#include <jepa/io/weights.hpp>
#include <predictors/published.hpp>

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa {
namespace {

const std::string kFixtures = JEPA_TEST_FIXTURES;

TensorMap fixture(const std::string& name) {
  return read_safetensors(kFixtures + "/" + name + ".safetensors").tensors;
}

double difference(const torch::Tensor& a, const torch::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a - b).abs().max().item<double>();
}

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(Published, PyTorchCheckpointsReproduceTheirTokens) {
  const torch::NoGradGuard no_grad;
  for (const auto& [name, expected, family] :
       {std::tuple{"vjepa1_checkpoint.pth.tar", "vjepa1_checkpoint_expected", ModelFamily::vjepa},
        std::tuple{"vjepa2_checkpoint.pt", "vjepa2_checkpoint_expected", ModelFamily::vjepa2}}) {
    const TensorMap data = fixture(expected);
    const auto clip = data.at("in/clip");
    const WeightFile file = WeightFile::open(kFixtures + "/" + name);
    auto loaded = encoders::load_encoder(file, {.heads = 3});
    EXPECT_EQ(loaded.family, family);
    EXPECT_EQ(loaded.module, "target_encoder");
    EXPECT_LT(difference(loaded.encoder->forward(clip), data.at("out/tokens")), 2e-5) << name;
  }
}

TEST(Published, HuggingFaceModelReproducesTokensAndPredictions) {
  const torch::NoGradGuard no_grad;
  const TensorMap data = fixture("hf_vjepa2_expected");
  const auto clip = data.at("in/clip").transpose(1, 2).contiguous();
  const WeightFile file = WeightFile::open(kFixtures + "/hf_vjepa2");
  auto loaded = encoders::load_encoder(file);
  EXPECT_EQ(loaded.module, "encoder");
  EXPECT_EQ(loaded.options.vit.heads, 3);
  EXPECT_EQ(loaded.options.vit.height, 32);
  const auto tokens = loaded.encoder->forward(clip);
  EXPECT_LT(difference(tokens, data.at("out/tokens")), 2e-5);

  const TokenGrid grid = loaded.encoder->grid(clip.sizes());
  auto predictor = predictors::load_predictor(file, loaded.family, 0, *loaded.encoder).predictor;
  const auto all = torch::arange(grid.size()).expand({clip.size(0), grid.size()}).contiguous();
  const Prediction prediction = predictor->forward(tokens, {all, all}, grid, 0);
  EXPECT_LT(difference(prediction.target, data.at("out/predicted")), 2e-5);
}

// A V-JEPA 2-AC file: wrapped once, its encoder V-JEPA 2's.
TEST(Published, ActionConditionedPredictorsLoad) {
  const torch::NoGradGuard no_grad;
  const TensorMap data = fixture("vjepa2_ac");
  TensorMap weights;
  for (const auto& [key, tensor] : data) {
    if (key.starts_with("weights/")) weights["predictor/module." + key.substr(8)] = tensor;
  }
  weights["encoder/module.patch_embed.proj.weight"] = torch::zeros({48, 3, 2, 4, 4});
  const TemporaryFolder folder;
  write_safetensors(folder.file("ac.safetensors"), weights);
  const WeightFile file = WeightFile::open(folder.file("ac.safetensors"));
  EXPECT_EQ(detect_family(file, "encoder"), ModelFamily::vjepa2_ac);
  auto predictor = predictors::load_action_conditioned(file, 3);
  const predictors::Conditions conditions{data.at("in/actions"), data.at("in/states"), {}};
  const auto frames = torch::layer_norm(data.at("in/tokens"), {48});
  const auto next = predictors::teacher_forced(predictor, frames, conditions, {4, 8, 8});
  EXPECT_LT(difference(next, data.at("out/teacher_forced")), 2e-5);
}

// The weights of a V-JEPA 2.1 training case: four levels, of which inference gives the last.
TEST(Published, FourLevelModelsLoad) {
  const torch::NoGradGuard no_grad;
  const TensorMap data = fixture("vjepa21_step");
  TensorMap weights;
  for (const auto& [key, tensor] : data) {
    if (key.starts_with("weights/")) weights[key.substr(8)] = tensor;
  }
  const TemporaryFolder folder;
  write_safetensors(folder.file("x.safetensors"), weights);
  const WeightFile file = WeightFile::open(folder.file("x.safetensors"));
  auto loaded = encoders::load_encoder(file, {.which = "encoder", .heads = 2});
  EXPECT_EQ(loaded.family, ModelFamily::vjepa21);
  EXPECT_EQ(loaded.options.vit.output_levels, (std::vector<int64_t>{2, 5, 8, 11}));
  const auto clip = data.at("in/clip").to(torch::kFloat) / 127.5 - 1;
  const auto image = data.at("in/image").to(torch::kFloat) / 127.5 - 1;
  EXPECT_LT(difference(loaded.encoder->forward(clip), data.at("out/encoder")), 2e-5);
  EXPECT_LT(difference(loaded.encoder->forward(image), data.at("out/encoder_image")), 2e-5);
  EXPECT_EQ(
      predictors::load_predictor(file, loaded.family, 1, *loaded.encoder).options.masked.depth, 4);
}

TEST(Published, LevelsOfThePublishedDepths) {
  const auto levels = [](int64_t depth) { return published_levels(depth, 4); };
  EXPECT_EQ(levels(24), (std::vector<int64_t>{5, 11, 17, 23}));
  EXPECT_EQ(levels(40), (std::vector<int64_t>{9, 19, 29, 39}));
  EXPECT_EQ(levels(48), (std::vector<int64_t>{11, 23, 37, 47}));  // ViT-G's third is no multiple
  EXPECT_EQ(published_levels(24, 1), (std::vector<int64_t>{23}));
  EXPECT_TRUE(published_levels(24, 0).empty());
}

TEST(Published, WeightsAreTakenNotCopied) {
  const WeightFile file = WeightFile::open(kFixtures + "/vjepa2_checkpoint.pt");
  const auto loaded = encoders::load_encoder(file, {.heads = 3});
  const auto parameters = loaded.encoder->named_parameters();
  EXPECT_EQ(parameters["blocks.0.attn.qkv.weight"].data_ptr(),
            file.stored("target_encoder").at("blocks.0.attn.qkv.weight").data_ptr());
}

TEST(Published, UnknownWidthsNeedHeads) {
  const WeightFile file = WeightFile::open(kFixtures + "/vjepa2_checkpoint.pt");
  EXPECT_SAYS(message_of<ConfigError>([&] { encoders::load_encoder(file); }), "--encoder.heads");
  EXPECT_SAYS(message_of<ConfigError>([&] { encoders::load_encoder(file, {.heads = 5}); }),
              "does not divide over 5 heads");
  EXPECT_EQ(published_heads(1024), 16);
  EXPECT_EQ(published_heads(1408), 22);
  EXPECT_EQ(published_heads(1664), 26);
  EXPECT_EQ(published_heads(48), 0);
}

// A small encoder state dict: 2D or 3D patches, with what the families are told apart by.
TensorMap small_model(bool flat, const std::vector<std::string>& extra) {
  TensorMap tensors = {{"encoder/module.backbone.patch_embed.proj.weight",
                        flat ? torch::zeros({8, 3, 4, 4}) : torch::zeros({8, 3, 2, 4, 4})}};
  for (const std::string& key : extra) tensors[key] = torch::zeros({1, 16, 8});
  return tensors;
}

TEST(Published, FamiliesAreToldApart) {
  const TemporaryFolder folder;
  const std::string path = folder.file("x.safetensors");
  const std::string table = "encoder/module.backbone.pos_embed";
  const std::string token = "predictor/module.backbone.mask_tokens.";
  const auto family = [&](bool flat, const std::vector<std::string>& extra) {
    write_safetensors(path, small_model(flat, extra));
    return detect_family(WeightFile::open(path), "encoder");
  };
  EXPECT_EQ(family(true, {table, "predictor/mask_token"}), ModelFamily::ijepa);
  EXPECT_EQ(family(false, {table, token + "0", token + "1"}), ModelFamily::vjepa);
  EXPECT_EQ(family(false, {table}), ModelFamily::vjepa);
  EXPECT_EQ(family(false, {table, token + "0", token + "1", token + "2"}), ModelFamily::vjepa2);
  EXPECT_EQ(family(false, {token + "0"}), ModelFamily::vjepa2);
  EXPECT_EQ(family(false, {"predictor/module.action_encoder.weight"}), ModelFamily::vjepa2_ac);
  EXPECT_EQ(family(false, {"encoder/norms_block.0.weight"}), ModelFamily::vjepa21);
  EXPECT_EQ(parse_model_family("vjepa21"), ModelFamily::vjepa21);
  EXPECT_SAYS(message_of<ConfigError>([] { parse_model_family("vjepa3"); }), "ijepa, vjepa");
}

TEST(Published, WhatDoesNotFitIsNamed) {
  torch::nn::Linear linear(2, 3);
  const auto error = [&](const TensorMap& weights) {
    return message_of<CheckpointError>([&] { load_into(*linear, weights, "file.pt"); });
  };
  const auto weight = torch::ones({3, 2}), bias = torch::ones({3});
  EXPECT_EQ(error({{"weight", weight}, {"bias", bias}}), "");
  EXPECT_TRUE(linear->weight.equal(weight));
  EXPECT_EQ(error({{"weight", weight.to(torch::kHalf)}, {"bias", bias}}), "");
  EXPECT_EQ(linear->weight.scalar_type(), torch::kFloat);
  EXPECT_SAYS(error({{"weight", weight}}), "file.pt: 'bias' is missing");
  EXPECT_SAYS(error({{"weight", weight.t()}, {"bias", bias}}), "'weight' has shape [2, 3]");
  EXPECT_SAYS(error({{"weight", weight}, {"bias", bias}, {"x", bias}}), "'x' of shape [3] belongs");
}

TEST(Published, HuggingFaceNamesGoThereAndBack) {
  const WeightFile file = WeightFile::open(kFixtures + "/hf_vjepa2");
  for (const std::string module : {"encoder", "predictor", "probe"}) {
    const TensorMap& stored = file.stored(module);
    const TensorMap back = to_hugging_face(module, file.weights(module));
    ASSERT_EQ(back.size(), stored.size()) << module;
    for (const auto& [key, tensor] : stored) EXPECT_TRUE(back.at(key).equal(tensor)) << key;
  }
  const TensorMap partial = {{"layer.0.attention.query.weight", torch::ones({4, 4})}};
  EXPECT_SAYS(message_of<CheckpointError>([&] { from_hugging_face("encoder", partial, "m"); }),
              "'blocks.0.attn.qkv.weight' are incomplete");
  const TensorMap unknown = {{"layer.0.attention.sink.weight", torch::ones({4, 4})}};
  EXPECT_SAYS(message_of<CheckpointError>([&] { from_hugging_face("encoder", unknown, "m"); }),
              "'layer.0.attention.sink.weight'");
  EXPECT_EQ(strip_wrappers("module.backbone.norm.weight"), "norm.weight");
}

TEST(Published, RunsAndCheckpointFoldersOpen) {
  const TemporaryFolder folder;
  encoders::EncoderOptions options{.preset = "custom"};
  options.vit.dim = 24;
  options.vit.depth = 1;
  options.vit.heads = 2;
  options.vit.frames = 4;
  options.vit.height = options.vit.width = 8;
  options.vit.patch = 4;
  auto encoder = encoders::make_encoder(options);
  encoder->initialise(seeded_generator(7));
  const std::string checkpoint = folder.file("checkpoints/step-00000003");
  std::filesystem::create_directories(checkpoint);
  write_safetensors(checkpoint + "/encoder.safetensors", state_dict(*encoder));
  write_bytes(checkpoint + "/config.ini",
              dump_ini({{"encoder", "", [&](OptionVisitor& visit) { options.describe(visit); }}}));
  write_bytes(folder.file("checkpoints/latest"), "step-00000003\n");
  const torch::NoGradGuard no_grad;
  const auto clip = torch::rand({2, 3, 4, 8, 8});
  for (const std::string& path :
       {folder.file(""), checkpoint, checkpoint + "/encoder.safetensors"}) {
    auto loaded = encoders::load_encoder(WeightFile::open(path));
    EXPECT_FALSE(loaded.family.has_value());
    EXPECT_TRUE(loaded.encoder->forward(clip).equal(encoder->forward(clip))) << path;
  }
  std::filesystem::create_directory(folder.file("nothing"));
  EXPECT_SAYS(message_of<CheckpointError>([&] { WeightFile::open(folder.file("nothing")); }),
              "no model.safetensors");
  EXPECT_SAYS(message_of<CheckpointError>([&] { WeightFile::open(folder.file("absent")); }),
              "absent");
}

// What others need of an encoder stands on its base class: grid, patch and heads are not the vision
// transformer's options.
TEST(Published, AConvolutionalRunLoadsWithItsPredictor) {
  const TemporaryFolder folder;
  encoders::EncoderOptions options{.type = "convolutional", .preset = "custom"};
  options.vit.heads = 2;
  options.convolutional.stages = {8, 8};
  options.convolutional.dim = 24;
  options = options.fitted({7, 1, 5, 16, 16});
  auto encoder = encoders::make_encoder(options);
  EXPECT_EQ(encoder->clip_sizes(), at::IntArrayRef({1, 1, 5, 16, 16}));
  EXPECT_EQ(encoder->clip_grid(), (TokenGrid{5, 1, 1}));
  EXPECT_EQ(encoder->patch(), (TokenGrid{1, 16, 16}));
  EXPECT_EQ(encoder->min_frames(), 1);
  EXPECT_EQ(encoder->heads(), 2);
  EXPECT_EQ(encoder->activations().feature_maps, 8 * (64 + 16) * 7);
  predictors::PredictorOptions masked;
  masked.masked.dim = 12;
  masked.masked.depth = 1;
  masked.masked.positions = "sincos";
  auto predictor = predictors::make_predictor(
      masked, {.encoder_width = 24, .encoder_heads = 2, .grid = encoder->clip_grid()});
  encoder->initialise(seeded_generator(7));
  predictor->initialise(seeded_generator(8));
  write_safetensors(folder.file("encoder.safetensors"), state_dict(*encoder));
  write_safetensors(folder.file("predictor.safetensors"), state_dict(*predictor));
  write_bytes(folder.file("config.ini"),
              dump_ini({{"encoder", "", [&](OptionVisitor& visit) { options.describe(visit); }},
                        {"predictor", "", [&](OptionVisitor& visit) { masked.describe(visit); }}}));
  const WeightFile file = WeightFile::open(folder.path().string());
  const auto loaded = encoders::load_encoder(file);
  EXPECT_SAYS(loaded.summary, "width 24, a token for 1 frame of 16 x 16 pixels");
  EXPECT_EQ(loaded.clip.frames, 5);
  const auto own = predictors::load_predictor(file, loaded.family, 0, *loaded.encoder).predictor;
  EXPECT_EQ(own->named_buffers()["predictor_pos_embed"].size(1), 5);
}

}  // namespace
}  // namespace jepa

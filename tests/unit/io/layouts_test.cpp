// Weights in the layouts that training scripts leave, and files that are something else.
#include "pickle_writer.hpp"
#include "temporary_folder.hpp"

#include <encoders/published.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/name_map.hpp>
#include <jepa/io/torch_pickle.hpp>
#include <jepa/printable.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <limits>

namespace jepa {
namespace {

using namespace pickle;

const std::string kLayouts = JEPA_TEST_FIXTURES;

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

std::string open_error(const std::string& bytes, const std::string& name = "x.pt") {
  const TemporaryFolder folder;
  write_bytes(folder.file(name), bytes);
  return message_of<CheckpointError>([&] { WeightFile::open(folder.file(name)); });
}

/// One tensor under `key` of `outer`.
std::string tensor_dict(const std::string& key) {
  return dict_of({{key, tensor_of(storage_of("Float", "0", 6), 0, {6}, {1})}});
}

TEST(Layouts, WrappersAreTakenOffAtAnyDepth) {
  EXPECT_EQ(strip_wrappers("_orig_mod.module.backbone.norm.weight"), "norm.weight");
  EXPECT_EQ(strip_wrappers("module._orig_mod.blocks.3.norm1.bias"), "blocks.3.norm1.bias");
  EXPECT_EQ(strip_wrappers("_fsdp_wrapped_module.blocks.0._fsdp_wrapped_module."
                           "_checkpoint_wrapped_module.attn.qkv.weight"),
            "blocks.0.attn.qkv.weight");
  EXPECT_EQ(strip_wrappers("not_orig_mod.x"), "not_orig_mod.x");
}

TEST(Layouts, DictsAroundAStateDictAreOpened) {
  for (const std::string outer : {"model", "state_dict", "module"}) {
    for (const auto& [key, module] :
         {std::pair{"patch_embed.proj.weight", "encoder"},
          std::pair{"_orig_mod.patch_embed.proj.weight", "encoder"},
          std::pair{"model.encoder.patch_embed.proj.weight", "encoder"},
          std::pair{"target_encoder._fsdp_wrapped_module.patch_embed.proj.weight",
                    "target_encoder"}}) {
      const TemporaryFolder folder;
      const std::string path = folder.file("x.ckpt");
      write_bytes(path, checkpoint_of(dict_of({{outer, tensor_dict(key)}, {"epoch", "K\x07"}}),
                                      {{"0", std::string(24, '\0')}}));
      const WeightFile file = WeightFile::open(path);
      ASSERT_TRUE(file.has(module)) << outer << " " << key;
      EXPECT_TRUE(file.stored(module).contains("patch_embed.proj.weight")) << outer << " " << key;
      EXPECT_EQ(file.number("epoch", 0), 7);
    }
  }
}

TEST(Layouts, ModelsAreFoundUnderAnyName) {
  const std::string weight = tensor_of(storage_of("Float", "0", 6), 0, {6}, {1});
  const auto open = [&](const std::vector<std::string>& keys) {
    std::vector<std::pair<std::string, std::string>> items;
    for (const std::string& key : keys) items.emplace_back(key, weight);
    const TemporaryFolder folder;
    write_bytes(folder.file("x.ckpt"),
                checkpoint_of(dict_of(items), {{"0", std::string(24, '\0')}}));
    return WeightFile::open(folder.file("x.ckpt"));
  };
  const std::string first = "patch_embed.proj.weight";
  for (const std::string prefix :
       {"net.module.backbone.", "lit.net._orig_mod.model.", "module.net.encoder.backbone."}) {
    const WeightFile file =
        open({prefix + first, prefix + "blocks.0._fsdp_wrapped_module.a", "other.head.weight"});
    ASSERT_TRUE(file.has("encoder")) << prefix;
    EXPECT_TRUE(file.stored("encoder").contains(first)) << prefix;
    EXPECT_TRUE(file.stored("encoder").contains("blocks.0.a")) << prefix;
    EXPECT_EQ(file.stored("encoder").size(), 2U) << prefix;
  }
  const WeightFile both = open({"a.target_encoder." + first, "a.encoder.module." + first,
                                "a.p.predictor_embed.weight", "a.p.predictor_norm.bias"});
  EXPECT_TRUE(both.stored("target_encoder").contains(first));
  EXPECT_TRUE(both.stored("encoder").contains(first));
  EXPECT_TRUE(both.stored("predictor").contains("predictor_norm.bias"));
  const WeightFile face = open({"lit.vjepa2.encoder.embeddings.patch_embeddings.proj.weight",
                                "lit.vjepa2.encoder.layer.0.norm1.bias", "lit.classifier.bias"});
  EXPECT_TRUE(face.hugging_face());
  EXPECT_TRUE(face.stored("encoder").contains("layer.0.norm1.bias"));
  EXPECT_TRUE(face.stored("probe").contains("classifier.bias"));
  // One under the usual names goes before a copy; two strangers are not chosen between.
  EXPECT_EQ(open({"model." + first, "copies.ema." + first}).stored("encoder").size(), 1U);
  EXPECT_SAYS(message_of<CheckpointError>([&] {
                open({"teacher." + first, "student." + first});
              }),
              "more than one encoder, under 'student.' and 'teacher.'");
  EXPECT_SAYS(message_of<CheckpointError>([&] { open({"resnet.conv1.weight"}); }), "its keys are");
}

// Made by torch.save with protocols 2 and 4: what training scripts keep beside the weights.
TEST(Layouts, WhatStandsBesideTheWeightsIsInert) {
  for (const std::string protocol : {"2", "4"}) {
    const std::string path = kLayouts + "/weights/beside_weights_" + protocol + ".pt";
    const TorchFile file = read_torch_file(path);
    EXPECT_TRUE(file.tensors.contains("state_dict/encoder.patch_embed.proj.weight"));
    EXPECT_TRUE(file.tensors.contains("by/[3]/x"));  // under the key 2.5
    EXPECT_EQ(file.tensors.size(), 2U);
    EXPECT_EQ(file.scalars.at("epoch"), "7");
    for (const std::string key : {"seed", "counts", "tags", "version"}) {
      EXPECT_FALSE(file.scalars.contains(key)) << key;
    }
    EXPECT_EQ(WeightFile::open(path).number("epoch", 0), 7);
  }
  const std::string log = "X" + bytes_of<uint32_t>(100'000) + std::string(100'000, 'x');
  const std::string value =
      dict_of({{"state_dict", tensor_dict("patch_embed.proj.weight")}, {"log", log}});
  const TemporaryFolder folder;
  write_bytes(folder.file("x.pt"), checkpoint_of(value, {{"0", std::string(24, '\0')}}));
  EXPECT_TRUE(WeightFile::open(folder.file("x.pt")).has("encoder"));
}

TEST(Layouts, RecordsAreInert) {
  const std::string dtype = global_of("numpy", "dtype") +
                            tuple_of({string_of("f8"), "\x89", "\x88"}) + "R" +
                            tuple_of({"K\x03", string_of("<"), "N", "N", "N"}) + "b";
  const std::string bytes =
      global_of("_codecs", "encode") + tuple_of({string_of("12345678"), string_of("latin1")}) + "R";
  const std::string scalar =
      global_of("numpy.core.multiarray", "scalar") + tuple_of({dtype, bytes}) + "R";
  const std::string arguments = global_of("argparse", "Namespace") + ")\x81" +
                                dict_of({{"lr", scalar}, {"out", string_of("here")}}) + "b";
  const std::string value = dict_of({{"state_dict", tensor_dict("patch_embed.proj.weight")},
                                     {"args", arguments},
                                     {"best", scalar},
                                     {"hyper_parameters", dict_of({{"args", arguments}})}});
  const TemporaryFolder folder;
  write_bytes(folder.file("x.pt"), checkpoint_of(value, {{"0", std::string(24, '\0')}}));
  const TorchFile file = read_torch_file(folder.file("x.pt"));
  EXPECT_EQ(file.tensors.size(), 1U);
  EXPECT_FALSE(file.scalars.contains("args"));
  // Still nothing but the listed names.
  EXPECT_SAYS(open_error(checkpoint_of(dict_of({{"a", global_of("argparse", "_sys") + ")\x81"}}))),
              "'argparse._sys'");
}

TEST(Layouts, AHuggingFaceFolderWithABinFile) {
  const TemporaryFolder folder;
  const TensorMap source = read_safetensors(kLayouts + "/hf_vjepa2/model.safetensors").tensors;
  std::vector<std::pair<std::string, std::string>> items, storages;
  for (const auto& [key, tensor] : source) {
    const auto values = tensor.contiguous();
    const std::vector<int32_t> sizes(values.sizes().begin(), values.sizes().end());
    const std::vector<int32_t> strides(values.strides().begin(), values.strides().end());
    const std::string number = std::to_string(storages.size());
    items.emplace_back(key,
                       tensor_of(storage_of("Float", number, values.numel()), 0, sizes, strides));
    storages.emplace_back(
        number, std::string(static_cast<const char*>(values.const_data_ptr()), values.nbytes()));
  }
  write_bytes(folder.file("pytorch_model.bin"), checkpoint_of(dict_of(items), storages));
  write_bytes(folder.file("config.json"), read_bytes(kLayouts + "/hf_vjepa2/config.json"));
  const WeightFile file = WeightFile::open(folder.path().string());
  EXPECT_TRUE(file.hugging_face());
  const auto loaded = encoders::load_encoder(file);
  EXPECT_EQ(loaded.options.vit.heads, 3);
}

TEST(Layouts, OtherFilesSayWhatTheyAre) {
  EXPECT_SAYS(open_error("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
                         "x.safetensors"),
              "Git LFS pointer");
  EXPECT_SAYS(open_error("\n<!DOCTYPE html><html>", "x.pt"), "web page");
  EXPECT_SAYS(open_error("<HTML><body>", "x.safetensors"), "web page");
  EXPECT_SAYS(open_error(zip_of({{"m/code/__torch__.py", "x"}, {"m/data.pkl", "\x80\x02}."}})),
              "TorchScript");
  for (const std::string name : {"script", "trace"}) {  // written by PyTorch 2.13
    const std::string path = kLayouts + "/weights/torch_" + name + ".pt";
    EXPECT_SAYS(message_of<CheckpointError>([&] { WeightFile::open(path); }),
                "a TorchScript archive (torch.jit.save)");
  }
  EXPECT_SAYS(open_error(zip_of({{"m/archive_format", "pt2"}, {"m/data/weights/0", "x"}})),
              "torch.export");
  EXPECT_SAYS(open_error(zip_of({{"x.npy", "x"}})), "NumPy arrays");
  EXPECT_SAYS(open_error(zip_of({{"model/weights.pt", "x"}})), "it holds 'model/weights.pt'");
  for (const std::string name : {"x.pt", "x.safetensors"}) {
    EXPECT_SAYS(open_error("", name), "an empty file");
    EXPECT_SAYS(open_error("{\n  \"hidden_size\": 1024\n}\n", name), "JSON text");
    EXPECT_SAYS(open_error(R"({"__metadata__":{"format":"pt"}})", name), "JSON text");
    EXPECT_SAYS(open_error("Entry not found", name), "it begins 'Entry not found'");
    EXPECT_SAYS(open_error("a,b\n1,2\n", name), "it begins 'a,b'");
  }
  const std::string error =
      open_error(checkpoint_of(tensor_dict("resnet.\x1b[31mconv1"), {{"0", std::string(24, 'x')}}));
  EXPECT_SAYS(error, "'resnet.\\x1b[31mconv1'");
}

TEST(Layouts, WeightsThatAreNotFiniteAreRefusedUnlessAskedFor) {
  const TemporaryFolder folder;
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    TensorMap tensors = read_safetensors(kLayouts + "/hf_vjepa2/model.safetensors").tensors;
    auto& one = tensors.at("vjepa2.encoder.layer.1.norm1.bias");
    one = one.clone();
    one[3] = bad;
    write_safetensors(folder.file("model.safetensors"), tensors);
    write_bytes(folder.file("config.json"), read_bytes(kLayouts + "/hf_vjepa2/config.json"));
    const WeightFile file = WeightFile::open(folder.path().string());
    EXPECT_SAYS(message_of<CheckpointError>([&] { encoders::load_encoder(file); }),
                "'blocks.1.norm1.bias' holds NaN or infinity");
    EXPECT_NO_THROW(encoders::load_encoder(file, {.allow_non_finite = true}));
  }
}

TEST(Layouts, AnotherModelsOptionsAreNamed) {
  const WeightFile file = WeightFile::open(kLayouts + "/hf_vjepa2");
  const auto stored = encoders::read_encoder(file);
  const auto own = stored.options;
  const auto error = [&](const encoders::EncoderOptions& options) {
    return message_of<ConfigError>([&] { encoders::require_same_encoder(stored, options); });
  };
  EXPECT_EQ(error(own), "");
  auto other = own;
  other.vit.heads = 6;
  EXPECT_SAYS(error(other), "encoder.heads is 3, not 6");
  other = own;
  other.vit.rope_layout = "interleaved";
  EXPECT_SAYS(error(other), "encoder.rope_layout is tiled, not interleaved");
  other = own;
  other.vit.height = other.vit.width = 64;
  EXPECT_EQ(error(other), "");
}

TEST(Printable, ControlCharactersAreEscaped) {
  EXPECT_EQ(printable("a\x1b]0;x\x07\n\tb\x7f\xc2\x9b\xc3\xa9"),
            "a\\x1b]0;x\\x07\\n\\tb\\x7f\\xc2\\x9b\xc3\xa9");
}

}  // namespace
}  // namespace jepa

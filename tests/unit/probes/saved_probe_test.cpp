// Probes in a file: read again they answer as they did, and no other encoder's are taken.
#include "temporary_folder.hpp"

#include <encoders/registry.hpp>
#include <eval/probes/linear.hpp>
#include <eval/probes/saved_probe.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace jepa::eval::probes {
namespace {

constexpr int64_t kWidth = 24, kTokens = 6;

class SavedProbeFile : public testing::Test {
 protected:
  void SetUp() override {
    torch::manual_seed(3);
    tokens_ = torch::randn({40, kTokens, kWidth});
    const auto digit = (tokens_.mean(1).select(1, 0) > 0).to(torch::kInt64);
    const auto place = tokens_.mean(1).narrow(1, 2, 2) * 3 + 5;
    const auto pooled = pool_tokens(tokens_, "mean_max");
    const AttentiveOptions few{.heads = 4, .epochs = 1, .batch = 20, .rates = {1e-2}};
    fitted_ = {fit_logistic({pooled, digit, 2}, {0.1}).front(),
               fit_ridge({pooled, place, 0}, {0.1}).front(),
               fit_attentive({tokens_, digit, 2}, few).front(),
               fit_attentive({tokens_, place, 0}, few).front()};
    saved_ = {.encoder = "0123456789abcdef",
              .module = "target_encoder",
              .summary = "an encoder",
              .layer = -1,
              .pool = "mean_max",
              .clip_sizes = {3, 8, 32, 32}};
    const std::vector<std::string> kinds = {"linear", "ridge", "attentive", "attentive"};
    for (size_t i = 0; i < kinds.size(); ++i) {
      saved_.probes.push_back({.label = i % 2 == 0 ? "label" : "place",
                               .kind = kinds[i],
                               .setting = fitted_[i].setting,
                               .score = "accuracy 1",
                               .classes = i % 2 == 0 ? 2 : 0,
                               .heads = i < 2 ? 1 : 4,
                               .parts = fitted_[i].parts});
    }
    saved_.probes[0].names = {"falls, fast", "rises"};
  }

  std::string said(const std::string& path) const {
    return message_of<CheckpointError>([&] { read_probes(path); });
  }

  torch::Tensor tokens_;
  std::vector<Candidate> fitted_;
  SavedProbes saved_;
  TemporaryFolder folder_;
};

TEST_F(SavedProbeFile, ReadAgainAnswersAsBefore) {
  const auto path = folder_.file("probes.safetensors");
  write_probes(path, saved_);
  const auto read = read_probes(path);
  ASSERT_EQ(read.probes.size(), 4u);
  EXPECT_EQ(read.clip_sizes, saved_.clip_sizes);
  EXPECT_EQ(read.probes[0].names, saved_.probes[0].names);
  EXPECT_EQ(read.probes[1].outputs(), 2);
  for (size_t i = 0; i < fitted_.size(); ++i) {
    const auto probe = restore_probe(read.probes[i], read, kWidth, torch::kCPU, path);
    const auto asked = i < 2 ? pool_tokens(tokens_, read.pool) : tokens_;
    EXPECT_TRUE(torch::equal(probe.predict(asked), fitted_[i].predict(asked))) << i;
    EXPECT_EQ(probe.setting, fitted_[i].setting);
  }
}

TEST_F(SavedProbeFile, OfAnotherWidthIsRefused) {
  const auto path = folder_.file("probes.safetensors");
  write_probes(path, saved_);
  const auto read = read_probes(path);
  for (const auto& probe : read.probes) {
    const auto line =
        message_of<CheckpointError>([&] { restore_probe(probe, read, 32, torch::kCPU, path); });
    EXPECT_NE(line.find(path), std::string::npos) << line;
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
  }
}

TEST_F(SavedProbeFile, DamagedIsRefused) {
  const auto path = folder_.file("probes.safetensors");
  write_probes(path, saved_);
  const auto whole = read_bytes(path);
  for (const size_t length :
       {size_t{0}, size_t{7}, size_t{200}, whole.size() / 2, whole.size() - 1}) {
    write_bytes(path, whole.substr(0, length));
    const auto line = said(path);
    EXPECT_NE(line.find(path), std::string::npos) << length;
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
  }
  // Weights of something else.
  write_safetensors(path, {{"bias", torch::zeros({2})}});
  EXPECT_NE(said(path).find("not a file of probes"), std::string::npos);
  auto other = saved_;
  other.probes[0].classes = 7;
  write_probes(path, other);
  EXPECT_NE(said(path).find("7 classes"), std::string::npos) << said(path);
  other = saved_;
  other.probes[1].parts["weight"] = torch::full({2 * kWidth, 2}, NAN);
  write_probes(path, other);
  EXPECT_NE(said(path).find("weight"), std::string::npos) << said(path);
  other = saved_;
  other.probes.clear();
  EXPECT_THROW(write_probes(path, other), ConfigError);
}

TEST_F(SavedProbeFile, BelongsToOneEncoder) {
  encoders::EncoderOptions options;
  options.preset = "custom";
  options.vit.dim = kWidth;
  options.vit.depth = 1;
  options.vit.heads = 2;
  const auto make = [&](uint64_t seed) {
    Encoder encoder = encoders::make_encoder(options);
    encoder->initialise(seeded_generator(seed));
    return encoder;
  };
  const Encoder own = make(1), same = make(1), other = make(2);
  EXPECT_EQ(encoder_identity(*own), encoder_identity(*same));
  EXPECT_NE(encoder_identity(*own), encoder_identity(*other));
  saved_.encoder = encoder_identity(*own);
  EXPECT_NO_THROW(require_encoder(saved_, "probes", *same, {3, 8, 32, 32}));
  EXPECT_THROW(require_encoder(saved_, "probes", *other, {3, 8, 32, 32}), CheckpointError);
  EXPECT_THROW(require_encoder(saved_, "probes", *same, {3, 16, 32, 32}), ConfigError);
}

}  // namespace
}  // namespace jepa::eval::probes

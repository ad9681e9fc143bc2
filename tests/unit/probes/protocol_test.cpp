// Features, the attentive probe, the protocol with its controls, and the online probe.
#include "temporary_folder.hpp"

#include <encoders/registry.hpp>
#include <eval/probes/attentive.hpp>
#include <eval/probes/features.hpp>
#include <eval/probes/online.hpp>
#include <eval/probes/protocol.hpp>
#include <eval/probes/token_cache.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/data/memory_source.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <filesystem>
#include <set>

namespace jepa::eval::probes {
namespace {

constexpr int64_t kFrames = 2, kSide = 16;

Encoder small_encoder(uint64_t seed) {
  encoders::EncoderOptions options;
  options.preset = "custom";
  auto& vit = options.vit;
  vit.dim = 24;
  vit.depth = 2;
  vit.heads = 2;
  vit.channels = 1;
  vit.frames = kFrames;
  vit.height = vit.width = kSide;
  vit.patch = 8;
  vit.positions = "sincos";
  Encoder encoder = encoders::make_encoder(options);
  encoder->initialise(seeded_generator(seed));
  return encoder;
}

/// Noise clips with one bright quadrant: `quadrant` is the class, `level` its brightness, `coin`
/// a class that has nothing to do with the clip; four clips share a `unit`.
std::shared_ptr<MemorySource> quadrant_clips(int64_t count, uint64_t seed) {
  torch::manual_seed(static_cast<uint64_t>(seed));
  auto clips = torch::randint(40, {count, kFrames, kSide, kSide, 1}, torch::kInt64);
  const auto quadrant = torch::randint(4, {count}, torch::kInt64);
  const auto level = torch::rand({count, 1}) * 150 + 50;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t q = quadrant[i].item<int64_t>();
    clips[i].narrow(1, q / 2 * 8, 8).narrow(2, q % 2 * 8, 8) += level[i].to(torch::kInt64);
  }
  return std::make_shared<MemorySource>(
      clips.to(torch::kUInt8),
      std::map<std::string, torch::Tensor>{{"quadrant", quadrant},
                                           {"level", level},
                                           {"coin", torch::randint(2, {count}, torch::kInt64)},
                                           {"unit", torch::arange(count).div(4, "floor")}});
}

/// `draws` untrained encoders, of seeds from `seed` on.
std::vector<ControlEncoders> untrained(int64_t draws, uint64_t seed) {
  return {{"initialisation", "small ones", draws,
           [seed](int64_t draw) { return small_encoder(seed + static_cast<uint64_t>(draw)); }}};
}

LoaderOptions plain_loader() {
  LoaderOptions loader;
  loader.batch = 50;
  loader.threads = 0;
  return loader;
}

TEST(Features, RowsAreClipsInOrder) {
  const auto source = quadrant_clips(120, 1);
  Encoder encoder = small_encoder(2);
  const auto features = extract_features(encoder, source, plain_loader(), {.pool = "mean"});
  ASSERT_EQ(features.sizes(), (at::IntArrayRef{120, 24}));
  EXPECT_FALSE(features.requires_grad());
  Random random(0);
  const RawClip raw = source->read(77, random);
  const auto clip = torch::tensor(std::vector<int64_t>(raw.pixels.begin(), raw.pixels.end()))
                        .view({1, kFrames, kSide, kSide, 1})
                        .permute({0, 4, 1, 2, 3});
  const auto expected = encoder->forward((clip.to(torch::kFloat32) - 127.5) / 127.5).mean(1);
  EXPECT_TRUE(torch::allclose(features[77], expected[0], 1e-4, 1e-5));
}

TEST(Features, PoolsAndLayers) {
  const auto tokens = torch::tensor({{{1.0F, -1.0F}, {3.0F, -5.0F}}});
  EXPECT_TRUE(
      torch::equal(pool_tokens(tokens, "mean_max"), torch::tensor({{2.0F, -3.0F, 3.0F, -1.0F}})));
  EXPECT_THROW(pool_tokens(tokens, "sum"), ConfigError);
  Encoder encoder = small_encoder(3);
  const auto clips = torch::randint(256, {2, 1, kFrames, kSide, kSide}, torch::kUInt8);
  const auto first = frozen_tokens(encoder, clips, {.layer = 0});
  EXPECT_TRUE(torch::equal(first, frozen_tokens(encoder, clips, {.layer = -2})));
  EXPECT_FALSE(torch::allclose(first, frozen_tokens(encoder, clips, {})));
  EXPECT_THROW(frozen_tokens(encoder, clips, {.layer = 2}), ConfigError);
  EXPECT_THROW(frozen_tokens(encoder, clips, {.pixels = {.mean = {1, 2}}}), ConfigError);
}

TEST(Features, RawPixelsAreAverages) {
  auto clips = torch::zeros({1, 1, 2, 4, 4}, torch::kUInt8);
  clips.narrow(4, 0, 2).fill_(255);
  // 8 numbers: 2 frames of 2 x 2.
  EXPECT_TRUE(torch::equal(raw_pixels(clips, 8),
                           torch::tensor({{1.0F, 0.0F, 1.0F, 0.0F, 1.0F, 0.0F, 1.0F, 0.0F}})));
  EXPECT_EQ(raw_pixel_sizes(clips.sizes(), 8), (std::vector<int64_t>{1, 2, 2, 2}));
  // Clips that have no more stay as they are.
  EXPECT_TRUE(torch::equal(raw_pixels(clips, 32), clips.flatten(1).to(torch::kFloat32) / 255));
  const auto tokens = raw_pixel_tokens(clips, {1, 2, 2});
  ASSERT_EQ(tokens.sizes(), (at::IntArrayRef{1, 4, 16}));  // 8 pixels, 3 places, 5 zeros
  EXPECT_EQ(tokens[0][2].narrow(0, 0, 8).min().item<float>(), 1);
  EXPECT_EQ(tokens[0][3].narrow(0, 0, 8).max().item<float>(), 0);
  EXPECT_TRUE(torch::equal(tokens[0][2].narrow(0, 8, 3), torch::tensor({-1.0F, 1.0F, -1.0F})));
}

TEST(Attentive, ParametersHaveThePublishedNames) {
  AttentiveProbe probe(nn::AttentivePoolerOptions{.dim = 32, .heads = 4, .depth = 4}, 7);
  std::set<std::string> names;
  for (const auto& item : probe->named_parameters()) names.insert(item.key());
  for (const char* name : {"pooler.query_tokens", "pooler.blocks.2.attn.qkv.weight",
                           "linear.weight", "pooler.cross_attention_block.xattn.kv.bias",
                           "pooler.cross_attention_block.mlp.fc2.weight"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  EXPECT_FALSE(names.contains("pooler.blocks.3.attn.qkv.weight"));
}

TEST(Attentive, FindsTheOneTokenThatCounts) {
  // One token of twelve, at a random place, is marked and carries the class; all others carry
  // random classes. Averages say little.
  torch::manual_seed(9);
  const int64_t clips = 500, places = 12;
  const auto carried = torch::randint(3, {clips, places}, torch::kInt64);
  const auto where = torch::randint(places, {clips, 1}, torch::kInt64);
  const auto labels = carried.gather(1, where).squeeze(1);
  const auto marked = at::one_hot(where.squeeze(1), places).unsqueeze(2);
  auto tokens = torch::cat({at::one_hot(carried, 3), marked, torch::zeros({clips, places, 4})}, 2)
                    .to(torch::kFloat32);
  tokens = tokens + 0.02 * torch::randn_like(tokens);
  const AttentiveOptions options{
      .heads = 2, .epochs = 30, .batch = 32, .rates = {1e-2, 3e-3}, .decays = {0.01}};
  const auto grid = fit_attentive({tokens.narrow(0, 0, 300), labels.narrow(0, 0, 300), 3}, options);
  ASSERT_EQ(grid.size(), 2U);
  const auto& chosen =
      choose_candidate(grid, {tokens.narrow(0, 300, 100), labels.narrow(0, 300, 100), 3});
  const auto predicted = decide(chosen.predict(tokens.narrow(0, 400, 100)), 3);
  EXPECT_GT((predicted == labels.narrow(0, 400, 100)).to(torch::kFloat64).mean().item<double>(),
            0.9);
  EXPECT_THROW(fit_attentive({tokens, labels, 3}, {.heads = 3}), ConfigError);
}

TEST(Attentive, RegressesInTheLabelsOwnUnits) {
  torch::manual_seed(10);
  const auto tokens = torch::randn({300, 3, 8});
  const auto labels = 1000 + 50 * tokens.mean(1).narrow(1, 0, 2);
  const auto grid =
      fit_attentive({tokens, labels, 0},
                    {.heads = 2, .epochs = 30, .batch = 30, .rates = {1e-2}, .decays = {0.01}});
  const UnitScores scores(grid[0].predict(tokens), labels, torch::arange(300), 300);
  EXPECT_GT(scores.value(), 0.8);
}

TEST(Share, IsStratifiedAndNested) {
  const auto labels =
      torch::cat({torch::zeros({90}), torch::ones({9}), torch::full({1}, 2)}).to(torch::kInt64);
  const auto ten = share_of_labels(labels, 0.1, 4);
  const auto counts = at::bincount(labels.index_select(0, ten), {}, 3);
  EXPECT_TRUE(torch::equal(counts, torch::tensor({9, 1, 1})));
  const auto half = share_of_labels(labels, 0.5, 4);
  EXPECT_TRUE(torch::isin(ten, half).all().item<bool>());
  EXPECT_EQ(share_of_labels(labels, 1.0, 4).size(0), 100);
  EXPECT_EQ(share_of_labels(torch::randn({40, 2}), 0.25, 4).size(0), 10);
}

TEST(Protocol, KnownLabelsScoreHighAndCoinsAtChance) {
  const ProbeSources sources{quadrant_clips(300, 11), quadrant_clips(100, 12),
                             quadrant_clips(200, 13)};
  Encoder model = small_encoder(14);
  ProbeOptions options;
  options.labels = "quadrant, level,coin";
  options.kind = "linear,ridge,knn";
  options.unit = "unit";
  options.resamples = 300;
  options.loader = plain_loader();
  const auto results = run_probes(model, untrained(2, 15), sources, options);
  ASSERT_EQ(results.size(), 9U);
  for (const auto& result : results) {
    const auto name = result.probe + " of " + result.label;
    EXPECT_EQ(result.test_units, 50) << name;
    EXPECT_LE(result.score.low, result.score.value) << name;
    EXPECT_GE(result.score.high, result.score.value) << name;
    ASSERT_EQ(result.controls.size(), 3U) << name;
    const double pixels = result.controls.at("raw_pixels").value;
    const double majority = result.controls.at("majority").value;
    EXPECT_NEAR(result.differences.at("majority").value, result.score.value - majority, 1e-12);
    if (result.label == "quadrant") {
      EXPECT_GT(result.score.value, 0.7) << name;
      EXPECT_GT(pixels, 0.95) << name;
      EXPECT_LT(majority, 0.4) << name;
    } else if (result.label == "coin") {
      // Chance is 0.5; 200 clips in 50 units.
      EXPECT_NEAR(result.score.value, 0.5, 0.13) << name;
      EXPECT_NEAR(pixels, 0.5, 0.13) << name;
      EXPECT_LT(result.differences.at("initialisation").low, 0.05) << name;
    } else {
      EXPECT_EQ(result.metric, "r2");
      EXPECT_GT(result.score.value, 0.5) << name;
      EXPECT_NEAR(majority, 0, 0.05) << name;
    }
  }
  const auto json = nlohmann::json::parse(results_json(results, "quadrants"));
  ASSERT_EQ(json.size(), 9U);
  EXPECT_EQ(json[0]["dataset"], "quadrants");
  EXPECT_EQ(json[0]["controls"]["initialisation"]["value"],
            results[0].controls.at("initialisation").value);
  EXPECT_EQ(json[0]["draws"]["initialisation"].size(), 2U);
  EXPECT_EQ(json[0]["unit"], "unit");
  EXPECT_TRUE(json[0].contains("low") && json[0]["differences"].contains("raw_pixels"));
  EXPECT_NE(results_table(results).find("quadrant"), std::string::npos);
}

TEST(Protocol, RunsTheAttentiveProbeWithItsControls) {
  const ProbeSources sources{quadrant_clips(120, 21), quadrant_clips(60, 22),
                             quadrant_clips(60, 23)};
  Encoder model = small_encoder(24);
  ProbeOptions options;
  options.labels = "quadrant";
  options.kind = "attentive";
  options.attentive.epochs = 4;
  options.attentive.rates = {3e-3};
  options.loader = plain_loader();
  const auto results = run_probes(model, untrained(1, 25), sources, options);
  ASSERT_EQ(results.size(), 1U);
  // The store has a column of units, which is taken without being asked for.
  EXPECT_EQ(results[0].test_units, 15);
  EXPECT_EQ(results[0].unit, "unit");
  EXPECT_GT(results[0].controls.at("raw_pixels").value, 0.5);
}

TEST(Protocol, NamesWhatIsWrong) {
  const auto source = quadrant_clips(20, 31);
  Encoder model = small_encoder(32);
  ProbeOptions options;
  options.loader = plain_loader();
  options.labels = "colour";
  EXPECT_THROW(run_probes(model, untrained(1, 33), {source, source, source}, options), DataError);
  options.labels = "quadrant";
  options.kind = "svm";
  EXPECT_THROW(run_probes(model, untrained(1, 33), {source, source, source}, options), ConfigError);

  const TemporaryFolder folder;
  ClipStoreWriter writer(folder.file("labels.h5"), {});
  for (int i = 0; i < 2; ++i) writer.append({2, 1, 1, 1, {1, 2}});
  writer.finish({{"mass", torch::tensor({1.0F, std::nanf("")}).view({2, 1})}});
  try {
    label_column(ClipStore(folder.file("labels.h5"), {}), "mass");
    FAIL() << "expected an error";
  } catch (const DataError& error) {
    EXPECT_EQ(error.what(), folder.file("labels.h5") +
                                ": episode 1: column 'mass' is not finite, as in 1 of 2 clips");
  }
}

TEST(Protocol, LabelsWithNothingToReadAreErrors) {
  const TemporaryFolder folder;
  const auto failure = [&](const torch::Tensor& column) {
    ClipStoreWriter writer(folder.file("a.h5"), {});
    for (int i = 0; i < 3; ++i) {
      writer.append({kFrames, kSide, kSide, 1, std::vector<uint8_t>(kFrames * kSide * kSide, 7)});
    }
    writer.finish({{"mass", column}});
    const auto source = std::make_shared<ClipStore>(folder.file("a.h5"), ClipOptions{});
    ProbeOptions options;
    options.loader = plain_loader();
    options.labels = "mass";
    Encoder model = small_encoder(32);
    return message_of<DataError>([&] {
      run_probes(model, untrained(1, 33), {source, source, source}, options);
    });
  };
  const std::string path = folder.file("a.h5");
  EXPECT_EQ(failure(torch::full({3, 1}, 0.5)),
            path + ": episode 0: column 'mass': is 0.5 in all 3 clips: nothing to read");
  EXPECT_EQ(failure(torch::tensor({{1.0F, 2.0F}, {2.0F, 2.0F}, {3.0F, 2.0F}})),
            path + ": episode 0: column 'mass': its number 1 is 2 in all 3 clips: nothing to read");
  // Apart as float64, alike as float32.
  EXPECT_NE(
      failure(torch::arange(3, torch::kFloat64).view({3, 1}) + 0x1p40).find("nothing to read"),
      std::string::npos);
  EXPECT_EQ(failure(torch::ones({3}, torch::kInt64)),
            path + ": episode 0: column 'mass': all training clips are of one class");
  EXPECT_EQ(failure(torch::tensor({int64_t{0}, int64_t{1}, int64_t{1'000'000'000'000}})),
            path +
                ": episode 2: column 'mass': classes are numbered from 0 to 999999, found "
                "1000000000000");
}

TEST(Protocol, AModelThatIsAnUntrainedDrawIsNotAboveTheControl) {
  const ProbeSources sources{quadrant_clips(200, 51), quadrant_clips(80, 52),
                             quadrant_clips(120, 53)};
  ProbeOptions options;
  options.labels = "quadrant,level";
  options.kind = "linear,knn";
  options.resamples = 300;
  options.loader = plain_loader();
  for (const uint64_t seed : {60, 61, 62}) {  // each of the control's draws in turn
    Encoder model = small_encoder(seed);
    for (const auto& result : run_probes(model, untrained(3, 60), sources, options)) {
      const auto& difference = result.differences.at("initialisation");
      EXPECT_LE(difference.low, 0) << result.probe << " of " << result.label;
      EXPECT_GE(difference.high, 0) << result.probe << " of " << result.label;
      EXPECT_EQ(result.draws.at("initialisation")[seed - 60], result.score.value);
    }
  }
}

TEST(Units, AreChosenFromTheColumnsOrItIsSaid) {
  const auto clips = torch::zeros({6, 1, 4, 4, 1}, torch::kUInt8);
  const auto ids = torch::tensor({0, 0, 1, 1, 2, 2});
  const MemorySource both(clips,
                          {{"segment", ids}, {"instance", torch::arange(6).div(3, "floor")}});
  EXPECT_EQ(choose_units(both, "auto", {}).column, "instance");
  EXPECT_EQ(choose_units(both, "auto", {"instance"}).column, "segment");  // asked for: no unit
  EXPECT_EQ(choose_units(both, "segment", {}).count, 3);
  EXPECT_EQ(choose_units(both, "none", {}).count, 6);
  const MemorySource one(clips, {{"instance", torch::zeros({6}, torch::kInt64)}});
  const auto clip_units = choose_units(one, "auto", {});  // one unit would give no interval
  EXPECT_EQ(clip_units.column, "clip");
  EXPECT_NE(clip_units.text.find("intervals are over clips"), std::string::npos);
  EXPECT_THROW(choose_units(one, "segment", {}), DataError);
}

TEST(TokenCache, GivesBackWhatWasWrittenAndLeavesNothing) {
  TemporaryFolder folder;
  torch::manual_seed(70);
  const auto tokens = torch::randn({7, 3, 4});
  TokenCache cache(folder.path().string());
  cache.append(tokens.narrow(0, 0, 5));
  cache.append(tokens.narrow(0, 5, 2));
  EXPECT_THROW(cache.append(torch::zeros({1, 2, 4})), DataError);
  const TokenRows read = cache.finish();
  ASSERT_EQ(read.size(), 7);
  EXPECT_TRUE(torch::equal(read.slice(0, 99), tokens));
  const auto ids = torch::tensor({6, 0, 4, 4});
  EXPECT_TRUE(torch::equal(read.rows(ids), tokens.index_select(0, ids)));
  EXPECT_THROW(read.rows(torch::tensor({7})), c10::Error);
  const auto flat = tokens.flatten(0, 1);
  EXPECT_TRUE(torch::allclose(token_moments(read),
                              torch::stack({flat.mean(0), flat.std(0, /*unbiased=*/false)})));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_THROW(TokenCache(folder.file("none")), DataError);
}

TEST(Attentive, RowsOfTokensOnDiskAreReadAsAsked) {
  torch::manual_seed(71);
  const auto tokens = torch::randn({60, 3, 8});
  const auto labels = torch::randint(2, {60}, torch::kInt64);
  const auto rows = torch::arange(0, 60, 2);
  const AttentiveOptions options{.heads = 2, .epochs = 2, .rates = {1e-3}};
  const auto chosen = labels.index_select(0, rows);
  TokenCache cache("");
  cache.append(tokens);
  const TokenRows on_disk = cache.finish();
  const auto by_rows = fit_attentive(on_disk, chosen, 2, options, rows);
  const auto copied = fit_attentive({tokens.index_select(0, rows), chosen, 2}, options);
  EXPECT_TRUE(torch::equal(predict_rows(by_rows[0], on_disk), copied[0].predict(tokens)));
}

TEST(OnlineProbe, ScoresTheSameClipsEveryTime) {
  const auto train = quadrant_clips(250, 41), test = quadrant_clips(100, 42);
  Encoder encoder = small_encoder(43);
  const OnlineProbe probe(train, test,
                          {.labels = "quadrant,level", .train_clips = 200, .test_clips = 80},
                          plain_loader(), {});
  const auto scores = probe(encoder);
  EXPECT_GT(scores.at("probe_quadrant"), 0.7);
  EXPECT_GT(scores.at("probe_level"), 0.4);
  EXPECT_NEAR(scores.at("probe_score"),
              (scores.at("probe_quadrant") + scores.at("probe_level")) / 2, 1e-12);
  EXPECT_EQ(probe(encoder), scores);
}

}  // namespace
}  // namespace jepa::eval::probes

// Prompts, and clips in, clips out.
#include "temporary_folder.hpp"

#include <eval/diffusion/generative_model.hpp>
#include <jepa/data/generated.hpp>
#include <jepa/data/memory_source.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/weights.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <fstream>
#include <unistd.h>

namespace jepa::eval::diffusion {
namespace {

TEST(Prompts, EncodeAndDecode) {
  const PromptVocabulary words("digits");
  EXPECT_EQ(words.size(), 21);
  EXPECT_EQ(words.decode(words.encode("three left fast")), "three left fast");
  EXPECT_TRUE(words.encode("fast three left").equal(words.encode("three left fast")));
  EXPECT_EQ(words.decode(words.encode("up-left")), "up-left");
  EXPECT_EQ(words.encode("").sum().item<int64_t>(), 0);
  const auto ids = words.encode("nine down");
  EXPECT_EQ(words.kind_of(ids), 9);
  EXPECT_EQ(words.direction_of(ids), 2);
  EXPECT_EQ(words.kind_of(words.encode("slow")), -1);
  EXPECT_EQ(words.direction_of(words.encode("slow")), -1);
  const PromptVocabulary shapes("shapes");
  for (const auto& word : shapes.words()) EXPECT_EQ(shapes.decode(shapes.encode(word)), word);
}

TEST(Prompts, NameWhatIsWrong) {
  const PromptVocabulary words("digits");
  EXPECT_NE(message_of<ConfigError>([&] { words.encode("three sideways"); }).find("sideways"),
            std::string::npos);
  const auto twice = message_of<ConfigError>([&] { words.encode("three five"); });
  EXPECT_NE(twice.find("three"), std::string::npos);
  EXPECT_NE(twice.find("five"), std::string::npos);
  EXPECT_THROW(PromptVocabulary("letters"), ConfigError);
}

TEST(Prompts, SayWhatAClipShows) {
  for (const char* kind : {"digits", "shapes"}) {
    const GeneratedSource source({.kind = kind, .clips = 60, .frames = 4}, 3);
    const PromptVocabulary words(kind);
    const auto ids = words.of_source(source);
    const auto speed = source.column("velocity").norm(2, 1);
    ASSERT_EQ(ids.sizes(), (std::vector<int64_t>{60, 3}));
    for (int64_t i = 0; i < 60; ++i) {
      const auto what = source.column(std::string(kind) == "digits" ? "digit" : "shape");
      EXPECT_EQ(words.kind_of(ids[i]), what[i].item<int64_t>());
      EXPECT_EQ(words.direction_of(ids[i]), source.column("direction")[i].item<int64_t>());
      const std::string prompt = words.decode(ids[i]);
      EXPECT_EQ(prompt.ends_with("fast"), speed[i].item<double>() > 0.93) << prompt;
      EXPECT_EQ(prompt.ends_with("slow"), speed[i].item<double>() < 0.67) << prompt;
      EXPECT_TRUE(words.encode(prompt).equal(ids[i]));
    }
  }
  const MemorySource bare(torch::zeros({2, 4, 8, 8, 1}, torch::kUInt8), {});
  EXPECT_THROW(PromptVocabulary("digits").of_source(bare), DataError);
}

/// A small model with every weight drawn, so that it does something.
GenerativeModel small(GenerativeOptions options = {}) {
  options.prompts = "digits";
  options.transformer = {.dim = 16, .depth = 2, .heads = 2, .tubelet = 2, .patch = 4};
  GenerativeModel model(options, 1);
  model.transformer()->initialise(seeded_generator(1));
  const torch::NoGradGuard no_grad;
  auto draws = seeded_generator(2);
  for (auto& p : model.transformer()->parameters()) p.normal_(0, 0.1, draws);
  return model;
}

Condition nothing(int64_t batch) { return {torch::zeros({batch, 3}, torch::kInt64), {}}; }

const std::vector<int64_t> kSizes = {2, 1, 8, 8, 8};

torch::Tensor random_clips() {
  torch::manual_seed(4);
  return torch::randint(0, 256, kSizes, torch::kUInt8);
}

/// A small autoencoder as a run would have left it.
void write_autoencoder(const std::string& folder) {
  Autoencoder model(AutoencoderOptions{.width = 8, .halvings = 1, .latent_channels = 3});
  model->initialise(seeded_generator(3));
  write_safetensors(folder + "/model.safetensors", state_dict(*model));
  write_bytes(folder + "/config.ini",
              "[autoencoder]\nwidth = 8\nhalvings = 1\nlatent_channels = 3\n");
}

TEST(GenerativeModel, KnownFramesComeBackBitForBit) {
  const auto clips = random_clips();
  auto model = small();
  for (const char* method : {"euler", "heun", "ddim", "ddpm"}) {
    // Forwards, backwards, between.
    for (const auto& known : std::vector<std::vector<int64_t>>{
             {1, 1, 1, 1, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 1, 1}, {1, 1, 0, 0, 0, 0, 1, 1}}) {
      const auto frames = torch::tensor(known).to(torch::kBool);
      const auto drawn =
          model.draw(kSizes, nothing(2), {clips, frames}, {.method = method, .steps = 3}, 1);
      const auto where = frames.view({1, 1, 8, 1, 1}).expand(kSizes);
      EXPECT_TRUE(drawn.masked_select(where).equal(clips.masked_select(where))) << method;
      EXPECT_FALSE(drawn.equal(clips));
      // What stands in the other frames is not looked at.
      const auto other = torch::where(where, clips, 255 - clips);
      EXPECT_TRUE(model.draw(kSizes, nothing(2), {other, frames}, {.method = method, .steps = 3}, 1)
                      .equal(drawn));
    }
  }
}

TEST(GenerativeModel, FuturesDoNotLookAtWhatFollows) {
  GenerativeModel model = small();
  auto draws = seeded_generator(5);
  const auto clips = torch::randint(256, kSizes, draws).to(torch::kUInt8);
  auto other = clips.clone(), past = clips.clone();
  other.slice(2, 4) = 255 - other.slice(2, 4);
  past.slice(2, 0, 4) = 255 - past.slice(2, 0, 4);
  const SamplerOptions sampler{.steps = 3};
  const auto future = model.draw_future(clips, 4, sampler, 1);
  EXPECT_TRUE(model.draw_future(other, 4, sampler, 1).equal(future));
  EXPECT_FALSE(model.draw_future(past, 4, sampler, 1).equal(future));
}

TEST(GenerativeModel, GivenFramesCanBeFollowedMoreClosely) {
  auto model = small();
  const auto clips = random_clips();
  const auto frames = torch::tensor({1, 1, 1, 1, 0, 0, 0, 0}).to(torch::kBool);
  const KnownFrames known{clips, frames};
  const auto plain = model.draw(kSizes, {}, known, {.steps = 3}, 1);
  const auto guided = model.draw(kSizes, {}, known, {.steps = 3, .given_guidance = 4}, 1);
  EXPECT_FALSE(guided.equal(plain));
  EXPECT_TRUE(guided.slice(2, 0, 4).equal(clips.slice(2, 0, 4)));
  // A prompt's weight says nothing where nothing is asked, a frame's where none is given.
  EXPECT_TRUE(model.draw(kSizes, {}, known, {.steps = 3, .guidance = 4}, 1).equal(plain));
  EXPECT_TRUE(model.draw(kSizes, {}, {}, {.steps = 3, .given_guidance = 4}, 1)
                  .equal(model.draw(kSizes, {}, {}, {.steps = 3}, 1)));
}

TEST(GenerativeModel, DrawsByItsSeed) {
  auto model = small();
  const auto one = model.draw(kSizes, nothing(2), {}, {.steps = 3}, 1);
  EXPECT_EQ(one.scalar_type(), torch::kUInt8);
  EXPECT_TRUE(one.equal(model.draw(kSizes, nothing(2), {}, {.steps = 3}, 1)));
  EXPECT_FALSE(one.equal(model.draw(kSizes, nothing(2), {}, {.steps = 3}, 2)));
  const Condition asked{model.vocabulary()->encode("three left").expand({2, 3}), {}};
  EXPECT_FALSE(one.equal(model.draw(kSizes, asked, {}, {.steps = 3}, 1)));
  EXPECT_FALSE(model.draw(kSizes, asked, {}, {.steps = 3, .guidance = 3}, 1)
                   .equal(model.draw(kSizes, asked, {}, {.steps = 3}, 1)));
  EXPECT_TRUE(model.draw(kSizes, asked, {}, {.steps = 3, .guidance = 0}, 1).equal(one));
}

TEST(GenerativeModel, BadFramesAreErrors) {
  auto model = small();
  const auto clips = random_clips();
  const auto torn = torch::tensor({1, 0, 0, 0, 0, 0, 0, 0}).to(torch::kBool);
  EXPECT_THROW(model.draw(kSizes, nothing(2), {clips, torn}, {.steps = 2}, 1), ConfigError);
  EXPECT_THROW(model.draw({2, 1, 7, 8, 8}, nothing(2), {}, {.steps = 2}, 1), DataError);
  EXPECT_THROW(model.draw({2, 1, 4, 8, 8}, nothing(2), {clips, torn}, {.steps = 2}, 1), DataError);
  EXPECT_THROW(model.draw_long({2, 1, 16, 8, 8}, nothing(2), {}, 8, 8, {.steps = 2}, 1),
               ConfigError);
}

TEST(GenerativeModel, LongClipsGoOnFromTheirLastFrames) {
  auto model = small();
  const auto film = model.draw_long({2, 1, 14, 8, 8}, nothing(2), {}, 8, 4, {.steps = 3}, 1);
  EXPECT_EQ(film.sizes(), (std::vector<int64_t>{2, 1, 14, 8, 8}));
  EXPECT_TRUE(film.narrow(2, 0, 8).equal(model.draw(kSizes, nothing(2), {}, {.steps = 3}, 1)));
}

TEST(GenerativeModel, WorksInLatentsOfAnAutoencoder) {
  const TemporaryFolder folder;
  write_autoencoder(folder.file(""));
  GenerativeOptions options;
  options.autoencoder = folder.file("");
  auto model = small(options);
  EXPECT_EQ(model.frames_per_group(), 4);
  EXPECT_EQ(model.data_sizes(kSizes), (std::vector<int64_t>{2, 3, 4, 4, 4}));
  EXPECT_THROW(model.data_sizes({2, 1, 7, 8, 8}), DataError);
  const auto clips = random_clips();
  EXPECT_EQ(model.encode(clips).sizes(), model.data_sizes(kSizes));
  EXPECT_EQ(model.decode(model.encode(clips)).sizes(), kSizes);
  const auto frames = torch::tensor({1, 1, 1, 1, 0, 0, 0, 0}).to(torch::kBool);
  const auto drawn = model.draw(kSizes, nothing(2), {clips, frames}, {.steps = 3}, 1);
  EXPECT_TRUE(drawn.narrow(2, 0, 4).equal(clips.narrow(2, 0, 4)));
  // The autoencoder is not shown what is to be drawn.
  auto other = clips.clone();
  other.narrow(2, 4, 4).fill_(255);
  EXPECT_TRUE(model.draw(kSizes, nothing(2), {other, frames}, {.steps = 3}, 1).equal(drawn));
}

TEST(GenerativeModel, LoadsWhatARunLeft) {
  const TemporaryFolder folder;
  auto model = small();
  auto options = model.options();
  write_bytes(folder.file("config.ini"), dump_ini(options.sections()) + "[run]\nsteps = 3\n");
  EXPECT_NE(message_of<CheckpointError>([&] {
              GenerativeModel::load(folder.file(""));
            }).find("average.safetensors"),
            std::string::npos);
  write_safetensors(folder.file("average.safetensors"), state_dict(*model.transformer()));
  auto loaded = GenerativeModel::load(folder.file(""));
  EXPECT_EQ(loaded.channels(), 1);
  EXPECT_TRUE(loaded.draw(kSizes, nothing(2), {}, {.steps = 2}, 1)
                  .equal(model.draw(kSizes, nothing(2), {}, {.steps = 2}, 1)));
}

TEST(GenerativeModel, FeaturesAreTokensOfABlock) {
  auto model = small();
  const auto tokens = model.features(random_clips(), 0.75, 1).at(1);
  EXPECT_EQ(tokens.sizes(), (std::vector<int64_t>{2, 16, 16}));
  EXPECT_TRUE(tokens.equal(model.features(random_clips(), 0.75, 1).at(1)));
}

double resident_mb() {
  std::ifstream statm("/proc/self/statm");
  double total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1e6;
}

TEST(GenerativeModel, SamplingDoesNotGrow) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer keeps what is freed";
#endif
  auto model = small();
  const auto draw = [&](uint64_t seed) {
    model.draw(kSizes, nothing(2), {random_clips(), torch::arange(8).lt(2)},
               {.steps = 2, .guidance = 1.5}, seed);
  };
  for (uint64_t i = 0; i < 40; ++i) draw(i);
  const double before = resident_mb();
  for (uint64_t i = 0; i < 500; ++i) draw(i);  // 1,000 samples
  EXPECT_LT(resident_mb() - before, 1.0);
}

}  // namespace
}  // namespace jepa::eval::diffusion

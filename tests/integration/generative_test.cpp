// The generative programs end to end on tiny models, continued runs, and wrong input.
#include "program_test.hpp"

#include <eval/diffusion/generative_model.hpp>
#include <eval/diffusion/jepa_latents.hpp>
#include <jepa/data/generated.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/safetensors.hpp>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include <map>

namespace jepa {
namespace {

using Arguments = std::vector<std::string>;

Arguments operator+(Arguments first, const Arguments& more) {
  first.insert(first.end(), more.begin(), more.end());
  return first;
}

class Generative : public ProgramTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(
        run("make_data", {"--kind", "digits", "--clips", "24", "--seed", "1", "--out", clips}), 0)
        << said();
  }
  /// A tiny model of pixels, `steps` long.
  Arguments tiny(const std::string& run, int64_t steps) const {
    return {"--data",
            clips,
            "--run",
            path(run),
            "--prompts",
            "digits",
            "--threads",
            "1",
            "--loader.batch",
            "4",
            "--model.dim",
            "16",
            "--model.depth",
            "1",
            "--precision",
            "float32",
            "--model.heads",
            "2",
            "--training.steps",
            std::to_string(steps),
            "--optimisation.total_steps",
            "6",
            "--training.checkpoint_every",
            "3"};
  }
  /// A judge's reading of a run, from a training of moments.
  Arguments judged(const std::string& run) const {
    return {"--model",       run,   "--train",         clips, "--validation", clips,
            "--test",        clips, "--clips",         "8",   "--prompted",   "8",
            "--threads",     "1",   "--sampler.steps", "2",   "--horizons",   "2,4",
            "--judge.steps", "20",  "--judge.width",   "8",   "--json",       path("judged.json")};
  }
  /// A tiny JEPA that predicts what follows.
  Arguments tiny_jepa() const {
    return {"--data",
            clips,
            "--run",
            path("jepa"),
            "--threads",
            "1",
            "--loader.batch",
            "4",
            "--training.steps",
            "2",
            "--mask.1.kind",
            "causal",
            "--encoder.preset",
            "custom",
            "--encoder.dim",
            "24",
            "--encoder.depth",
            "1",
            "--encoder.heads",
            "2",
            "--encoder.patch",
            "8",
            "--encoder.positions",
            "sincos",
            "--predictor.dim",
            "24",
            "--predictor.depth",
            "1",
            "--predictor.heads",
            "2",
            "--predictor.positions",
            "sincos",
            "--precision",
            "float32"};
  }
  const std::string clips = path("clips.h5");
};

TEST_F(Generative, ContinuedRunIsTheSameBitForBit) {
  ASSERT_EQ(run("train_diffusion", tiny("whole", 6)), 0) << said();
  ASSERT_EQ(run("train_diffusion", tiny("parts", 3)), 0) << said();
  ASSERT_EQ(run("train_diffusion", tiny("parts", 6)), 0) << said();
  for (const char* name : {"model", "average", "optimizer"}) {
    const std::string file = std::string("/checkpoints/step-00000006/") + name + ".safetensors";
    const auto whole = read_safetensors(path("whole") + file).tensors;
    const auto parts = read_safetensors(path("parts") + file).tensors;
    ASSERT_EQ(whole.size(), parts.size());
    for (const auto& [key, value] : whole) EXPECT_TRUE(value.equal(parts.at(key))) << key;
  }
  refuses("train_diffusion", tiny("whole", 6) + Arguments{"--model.depth", "2"}, 2, "model.depth");
}

TEST_F(Generative, SampleDrawsWhatIsAsked) {
  ASSERT_EQ(run("train_diffusion", tiny("pixels", 2)), 0) << said();
  const Arguments sample{"--model", path("pixels"), "--count", "2", "--sampler.steps", "2"};
  for (const char* name : {"film.mp4", "film.gif", "film.png", "film.h5"}) {
    EXPECT_EQ(run("sample", sample + Arguments{"--prompt", "three left", "--out", path(name)}), 0)
        << said();
    EXPECT_GT(fs::file_size(path(name)), 0u);
  }
  EXPECT_EQ(run("sample", sample + Arguments{"--frames", "20", "--window", "8", "--overlap", "4",
                                             "--out", path("long.gif")}),
            0)
      << said();
  EXPECT_EQ(run("sample", sample + Arguments{"--given", clips, "--given_frames", "0:2,6:8", "--out",
                                             path("between.gif")}),
            0)
      << said();
  const Arguments out{"--out", path("no.gif")};
  refuses("sample", sample + out + Arguments{"--prompt", "elephant"}, 2, "elephant");
  refuses("sample", sample + out + Arguments{"--given", clips, "--given_frames", "0:9"}, 2, "0:9");
  refuses("sample", sample + out + Arguments{"--given", clips, "--given_frames", "0:1"}, 2,
          "groups of 2");
  refuses("sample", sample + out + Arguments{"--given", path("none.h5"), "--given_frames", "0:2"},
          1, "none.h5");
  refuses("sample", sample + out + Arguments{"--height", "30"}, 1, "30");
  // Told before the model is read.
  const Arguments none{"--model", path("none")};
  refuses("sample", none + Arguments{"--out", path("film.avi")}, 2, "film.avi");
  refuses("sample", none + Arguments{"--out", path("no/film.gif")}, 1, "no/film.gif");
  refuses("sample", none + Arguments{"--out", path("said.txt/film.h5")}, 1, "said.txt/film.h5");
  fs::create_directory(path("folder.png"));
  refuses("sample", none + Arguments{"--out", path("folder.png")}, 1, "folder.png");
  refuses("decode", none + Arguments{"--video", clips, "--out", path("film.avi")}, 2, "film.avi");
  refuses("decode", none + Arguments{"--video", clips, "--out", path("no/film.png")}, 1,
          "no/film.png");
  refuses("sample", sample + out + Arguments{"--given_frames", "0:4"}, 2, "option given");
  refuses("sample", sample + out + Arguments{"--overlap", "2"}, 2, "option window");
  for (const char* option : {"--frames", "--height", "--width", "--count", "--fps"}) {
    refuses("sample", sample + out + Arguments{option, "1000000000000"}, 2,
            std::string("option ") + (option + 2));
  }
  refuses("sample", Arguments{"--model", path("none")} + out, 1, "none");
  refuses("sample", sample + out + Arguments{"--precision", "bfloat16"}, 2, "precision");
  refuses("decode", {"--model", path("pixels"), "--video", clips, "--out", path("no.gif")}, 2,
          "decodes no latents");
}

TEST_F(Generative, AutoencoderThenDiffusionInItsLatents) {
  ASSERT_EQ(run("train_diffusion", tiny("autoencoder", 2) + Arguments{"--stage", "autoencoder",
                                                                      "--autoencoder.width", "8"}),
            0)
      << said();
  ASSERT_EQ(run("train_diffusion",
                tiny("latents", 2) + Arguments{"--autoencoder", path("autoencoder"),
                                               "--model.tubelet", "1", "--model.patch", "2"}),
            0)
      << said();
  EXPECT_EQ(run("sample", {"--model", path("latents"), "--count", "1", "--sampler.steps", "2",
                           "--out", path("film.png")}),
            0)
      << said();
}

TEST_F(Generative, DecoderShowsWhatAJepaForesees) {
  ASSERT_EQ(run("pretrain", tiny_jepa()), 0) << said();
  Arguments decoder =
      tiny("decoder", 4) + Arguments{"--jepa", path("jepa"), "--decoder.context_steps", "2"};
  ASSERT_EQ(run("train_diffusion", decoder), 0) << said();
  EXPECT_EQ(run("decode", {"--model", path("decoder"), "--video", clips, "--count", "2",
                           "--sampler.steps", "2", "--out", path("future.gif")}),
            0)
      << said();
  refuses("sample", {"--model", path("decoder"), "--out", path("no.gif")}, 2, "decode");
  refuses(
      "decode",
      {"--model", path("decoder"), "--video", clips, "--clip.frames", "4", "--out", path("no.gif")},
      1, "4 frames");
  const Arguments decode{"--model", path("decoder"),   "--video", clips, "--count", "1", "--draws",
                         "1",       "--sampler.steps", "2"};
  refuses("decode", decode + Arguments{"--out", path("no.gif"), "--clip.channels", "3"}, 2,
          "clip.channels is 3");
  EXPECT_EQ(run("decode", decode + Arguments{"--out", path("one.png"), "--clip.channels", "1"}), 0)
      << said();
  const Arguments judge = judged(path("decoder"));
  ASSERT_EQ(run("judge", judge), 0) << said();
  const auto rows = nlohmann::json::parse(read_bytes(path("judged.json"))).at("rows");
  for (const char* row :
       {"future", "encoder's latents", "shuffled latents", "copy_last", "linear", "truth"}) {
    EXPECT_TRUE(rows.at(row).contains("position_error/h4")) << row;
    EXPECT_TRUE(rows.at(row).contains("digit")) << row;
  }
  // Only the context is seen of what is predicted.
  const eval::diffusion::JepaLatents latents(path("jepa"));
  auto draws = seeded_generator(1);
  const auto seen = torch::randint(256, {2, 1, 8, 32, 32}, draws).to(torch::kUInt8);
  auto other = seen.clone(), past = seen.clone();
  other.slice(2, 4) = 255 - other.slice(2, 4);
  past.slice(2, 0, 4) = 255 - past.slice(2, 0, 4);
  EXPECT_TRUE(latents.predicted(other, 2).equal(latents.predicted(seen, 2)));
  EXPECT_FALSE(latents.predicted(past, 2).equal(latents.predicted(seen, 2)));
  EXPECT_FALSE(latents.encoded(other, 2).equal(latents.encoded(seen, 2)));
  // A batch's own means are part of such a target.
  ASSERT_EQ(run("pretrain", tiny_jepa() + Arguments{"--run", path("content"),
                                                    "--objective.target_norm", "content"}),
            0)
      << said();
  refuses("train_diffusion", decoder + Arguments{"--run", path("no"), "--jepa", path("content")}, 2,
          "target_norm");
}

TEST_F(Generative, JudgeReadsWhatWasPrompted) {
  ASSERT_EQ(run("train_diffusion", tiny("pixels", 2)), 0) << said();
  const Arguments judge =
      judged(path("pixels")) + Arguments{"--judge_file", path("judge.safetensors")};
  ASSERT_EQ(run("judge", judge), 0) << said();
  const auto json = nlohmann::json::parse(read_bytes(path("judged.json")));
  EXPECT_EQ(json.at("options").at("sampler.steps"), "2");
  EXPECT_EQ(json.at("judge").at("clips"), 24);
  const auto first = json.at("rows");
  EXPECT_GE(first.at("prompted").at("digit").at("value").get<double>(), 0);
  EXPECT_TRUE(first.at("future").contains("position_error/h2"));
  EXPECT_FALSE(first.contains("shuffled latents"));
  ASSERT_EQ(run("judge", judge), 0) << said();  // the judge comes from its file
  EXPECT_EQ(said().find("judge 20/20"), std::string::npos) << said();
  EXPECT_EQ(nlohmann::json::parse(read_bytes(path("judged.json"))).at("rows"), first);
  refuses("judge", {"--model", path("pixels"), "--test", clips}, 2, "option train");
  refuses("judge", judge + Arguments{"--context_frames", "8"}, 1, "8 frames");
  refuses("judge", judge + Arguments{"--horizons", "2,99"}, 2, "option horizons: 99; " + clips);
  EXPECT_NE(said().find("the longest is 4"), std::string::npos) << said();
  // A judge of a file is what it was trained as.
  refuses("judge", judge + Arguments{"--judge.label", "legs"}, 2,
          "option judge.label is legs, but the judge of " + path("judge.safetensors") +
              " was trained with digit");
  refuses("judge", judge + Arguments{"--judge.rate", "0.1"}, 2, "judge.rate is 0.1");
  Arguments silent;  // nothing is said of it
  for (size_t i = 0; i < judge.size(); i += 2) {
    if (!judge[i].starts_with("--judge.")) silent = silent + Arguments{judge[i], judge[i + 1]};
  }
  ASSERT_EQ(run("judge", silent), 0) << said();
  const auto of_file = nlohmann::json::parse(read_bytes(path("judged.json")));
  EXPECT_EQ(of_file.at("options").at("judge.width"), "8");
  EXPECT_EQ(of_file.at("rows"), first);
}

TEST_F(Generative, CompareRunsItsCellsOnce) {
  const Arguments compare{"--config",
                          JEPA_SOURCE_DIR "/examples/configs/compare_digits.ini",
                          "--run",
                          path("compare"),
                          "--threads",
                          "1",
                          "--budgets",
                          "0.05",
                          "--seeds",
                          "0",
                          "--clips.frames",
                          "8",
                          "--questions.train_clips",
                          "64",
                          "--questions.probe_clips",
                          "60",
                          "--questions.validation_clips",
                          "30",
                          "--questions.test_clips",
                          "30",
                          "--questions.predicted_clips",
                          "4",
                          "--questions.futures",
                          "2",
                          "--questions.horizons",
                          "1,4",
                          "--arm.batch",
                          "4",
                          "--arm.decoder_tera",
                          "0.02",
                          "--judge.steps",
                          "20",
                          "--judge.clips",
                          "60",
                          "--judge.held_out_clips",
                          "20",
                          "--sampler.steps",
                          "2",
                          "--mask.2.context_share",
                          "0.5,0.5",
                          "--arms",
                          "jepa,pixels,latents,masked_pixels,random_init,frozen_random",
                          "--clips.count",
                          "2",
                          "--questions.attentive",
                          "1",
                          "--attentive.epochs",
                          "1",
                          "--attentive.rates",
                          "1e-3",
                          "--film.examples",
                          "2"};
  ASSERT_EQ(run("compare", compare), 0) << said();
  const auto cell = path("compare") + "/cells/jepa-b0.05-n0-s0/cell.json";
  const auto first = read_bytes(cell);
  const auto summary = nlohmann::json::parse(read_bytes(path("compare") + "/summary.json"));
  std::map<std::string, nlohmann::json> rows;
  for (const auto& row : summary.at("rows")) rows[row.at("arm")] = row.at("results");
  for (const char* arm : {"jepa", "pixels", "latents", "masked_pixels", "frozen_random"}) {
    SCOPED_TRACE(arm);
    const bool own_features = std::string(arm) != "frozen_random";
    for (const char* name : {"probe/digit", "probe/count", "attentive/velocity"}) {
      EXPECT_EQ(rows.at(arm).contains(name), own_features) << name;
    }
    EXPECT_TRUE(rows.at(arm).contains("distance/judge_mmd"));
    EXPECT_TRUE(rows.at(arm).contains("future/position_error/h4"));
    const double spent = rows.at(arm).at("cost/train_tflop").at("value");
    EXPECT_LE(spent, 0.05);
    EXPECT_GT(spent, 0.03);  // whole steps only
  }
  EXPECT_TRUE(rows.at("jepa").contains("floor/digit"));
  EXPECT_TRUE(rows.at("truth").contains("distance/random_frechet"));
  EXPECT_TRUE(rows.at("random_init").contains("probe/digit"));
  EXPECT_TRUE(rows.at("linear").contains("future/position_error/h4"));
  for (const char* file : {"/film.mp4", "/film.gif", "/film.png", "/report.html"}) {
    EXPECT_TRUE(fs::exists(path("compare") + file)) << file;
  }
  fs::remove(cell);
  fs::remove_all(path("compare") + "/cells/jepa-b0.05-n0-s0/decoder");
  ASSERT_EQ(run("compare", compare), 0) << said();
  EXPECT_EQ(said().find("cell pixels"), std::string::npos);
  // Trained again from the same seed, from the same encoder: the same numbers, times apart.
  auto before = nlohmann::json::parse(first).at("results");
  auto after = nlohmann::json::parse(read_bytes(cell)).at("results");
  EXPECT_EQ(before.at("probe/digit"), after.at("probe/digit"));
  EXPECT_EQ(before.at("future/digit"), after.at("future/digit"));
  refuses("compare", compare + Arguments{"--questions.futures", "3"}, 2, "questions.futures");
}

/// Where what is bright stands, [B, T, 2] in px, of clips uint8 [B, 1, T, H, W].
torch::Tensor bright_centres(const torch::Tensor& clips) {
  const auto light = clips.squeeze(1).to(torch::kFloat32);
  const auto at = torch::arange(light.size(-1), torch::kFloat32);
  const auto all = light.sum({-1, -2}).clamp_min(1);
  return torch::stack({(light.sum(-2) * at).sum(-1) / all, (light.sum(-1) * at).sum(-1) / all}, -1);
}

/// Mean distance between the two, px.
double apart(const torch::Tensor& a, const torch::Tensor& b) {
  return (bright_centres(a) - bright_centres(b)).norm(2, -1).mean().item<double>();
}

// What examples/models/README.md says of them, on fewer clips: digits are drawn where they go.
TEST(ShippedModels, FuturesStandWhereTheyShould) {
  using eval::diffusion::GenerativeModel;
  const std::string models = std::string(JEPA_SOURCE_DIR) + "/examples/models/";
  const GeneratedSource digits({.split = "test", .clips = 24, .frames = 12}, 3);
  std::vector<torch::Tensor> some;
  for (int64_t i = 0; i < digits.size(); ++i) {
    Random random(0, "clip", static_cast<uint64_t>(i));
    RawClip clip = digits.read(i, random);
    some.push_back(torch::tensor(at::ArrayRef<uint8_t>(clip.pixels), torch::kUInt8)
                       .view({1, clip.frames, clip.height, clip.width}));
  }
  const auto clips = torch::stack(some);
  const auto truth = clips.slice(2, 4);
  const double copied = apart(clips.narrow(2, 3, 1).expand_as(truth), truth);
  EXPECT_GT(copied, 3);

  GenerativeModel decoder = GenerativeModel::load(models + "decoder");
  ASSERT_EQ(decoder.context_frames(), 4);
  const auto latents = decoder.latents(clips, /*predicted=*/true);
  const auto drawn = decoder.draw_latents(latents, clips.sizes(), {.steps = 8}, /*seed=*/1);
  const auto others =
      decoder.draw_latents(latents.roll(1, 0), clips.sizes(), {.steps = 8}, /*seed=*/1);
  const double foreseen = apart(drawn, truth);
  EXPECT_LT(foreseen, 1);
  EXPECT_GT(apart(others, truth), 4);

  GenerativeModel pixels = GenerativeModel::load(models + "pixels");
  // So short a training draws digits, but does not know where they go.
  EXPECT_GT(apart(pixels.draw_future(clips, 4, {.steps = 8}, /*seed=*/1), truth), foreseen);
}

}  // namespace
}  // namespace jepa

// embed and convert from the command line: the published tokens, and what a user can do wrong.
#include "program_test.hpp"

#include <jepa/data/hdf5_file.hpp>
#include <jepa/io/safetensors.hpp>
#include <jepa/model.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

namespace jepa {
namespace {

const std::string kFixtures = JEPA_TEST_FIXTURES;

struct Outcome {
  int exit = -1;
  std::string errors;  // what went to stderr
};

class Weights : public ::testing::Test {
 protected:
  std::string file(const std::string& name) const { return folder_.file(name); }

  /// @param arguments with blanks between
  Outcome run(const std::string& program, const std::string& arguments,
              const std::string& printed = "/dev/null") const {
    std::istringstream words(arguments);
    const std::vector<std::string> split{std::istream_iterator<std::string>(words), {}};
    const int code = exit_code_of(
        start_program(program, split, file("stderr"), RLIM_INFINITY, /*own_group=*/false, printed));
    return {code, read_bytes(file("stderr"))};
  }

  /// Largest difference of embed's tokens from those expected, or what went wrong.
  void expect_tokens(const std::string& weights, const std::string& expected,
                     const std::string& more) const {
    const std::string out = file("tokens.safetensors");
    const std::string clip = kFixtures + "/" + expected + ".safetensors";
    const Outcome outcome = run(
        "embed", "--weights " + weights + " --clip " + clip + ":in/clip --out " + out + " " + more);
    ASSERT_EQ(outcome.exit, 0) << outcome.errors;
    const auto tokens = read_safetensors(out).tensors.at("tokens");
    const auto wanted = read_safetensors(clip).tensors.at("out/tokens");
    EXPECT_LT((tokens - wanted).abs().max().item<double>(), 2e-5) << weights;
  }

  TemporaryFolder folder_;
};

TEST_F(Weights, BytesGoThroughTheEncodersStatistics) {
  torch::manual_seed(1);
  const auto bytes = torch::randint(0, 256, {1, 3, 8, 32, 32}, torch::kUInt8);
  const auto floats = PixelStatistics::imagenet().normalise(bytes);
  write_safetensors(file("clips.safetensors"), {{"bytes", bytes}, {"floats", floats}});
  const auto tokens = [&](const std::string& name) {
    const Outcome outcome =
        run("embed", "--weights " + kFixtures + "/vjepa2_checkpoint.pt --clip " +
                         file("clips.safetensors") + ":" + name + " --out " +
                         file("t.safetensors") + " --encoder.heads 3");
    EXPECT_EQ(outcome.exit, 0) << outcome.errors;
    return read_safetensors(file("t.safetensors")).tensors.at("tokens").clone();
  };
  const auto of_bytes = tokens("bytes");
  EXPECT_LT((of_bytes - tokens("floats")).abs().max().item<double>(), 1e-5);
}

TEST_F(Weights, EmbedReproducesPublishedTokens) {
  expect_tokens(kFixtures + "/vjepa1_checkpoint.pth.tar", "vjepa1_checkpoint_expected",
                "--encoder.heads 3");
  expect_tokens(kFixtures + "/vjepa2_checkpoint.pt", "vjepa2_checkpoint_expected",
                "--encoder.heads 3 --clip-layout bcthw");
  expect_tokens(kFixtures + "/hf_vjepa2", "hf_vjepa2_expected", "--clip-layout btchw");
}

TEST_F(Weights, ConvertGoesRound) {
  const std::string keys = file("keys.safetensors"), ours = file("ours"), hf = file("hf");
  ASSERT_EQ(run("convert", "--weights " + kFixtures + "/hf_vjepa2 --to vjepa --out " + keys).exit,
            0);
  ASSERT_EQ(run("convert", "--weights " + keys + " --to safetensors --out " + ours).exit, 0);
  ASSERT_EQ(run("convert", "--weights " + ours + " --to huggingface --out " + hf).exit, 0);
  for (const std::string& weights : {keys, ours, hf}) {
    expect_tokens(weights, "hf_vjepa2_expected", "--clip-layout btchw");
  }
  const TensorMap before = read_safetensors(kFixtures + "/hf_vjepa2/model.safetensors").tensors;
  const TensorMap after = read_safetensors(hf + "/model.safetensors").tensors;
  ASSERT_EQ(after.size(), before.size());
  for (const auto& [key, tensor] : before) EXPECT_TRUE(after.at(key).equal(tensor)) << key;
}

// A run of ours as a Hugging Face folder: the same tokens, of the encoder that embed takes too.
TEST_F(Weights, RunsWithRotaryPositionsBecomeHuggingFaceFolders) {
  const std::string models = JEPA_SOURCE_DIR "/examples/models/", hf = file("hf");
  torch::manual_seed(1);
  write_safetensors(file("clip.safetensors"), {{"x", torch::rand({1, 1, 12, 32, 32})}});
  ASSERT_EQ(run("convert", "--weights " + models + "predict --to huggingface --out " + hf).exit, 0);
  const auto tokens = [&](const std::string& weights) {
    const Outcome outcome =
        run("embed", "--weights " + weights + " --clip " + file("clip.safetensors") + ":x --out " +
                         file("t.safetensors"));
    EXPECT_EQ(outcome.exit, 0) << outcome.errors;
    return read_safetensors(file("t.safetensors")).tensors.at("tokens").clone();
  };
  EXPECT_LT((tokens(models + "predict") - tokens(hf)).abs().max().item<double>(), 1e-5);
  const Outcome sincos =
      run("convert", "--weights " + models + "digits --to huggingface --out " + hf);
  EXPECT_EQ(sincos.exit, 2);
  EXPECT_NE(sincos.errors.find("sin-cos positions"), std::string::npos) << sincos.errors;
}

TEST_F(Weights, SincosModelsKeepTheirGrid) {
  const std::string ours = file("ours");
  ASSERT_EQ(run("convert", "--weights " + kFixtures + "/vjepa1_checkpoint.pth.tar --out " + ours +
                               " --encoder.heads 3")
                .exit,
            0);
  expect_tokens(ours, "vjepa1_checkpoint_expected", "");
}

TEST_F(Weights, FeaturesAsHdf5AndAsAFilm) {
  const std::string clip = kFixtures + "/hf_vjepa2_expected.safetensors:in/clip";
  const Outcome outcome =
      run("embed", "--weights " + kFixtures + "/hf_vjepa2 --clip " + clip +
                       " --clip-layout btchw --out " + file("t.h5") + " --pca " + file("p.mp4"));
  ASSERT_EQ(outcome.exit, 0) << outcome.errors;
  EXPECT_GT(std::filesystem::file_size(file("t.h5")), 2U * 256 * 48 * 4);
  // The film is a video that can be embedded in turn.
  const Outcome film =
      run("embed", "--weights " + kFixtures + "/hf_vjepa2 --video " + file("p.mp4") +
                       " --video.frame_step 1 --out " + file("v.safetensors"));
  ASSERT_EQ(film.exit, 0) << film.errors;
  EXPECT_EQ(read_safetensors(file("v.safetensors")).tensors.at("tokens").sizes(),
            (std::vector<int64_t>{2, 256, 48}));
}

// Clips and tokens are not held: ten times as many take no more memory.
TEST_F(Weights, MemoryOfEmbedDoesNotGrowWithTheClips) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer keeps what is freed";
#endif
  const auto peak = [&](int64_t clips) {
    write_safetensors(file("clips.safetensors"),
                      {{"x", torch::zeros({clips, 3, 4, 32, 32}, torch::kUInt8)}});
    const std::string out = file("t.h5"), json = file("r.json");
    const Outcome outcome =
        run("embed", "--weights " + kFixtures + "/hf_vjepa2 --clip " + file("clips.safetensors") +
                         ":x --out " + out + " --json " + json);
    EXPECT_EQ(outcome.exit, 0) << outcome.errors;
    EXPECT_EQ(Hdf5File::open(out).shape("tokens"), (std::vector<int64_t>{clips, 128, 48}));
    std::ifstream stream(json);
    return nlohmann::json::parse(stream).at("peak_rss_mb").get<double>();
  };
  // 3,000 clips are 37 MB of bytes and 74 MB of tokens; the mapped bytes count as memory in use.
  EXPECT_LT(peak(3000), peak(300) + 50);
}

// One rule for how published weights see a video, in embed and in probe, and both say it.
TEST_F(Weights, ProbeAndEmbedCutClipsAlike) {
  const std::string video = kFixtures + "/data/base.mp4";
  const std::string model = "--weights " + kFixtures + "/hf_vjepa2 ";
  const auto rule = [&](const std::string& program, const std::string& arguments) {
    run(program, model + arguments, file("said"));
    std::ifstream stream(file("said"));
    for (std::string line; std::getline(stream, line);) {
      if (line.starts_with("clips of ")) return line;
    }
    return std::string("nothing");
  };
  const std::string embedded = rule("embed", "--video " + video + " --out " + file("t.h5"));
  EXPECT_EQ(embedded, "clips of 8 frames at 4 a second");
  for (const auto& [step, words] :
       {std::pair{"1", "frame"}, {"2", "2nd frame"}, {"3", "3rd frame"}}) {
    EXPECT_EQ(rule("embed", "--video " + video + " --video.frames 2 --video.frame_step " + step +
                                " --out " + file("s.h5")),
              std::string("clips of 2 frames, every ") + words);
  }
  EXPECT_EQ(rule("probe", "--train " + video + " --validation " + video + " --test " + video +
                              " --labels label"),
            embedded);
  // A single clip was read as the rule says: 8 frames of 32 x 32 in patches of 2 x 4 x 4.
  EXPECT_EQ(Hdf5File::open(file("t.h5")).shape("tokens"), (std::vector<int64_t>{1, 256, 48}));
}

TEST_F(Weights, MistakesAreNamed) {
  const std::string clip =
      " --clip " + kFixtures + "/vjepa2_checkpoint_expected.safetensors:in/clip";
  const std::string model = "--weights " + kFixtures + "/vjepa2_checkpoint.pt";
  const auto expect = [&](const std::string& program, const std::string& arguments, int exit,
                          const std::string& part) {
    const Outcome outcome = run(program, arguments + " --json " + file("results.json"));
    EXPECT_EQ(outcome.exit, exit) << arguments << "\n" << outcome.errors;
    EXPECT_NE(outcome.errors.find(part), std::string::npos) << outcome.errors;
    EXPECT_NE(outcome.errors.find("error: "), std::string::npos) << outcome.errors;
  };
  std::ofstream(file("bad.pt")) << "PK\x03\x04 not really";
  expect("embed", model + clip, 2, "give --encoder.heads");
  expect("embed", model + clip + " --encoder.heads 5", 2, "does not divide over 5 heads");
  expect("embed", model + clip + " --encoder.family vjepa9", 2, "vjepa9");
  expect("embed", model, 2, "one of --clip and --video");
  expect("embed", clip, 2, "--weights is needed");
  expect("embed", model + clip + " --encoder.heads 3 --unknown 1", 2, "unknown");
  expect("embed", model + " --clip nowhere.safetensors:x --encoder.heads 3", 1,
         "nowhere.safetensors");
  expect("embed", model + clip + "s --encoder.heads 3", 1, "no tensor 'in/clips'");
  expect("embed", "--weights " + file("absent") + clip, 1, "absent");
  expect("embed", "--weights " + file("bad.pt") + clip, 1, "bad.pt: damaged zip archive");
  expect("embed", "--weights " + kFixtures + "/ijepa_masks.safetensors" + clip, 1,
         "ijepa_masks.safetensors: holds no encoder");
  std::ofstream(file("pointer.safetensors")) << "version https://git-lfs.github.com/spec/v1\n"
                                                "oid sha256:0\nsize 9\n";
  expect("embed", "--weights " + file("pointer.safetensors") + clip, 1, "a Git LFS pointer");
  expect("embed", "--weights " + kFixtures + "/weights/torch_script.pt" + clip, 1,
         "a TorchScript archive");
  expect("embed", model + " --video " + file("bad.pt") + " --encoder.heads 3", 1, "bad.pt");
  expect("embed", model + clip + " --encoder.heads 3 --out " + file("no/such/folder.safetensors"),
         1, "no/such/folder.safetensors");
  expect("convert",
         "--weights " + kFixtures + "/vjepa1_checkpoint.pth.tar --to huggingface --out " +
             file("x") + " --encoder.heads 3",
         2, "sin-cos positions");
}

}  // namespace
}  // namespace jepa

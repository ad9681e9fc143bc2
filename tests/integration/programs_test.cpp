// Damaged and wrong input through the programs: the exit code, one line that names the thing, and
// nothing left behind. What pretrain alone can be given wrong stands in pretrain_test.cpp.
#include "program_test.hpp"

#include <eval/report/video_writer.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/data/hdf5_file.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <cstdlib>
#include <filesystem>
#include <sys/mount.h>
#include <unistd.h>
#include <vector>

namespace jepa {
namespace {

class Programs : public ProgramTest {
 protected:
  /// A video of noise that moves, 60 frames of 64 x 64.
  std::string write_video(const std::string& name) const {
    torch::manual_seed(0);
    const torch::Tensor noise = torch::randint(256, {8, 40, 3}, torch::kUInt8)
                                    .repeat_interleave(8, 0)
                                    .repeat_interleave(8, 1);
    std::vector<torch::Tensor> frames;
    for (int64_t t = 0; t < 60; ++t) frames.push_back(noise.slice(1, 3 * t, 3 * t + 64));
    eval::report::write_video(path(name), torch::stack(frames).contiguous(), 10);
    return path(name);
  }
  std::vector<std::string> cut_clips(const std::string& video) const {
    return {"--kind",
            "files",
            "--data",
            video,
            "--clip.frames",
            "15",
            "--clip.clips_per_video",
            "4",
            "--clip.random_window",
            "false",
            "--out",
            path("made.h5")};
  }
  /// All programs that read clips, on `data`.
  void all_refuse(const std::string& data, const std::string& thing) const {
    refuses("make_data", {"--kind", "files", "--data", data, "--out", path("made.h5")}, 1, thing);
    refuses("pretrain", {"--run", path("run"), "--data", data}, 1, thing);
    refuses("probe",
            {"--weights", kWeights, "--encoder.heads", "3", "--labels", "label", "--train", data,
             "--validation", data, "--test", data},
            1, thing);
    refuses("embed",
            {"--weights", kWeights, "--encoder.heads", "3", "--video", data, "--out",
             path("made.safetensors")},
            1, thing);
  }

  const std::string kWeights = JEPA_TEST_FIXTURES "/vjepa1_checkpoint.pth.tar";
};

TEST_F(Programs, DamagedStoresAreNamed) {
  all_refuse(path("missing.h5"), "missing.h5");
  std::ofstream(path("empty.h5")).flush();
  all_refuse(path("empty.h5"), "empty.h5");
  ASSERT_EQ(run("make_data", {"--clips", "16", "--out", path("digits.h5")}), 0) << said();
  fs::copy_file(path("digits.h5"), path("cut.h5"));
  fs::resize_file(path("cut.h5"), fs::file_size(path("digits.h5")) / 2);
  all_refuse(path("cut.h5"), "cut.h5");
}

TEST_F(Programs, StoresOfTheWrongShapeAreNamed) {
  const torch::Tensor lengths = torch::full({2}, 4, torch::kInt64);
  const torch::Tensor offsets = torch::tensor({0, 4}, torch::kInt64);
  write_hdf5(path("flat.h5"), {{"pixels", torch::zeros({8, 32 * 32}, torch::kUInt8)},
                               {"ep_len", lengths},
                               {"ep_offset", offsets}});
  all_refuse(path("flat.h5"), "flat.h5: dataset 'pixels': expected (frames, height, width");
  write_hdf5(path("short.h5"), {{"pixels", torch::zeros({6, 32, 32, 1}, torch::kUInt8)},
                                {"ep_len", lengths},
                                {"ep_offset", offsets}});
  all_refuse(path("short.h5"), "short.h5: episode 1: frames 4 to 8 of 6");
  write_hdf5(path("bare.h5"), {{"pixels", torch::zeros({8, 32, 32, 1}, torch::kUInt8)}});
  all_refuse(path("bare.h5"), "ep_len");
}

TEST_F(Programs, DamagedVideosAreNamed) {
  std::ofstream(path("text.mp4")) << std::string(5000, 'x');
  all_refuse(path("text.mp4"), "text.mp4");

  const std::string whole = write_video("whole.mp4");
  fs::copy_file(whole, path("cut.mp4"));
  fs::resize_file(path("cut.mp4"), fs::file_size(whole) * 6 / 10);
  refuses("make_data", cut_clips(path("cut.mp4")), 1, "cut.mp4");

  fs::copy_file(whole, path("corrupt.mp4"));
  {
    std::fstream bytes(path("corrupt.mp4"), std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(static_cast<std::streamoff>(fs::file_size(whole) / 2));
    bytes << std::string(400, '\0');
  }
  refuses("make_data", cut_clips(path("corrupt.mp4")), 1, "corrupt.mp4: frame ");
  // The same films are fine where nothing is wrong, so it was the damage that was refused.
  EXPECT_EQ(run("make_data", cut_clips(whole)), 0) << said();
}

TEST_F(Programs, ClipsOfUnequalLengthAreStored) {
  const std::string data = JEPA_TEST_FIXTURES "/data/";
  const auto store = [&] { return ClipStore(path("made.h5"), {}); };
  const auto make = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--kind", "files", "--out", path("made.h5")});
    return run("make_data", more);
  };
  std::ofstream(path("list.txt")) << data << "part.ts 0\n" << data << "pause.mkv 1\n";
  ASSERT_EQ(make({"--data", path("list.txt")}), 0) << said();
  Random random(0);
  EXPECT_EQ(store().read(0, random).frames, 30);
  EXPECT_EQ(store().read(1, random).frames, 20);
  EXPECT_EQ(store().info().fps, 0);  // not that of one of them

  // Frames of another size are no matter of length.
  write_video("square.mp4");
  std::ofstream(path("sizes.txt")) << data << "part.ts 0\n" << path("square.mp4") << " 1\n";
  fs::remove(path("made.h5"));
  refuses("make_data", {"--kind", "files", "--data", path("sizes.txt"), "--out", path("made.h5")},
          1, "square.mp4: frames of 64 x 64 x 3, but 48 x 64 x 3 in ");

  ASSERT_EQ(make({"--data", data + "part.ts"}), 0) << said();
  EXPECT_NEAR(store().info().fps, 25, 1e-9);
  fs::rename(path("made.h5"), path("from.h5"));
  ASSERT_EQ(make({"--data", path("from.h5"), "--clip.fps", "5"}), 0) << said();
  EXPECT_NEAR(store().info().fps, 5, 1e-9);
  EXPECT_EQ(store().read(0, random).frames, 6);
}

TEST_F(Programs, UsageErrorsNameTheOption) {
  std::ofstream(path("unknown.ini")) << "[clip]\nspeed = 3\n";
  std::ofstream(path("typed.ini")) << "[loader]\nbatch = many\n";
  std::ofstream(path("ranged.ini")) << "[loader]\nbatch = -1\n";
  for (const char* program : {"pretrain", "probe"}) {
    refuses(program, {"--config", path("unknown.ini")}, 2, "clip.speed");
    refuses(program, {"--config", path("typed.ini")}, 2, "loader.batch");
    refuses(program, {"--config", path("ranged.ini")}, 2, "loader.batch");
  }
  refuses("make_data", {"--clips", "0", "--out", path("made.h5")}, 2, "clips");
  write_bytes(path("file.txt"), "");
  refuses("make_data", {"--clips", "4", "--out", path("file.txt/made.h5")}, 2,
          path("file.txt") + ": is a file, expected a folder");
  refuses("make_data", {"--kind", "cats", "--out", path("made.h5")}, 2, "kind");
  refuses("make_data", {"--colour", "red", "--out", path("made.h5")}, 2, "colour");
  refuses("embed", {"--batch", "few"}, 2, "batch");
  refuses("embed", {"--video.fps", "-1"}, 2, "video.fps");
  refuses("embed", {"--weights", kWeights, "--video", path("v.mp4")}, 2,
          "give --out, --pca or --json");
  refuses("report", {"--clips", "0"}, 2, "clips");
  refuses("report", {"--run", path("none")}, 1, "none");
}

TEST_F(Programs, EmbedTakesTheEncoderThatTheRunProbed) {
  const std::string run_folder = JEPA_SOURCE_DIR "/examples/models/digits";
  ASSERT_EQ(run("make_data", {"--clips", "2", "--out", path("digits.h5")}), 0) << said();
  const auto module = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"--weights",       run_folder, "--video",
                                       path("digits.h5"), "--json",   path("results.json")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    EXPECT_EQ(run("embed", arguments), 0) << said();
    return nlohmann::json::parse(read_bytes(path("results.json"))).at("module");
  };
  EXPECT_EQ(module({}), "encoder");  // its config.ini: training.probe_module
  EXPECT_EQ(module({"--module", "target_encoder"}), "target_encoder");
}

TEST_F(Programs, TheLoopOfOnesOwnChecksWhatItIsGiven) {
  const std::string recipe = JEPA_SOURCE_DIR "/examples/configs/plain_digits.ini";
  refuses("train_your_own", {path("none.ini")}, 2, "none.ini");
  for (const char* steps : {"x", "0", "-3", "3x", "99999999999999999999"}) {
    refuses("train_your_own", {recipe, steps}, 2, std::string("STEPS '") + steps + "'");
  }
  refuses("train_your_own", {recipe, "1", "1"}, 2, "usage");
  EXPECT_EQ(run("train_your_own", {"--help"}), 0) << said();
  const std::string command =
      "cd " + path("") + " && " JEPA_PROGRAMS "/train_your_own " + recipe + " 2 >printed.txt 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << read_bytes(path("printed.txt"));
  EXPECT_TRUE(read_bytes(path("printed.txt")).starts_with("step 2  loss "));
  EXPECT_TRUE(fs::exists(path("encoder.safetensors")));
}

TEST_F(Programs, AFullDiskLeavesNoPartOfAResult) {
  refuses("make_data", {"--clips", "64", "--out", path("made.h5")}, 1, "made.h5",
          /*file_limit=*/30000);
  const std::string video = write_video("v.mp4");
  for (const std::string out : {"made.safetensors", "tokens.h5"}) {
    refuses("embed",
            {"--weights", kWeights, "--encoder.heads", "3", "--video", video, "--out", path(out)},
            1, out, /*file_limit=*/2000);
  }
}

/// A file system keeps what it has room for, unlike a limit on the file's size: here the pixels
/// find none, but what HDF5 writes after them does.
TEST_F(Programs, ADiskThatFillsUpIsNoticed) {
  const std::string disk = path("disk");
  fs::create_directories(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=128k") != 0) {
    GTEST_SKIP() << "no right to mount a small file system";
  }
  for (int tries = 0; tries < 2; ++tries) {  // the first in free space, then with none at all
    refuses("make_data", {"--clips", "64", "--out", disk + "/made.h5"}, 1, "made.h5");
    std::ofstream(disk + "/filler") << std::string(200000, 'x');
  }
  umount(disk.c_str());
}

TEST_F(Programs, StoresSayWhereTheirClipsAreFrom) {
  const auto attributes = [&](const std::string& name) {
    return ClipStore(path(name), {}).info().attributes;
  };
  ASSERT_EQ(run("make_data", {"--clips", "2", "--seed", "7", "--out", path("digits.h5")}), 0)
      << said();
  auto first = attributes("digits.h5");
  for (const char* name : {"generator", "version", "recipe", "fps"}) {
    EXPECT_FALSE(first[name].empty()) << name;
  }
  EXPECT_EQ(first["seed"], "7");
  EXPECT_NE(first["licence"].find("MNIST"), std::string::npos);
  // What is cut from a store keeps its licence, unless another one is given.
  std::vector<std::string> cut = {"--kind",          "files", "--data",
                                  path("digits.h5"), "--out", path("cut.h5")};
  ASSERT_EQ(run("make_data", cut), 0) << said();
  EXPECT_EQ(attributes("cut.h5")["licence"], first["licence"]);
  cut.insert(cut.end(), {"--licence", "mine"});
  ASSERT_EQ(run("make_data", cut), 0) << said();
  EXPECT_EQ(attributes("cut.h5")["licence"], "mine");
}

}  // namespace
}  // namespace jepa

// The program that watches: files, pipes that fail in every way, memory, events; with a model that
// the test trains for two steps.
#include "temporary_folder.hpp"

#include <eval/report/image.hpp>
#include <eval/report/video_writer.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/data/hdf5_file.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <sstream>
#include <sys/wait.h>

namespace jepa {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSide = 32;

/// A square that walks over stripes, uint8 [T, 32, 32, 3]; from frame `turn` on somewhere else.
torch::Tensor walking(int64_t frames, int64_t turn, int64_t side = kSide) {
  auto film = torch::full({frames, side, side, 3}, 40, torch::kUInt8);
  film.slice(1, 0, side, 4).fill_(90);
  for (int64_t t = 0; t < frames; ++t) {
    const int64_t x = (t + (t >= turn ? 13 : 0)) % (side - 8);
    film[t].narrow(0, t >= turn ? 4 : side / 2, 8).narrow(1, x, 8).fill_(230);
  }
  return film;
}

class WatchProgram : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new TemporaryFolder();
    eval::report::write_video(shared_->file("film.mp4"), walking(48, 24), 25);
    ASSERT_EQ(std::system(("OMP_NUM_THREADS=1 " JEPA_PROGRAMS "/pretrain --data '" +
                           shared_->file("film.mp4") + "' --run '" + shared_->file("model") +
                           "' --clip.frames 8 --loader.batch 4 --loader.threads 1 "
                           "--clip.clips_per_video 4 "
                           "--encoder.preset custom --encoder.dim 24 --encoder.depth 1 "
                           "--encoder.heads 2 --encoder.patch 8 --encoder.tubelet 2 "
                           "--encoder.positions rope --predictor.positions rope "
                           "--predictor.dim 24 --predictor.depth 1 --predictor.heads 2 "
                           "--mask.1.kind causal --mask.1.context_share 0.5,0.5 "
                           "--training.steps 2 --optimisation.total_steps 2 "
                           "--optimisation.warmup_steps 1 > '" +
                           shared_->file("pretrain.txt") + "' 2>&1")
                              .c_str()),
              0)
        << read_bytes(shared_->file("pretrain.txt"));
  }
  static void TearDownTestSuite() {
    delete shared_;
    shared_ = nullptr;
  }

  /// @param before of the command, such as `cat film |`
  int run(const std::string& arguments, const std::string& before = "") const {
    const std::string command = before + " " JEPA_PROGRAMS "/watch --weights '" +
                                shared_->file("model") + "' --threads 1 --out '" +
                                folder_.file("out") + "' " + arguments + " > '" +
                                folder_.file("said.txt") + "' 2>&1";
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  /// Probes of `weights` fitted on the stores train, validation and test of the folder.
  int save_probes(const std::string& weights, const std::string& path) const {
    std::string command = JEPA_PROGRAMS
                          "/probe --labels bright,level --resamples 20 --threads 1 "
                          "--precision float32 --control.draws 1 --weights '" +
                          weights + "' --save '" + path + "'";
    for (const char* split : {"train", "validation", "test"}) {
      command += std::string(" --") + split + " '" + folder_.file(std::string(split) + ".h5") + "'";
    }
    const int status =
        std::system((command + " > '" + folder_.file("said.txt") + "' 2>&1").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string said() const { return read_bytes(folder_.file("said.txt")); }
  std::string out(const std::string& name) const { return folder_.file("out/" + name); }
  nlohmann::json summary() const { return nlohmann::json::parse(read_bytes(out("summary.json"))); }
  std::vector<std::string> rows() const {
    std::istringstream lines(read_bytes(out("curve.csv")));
    std::vector<std::string> all;
    for (std::string line; std::getline(lines, line);) all.push_back(line);
    return all;
  }
  /// Frames as what `ffmpeg -f yuv4mpegpipe -` writes.
  std::string y4m(const torch::Tensor& film) const {
    std::string text = "YUV4MPEG2 W32 H32 F25:1 Ip A1:1 C420jpeg\n";
    for (int64_t t = 0; t < film.size(0); ++t) {
      const auto luma = film[t].select(2, 0).contiguous();
      text += "FRAME\n" +
              std::string(reinterpret_cast<const char*>(luma.const_data_ptr<uint8_t>()),
                          static_cast<size_t>(luma.numel())) +
              std::string(static_cast<size_t>(kSide * kSide / 2), '\x80');
    }
    return text;
  }

  static TemporaryFolder* shared_;
  TemporaryFolder folder_;
};

TemporaryFolder* WatchProgram::shared_ = nullptr;

TEST_F(WatchProgram, WatchesAFilmAndWritesEverything) {
  ASSERT_EQ(run("--video '" + shared_->file("film.mp4") + "' --stride 1 --around 0.4 --features '" +
                folder_.file("features.h5") + "'"),
            0)
      << said();
  const auto lines = rows();
  ASSERT_EQ(lines.size(), 49u);
  EXPECT_EQ(lines[0], "frame,seconds,surprise,most,window,mark");
  EXPECT_EQ(lines[1], "0,0.000,,,,");
  EXPECT_TRUE(lines[8].starts_with("7,0.280,0.")) << lines[8];
  const auto all = summary();
  EXPECT_EQ(all.at("frames"), 48);
  EXPECT_EQ(all.at("windows"), 41);
  EXPECT_GT(all.at("fps"), 0);
  EXPECT_GT(all.at("peak_mb"), 0);
  EXPECT_FALSE(all.at("peaks").empty());
  EXPECT_TRUE(fs::exists(out("film-000.mp4")));
  EXPECT_TRUE(fs::exists(out("peak-1.mp4")));
  const auto page = read_bytes(out("index.html"));
  EXPECT_NE(page.find("film-000.mp4#t="), std::string::npos);
  EXPECT_NE(page.find("data:image/png"), std::string::npos);
  const auto curve = Hdf5File::open(out("curve.h5")).read("curve");
  EXPECT_EQ(curve.sizes(), (std::vector<int64_t>{48, 5}));
  EXPECT_EQ(Hdf5File::open(folder_.file("features.h5")).shape("features"),
            (std::vector<int64_t>{41, 24}));

  // Looped, cuts are marked and no window reaches over them.
  ASSERT_EQ(run("--video '" + shared_->file("film.mp4") + "' --loop_minutes 0.1"), 0) << said();
  EXPECT_NEAR(summary().at("seconds"), 6, 0.1);
  EXPECT_EQ(summary().at("marks").at("cut"), 3);
  EXPECT_EQ(rows()[49], "48,1.920,,,,cut");
}

TEST_F(WatchProgram, AsksSavedProbes) {
  for (const char* split : {"train", "validation", "test"}) {
    torch::manual_seed(static_cast<uint64_t>(split[1]));
    const auto bright = torch::arange(24, torch::kInt64).remainder(2);
    const auto noise = torch::randint(0, 100, {24, 8 * kSide * kSide * 3}, torch::kUInt8);
    ClipStoreWriter writer(folder_.file(std::string(split) + ".h5"), {});
    for (int64_t i = 0; i < 24; ++i) {
      const auto pixels = noise[i] + 100 * bright[i].item<int64_t>();
      const uint8_t* at = pixels.const_data_ptr<uint8_t>();
      writer.append({8, kSide, kSide, 3, {at, at + pixels.numel()}});
    }
    writer.finish({{"bright", bright}, {"level", noise.to(torch::kFloat32).mean(1, true)}});
  }
  const std::string probes = folder_.file("probes.safetensors");
  ASSERT_EQ(save_probes(shared_->file("model"), probes), 0) << said();
  const std::string asked = "--video '" + shared_->file("film.mp4") + "' --probes ";
  ASSERT_EQ(run(asked + "'" + probes + "'"), 0) << said();
  const auto lines = rows();
  EXPECT_EQ(lines[0], "frame,seconds,surprise,most,window,mark,bright,level");
  EXPECT_TRUE(lines[1].ends_with(",,,,,,")) << lines[1];
  EXPECT_NE(lines[8].find(",0,,"), std::string::npos) << lines[8];  // window 0, no mark
  EXPECT_FALSE(lines[8].ends_with(",")) << lines[8];
  const auto curve = Hdf5File::open(out("curve.h5")).read("curve");
  EXPECT_EQ(curve.sizes(), (std::vector<int64_t>{48, 7}));
  EXPECT_TRUE(curve[0][6].isnan().item<bool>());
  EXPECT_TRUE(curve[7].narrow(0, 5, 2).isfinite().all().item<bool>());
  EXPECT_NE(read_bytes(out("index.html")).find("What the probes say"), std::string::npos);

  const auto whole = read_bytes(probes);
  write_bytes(folder_.file("cut"), whole.substr(0, whole.size() / 2));
  EXPECT_EQ(run(asked + "'" + folder_.file("cut") + "'"), 1);
  EXPECT_NE(said().find("cut"), std::string::npos) << said();
  ASSERT_EQ(save_probes(shared_->file("model") + "/checkpoints/step-00000000", probes), 0)
      << said();
  EXPECT_EQ(run(asked + "'" + probes + "'"), 1);
  EXPECT_NE(said().find("probes of another encoder"), std::string::npos) << said();
}

TEST_F(WatchProgram, APipeIsAFile) {
  write_bytes(folder_.file("film.y4m"), y4m(walking(40, 20)));
  ASSERT_EQ(run("--video '" + folder_.file("film.y4m") + "'"), 0) << said();
  const auto file = read_bytes(out("curve.csv"));
  ASSERT_EQ(run("--video -", "cat '" + folder_.file("film.y4m") + "' |"), 0) << said();
  EXPECT_EQ(read_bytes(out("curve.csv")), file);
}

TEST_F(WatchProgram, APipeThatEndsWithinAFrame) {
  const auto text = y4m(walking(40, 20));
  write_bytes(folder_.file("cut.y4m"), text.substr(0, text.size() - 700));
  EXPECT_EQ(run("--video -", "cat '" + folder_.file("cut.y4m") + "' |"), 1);
  EXPECT_NE(said().find("error: standard input: it ends within a frame, after 39 frames"),
            std::string::npos)
      << said();
  ASSERT_EQ(rows().size(), 1u + 39 + 1);  // nothing lost, and the mark
  EXPECT_TRUE(rows().back().ends_with("early_end")) << rows().back();
  EXPECT_TRUE(fs::exists(out("film-000.mp4")));
  EXPECT_EQ(summary().at("frames"), 39);
}

TEST_F(WatchProgram, ContainersThatAreCutInAPipe) {
  for (const char* name : {"pipe.mkv", "pipe.nut", "pipe.ts"}) {
    SCOPED_TRACE(name);
    const auto whole = read_bytes(std::string(JEPA_TEST_FIXTURES "/data/") + name);
    write_bytes(folder_.file("stream"), whole);
    ASSERT_EQ(run("--video - --film false", "cat '" + folder_.file("stream") + "' |"), 0) << said();
    EXPECT_EQ(rows().size(), 1u + 12);
    write_bytes(folder_.file("stream"), whole.substr(0, whole.size() - whole.size() / 7));
    EXPECT_EQ(run("--video - --film false", "cat '" + folder_.file("stream") + "' |"), 1);
    EXPECT_NE(said().find("error: standard input: it ends within a frame, after "),
              std::string::npos)
        << said();
    EXPECT_GE(rows().size(), 8u);
    EXPECT_TRUE(rows().back().ends_with("early_end")) << rows().back();
    EXPECT_EQ(summary().at("marks").at("early_end"), 1);
  }
}

TEST_F(WatchProgram, WhatCannotBeWatchedLeavesAnEarlierRunAsItWas) {
  const std::string film = "--video '" + shared_->file("film.mp4") + "' --around 0.1";
  ASSERT_EQ(run(film + " --stride 1"), 0) << said();
  ASSERT_TRUE(fs::exists(out("peak-2.mp4")));
  std::map<std::string, std::string> before;
  const auto files = [&] {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::directory_iterator(out(""))) {
      if (entry.is_regular_file()) all[entry.path().filename()] = read_bytes(entry.path());
    }
    return all;
  };
  before = files();
  write_bytes(folder_.file("text.mp4"), "no video\n");
  fs::create_directories(folder_.file("empty folder"));
  const std::string wrong[] = {shared_->file("flim.mp4"), folder_.file("text.mp4"),
                               folder_.file("empty folder")};
  for (const auto& name : wrong) {
    EXPECT_EQ(run("--video '" + name + "'"), 1);
    EXPECT_NE(said().find(name), std::string::npos) << said();
    EXPECT_TRUE(files() == before) << name;
  }
  // Its own film is not watched out of the folder that it would be overwritten in.
  EXPECT_EQ(run("--video '" + out("film-000.mp4") + "'"), 2);
  EXPECT_NE(said().find("film-000.mp4 is in it"), std::string::npos) << said();
  EXPECT_TRUE(files() == before);

  // Nothing of an earlier run stays beside the next one's.
  ASSERT_EQ(run(film + " --peaks 1 --film false"), 0) << said();
  EXPECT_TRUE(fs::exists(out("peak-1.mp4")));
  EXPECT_FALSE(fs::exists(out("peak-2.mp4")));
  EXPECT_FALSE(fs::exists(out("film-000.mp4")));

  // Another program's run.
  fs::create_directories(out("cells/jepa-s0"));
  before = files();
  for (const char* how : {"", " --inspect", " --events --quick"}) {
    EXPECT_EQ(run("--video '" + shared_->file("film.mp4") + "'" + how), 2) << how;
    EXPECT_NE(said().find("holds the cells of another experiment"), std::string::npos) << said();
    EXPECT_EQ(said().find('\n'), said().find("\nTry '")) << said();
  }
  EXPECT_TRUE(files() == before);
}

TEST_F(WatchProgram, ADamagedFilmAmongGoodOnes) {
  fs::create_directories(folder_.file("my films"));
  fs::copy_file(shared_->file("film.mp4"), folder_.file("my films/b one.mp4"));
  fs::copy_file(shared_->file("film.mp4"), folder_.file("my films/d.mp4"));
  write_bytes(folder_.file("my films/a.mp4"), std::string(3000, 'x'));
  const auto film = read_bytes(shared_->file("film.mp4"));
  write_bytes(folder_.file("my films/c.mp4"), film.substr(0, film.size() / 3));
  EXPECT_EQ(run("--video '" + folder_.file("my films") + "' --film false"), 1);
  EXPECT_NE(said().find("a.mp4: "), std::string::npos) << said();
  EXPECT_NE(said().find("(and 1 more in summary.json); what was watched is in "), std::string::npos)
      << said();
  EXPECT_EQ(summary().at("problems").size(), 2u);
  EXPECT_GE(summary().at("frames"), 96);
  EXPECT_TRUE(fs::exists(out("index.html")));
}

TEST_F(WatchProgram, AFilmShorterThanAWindow) {
  eval::report::write_video(folder_.file("short.mp4"), walking(5, 3), 25);
  EXPECT_EQ(run("--video '" + folder_.file("short.mp4") + "'"), 1);
  EXPECT_NE(said().find("short.mp4: 5 frames watched of 5, fewer than the model's window of 8"),
            std::string::npos)
      << said();
  EXPECT_EQ(rows().size(), 6u);
}

TEST_F(WatchProgram, AStreamThatChangesItsSizeGoesOnWithAMark) {
  std::string pictures;
  for (const int64_t side : {32, 48}) {
    const auto film = walking(16, 20, side);
    for (int64_t t = 0; t < 16; ++t) pictures += eval::report::encode_png(film[t]);
  }
  write_bytes(folder_.file("pictures"), pictures);
  ASSERT_EQ(run("--video -", "cat '" + folder_.file("pictures") + "' |"), 0) << said();
  ASSERT_EQ(rows().size(), 33u);
  EXPECT_TRUE(rows()[17].ends_with(",size")) << rows()[17];
  EXPECT_EQ(summary().at("marks").at("size"), 1);
}

TEST_F(WatchProgram, AStreamThatStalls) {
  write_bytes(folder_.file("film.y4m"), y4m(walking(40, 20)));
  const std::string slow = "(cat '" + folder_.file("film.y4m") + "'; exec sleep 10) |";
  EXPECT_EQ(run("--video - --stall 1.5", slow + " timeout 25"), 1);
  EXPECT_NE(said().find("error: standard input: nothing came for 1.5 s, after 40 frames"),
            std::string::npos)
      << said();
  EXPECT_EQ(rows().size(), 1u + 40 + 1);

  // Told to stop while it waits: the files are finished.
  EXPECT_EQ(run("--video -", slow + " timeout --preserve-status -s TERM 6"), 0) << said();
  EXPECT_TRUE(summary().at("stopped"));
  EXPECT_EQ(rows().size(), 41u);
  EXPECT_TRUE(fs::exists(out("film-000.mp4")));

  // Killed: what was written is there, whole rows.
  EXPECT_NE(run("--video -", slow + " timeout -s KILL 6"), 0);
  EXPECT_GT(rows().size(), 20u);
  for (const auto& row : rows()) EXPECT_EQ(std::count(row.begin(), row.end(), ','), 5) << row;
  EXPECT_TRUE(read_bytes(out("curve.csv")).ends_with("\n"));
}

TEST_F(WatchProgram, MemoryDoesNotGrowWithTheFilm) {
  const std::string film = "--video '" + shared_->file("film.mp4") + "' --around 0.4 ";
  ASSERT_EQ(run(film + "--loop_minutes 1"), 0) << said();
  const double before = summary().at("peak_mb");
  ASSERT_EQ(run(film + "--loop_minutes 5"), 0) << said();
  EXPECT_GT(summary().at("frames"), 7000);
  // Of so small a process the allocator's share comes and goes by megabytes; 6,000 frames are 18
  // MB.
  EXPECT_LT(summary().at("peak_mb"), 1.05 * before + 6);
}

TEST_F(WatchProgram, InspectionFindsAPlantedFault) {
  const std::string asked = "--video '" + shared_->file("film.mp4") + "' --inspect ";
  ASSERT_EQ(run(asked), 0) << said();
  const auto whole = summary();
  for (const auto& quadrant : whole.at("quadrants")) {
    EXPECT_GT(quadrant.at("attention"), 0.1);
    EXPECT_GT(quadrant.at("surprise"), 0);
  }
  ASSERT_EQ(run(asked + "--fault bottom_left --row 0 --column 1"), 0) << said();
  EXPECT_EQ(summary().at("quadrants").at("bottom_left").at("attention"), 0);
  EXPECT_GT(summary().at("quadrants").at("top_left").at("attention"), 0.2);
  EXPECT_EQ(summary().at("target").at("column"), 1);
  const auto page = read_bytes(out("report.html"));
  EXPECT_NE(page.find("A fault was planted"), std::string::npos);
  EXPECT_NE(page.find("layer 1"), std::string::npos);
  EXPECT_EQ(run(asked + "--row 9 --column 9"), 2);
  EXPECT_EQ(run(asked + "--row 1"), 2);
  EXPECT_NE(said().find("row, column"), std::string::npos) << said();
  // Watched at the rate that is asked for: other frames, another answer.
  ASSERT_EQ(run(asked + "--frame_step 3"), 0) << said();
  EXPECT_NE(summary().at("quadrants"), whole.at("quadrants"));
}

TEST_F(WatchProgram, OneJobIsToldOnlyWhatItLooksAt) {
  const std::string film = "--video '" + shared_->file("film.mp4") + "' ";
  const auto refused = [&](const std::string& arguments, const std::string& words) {
    EXPECT_EQ(run(arguments), 2) << arguments;
    EXPECT_NE(said().find(words), std::string::npos) << said();
    EXPECT_FALSE(fs::exists(out("config.ini")));
  };
  refused(film + "--events --inspect", "events, inspect");
  refused(film + "--events --probes none.safetensors", "option probes: not with --events");
  refused(film + "--events --stride 4", "option stride: not with --events");
  refused(film + "--inspect --features f.h5", "option features: not with --inspect");
  refused(film + "--inspect --from 0.5", "option from: with --events alone");
  refused(film + "--fault top_left", "option fault: with --inspect alone");
  refused("--video - --inspect", "a pipe cannot be asked --inspect");
}

TEST_F(WatchProgram, RefusesWhatItCannotWatch) {
  EXPECT_EQ(run("--video '" + folder_.file("none.mp4") + "'"), 1);
  EXPECT_NE(said().find("none.mp4"), std::string::npos) << said();
  EXPECT_EQ(run("--video - --stall 1", "printf 'no video at all' |"), 1);
  EXPECT_NE(said().find("standard input"), std::string::npos) << said();
  EXPECT_EQ(run("--video - --loop_minutes 1", "true |"), 2);
  EXPECT_EQ(run("--video '" + shared_->file("film.mp4") + "' --past 3"), 2);
}

TEST_F(WatchProgram, EventsGoOnAfterBeingKilled) {
  fs::create_directories(folder_.file("films"));
  for (const int64_t turn : {30, 60}) {
    eval::report::write_video(folder_.file("films/" + std::to_string(turn) + ".mp4"),
                              walking(160, turn), 10);
  }
  const std::string asked = "--events --quick --video '" + folder_.file("films") + "'";
  ASSERT_EQ(run(asked), 0) << said();
  const auto all = summary();
  ASSERT_EQ(all.at("rows").size(), 5u);
  EXPECT_EQ(all.at("rows")[0].at("arm"), "jepa");
  EXPECT_EQ(all.at("rows")[0].at("metrics").at("auroc").size(), 8u);  // seven kinds and all
  EXPECT_EQ(all.at("rows")[1].at("draws"), 2);
  EXPECT_EQ(all.at("stretches").at("freeze"), 4);
  EXPECT_NE(read_bytes(out("report.html")).find("change_of_difference"), std::string::npos);

  // What it left says all of it.
  ASSERT_EQ(run("--config '" + out("config.ini") + "'"), 0) << said();
  EXPECT_EQ(summary().at("rows"), all.at("rows"));

  // Told to stop while it asks: the same command goes on.
  fs::remove_all(out("cells"));
  fs::remove(out("summary.json"));
  EXPECT_EQ(run(asked + " --untrained 20000", "timeout --preserve-status -s INT 9"), 0) << said();
  EXPECT_NE(said().find("the same command goes on from here"), std::string::npos) << said();
  EXPECT_FALSE(fs::exists(out("summary.json")));
  ASSERT_EQ(run(asked), 0) << said();

  // What is there is not done again; what was lost is, and comes out the same.
  const std::string kept = out("cells/jepa-s0/freeze.safetensors");
  const std::string lost = out("cells/untrained-s1/jump.safetensors");
  const auto time = fs::last_write_time(kept);
  const std::string before = read_bytes(lost);
  fs::remove(lost);
  ASSERT_EQ(run(asked), 0) << said();
  EXPECT_EQ(fs::last_write_time(kept), time);
  EXPECT_EQ(read_bytes(lost), before);
  EXPECT_EQ(run(asked + " --past 2"), 2);  // other cells

  // What was scored of another model is scored again, what it has no part in is not.
  const auto told = [&](const std::string& what) {
    return said().find(what + ": scores are of another model") != std::string::npos;
  };
  EXPECT_FALSE(told("jepa 0, freeze"));
  fs::copy(shared_->file("model"), folder_.file("model"), fs::copy_options::recursive);
  const auto latest = folder_.file("model/checkpoints/step-00000002/predictor.safetensors");
  auto weights = read_bytes(latest);
  weights[weights.size() - 2] = static_cast<char>(weights[weights.size() - 2] ^ 1);
  write_bytes(latest, weights);
  const std::string pixels = out("cells/copy_last-s0/freeze.safetensors");
  const auto same = fs::last_write_time(pixels);
  const std::string scored = read_bytes(kept);
  fs::rename(shared_->file("model"), folder_.file("first"));
  fs::rename(folder_.file("model"), shared_->file("model"));
  const int again = run(asked);
  fs::rename(shared_->file("model"), folder_.file("model"));
  fs::rename(folder_.file("first"), shared_->file("model"));
  ASSERT_EQ(again, 0) << said();
  EXPECT_TRUE(told("jepa 0, freeze")) << said();
  EXPECT_NE(read_bytes(kept), scored);
  EXPECT_EQ(fs::last_write_time(pixels), same);

  // Another film of as many frames under the same name.
  eval::report::write_video(folder_.file("films/30.mp4"), walking(160, 200), 10);
  ASSERT_EQ(run(asked), 0) << said();
  EXPECT_TRUE(told("copy_last 0, freeze")) << said();
}

}  // namespace
}  // namespace jepa

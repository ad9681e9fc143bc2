// Clip stores as people have them: other tools' files, damaged ones, ones that name other files.
#include "temporary_folder.hpp"

#include <jepa/data/clip_store.hpp>
#include <jepa/data/hdf5_file.hpp>
#include <jepa/data/label_names.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/safetensors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/file.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace jepa {
namespace {

namespace fs = std::filesystem;

std::string fixture(const std::string& name) {
  return std::string(JEPA_TEST_FIXTURES) + "/stores/" + name;
}

/// The message of the DataError that opening a store and reading its clips gives.
std::string store_failure(const std::string& file, const ClipOptions& options = {}) {
  try {
    const ClipStore store(file, options);
    Random random(0);
    for (int64_t i = 0; i < store.size(); ++i) store.read(i, random);
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

void expect_one_line(const std::string& message, const std::string& file,
                     const std::string& reason) {
  EXPECT_NE(message.find(file), std::string::npos) << message;
  EXPECT_NE(message.find(reason), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

std::vector<int64_t> first_pixels(const RawClip& clip) {
  std::vector<int64_t> values;
  for (int64_t t = 0; t < clip.frames; ++t) {
    values.push_back(clip.pixels[static_cast<size_t>(t * clip.frame_bytes())]);
  }
  return values;
}

/// Episodes of the given lengths whose pixels are their place in the file.
void write_store(const std::string& file, const std::vector<int64_t>& lengths,
                 const std::map<std::string, torch::Tensor>& more = {}) {
  std::vector<int64_t> offsets;
  int64_t frames = 0;
  for (const int64_t length : lengths) {
    offsets.push_back(frames);
    frames += length;
  }
  auto datasets = more;
  datasets["pixels"] =
      torch::arange(frames).to(torch::kUInt8).view({frames, 1, 1, 1}).repeat({1, 2, 2, 1});
  datasets["ep_len"] = torch::tensor(lengths);
  datasets["ep_offset"] = torch::tensor(offsets);
  write_hdf5(file, datasets);
}

TEST(StoreFiles, AttributesThatAreListsAreRead) {
  const ClipStore store(fixture("attributes.h5"), {});
  EXPECT_EQ(store.info().attributes.size(), 1U);
  const auto attributes = Hdf5File::open(fixture("attributes.h5"))
                              .attributes({"texts", "fixed", "numbers", "none", "pairs", "fps"});
  EXPECT_EQ(attributes.at("texts").substr(0, 16), "name 0, name 1, ");
  EXPECT_EQ(attributes.at("fixed").substr(0, 20), "column00, column01, ");
  EXPECT_EQ(attributes.at("fixed").size(), 50U * 10 - 2);
  EXPECT_EQ(attributes.at("numbers"), "1.5, 2, 3");
  EXPECT_EQ(attributes.at("none"), "");
  EXPECT_EQ(attributes.at("pairs"), "");
  EXPECT_EQ(store.info().fps, 10);
}

TEST(StoreFiles, BooleansAreNumbersAndTextsAreLeftOut) {
  const ClipStore store(fixture("columns.h5"), {.signals = "terminated,done"});
  EXPECT_EQ(store.columns(), (std::vector<std::string>{"bits", "done", "label", "ragged"}));
  EXPECT_TRUE(store.column("done").equal(torch::tensor({1, 0})));
  EXPECT_TRUE(store.column("bits").equal(torch::tensor({1, 0})));
  EXPECT_EQ(store.signals(), (std::vector<std::string>{"terminated"}));
  Random random(0);
  const RawClip clip = store.read(0, random);
  EXPECT_EQ(clip.signals.at("terminated").values, (std::vector<float>{0, 0, 1}));
  EXPECT_EQ(clip.signals.at("done").values, (std::vector<float>{1, 1, 1}));  // of the episode
  try {
    store.column("task");
    FAIL();
  } catch (const DataError& error) {
    expect_one_line(error.what(), "columns.h5: dataset 'task'", "expected numbers");
  }
  try {
    store.column("none");
    FAIL();
  } catch (const DataError& error) {
    expect_one_line(error.what(), "columns.h5: no column 'none'", "bits, done, label");
  }
}

TEST(StoreFiles, NumbersAndNamesAreKeptAsTheyAre) {
  const ClipStore store(fixture("exact.h5"), {});
  EXPECT_TRUE(
      store.column("double").equal(torch::tensor({16777217.0, 1e12 + 1, 0.1}, torch::kFloat64)));
  EXPECT_TRUE(store.column("named").equal(torch::tensor({-1, 0, 1})));
  EXPECT_TRUE(store.column("done").equal(torch::tensor({1, 0, 1})));
  EXPECT_DOUBLE_EQ(store.info().fps, 30000.0 / 1001);
  EXPECT_EQ(label_names(store), (std::vector<std::string>{"cat", "dog, small"}));
  expect_one_line(message_of<DataError>([&] { store.column("huge"); }), "exact.h5", "2^63");
}

TEST(StoreFiles, BytesOfOtherFilesAreRefused) {
  expect_one_line(store_failure(fixture("external_storage.h5")), "external_storage.h5",
                  "another file (external storage)");
  expect_one_line(store_failure(fixture("external_link.h5")), "external_link.h5",
                  "a link into another file");
  expect_one_line(store_failure(fixture("soft_link.h5")), "soft_link.h5", "'pixels'");
  expect_one_line(store_failure(fixture("virtual.h5")), "virtual.h5", "virtual dataset");
  const auto names = Hdf5File::open(fixture("soft_link.h5")).datasets();
  EXPECT_EQ(names, (std::vector<std::string>{"ep_len", "ep_offset"}));
}

/// Chunks that do not divide the shape, of which some were never written, big-endian values.
TEST(StoreFiles, PackedChunksAreReadAsTheyWereWritten) {
  const ClipStore store(fixture("packed.h5"), {.signals = "speed"});
  Random random(0);
  const RawClip clip = store.read(1, random);  // frames 5 to 10
  ASSERT_EQ(clip.pixels.size(), 6U * 7 * 10 * 3);
  size_t at = 0;
  for (int t = 5; t < 11; ++t) {
    for (int y = 0; y < 7; ++y) {
      for (int x = 0; x < 10; ++x) {
        for (int c = 0; c < 3; ++c, ++at) {
          ASSERT_EQ(clip.pixels[at], (t * 37 + y * 11 + x * 5 + c * 3) % 256)
              << t << ' ' << y << ' ' << x << ' ' << c;
        }
      }
    }
  }
  const std::vector<float> unwritten(9, -1.5F);
  std::vector<float> speed = unwritten;
  for (int i = 0; i < 9; ++i) speed.push_back(static_cast<float>(i) / 8);
  EXPECT_EQ(clip.signals.at("speed").values, speed);
  EXPECT_TRUE(store.column("label").equal(torch::tensor({3, -2})));
}

/// HDF5 copies as many bytes as the shape has out of a chunk that holds fewer.
TEST(StoreFiles, AChunkOfAnotherSizeIsAnError) {
  expect_one_line(store_failure(fixture("short_chunk.h5")), "short_chunk.h5: dataset 'pixels'",
                  "damaged: a chunk of 100 bytes where its shape has 128");
  expect_one_line(store_failure(fixture("long_chunk.h5")), "long_chunk.h5: dataset 'pixels'",
                  "damaged");
}

/// HDF5's error stack would go to stderr, from every thread that had not switched it off.
TEST(StoreFiles, HDF5PrintsNothingFromAnyThread) {
  testing::internal::CaptureStderr();
  std::thread([] { store_failure(fixture("lzf.h5")); }).join();
  std::thread([] { store_failure(fixture("soft_link.h5")); }).join();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(StoreFiles, AMissingFilterIsNamed) {
  const std::string message = store_failure(fixture("lzf.h5"));
  if (message.empty()) GTEST_SKIP() << "the plugin is installed";
  expect_one_line(message, "lzf.h5: dataset 'pixels'", "lzf (HDF5 filter 32000)");
  expect_one_line(message, "hdf5plugin", "hdf5-plugin-lzf");
}

/// Read through the plugin where it is installed.
TEST(StoreFiles, BloscIsReadOrNamed) {
  const std::string message = store_failure(fixture("blosc.h5"));
  if (!message.empty()) {
    expect_one_line(message, "blosc.h5: dataset 'pixels'", "blosc (HDF5 filter 32001)");
    expect_one_line(message, "hdf5plugin", "hdf5-filter-plugin-blosc");
    GTEST_SKIP() << message;
  }
  Random random(0);
  const auto pixels = ClipStore(fixture("blosc.h5"), {}).read(1, random).pixels;
  EXPECT_NE(*std::max_element(pixels.begin(), pixels.end()),
            *std::min_element(pixels.begin(), pixels.end()));
}

/// HDF5 2.0's newest layout, which libhdf5 1.10 cannot open.
TEST(StoreFiles, ANewerFormatIsSaidToBe) {
  const std::string message = store_failure(fixture("../swm_dataset_blosc.h5"));
  if (message.find("filter") != std::string::npos || message.empty()) GTEST_SKIP() << message;
  expect_one_line(message, "swm_dataset_blosc.h5: dataset 'pixels'",
                  "written by a newer HDF5 than");
}

TEST(StoreFiles, AHeldLastFrameStaysInItsEpisode) {
  const TemporaryFolder folder;
  write_store(folder.file("ten.h5"), {10, 10});
  const ClipStore store(folder.file("ten.h5"), {.frames = 4, .frame_step = 4, .repeat_last = true});
  Random random(0);
  EXPECT_EQ(first_pixels(store.read(0, random)), (std::vector<int64_t>{0, 4, 8, 9}));
  EXPECT_EQ(first_pixels(store.read(1, random)), (std::vector<int64_t>{10, 14, 18, 19}));
}

TEST(StoreFiles, AnyFrameStepIsAnErrorOrHeld) {
  const TemporaryFolder folder;
  write_store(folder.file("ten.h5"), {10});
  const int64_t most = std::numeric_limits<int64_t>::max();
  ClipOptions options{.frames = 4, .frame_step = most};
  expect_one_line(store_failure(folder.file("ten.h5"), options), "ten.h5", "a clip needs");
  options.repeat_last = true;
  Random random(0);
  EXPECT_EQ(first_pixels(ClipStore(folder.file("ten.h5"), options).read(0, random)),
            (std::vector<int64_t>{0, 9, 9, 9}));
  options.frames = 0;
  EXPECT_EQ(ClipStore(folder.file("ten.h5"), options).read(0, random).frames, 1);
}

TEST(StoreFiles, EmptyEpisodesHaveNoClips) {
  const TemporaryFolder folder;
  write_store(folder.file("empty.h5"), {3, 0, 2}, {{"label", torch::tensor({5, 6, 7})}});
  const ClipStore store(folder.file("empty.h5"), {});
  EXPECT_EQ(store.size(), 2);
  EXPECT_TRUE(store.column("label").equal(torch::tensor({5, 7})));
  Random random(0);
  EXPECT_EQ(first_pixels(store.read(1, random)), (std::vector<int64_t>{3, 4}));
  EXPECT_NE(store.name(1).find("empty.h5: episode 2"), std::string::npos);
  const ClipStore longer(folder.file("empty.h5"), {.frames = 3, .skip_short = true});
  EXPECT_EQ(longer.size(), 1);
  write_store(folder.file("none.h5"), {0, 0});
  expect_one_line(store_failure(folder.file("none.h5")), "none.h5", "holds no episodes");
}

TEST(StoreFiles, WhatIsNoFileIsRefusedAtOnce) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo(folder.file("pipe.h5").c_str(), 0600), 0);
  expect_one_line(store_failure(folder.file("pipe.h5")), "pipe.h5", "expected a file");
  fs::create_directory(folder.file("folder.h5"));
  expect_one_line(store_failure(folder.file("folder.h5")), "folder.h5", "expected a file");
  EXPECT_THROW(ClipStoreWriter(folder.file("pipe.h5"), {}), DataError);
  EXPECT_THROW(write_hdf5(folder.file("pipe.h5"), {}), DataError);
  EXPECT_TRUE(fs::is_fifo(folder.file("pipe.h5")));
}

TEST(StoreFiles, AFileThatIsBeingWrittenIsSaidToBe) {
  const TemporaryFolder folder;
  write_store(folder.file("held.h5"), {3});
  const int file = ::open(folder.file("held.h5").c_str(), O_RDWR);
  ASSERT_EQ(::flock(file, LOCK_EX), 0);
  expect_one_line(store_failure(folder.file("held.h5")), "held.h5",
                  "another program has it open for writing");
  ::close(file);
}

TEST(StoreFiles, ASecondWriterLeavesTheFirstOnesFile) {
  const TemporaryFolder folder;
  const std::string path = folder.file("out.h5");
  ClipStoreWriter first(path, {});
  first.append({1, 2, 2, 1, {1, 2, 3, 4}});
  EXPECT_THROW(ClipStoreWriter(path, {}), DataError);
  EXPECT_THROW(write_hdf5(path, {}), DataError);
  first.append({1, 2, 2, 1, {5, 6, 7, 8}});
  first.finish({});
  EXPECT_EQ(ClipStore(path, {}).size(), 2);
  std::ofstream(path + ".partial") << "left by a program that was killed";
  ClipStoreWriter after(path, {});
  after.append({1, 2, 2, 1, {1, 2, 3, 4}});
  after.finish({});
  EXPECT_EQ(ClipStore(path, {}).size(), 1);
}

TEST(StoreFiles, SizesThatTheFileCannotHoldAreRefused) {
  const TemporaryFolder folder;
  write_store(folder.file("huge.h5"), {3});
  std::string bytes;
  {
    std::ifstream in(folder.file("huge.h5"), std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  // Every dimension of 2 becomes 2^40: the sizes in the headers of `pixels`.
  const std::string two("\2\0\0\0\0\0\0\0", 8), huge("\0\0\0\0\0\1\0\0", 8);
  for (size_t at = 0; (at = bytes.find(two, at)) != std::string::npos; at += 8) {
    bytes.replace(at, 8, huge);
  }
  std::ofstream(folder.file("huge.h5"), std::ios::binary) << bytes;
  EXPECT_NE(store_failure(folder.file("huge.h5")), "");
}

// --- Signals ---

/// The clips that stable-worldmodel cuts: 3 frames, 2 source frames apart, all actions of a step.
void expect_published_clips(const std::string& file) {
  const SafetensorsFile expected = read_safetensors(fixture("../swm_dataset_expected.safetensors"));
  const auto tensor = [&](const std::string& name) { return expected.tensors.at(name); };
  ClipOptions options{
      .frames = 3, .frame_step = 2, .skip_short = true, .signals = "action, proprio,state"};
  const ClipStore store(fixture(file), options);
  EXPECT_EQ(store.size(), 2);  // of three episodes, one is too short
  const torch::Tensor places = tensor("out/clip_indices");
  const torch::Tensor chosen = tensor("in/clips");
  for (int64_t i = 0; i < chosen.size(0); ++i) {
    const torch::Tensor place = places[chosen[i].item<int64_t>()];
    const RawClip clip = store.read_at(place[0].item<int64_t>(), place[1].item<int64_t>());
    const torch::Tensor pixels = torch::tensor(at::ArrayRef<uint8_t>(clip.pixels))
                                     .view({3, clip.height, clip.width, 3})
                                     .permute({0, 3, 1, 2});
    EXPECT_TRUE(pixels.equal(tensor("out/clip.pixels")[i].to(torch::kUInt8)));
    for (const std::string name : {"action", "proprio", "state"}) {
      const Signal& signal = clip.signals.at(name);
      EXPECT_TRUE(torch::tensor(at::ArrayRef<float>(signal.values))
                      .view({3, signal.width})
                      .equal(tensor("out/clip." + name)[i]))
          << name << " of clip " << i;
    }
  }
  EXPECT_THROW(store.read_at(0, 4), DataError);  // 9 frames: its last action would lie outside
}

TEST(Signals, AreThoseOfStableWorldmodel) { expect_published_clips("../swm_dataset.h5"); }

TEST(Signals, HaveTheStatisticsThatNormalisersTake) {
  const TemporaryFolder folder;
  const auto values = torch::tensor({{1.0F, 10.0F}, {3.0F, 30.0F}, {NAN, 7.0F}, {5.0F, 80.0F}});
  write_store(folder.file("a.h5"), {3, 1}, {{"action", values}, {"empty", values * NAN}});
  const ClipStore store(folder.file("a.h5"), {});
  const ColumnStatistics found = store.statistics("action");
  EXPECT_EQ(found.rows, 3);  // of a row with a NaN nothing counts
  EXPECT_TRUE(found.mean.equal(torch::tensor({3.0, 40.0}, torch::kFloat64)));
  EXPECT_NEAR(found.deviation[0].item<double>(), std::sqrt(8.0 / 3), 1e-12);
  EXPECT_NEAR(found.sample_deviation[0].item<double>(), 2, 1e-12);
  EXPECT_THROW(store.statistics("empty"), DataError);
  EXPECT_THROW(store.statistics("torque"), DataError);
  EXPECT_EQ(ClipStore(folder.file("a.h5"), {.frames = 1, .frame_step = 2}).windows(),
            (std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {0, 1}, {0, 2}, {1, 0}}));
}

class ActionTest : public testing::Test {
 protected:
  void SetUp() override {
    // Actions (t, 10 t) of 10 + 6 frames; the last of an episode is unknown.
    torch::Tensor action = torch::arange(16, torch::kFloat32).unsqueeze(1);
    action = torch::cat({action, 10 * action}, 1);
    action[9].fill_(NAN);
    action[15].fill_(NAN);
    write_store(file_, {10, 6}, {{"action", action}, {"reward", torch::arange(16)}});
  }
  std::vector<float> action(ClipOptions options, int64_t index = 0) const {
    options.signals = "action";
    Random random(0);
    return ClipStore(file_, options).read(index, random).signals.at("action").values;
  }
  TemporaryFolder folder_;
  std::string file_ = folder_.file("actions.h5");
};

TEST_F(ActionTest, ModesSayWhatAnActionIsUnderAFrameStep) {
  ClipOptions options{.frames = 2, .frame_step = 3, .clips_per_video = 1, .from = 0.4};
  // Frames 4 and 7 of the first episode; the last of its actions is NaN, so 0.
  EXPECT_EQ(action(options), (std::vector<float>{4, 40, 5, 50, 6, 60, 7, 70, 8, 80, 0, 0}));
  options.action_mode = "sum";
  EXPECT_EQ(action(options), (std::vector<float>{15, 150, 15, 150}));
  options.action_mode = "last";
  EXPECT_EQ(action(options), (std::vector<float>{6, 60, 0, 0}));
  options.action_mode = "mean";
  EXPECT_THROW(action(options), ConfigError);
}

TEST_F(ActionTest, OfNoNumberIsAnErrorUnlessItLeadsNowhere) {
  const auto stored = [&](int64_t row, int64_t column, float value) {
    auto numbers = torch::arange(16, torch::kFloat32).unsqueeze(1).repeat({1, 2});
    numbers[row][column] = value;
    write_store(file_, {10, 6}, {{"action", numbers}});
    return action({.frame_step = 1});
  };
  EXPECT_EQ(stored(9, 0, NAN)[18], 0);  // the episode's last
  EXPECT_EQ(stored(8, 1, NAN)[17], 0);  // a block cut short before the last frame
  for (const float value : {NAN, INFINITY}) {
    try {
      stored(4, 1, value);
      FAIL() << "row 4 was taken";
    } catch (const DataError& error) {
      EXPECT_EQ(std::string(error.what()),
                file_ + ": dataset 'action': row 4 is not a finite number, episode 0");
    }
  }
  EXPECT_THROW(stored(8, 0, NAN), DataError);
}

TEST_F(ActionTest, ClipsHoldAllActionsOfTheirLastStep) {
  EXPECT_EQ(action({.frames = 2, .frame_step = 3}, 1).size(), 12U);  // 6 frames: just enough
  EXPECT_THROW(action({.frames = 3, .frame_step = 3}, 1), DataError);
  // Whole episodes: 10 frames hold three whole steps.
  EXPECT_EQ(action({.frame_step = 3}).size(), 18U);
  // A held frame has none.
  EXPECT_EQ(action({.frames = 4, .frame_step = 4, .repeat_last = true, .action_mode = "sum"}),
            (std::vector<float>{6, 60, 22, 220, 8, 80, 0, 0}));
}

TEST_F(ActionTest, AreAskedForByName) {
  Random random(0);
  EXPECT_TRUE(ClipStore(file_, {}).read(0, random).signals.empty());
  EXPECT_EQ(ClipStore(file_, {.frames = 2, .frame_step = 4, .from = 0.5, .signals = "reward"})
                .read(0, random)
                .signals.at("reward")
                .values,
            (std::vector<float>{5, 9}));
  expect_one_line(store_failure(file_, {.signals = "torque"}), "actions.h5", "no dataset 'torque'");
  write_hdf5(folder_.file("odd.h5"), {{"pixels", torch::zeros({4, 2, 2, 1}, torch::kUInt8)},
                                      {"ep_len", torch::tensor({4})},
                                      {"ep_offset", torch::tensor({0})},
                                      {"force", torch::zeros({3, 2})}});
  expect_one_line(store_failure(folder_.file("odd.h5"), {.signals = "force"}), "odd.h5",
                  "expected 4 rows (frames) or 1 (episodes), found 3");
  EXPECT_THROW(open_clip_source("film.mp4", {.signals = "action"}), DataError);
}

TEST_F(ActionTest, AreWrittenAndReadBack) {
  const ClipStore store(file_, {.signals = "action,reward"});
  Random random(0);
  {
    ClipStoreWriter writer(folder_.file("copy.h5"), {});
    for (int64_t i = 0; i < 2; ++i) writer.append(store.read(i, random));
    RawClip without = store.read(0, random);
    without.signals.erase("reward");
    EXPECT_THROW(writer.append(without), DataError);
    writer.finish({});
  }
  const ClipStore copy(folder_.file("copy.h5"), {.signals = "action,reward"});
  EXPECT_EQ(copy.signals(), (std::vector<std::string>{"action", "reward"}));
  for (const std::string name : {"action", "reward"}) {
    EXPECT_EQ(copy.read(1, random).signals.at(name).values,
              store.read(1, random).signals.at(name).values);
  }
}

}  // namespace
}  // namespace jepa

#include "temporary_folder.hpp"

#include <jepa/data/clip_store.hpp>
#include <jepa/data/generated.hpp>
#include <jepa/data/hdf5_file.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>
#include <fstream>
#include <set>

namespace jepa {
namespace {

namespace fs = std::filesystem;

class ClipStoreTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.file(name); }

  /// Two episodes, of 6 and 10 frames, whose pixels are their place in the file.
  std::string write_numbered() {
    const std::string file = path("numbered.h5");
    ClipStoreWriter writer(file, {.fps = 10, .attributes = {{"licence", "none"}}});
    uint8_t value = 0;
    for (const int64_t frames : {6, 10}) {
      RawClip clip{frames, 4, 5, 1, {}};
      for (int64_t t = 0; t < frames; ++t, ++value)
        clip.pixels.insert(clip.pixels.end(), 20, value);
      writer.append(clip);
    }
    writer.finish({{"label", torch::tensor({3, 4})}, {"place", torch::rand({2, 2})}});
    return file;
  }

  /// The message of the DataError that opening (and reading) a file gives.
  static std::string failure(const std::string& file) {
    try {
      const auto source = open_clip_source(file, {});
      Random random(0);
      for (int64_t i = 0; i < source->size(); ++i) source->read(i, random);
    } catch (const DataError& error) {
      return error.what();
    }
    return "";
  }

  TemporaryFolder folder_;
};

TEST_F(ClipStoreTest, WhatAWriterSaysOfAStoreIsRead) {
  const std::string file = path("said.h5");
  ClipStoreWriter writer(file, {.fps = 10, .attributes = {{"licence", "none"}, {"mine", "a, b"}}});
  writer.append({2, 1, 1, 1, {1, 2}});
  writer.note("added", "later");
  writer.finish({});
  const auto attributes = ClipStore(file, {}).info().attributes;
  EXPECT_EQ(attributes.at("licence"), "none");
  EXPECT_EQ(attributes.at("mine"), "a, b");
  EXPECT_EQ(attributes.at("added"), "later");
  EXPECT_FALSE(attributes.contains(kAttributeNames));
}

std::vector<int64_t> frames_of(const RawClip& clip) {
  std::vector<int64_t> values;
  for (int64_t t = 0; t < clip.frames; ++t) {
    values.push_back(clip.pixels[static_cast<size_t>(t * clip.frame_bytes())]);
  }
  return values;
}

TEST_F(ClipStoreTest, GivesBackWhatWasWritten) {
  const GeneratedSource source({.clips = 20}, 0);
  const std::string file = path("digits.h5");
  Random random(0);
  {
    ClipStoreWriter writer(file, {});
    for (int64_t i = 0; i < 20; ++i) writer.append(source.read(i, random));
    EXPECT_FALSE(fs::exists(file));  // in place only when complete
    writer.finish({{"digit", source.column("digit")}, {"position", source.column("position")}});
  }
  const ClipStore store(file, {});
  EXPECT_EQ(store.size(), 20);
  EXPECT_EQ(store.info().height, 32);
  EXPECT_EQ(store.columns(), (std::vector<std::string>{"digit", "position"}));
  EXPECT_TRUE(store.column("digit").equal(source.column("digit")));
  EXPECT_TRUE(store.column("position").equal(source.column("position")));
  EXPECT_THROW(store.column("none"), DataError);
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(store.read(i, random).pixels, source.read(i, random).pixels);
  }
  const PixelRect part{3, 5, 7, 9};
  const auto crop = [&](int64_t, int64_t, Random&) { return part; };
  EXPECT_EQ(store.read(4, random, crop).pixels, source.read(4, random, crop).pixels);
  EXPECT_FALSE(fs::exists(file + ".partial"));
}

TEST_F(ClipStoreTest, WindowsStayInTheirEpisodeAndPart) {
  const std::string file = write_numbered();
  const ClipStore store(file, {.frames = 3, .frame_step = 2, .clips_per_video = 2});
  EXPECT_EQ(store.size(), 4);
  EXPECT_TRUE(store.column("label").equal(torch::tensor({3, 3, 4, 4})));
  std::set<int64_t> starts;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Random random(seed);
    const auto frames = frames_of(store.read(3, random));  // second half of the second episode
    starts.insert(frames[0]);
    EXPECT_EQ(frames, (std::vector<int64_t>{frames[0], frames[0] + 2, frames[0] + 4}));
  }
  EXPECT_EQ(starts, (std::set<int64_t>{11}));  // 5 frames a part: one place only
  Random random(0);
  EXPECT_EQ(frames_of(store.read(1, random)), (std::vector<int64_t>{1, 3, 5}));  // 6 frames: spread
  const ClipStore by_rate(file, {.frames = 2, .fps = 5.0, .random_window = false});
  EXPECT_EQ(frames_of(by_rate.read(0, random)), (std::vector<int64_t>{1, 3}));
}

TEST_F(ClipStoreTest, ShortEpisodesAreAnErrorOrHoldTheirLastFrame) {
  const std::string file = write_numbered();
  Random random(0);
  EXPECT_THROW(ClipStore(file, {.frames = 8}).read(0, random), DataError);
  const ClipStore held(file, {.frames = 8, .repeat_last = true});
  EXPECT_EQ(frames_of(held.read(0, random)), (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 5, 5}));
}

TEST_F(ClipStoreTest, DamagedFilesAreNamed) {
  EXPECT_NE(failure(path("missing.h5")).find("missing.h5"), std::string::npos);
  std::ofstream(path("empty.h5"));
  EXPECT_NE(failure(path("empty.h5")).find("empty.h5: the file is empty"), std::string::npos);
  std::ofstream(path("text.h5")) << "this is not HDF5";
  EXPECT_NE(failure(path("text.h5")).find("text.h5: not a readable HDF5"), std::string::npos);
  const std::string whole = write_numbered();
  const auto size = fs::file_size(whole);
  for (const double share : {0.1, 0.5, 0.9, 0.99}) {
    const std::string cut = path("cut.h5");
    fs::copy_file(whole, cut, fs::copy_options::overwrite_existing);
    fs::resize_file(cut, static_cast<uintmax_t>(static_cast<double>(size) * share));
    const std::string message = failure(cut);
    EXPECT_NE(message.find("cut.h5"), std::string::npos) << share;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST_F(ClipStoreTest, WrongShapesAreNamed) {
  const auto check = [this](const std::map<std::string, torch::Tensor>& datasets,
                            const std::string& expected) {
    write_hdf5(path("wrong.h5"), datasets);
    const std::string message = failure(path("wrong.h5"));
    EXPECT_NE(message.find("wrong.h5"), std::string::npos) << expected;
    EXPECT_NE(message.find(expected), std::string::npos) << message;
  };
  const torch::Tensor pixels = torch::zeros({6, 2, 2, 3}, torch::kUInt8);
  const torch::Tensor lengths = torch::tensor({3, 3}, torch::kInt32);
  const torch::Tensor offsets = torch::tensor({0, 3});
  check({{"ep_len", lengths}, {"ep_offset", offsets}}, "no dataset 'pixels'");
  check({{"pixels", pixels}, {"ep_offset", offsets}}, "no dataset 'ep_len'");
  check({{"pixels", pixels[0]}, {"ep_len", lengths}, {"ep_offset", offsets}}, "'pixels': expected");
  check({{"pixels", pixels.to(torch::kFloat32)}, {"ep_len", lengths}, {"ep_offset", offsets}},
        "expected uint8");
  check({{"pixels", pixels}, {"ep_len", lengths + 1}, {"ep_offset", offsets}}, "episode 1");
  check({{"pixels", pixels}, {"ep_len", lengths}, {"ep_offset", offsets - 1}}, "episode 0");
  check({{"pixels", pixels}, {"ep_len", lengths}, {"ep_offset", offsets.slice(0, 0, 1)}},
        "2 ep_len but 1 ep_offset");
  check({{"pixels", pixels},
         {"ep_len", lengths.slice(0, 0, 0)},
         {"ep_offset", offsets.slice(0, 0, 0)}},
        "no episodes");
  check({{"pixels", pixels}, {"ep_len", lengths.to(torch::kFloat32)}, {"ep_offset", offsets}},
        "'ep_len': expected integers");
}

TEST_F(ClipStoreTest, AWriterThatDoesNotFinishLeavesNothing) {
  const std::string file = path("half.h5");
  {
    ClipStoreWriter writer(file, {});
    writer.append({1, 2, 2, 1, {1, 2, 3, 4}});
    EXPECT_THROW(writer.append({1, 3, 2, 1, std::vector<uint8_t>(6)}), DataError);
    EXPECT_THROW(writer.finish({{"label", torch::arange(5)}}), DataError);
  }
  EXPECT_TRUE(fs::is_empty(folder_.path()));
  EXPECT_THROW(ClipStoreWriter(path("no/folder/x.h5"), {}), DataError);
}

}  // namespace
}  // namespace jepa

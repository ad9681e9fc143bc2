#include <jepa/data/clip_store.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/data/memory_source.hpp>
#include <jepa/data/readable_clips.hpp>
#include <jepa/errors.hpp>

#include <gtest/gtest.h>
#include <torch/nn/functional/upsampling.h>
#include <torch/types.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>

namespace jepa {
namespace {

/// Clips whose every pixel tells their number.
std::shared_ptr<MemorySource> numbered(int64_t count) {
  torch::Tensor clips = torch::arange(count).to(torch::kUInt8).view({count, 1, 1, 1, 1});
  clips = clips.expand({count, 2, 6, 5, 3}).contiguous();
  return std::make_shared<MemorySource>(
      clips, std::map<std::string, torch::Tensor>{{"label", torch::arange(count)}});
}

LoaderOptions options_for(int64_t threads) {
  LoaderOptions options;
  options.batch = 4;
  options.threads = threads;
  options.augment = {.crop = "random_resized", .size = 4, .flip = 0.5};
  return options;
}

bool same(const ClipBatch& a, const ClipBatch& b) {
  return a.clips.equal(b.clips) && a.indices.equal(b.indices);
}

/// Clips that cannot be read where their number divides by 5.
class FailingSource : public ClipSource {
 public:
  int64_t size() const override { return 20; }
  using ClipSource::read;
  RawClip read(int64_t index, Random&, const CropChooser&) const override {
    if (index % 5 == 0) throw DataError("clip " + std::to_string(index) + " is broken");
    return {1, 2, 2, 1, std::vector<uint8_t>(4, static_cast<uint8_t>(index))};
  }
};

TEST(ClipLoader, BatchesDoNotDependOnTheNumberOfThreads) {
  const auto source = numbered(30);
  ClipLoader alone(source, options_for(0), 3);
  ClipLoader one(source, options_for(1), 3);
  ClipLoader four(source, options_for(4), 3);
  ClipLoader other_seed(source, options_for(0), 4);
  bool seed_matters = false;
  for (int step = 0; step < 25; ++step) {
    const ClipBatch expected = alone.next();
    EXPECT_TRUE(same(expected, one.next())) << "step " << step;
    EXPECT_TRUE(same(expected, four.next())) << "step " << step;
    seed_matters = seed_matters || !same(expected, other_seed.next());
  }
  EXPECT_TRUE(seed_matters);
}

TEST(ClipLoader, SeekContinuesExactly) {
  const auto source = numbered(30);
  std::vector<ClipBatch> straight;
  ClipLoader loader(source, options_for(2), 1);
  for (int step = 0; step < 20; ++step) straight.push_back(loader.next());
  ClipLoader resumed(source, options_for(3), 1);
  resumed.next();
  for (const int64_t step : {17, 0, 9, 9}) {
    resumed.seek(step);
    EXPECT_TRUE(same(straight[static_cast<size_t>(step)], resumed.next())) << "step " << step;
    EXPECT_TRUE(same(straight[static_cast<size_t>(step + 1)], resumed.next())) << "step " << step;
  }
}

/// Counts what is read; a read waits until `together` are under way, at most a few seconds.
class CountingSource : public ClipSource {
 public:
  explicit CountingSource(int64_t together = 1) : together_(together) {}
  int64_t size() const override { return 8; }
  using ClipSource::read;
  RawClip read(int64_t index, Random&, const CropChooser&) const override {
    std::unique_lock lock(mutex_);
    ++reads_;
    changed_.notify_all();
    met_ = changed_.wait_for(lock, std::chrono::seconds(10), [&] { return reads_ >= together_; });
    return {1, 2, 2, 1, std::vector<uint8_t>(4, static_cast<uint8_t>(index))};
  }
  int64_t reads() const {
    const std::lock_guard lock(mutex_);
    return reads_;
  }
  bool met() const {
    const std::lock_guard lock(mutex_);
    return met_;
  }

 private:
  int64_t together_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable int64_t reads_ = 0;
  mutable bool met_ = false;
};

TEST(ClipLoader, SeekToWhereItStandsKeepsWhatIsPrepared) {
  const auto source = std::make_shared<CountingSource>();
  ClipLoader loader(source, {.batch = 4, .threads = 2, .prefetch = 2, .shuffle = false}, 0);
  while (source->reads() < 8) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  loader.seek(0);
  EXPECT_EQ(loader.next().size(), 4);
  EXPECT_EQ(loader.next().size(), 4);
  EXPECT_EQ(source->reads(), 8);
}

TEST(ClipLoader, ThreadsShareABatch) {
  const auto source = std::make_shared<CountingSource>(/*together=*/4);
  ClipLoader loader(source, {.batch = 4, .threads = 4, .prefetch = 1, .shuffle = false}, 0);
  EXPECT_EQ(loader.next().size(), 4);
  EXPECT_TRUE(source->met());
}

TEST(ClipLoader, EachPassHoldsEveryClipOnceInAnotherOrder) {
  LoaderOptions options = options_for(2);
  options.batch = 7;  // 30 clips: batches span the ends of passes
  ClipLoader loader(numbered(30), options, 0);
  std::vector<int64_t> seen;
  while (seen.size() < 60) {
    const ClipBatch batch = loader.next();
    for (int64_t i = 0; i < batch.size(); ++i) seen.push_back(batch.indices[i].item<int64_t>());
  }
  const std::vector<int64_t> first(seen.begin(), seen.begin() + 30);
  const std::vector<int64_t> second(seen.begin() + 30, seen.begin() + 60);
  EXPECT_EQ(std::set<int64_t>(first.begin(), first.end()).size(), 30U);
  EXPECT_EQ(std::set<int64_t>(second.begin(), second.end()).size(), 30U);
  EXPECT_NE(first, second);
}

TEST(ClipLoader, WithoutShuffleCoversTheSourceOnceInOrder) {
  LoaderOptions options = options_for(2);
  options.shuffle = false;
  options.batch = 8;
  ClipLoader loader(numbered(30), options, 0);
  EXPECT_EQ(loader.steps_per_pass(), 4);
  int64_t next = 0;
  for (ClipBatch batch = loader.next(); batch.size() > 0; batch = loader.next()) {
    for (int64_t i = 0; i < batch.size(); ++i, ++next) {
      EXPECT_EQ(batch.indices[i].item<int64_t>(), next);
      EXPECT_TRUE((batch.clips[i] == next).all().item<bool>());  // pixels tell the clip's number
    }
  }
  EXPECT_EQ(next, 30);
  EXPECT_EQ(loader.next().size(), 0);
  EXPECT_EQ(loader.stats().clips, 30);
}

TEST(ClipLoader, GivesChannelsFirst) {
  const torch::Tensor clips = torch::randint(256, {3, 4, 6, 5, 2}, torch::kUInt8);
  LoaderOptions options;
  options.batch = 3;
  options.shuffle = false;
  ClipLoader loader(std::make_shared<MemorySource>(clips, std::map<std::string, torch::Tensor>{}),
                    options, 0);
  EXPECT_TRUE(loader.next().clips.equal(clips.permute({0, 4, 1, 2, 3})));
}

TEST(ClipLoader, AnUnreadableClipIsAnErrorOfItsStep) {
  LoaderOptions options;
  options.batch = 4;
  options.shuffle = false;
  options.threads = 2;
  ClipLoader loader(std::make_shared<FailingSource>(), options, 0);
  EXPECT_THROW(loader.next(), DataError);  // clip 0
  EXPECT_THROW(loader.next(), DataError);  // clip 5
  EXPECT_THROW(loader.next(), DataError);  // clip 10
}

TEST(ClipLoader, ToleratedErrorsAreLeftOutAndReported) {
  LoaderOptions options;
  options.batch = 10;
  options.shuffle = false;
  options.max_errors = 3;
  ClipLoader loader(std::make_shared<FailingSource>(), options, 0);
  const ClipBatch batch = loader.next();
  EXPECT_EQ(batch.size(), 8);
  EXPECT_FALSE((batch.indices % 5 == 0).any().item<bool>());
  EXPECT_EQ(loader.stats().errors, 2);
  ASSERT_EQ(loader.stats().messages.size(), 2U);
  EXPECT_EQ(loader.stats().messages[1], "clip 5 is broken");
  EXPECT_THROW(loader.next(), DataError);  // the fourth is one too many
}

TEST(ClipLoader, ABatchOfWhichNothingIsLeftIsSkippedInOrder) {
  LoaderOptions options;
  options.batch = 1;
  options.max_errors = 100;
  options.shuffle = false;
  ClipLoader in_order(std::make_shared<FailingSource>(), options, 0);
  EXPECT_EQ(in_order.next().indices[0].item<int64_t>(), 1);  // clip 0 is broken
}

TEST(ClipLoader, AnotherClipTakesThePlaceOfOneThatIsLeftOut) {
  LoaderOptions options;
  options.batch = 4;
  options.max_errors = 4;  // as many as there are: each counts once, in however many passes
  const auto source = std::make_shared<FailingSource>();
  std::vector<ClipBatch> batches;
  for (const int64_t threads : {0, 3}) {
    options.threads = threads;
    ClipLoader loader(source, options, 7);
    for (int step = 0; step < 20; ++step) {
      const ClipBatch batch = loader.next();
      ASSERT_EQ(batch.size(), 4);
      EXPECT_FALSE((batch.indices % 5 == 0).any().item<bool>());
      if (threads == 0) batches.push_back(batch);
      EXPECT_TRUE(same(batch, batches[static_cast<size_t>(step)])) << "step " << step;
    }
    EXPECT_EQ(loader.stats().errors, 4);
    const std::set<std::string> named(loader.stats().messages.begin(),
                                      loader.stats().messages.end());
    EXPECT_EQ(named, (std::set<std::string>{"clip 0 is broken", "clip 10 is broken",
                                            "clip 15 is broken", "clip 5 is broken"}));
  }
  // What was met before does not matter, and clips that can be read stay where they were.
  ClipLoader resumed(source, options, 7);
  resumed.seek(13);
  EXPECT_TRUE(same(resumed.next(), batches[13]));
  const auto whole = numbered(20);
  ClipLoader undamaged(whole, options, 7);
  for (int step = 0; step < 20; ++step) {
    const torch::Tensor expected = undamaged.next().indices;
    const torch::Tensor readable = expected % 5 != 0;
    EXPECT_TRUE(batches[static_cast<size_t>(step)].indices.masked_select(readable).equal(
        expected.masked_select(readable)));
  }
}

TEST(ClipLoader, OneClipMoreThanMayFailIsAnError) {
  LoaderOptions options;
  options.batch = 4;
  options.max_errors = 3;
  ClipLoader loader(std::make_shared<FailingSource>(), options, 7);
  EXPECT_THROW(
      {
        for (int step = 0; step < 20; ++step) loader.next();
      },
      DataError);
  EXPECT_EQ(loader.stats().errors, 4);
}

/// No clip of it can be read.
class BrokenSource : public FailingSource {
 public:
  using FailingSource::read;
  RawClip read(int64_t index, Random&, const CropChooser&) const override {
    throw DataError("clip " + std::to_string(index) + " is broken");
  }
};

TEST(ClipLoader, ASourceOfWhichNothingCanBeReadIsAnError) {
  LoaderOptions options;
  options.batch = 4;
  options.max_errors = 1000;
  for (const bool shuffle : {true, false}) {
    options.shuffle = shuffle;
    ClipLoader loader(std::make_shared<BrokenSource>(), options, 0);
    if (shuffle) {
      EXPECT_THROW(loader.next(), DataError);
    } else {
      EXPECT_EQ(loader.next().size(), 0);
      EXPECT_EQ(loader.stats().errors, 20);
    }
  }
}

TEST(ClipLoader, TheFirstReadableClipGivesTheSizes) {
  const FailingSource source;
  EXPECT_EQ(first_readable_clip(source, 1).pixels[0], 1);  // clip 0 is broken
  EXPECT_THROW(first_readable_clip(source, 0), DataError);
  EXPECT_THROW(first_readable_clip(BrokenSource(), 1000), DataError);
}

TEST(ReadableClips, AreFoundOnce) {
  const auto source = std::make_shared<FailingSource>();
  std::vector<std::string> left_out;
  EXPECT_EQ(readable_clips(source, {.max_errors = 0}, left_out), source);
  EXPECT_TRUE(left_out.empty());
  LoaderOptions options{.batch = 4, .threads = 2, .max_errors = 1000};
  const auto some = readable_clips(source, options, left_out);
  EXPECT_EQ(some->size() + std::ssize(left_out), source->size());
  EXPECT_GT(left_out.size(), 0U);
  Random random(0);
  for (int64_t i = 0; i < some->size(); ++i) EXPECT_NO_THROW(some->read(i, random));
  options.max_errors = std::ssize(left_out) - 1;
  EXPECT_THROW(readable_clips(source, options, left_out), DataError);
  EXPECT_THROW(readable_clips(std::make_shared<BrokenSource>(), {.max_errors = 1000}, left_out),
               DataError);
}

TEST(ClipLoader, MicroBatchesAreTheBatchInParts) {
  const auto source = numbered(30);
  for (const bool shuffle : {true, false}) {
    LoaderOptions options = options_for(2);
    options.batch = 8;
    options.shuffle = shuffle;
    ClipLoader batches(source, options, 3);
    ClipLoader parts(source, options, 3, /*micro_batches=*/3);
    ClipLoader joined(source, options, 3, /*micro_batches=*/3);
    EXPECT_EQ(parts.micro_batches(), 3);
    for (int step = 0; step < 4; ++step) {
      const ClipBatch batch = batches.next();
      EXPECT_TRUE(same(joined.next(), batch)) << "step " << step;
      std::vector<torch::Tensor> clips;
      for (int64_t left = batch.size(); left > 0; left -= clips.back().size(0)) {
        clips.push_back(parts.next_micro_batch().clips);
        EXPECT_EQ(clips.back().size(0), std::min<int64_t>(left, clips.size() == 1 ? 2 : 3));
      }
      EXPECT_TRUE(torch::cat(clips).equal(batch.clips)) << "step " << step;
    }
    if (shuffle) {
      batches.seek(11);
      parts.seek(11);
      parts.next_micro_batch();
      EXPECT_TRUE(parts.next().clips.equal(batches.next().clips.slice(0, 2)));  // what is left
    } else {
      EXPECT_EQ(parts.next_micro_batch().size(), 0);
      EXPECT_EQ(joined.next().size(), 0);
    }
  }
}

TEST(ClipLoader, AShareIsItsRowsOfEachMicroBatch) {
  const auto source = std::make_shared<CountingSource>();
  for (const int64_t threads : {0, 2}) {
    LoaderOptions options = options_for(threads);
    options.batch = 8;
    ClipLoader all(numbered(30), options, 3, /*micro_batches=*/2);
    ClipLoader second(numbered(30), options, 3, /*micro_batches=*/2, {.index = 1, .count = 2});
    for (int step = 0; step < 6; ++step) {
      if (step == 4) {
        all.seek(11);
        second.seek(11);
      }
      for (int part = 0; part < 2; ++part) {
        const ClipBatch wanted = all.next_micro_batch().rows(2, 2);
        EXPECT_TRUE(same(second.next_micro_batch(), wanted)) << "step " << step;
      }
    }
  }
  EXPECT_THROW(ClipLoader(source, {.batch = 6}, 0, 2, {.index = 0, .count = 2}), ConfigError);
  EXPECT_THROW(ClipLoader(source, {.batch = 8, .shuffle = false}, 0, 1, {.index = 0, .count = 2}),
               ConfigError);
}

TEST(ClipLoader, AShareReadsNoOtherClips) {
  const auto source = std::make_shared<CountingSource>();
  ClipLoader loader(source, {.batch = 8, .threads = 0}, 0, 1, {.index = 0, .count = 4});
  EXPECT_EQ(loader.next_micro_batch().size(), 2);
  EXPECT_EQ(source->reads(), 2);
}

TEST(ClipLoader, MicroBatchesAreWhatIsPrepared) {
  const auto source = std::make_shared<CountingSource>();
  ClipLoader loader(source, {.batch = 8, .threads = 2, .prefetch = 2, .shuffle = false}, 0,
                    /*micro_batches=*/8);
  while (source->reads() < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(source->reads(), 2);  // not the 8 of a batch
  EXPECT_EQ(loader.next_micro_batch().size(), 1);
}

TEST(ClipLoader, SignalsComeWithTheirClips) {
  const torch::Tensor clips = torch::zeros({9, 2, 4, 4, 1}, torch::kUInt8);
  const torch::Tensor action = torch::rand({9, 2, 3});
  const auto source =
      std::make_shared<MemorySource>(clips, std::map<std::string, torch::Tensor>{},
                                     std::map<std::string, torch::Tensor>{{"action", action}});
  LoaderOptions options = options_for(2);
  options.augment.flip = 0;
  ClipLoader loader(source, options, 0);
  ClipLoader joined(source, options, 0, /*micro_batches=*/3);
  for (int step = 0; step < 5; ++step) {
    const ClipBatch batch = loader.next();
    EXPECT_TRUE(batch.signals.at("action").equal(action.index_select(0, batch.indices)));
    EXPECT_TRUE(joined.next().signals.at("action").equal(batch.signals.at("action")));
  }
  const auto held = hold_in_memory(*source, 12, 0);
  Random random(0);
  EXPECT_EQ(held->read(10, random).signals.at("action").values,
            source->read(1, random).signals.at("action").values);
  options.augment.flip = 0.5;  // a mirrored frame is not what its action says
  ClipLoader mirrored(source, options, 0);
  EXPECT_THROW(mirrored.next(), ConfigError);
  EXPECT_THROW(MemorySource(clips, {}, {{"action", action.slice(1, 0, 1)}}), DataError);
}

/// A source as a user writes it: one class, whose clips carry what it knows of each frame.
class OwnSource : public ClipSource {
 public:
  explicit OwnSource(size_t values) : values_(values) {}
  int64_t size() const override { return 3; }
  using ClipSource::read;
  RawClip read(int64_t index, Random&, const CropChooser&) const override {
    RawClip clip{2, 2, 2, 1, std::vector<uint8_t>(8, static_cast<uint8_t>(index))};
    clip.signals["speed"] = {1, std::vector<float>(values_, static_cast<float>(index))};
    return clip;
  }

 private:
  size_t values_;
};

TEST(ClipLoader, WhatASourceGivesIsChecked) {
  LoaderOptions options;
  options.batch = 3;
  options.shuffle = false;
  ClipLoader loader(std::make_shared<OwnSource>(2), options, 0);
  EXPECT_TRUE(loader.next().signals.at("speed").equal(
      torch::arange(3, torch::kFloat32).view({3, 1, 1}).expand({3, 2, 1})));
  ClipLoader wrong(std::make_shared<OwnSource>(3), options, 0);
  EXPECT_THROW(wrong.next(), DataError);
}

TEST(ClipLoader, RefusesASourceWithoutClips) {
  EXPECT_THROW(
      ClipLoader(std::make_shared<MemorySource>(torch::empty({0, 1, 2, 2, 1}, torch::kUInt8),
                                                std::map<std::string, torch::Tensor>{}),
                 {}, 0),
      DataError);
}

TEST(ClipLoader, HeldInMemoryIsTheSameClips) {
  const auto source = numbered(10);
  const auto held = hold_in_memory(*source, 25, 0);
  EXPECT_EQ(held->size(), 25);
  EXPECT_TRUE(held->column("label").equal(torch::arange(25) % 10));
  Random random(0);
  EXPECT_EQ(held->read(13, random).pixels, source->read(3, random).pixels);
}

TEST(Augmentation, BilinearMatchesTorch) {
  const torch::Tensor frame = torch::randint(256, {7, 9, 3}, torch::kUInt8);
  RawClip clip{
      1, 7, 9, 3, {frame.const_data_ptr<uint8_t>(), frame.const_data_ptr<uint8_t>() + 189}};
  const Augmentation augmentation({.crop = "random_resized", .size = 12});
  torch::Tensor out = torch::empty({3, 1, 12, 12}, torch::kUInt8);
  Random random(0);
  augmentation.write(clip, random, out.mutable_data_ptr<uint8_t>());
  const auto expected =
      torch::nn::functional::interpolate(frame.permute({2, 0, 1}).unsqueeze(0).to(torch::kFloat32),
                                         torch::nn::functional::InterpolateFuncOptions()
                                             .size(std::vector<int64_t>{12, 12})
                                             .mode(torch::kBilinear)
                                             .align_corners(false));
  EXPECT_LE((out.squeeze(1).to(torch::kFloat32) - expected[0]).abs().max().item<double>(), 0.501);
}

TEST(Augmentation, FlipMirrorsEveryFrame) {
  const torch::Tensor frames = torch::randint(256, {2, 3, 4, 1}, torch::kUInt8);
  RawClip clip{
      2, 3, 4, 1, {frames.const_data_ptr<uint8_t>(), frames.const_data_ptr<uint8_t>() + 24}};
  torch::Tensor out = torch::empty({1, 2, 3, 4}, torch::kUInt8);
  Random random(0);
  Augmentation({.flip = 1.0}).write(clip, random, out.mutable_data_ptr<uint8_t>());
  EXPECT_TRUE(out.equal(frames.flip({2}).permute({3, 0, 1, 2})));
}

TEST(Augmentation, RandomResizedStaysWithinItsRanges) {
  const Augmentation augmentation({.crop = "random_resized", .size = 8});
  Random random(5);
  double smallest = 1;
  double largest = 0;
  for (int i = 0; i < 2000; ++i) {
    const PixelRect part = augmentation.choose(120, 160, random);
    ASSERT_GE(part.top, 0);
    ASSERT_GE(part.left, 0);
    ASSERT_LE(part.top + part.height, 120);
    ASSERT_LE(part.left + part.width, 160);
    const double area = static_cast<double>(part.height * part.width) / (120.0 * 160.0);
    const double aspect = static_cast<double>(part.width) / static_cast<double>(part.height);
    ASSERT_NEAR(area, 0.65, 0.36);
    ASSERT_NEAR(std::log(aspect), 0.5 * std::log(1.35 * 0.75), 0.5 * std::log(1.35 / 0.75) + 0.02);
    smallest = std::min(smallest, area);
    largest = std::max(largest, area);
  }
  EXPECT_LT(smallest, 0.35);
  EXPECT_GT(largest, 0.9);
}

TEST(Augmentation, RandomCropKeepsPixelsAndRefusesSmallFrames) {
  const Augmentation augmentation({.crop = "random", .size = 8});
  Random random(0);
  const PixelRect part = augmentation.choose(20, 30, random);
  EXPECT_EQ(part.height, 8);
  EXPECT_EQ(part.width, 8);
  EXPECT_THROW(augmentation.choose(7, 30, random), DataError);
  EXPECT_THROW(Augmentation({.crop = "random"}), ConfigError);
}

}  // namespace
}  // namespace jepa

// Batches of clips, prepared ahead by threads. The batch of a step is a function of (seed, step)
// alone: it depends neither on the number of threads nor on what was read before.
#pragma once

#include <jepa/data/augment.hpp>
#include <jepa/data/clip_source.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa {

/// What a training or evaluation step works on.
struct ClipBatch {
  torch::Tensor clips = {};    ///< uint8 [B, C, T, H, W]
  torch::Tensor indices = {};  ///< int64 [B], each clip's number in its source
  /// Values of each frame, float32 [B, T, K], by name; which ones is chosen where the source is
  /// made (ClipOptions::signals).
  std::map<std::string, torch::Tensor> signals = {};

  int64_t size() const { return indices.defined() ? indices.size(0) : 0; }
  /// `count` of its clips from `start` on, without a copy.
  ClipBatch rows(int64_t start, int64_t count) const;
};

/// How batches are made.
struct LoaderOptions {
  int64_t batch = 64;
  int64_t threads = 1;     ///< 0: clips are read by the caller of next()
  int64_t prefetch = 3;    ///< batches (or micro-batches) prepared ahead; threads share their clips
  bool shuffle = true;     ///< false: the source's order, once, with a smaller last batch
  int64_t max_errors = 0;  ///< different clips that may fail before it is an error
  AugmentOptions augment = {};  ///< described by itself, as a section of its own

  void describe(OptionVisitor& visit);
};

/// Which rows of each micro-batch are wanted: part `index` of `count` equal ones. So each of
/// several processes reads its own clips of a batch that they share.
struct LoaderShare {
  int64_t index = 0;
  int64_t count = 1;
};

/// What the loader did so far.
struct LoaderStats {
  double wait_seconds = 0;            ///< time that next() waited for a batch
  int64_t batches = 0;                ///< delivered; micro-batches where those are
  int64_t clips = 0;                  ///< delivered
  int64_t errors = 0;                 ///< different clips left out since they could not be read
  std::vector<std::string> messages;  ///< one for each of them: its file and why (at most 1000)
};

/// Reads, augments and batches clips in threads of its own.
///
/// With `shuffle`, step s holds the clips s*B .. (s+1)*B - 1 of an endless sequence of passes over
/// the source, each in an order drawn from (seed, pass). All that is random in a clip is drawn from
/// (seed, its place in that sequence).
///
/// A clip that cannot be read is an error, thrown by the next() that should have held it. With
/// `max_errors` > 0, so many different clips are left out instead, counted and reported in the
/// stats. With `shuffle` another clip takes the place of one that is left out, drawn from (seed,
/// place) and not in the batch already, so that batches keep their size; without, they get smaller.
///
/// With `micro_batches`, what is prepared and handed out are the micro-batches of each step: its
/// batch, in order, in so many parts of nearly the same size. Then no whole batch is held, unless
/// next() asks for one, and `prefetch` counts micro-batches.
class ClipLoader {
 public:
  /// @param micro_batches of a step; at most as many as it has clips
  /// @param share the rows that are read and handed out; `options.batch` counts all
  /// @throws DataError where the source is empty; ConfigError where options contradict each other,
  ///   or micro-batches do not divide over the share
  ClipLoader(std::shared_ptr<const ClipSource> source, const LoaderOptions& options, uint64_t seed,
             int64_t micro_batches = 1, LoaderShare share = {});
  ~ClipLoader();
  ClipLoader(const ClipLoader&) = delete;
  ClipLoader& operator=(const ClipLoader&) = delete;

  /// The batch of the next step (what is left of it, after next_micro_batch()). Without `shuffle`,
  /// past the end: an empty batch (`size() == 0`).
  /// @throws DataError naming what could not be read; ConfigError where frames with signals are to
  /// be mirrored
  ClipBatch next();

  /// The next micro-batch; a step has `micro_batches()` of them (without `shuffle`, the last step
  /// may have fewer). Ends and errors are those of next().
  ClipBatch next_micro_batch();
  int64_t micro_batches() const;
  const LoaderOptions& options() const;
  const LoaderShare& share() const;

  /// Makes `step` the next one (0: the first), for exact resume. Where it is already, what has been
  /// prepared stays.
  void seek(int64_t step);

  /// Steps of one pass, the smaller last batch included.
  int64_t steps_per_pass() const;

  const LoaderStats& stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// The first clip of `source` that can be read, whole, for its sizes.
/// @throws DataError of the last one tried, where more than `max_errors` clips or all of them fail
RawClip first_readable_clip(const ClipSource& source, int64_t max_errors);

}  // namespace jepa

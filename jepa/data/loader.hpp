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
  std::map<std::string, torch::Tensor> signals = {};  ///< by name, float32 [B, T, k]

  int64_t size() const { return indices.defined() ? indices.size(0) : 0; }
  /// `count` of its clips from `start` on, without a copy.
  ClipBatch rows(int64_t start, int64_t count) const;
};

/// How batches are made.
struct LoaderOptions {
  int64_t batch = 64;
  int64_t threads = 1;          ///< 0: clips are read by the caller of next()
  int64_t prefetch = 3;         ///< batches prepared ahead; threads share a batch's clips
  bool shuffle = true;          ///< false: the source's order, once, with a smaller last batch
  int64_t max_errors = 0;       ///< clips that may fail before it counts as an error
  AugmentOptions augment = {};  ///< described by itself, as a section of its own

  void describe(OptionVisitor& visit);
};

/// What the loader did so far.
struct LoaderStats {
  double wait_seconds = 0;  ///< time that next() waited for a batch
  int64_t batches = 0;      ///< delivered
  int64_t clips = 0;        ///< delivered
  int64_t errors = 0;       ///< clips left out of their batch since they could not be read
  std::vector<std::string> messages;  ///< of the first of them (at most 20)
};

/// Reads, augments and batches clips in threads of its own.
///
/// With `shuffle`, step s holds the clips s*B .. (s+1)*B - 1 of an endless sequence of passes over
/// the source, each in an order drawn from (seed, pass). All that is random in a clip is drawn from
/// (seed, its place in that sequence).
///
/// A clip that cannot be read is an error, thrown by the next() that should have held it. With
/// `max_errors` > 0, so many are left out of their batch instead (which is then smaller), counted
/// and reported in the stats; nothing takes their place.
class ClipLoader {
 public:
  /// @throws DataError where the source is empty; ConfigError where options contradict each other
  ClipLoader(std::shared_ptr<const ClipSource> source, const LoaderOptions& options, uint64_t seed);
  ~ClipLoader();
  ClipLoader(const ClipLoader&) = delete;
  ClipLoader& operator=(const ClipLoader&) = delete;

  /// The batch of the next step. Without `shuffle`, past the end: an empty batch (`size() == 0`).
  /// @throws DataError naming what could not be read
  ClipBatch next();

  /// Makes `step` the next one (0: the first), for exact resume. Where it is already, what has been
  /// prepared stays.
  void seek(int64_t step);

  /// Steps of one pass, the smaller last batch included.
  int64_t steps_per_pass() const;

  LoaderStats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace jepa

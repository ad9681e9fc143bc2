#include <jepa/data/loader.hpp>
#include <jepa/data/pass_order.hpp>
#include <jepa/data/plain_batch.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <thread>

namespace jepa {
namespace {

constexpr size_t kMessages = 1000;

}  // namespace

void LoaderOptions::describe(OptionVisitor& visit) {
  visit("batch", batch, {.help = "clips a batch", .min = 1});
  visit("threads", threads,
        {.help = "threads that prepare clips; 0: the caller does", .min = 0, .max = 256});
  visit("prefetch", prefetch, {.help = "batches prepared ahead", .min = 1, .max = 1024});
  visit("shuffle", shuffle, {.help = "false: the source's order, once"});
  visit("max_errors", max_errors,
        {.help = "different unreadable clips that are left out and reported before it is an error",
         .min = 0});
}

class ClipLoader::Impl {
 public:
  Impl(std::shared_ptr<const ClipSource> source, const LoaderOptions& options, uint64_t seed,
       int64_t parts, LoaderShare share)
      : source_(std::move(source)),
        options_(options),
        seed_(seed),
        share_(share),
        augmentation_(options.augment),
        order_(source_->size(), options.shuffle, seed) {
    if (source_->size() < 1) throw DataError("the data has no clips");
    if (options_.batch < 1) throw ConfigError("batch: expected at least 1");
    if (parts < 1) throw ConfigError("micro-batches of a step: expected at least 1");
    if (options_.threads > 0 && options_.prefetch < 1) {
      throw ConfigError("prefetch: expected at least 1");
    }
    parts_ = std::min(parts, options_.batch);
    check_share();
    claimed_ = own_place(0);
    for (int64_t i = 0; i < options_.threads; ++i) threads_.emplace_back([this] { work(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_workers_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  ClipBatch next() {
    std::vector<ClipBatch> parts;
    while (more()) {
      ClipBatch part = deliver();
      if (part.size() > 0) parts.push_back(std::move(part));
      if (part_ % parts_ == 0 && !parts.empty()) break;
    }
    return parts.empty() ? ClipBatch{} : join_batches(std::move(parts), *source_);
  }

  ClipBatch next_micro_batch() {
    while (more()) {
      ClipBatch part = deliver();
      if (part.size() > 0) return part;
    }
    return {};
  }

  void seek(int64_t step) {
    TORCH_CHECK(step >= 0, "expected a step of at least 0, found ", step);
    {
      const std::lock_guard lock(mutex_);
      if (step * parts_ == part_) return;  // what is prepared is what is wanted
      ++generation_;
      making_.clear();
      ready_.clear();
      part_ = step * parts_;
      claimed_ = own_place(step * options_.batch);
    }
    wake_workers_.notify_all();
  }

  int64_t steps_per_pass() const { return (source_->size() + options_.batch - 1) / options_.batch; }
  int64_t micro_batches() const { return parts_; }
  const LoaderOptions& options() const { return options_; }
  const LoaderShare& share() const { return share_; }

  const LoaderStats& stats() const { return stats_; }

 private:
  /// A micro-batch whose clips the threads are making.
  struct Making {
    std::vector<PlainClip> clips;
    int64_t missing = 0;
  };

  // Micro-batches ("parts") are numbered through: part p of step s is s * parts_ + p.
  // Part p of a batch of B clips starts at its clip floor(p B / parts): sizes differ by one at
  // most.
  int64_t first_place(int64_t part) const {
    return part / parts_ * options_.batch + part % parts_ * options_.batch / parts_;
  }
  int64_t part_of(int64_t place) const {
    const int64_t row = place % options_.batch;
    return place / options_.batch * parts_ + ((row + 1) * parts_ - 1) / options_.batch;
  }
  /// Clips of a micro-batch that are of the share, and the first one's place.
  int64_t clips_in(int64_t part) const { return all_clips_in(part) / share_.count; }
  int64_t first_own(int64_t part) const {
    return first_place(part) + share_.index * clips_in(part);
  }
  int64_t all_clips_in(int64_t part) const {
    const int64_t end = first_place(part + 1);
    return (options_.shuffle ? end : std::min(end, source_->size())) - first_place(part);
  }
  /// The first place from `place` on that is of the share.
  int64_t own_place(int64_t place) const {
    if (share_.count == 1) return place;
    const int64_t part = part_of(place);
    if (place < first_own(part)) return first_own(part);
    return place < first_own(part) + clips_in(part) ? place : first_own(part + 1);
  }
  void check_share() const {
    if (share_.count == 1) return;
    TORCH_CHECK(share_.index >= 0 && share_.index < share_.count, "part ", share_.index, " of ",
                share_.count);
    if (!options_.shuffle) throw ConfigError("loader.shuffle = false: one process reads alone");
    for (int64_t part = 0; part < parts_; ++part) {
      if (all_clips_in(part) % share_.count == 0) continue;
      throw ConfigError("a micro-batch of " + std::to_string(all_clips_in(part)) +
                        " clips does not divide over " + std::to_string(share_.count) +
                        " processes");
    }
  }
  bool more() const { return options_.shuffle || first_place(part_) < source_->size(); }

  /// The next micro-batch; empty where all of its clips are left out.
  ClipBatch deliver() {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    PlainBatch plain = options_.threads == 0 ? make(part_) : take(part_);
    stats_.wait_seconds += std::chrono::duration<double>(Clock::now() - start).count();
    advance();
    if (options_.max_errors > 0) count_lost(plain);
    if (plain.failure) std::rethrow_exception(plain.failure);
    stats_.batches += plain.indices.empty() ? 0 : 1;
    stats_.clips += static_cast<int64_t>(plain.indices.size());
    return plain.indices.empty() ? ClipBatch{} : wrap_batch(std::move(plain));
  }

  /// What a thread does until the loader goes: claim the next clip, prepare it, put it into its
  /// micro-batch. Whoever brings the last clip puts the micro-batch together.
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_workers_.wait(lock, [this] { return stop_ || may_claim(); });
      if (stop_) return;
      const int64_t place = claimed_;
      claimed_ = own_place(place + 1);
      const int64_t part = part_of(place);
      const int64_t generation = generation_;
      lock.unlock();
      PlainClip clip = make_clip(place);
      lock.lock();
      if (generation != generation_) continue;  // seek() made it stale
      Making& making = making_[part];
      if (making.clips.empty()) {
        making.missing = clips_in(part);
        making.clips.resize(static_cast<size_t>(making.missing));
      }
      making.clips[static_cast<size_t>(place - first_own(part))] = std::move(clip);
      if (--making.missing > 0) continue;
      std::vector<PlainClip> clips = std::move(making.clips);
      making_.erase(part);
      lock.unlock();
      PlainBatch batch = join_clips(std::move(clips), *source_, options_);
      lock.lock();
      if (generation != generation_) continue;
      ready_[part] = std::move(batch);
      wake_consumer_.notify_all();
    }
  }

  bool may_claim() const {
    return part_of(claimed_) < part_ + options_.prefetch &&
           (options_.shuffle || claimed_ < source_->size());
  }

  PlainBatch take(int64_t part) {
    std::unique_lock lock(mutex_);
    wake_consumer_.wait(lock, [this, part] { return ready_.contains(part); });
    return std::move(ready_.extract(part).mapped());
  }

  void advance() {
    {
      const std::lock_guard lock(mutex_);
      ++part_;
    }
    wake_workers_.notify_all();
  }

  int64_t clip_at(int64_t place) {
    const std::lock_guard lock(order_mutex_);
    return order_.clip(place);
  }

  PlainBatch make(int64_t part) {
    std::vector<PlainClip> clips;
    for (int64_t i = 0; i < clips_in(part); ++i) clips.push_back(make_clip(first_own(part) + i));
    return join_clips(std::move(clips), *source_, options_);
  }

  /// The clip at a place of the endless sequence, or what stands in for it.
  PlainClip make_clip(int64_t place) {
    PlainClip made = read_clip(clip_at(place), Random(seed_, "clip", static_cast<uint64_t>(place)));
    const bool tolerated = !made.lost.empty() && options_.max_errors > 0;
    return tolerated && options_.shuffle ? refill(place, std::move(made)) : std::move(made);
  }

  /// Another clip in the place of one that cannot be read: a function of (seed, place), whatever
  /// the threads have found so far. Given up once more clips fail than may.
  PlainClip refill(int64_t place, PlainClip made) {
    constexpr int64_t tries = 1000;  // draws; only clips that are new are read
    const int64_t size = source_->size();
    std::set<int64_t> taken{made.index};
    if (size > 2 * options_.batch) {
      const int64_t start = place / options_.batch * options_.batch;
      for (int64_t i = 0; i < options_.batch; ++i) taken.insert(clip_at(start + i));
    }
    Random draw(seed_, "refill", static_cast<uint64_t>(place));
    std::vector<LostClip> lost = made.lost;
    for (int64_t i = 0; i < tries && std::ssize(lost) <= options_.max_errors; ++i) {
      const int64_t index = draw.below(size);
      Random random(draw.bits());
      if (!taken.insert(index).second) continue;
      PlainClip other = read_clip(index, random);
      if (other.failure && other.lost.empty()) return other;  // no matter of data
      lost.insert(lost.end(), other.lost.begin(), other.lost.end());
      if (other.failure) continue;
      other.lost = std::move(lost);
      return other;
    }
    made.lost = std::move(lost);
    return made;
  }

  PlainClip read_clip(int64_t index, Random random) const {
    PlainClip made;
    made.index = index;
    try {
      RawClip clip = source_->read(index, random, [&](int64_t height, int64_t width, Random& draw) {
        try {
          return augmentation_.choose(height, width, draw);
        } catch (const DataError& error) {
          throw DataError(source_->name(index) + ": " + error.what());
        }
      });
      check_clip(clip, index);
      const int64_t shape[4] = {clip.channels, clip.frames, augmentation_.out_height(clip),
                                augmentation_.out_width(clip)};
      std::copy(shape, shape + 4, made.shape);
      made.pixels.resize(static_cast<size_t>(shape[0] * shape[1] * shape[2] * shape[3]));
      augmentation_.write(clip, random, made.pixels.data());
      made.signals = std::move(clip.signals);
    } catch (const DataError& error) {
      made.lost.push_back({index, error.what()});
      made.failure = std::current_exception();
    } catch (...) {
      made.failure = std::current_exception();
    }
    return made;
  }

  /// What a source gives must be of the size that it says.
  void check_clip(const RawClip& clip, int64_t index) const {
    if (std::ssize(clip.pixels) != clip.frames * clip.frame_bytes()) {
      throw DataError(source_->name(index) + ": " + std::to_string(clip.pixels.size()) +
                      " bytes of pixels, expected " +
                      std::to_string(clip.frames * clip.frame_bytes()));
    }
    for (const auto& [name, signal] : clip.signals) {
      if (std::ssize(signal.values) == clip.frames * signal.width) continue;
      throw DataError(source_->name(index) + ": signal '" + name +
                      "': " + std::to_string(signal.values.size()) + " values, expected " +
                      std::to_string(clip.frames) + " x " + std::to_string(signal.width));
    }
    if (!clip.signals.empty() && options_.augment.flip > 0) {
      throw ConfigError("flip: mirrored frames do not match their signals (" +
                        clip.signals.begin()->first + ")");
    }
  }

  /// Counts each clip once, however often it is met.
  void count_lost(const PlainBatch& batch) {
    for (const auto& lost : batch.lost) {
      if (!left_out_.insert(lost.index).second) continue;
      ++stats_.errors;
      if (stats_.messages.size() < kMessages) stats_.messages.push_back(lost.message);
      if (stats_.errors <= options_.max_errors) continue;
      throw DataError(lost.message + " (" + std::to_string(stats_.errors) +
                      " clips could not be read)");
    }
  }

  std::shared_ptr<const ClipSource> source_;
  LoaderOptions options_;
  uint64_t seed_;
  LoaderShare share_;
  Augmentation augmentation_;
  int64_t parts_ = 1;  // micro-batches a step
  std::mutex order_mutex_;
  PassOrder order_;
  LoaderStats stats_;
  std::set<int64_t> left_out_;

  std::mutex mutex_;  // guards everything below
  std::condition_variable wake_workers_;
  std::condition_variable wake_consumer_;
  std::map<int64_t, Making> making_;
  std::map<int64_t, PlainBatch> ready_;
  int64_t part_ = 0;     // the one delivered next; written under the lock by the consumer only
  int64_t claimed_ = 0;  // place of the first clip that no thread has taken
  int64_t generation_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

ClipBatch ClipBatch::rows(int64_t start, int64_t count) const {
  ClipBatch part{.clips = clips.narrow(0, start, count),
                 .indices = indices.narrow(0, start, count),
                 .signals = {}};
  for (const auto& [name, values] : signals) part.signals[name] = values.narrow(0, start, count);
  return part;
}

ClipLoader::ClipLoader(std::shared_ptr<const ClipSource> source, const LoaderOptions& options,
                       uint64_t seed, int64_t micro_batches, LoaderShare share)
    : impl_(std::make_unique<Impl>(std::move(source), options, seed, micro_batches, share)) {}
ClipLoader::~ClipLoader() = default;
ClipBatch ClipLoader::next() { return impl_->next(); }
ClipBatch ClipLoader::next_micro_batch() { return impl_->next_micro_batch(); }
int64_t ClipLoader::micro_batches() const { return impl_->micro_batches(); }
const LoaderOptions& ClipLoader::options() const { return impl_->options(); }
const LoaderShare& ClipLoader::share() const { return impl_->share(); }
void ClipLoader::seek(int64_t step) { impl_->seek(step); }
int64_t ClipLoader::steps_per_pass() const { return impl_->steps_per_pass(); }
const LoaderStats& ClipLoader::stats() const { return impl_->stats(); }

RawClip first_readable_clip(const ClipSource& source, int64_t max_errors) {
  for (int64_t i = 0;; ++i) {
    try {
      Random random(0);
      return source.read(i, random);
    } catch (const DataError&) {
      if (i >= max_errors || i + 1 >= source.size()) throw;
    }
  }
}

}  // namespace jepa

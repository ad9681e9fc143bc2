#include <jepa/data/loader.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <sstream>
#include <thread>

namespace jepa {
namespace {

constexpr size_t kMessages = 20;

/// A clip in plain memory, as a thread makes it.
struct PlainClip {
  std::vector<uint8_t> pixels;      ///< [C, T, H, W]
  int64_t index = 0;                ///< in its source
  int64_t shape[4] = {0, 0, 0, 0};  ///< C, T, H, W
  std::string message;              ///< why it could not be read
  std::exception_ptr failure;
};

/// A batch in plain memory, put together from its clips.
struct PlainBatch {
  std::vector<uint8_t> clips;  ///< [B, C, T, H, W]
  std::vector<int64_t> indices;
  int64_t shape[4] = {0, 0, 0, 0};    ///< C, T, H, W
  std::vector<std::string> messages;  ///< of the clips that could not be read
  std::exception_ptr failure;
};

/// The orders of the passes over a source.
class PassOrder {
 public:
  PassOrder(int64_t size, bool shuffle, uint64_t seed)
      : size_(size), shuffle_(shuffle), seed_(seed) {}

  /// The clip at `place` in the endless sequence of passes.
  int64_t clip(int64_t place) {
    if (!shuffle_) return place % size_;
    const int64_t pass = place / size_;
    return orders_of(pass)[static_cast<size_t>(place % size_)];
  }

 private:
  /// Keeps two passes: a batch may span the end of one and the start of the next.
  const std::vector<int64_t>& orders_of(int64_t pass) {
    auto found = orders_.find(pass);
    if (found == orders_.end()) {
      if (orders_.size() >= 2) orders_.clear();
      std::vector<int64_t> order(static_cast<size_t>(size_));
      std::iota(order.begin(), order.end(), 0);
      Random random(seed_, "order", static_cast<uint64_t>(pass));
      for (int64_t i = size_ - 1; i > 0; --i) {
        std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(random.below(i + 1))]);
      }
      found = orders_.emplace(pass, std::move(order)).first;
    }
    return found->second;
  }

  int64_t size_;
  bool shuffle_;
  uint64_t seed_;
  std::map<int64_t, std::vector<int64_t>> orders_;
};

}  // namespace

void LoaderOptions::describe(OptionVisitor& visit) {
  visit("batch", batch, {.help = "clips a batch", .min = 1});
  visit("threads", threads,
        {.help = "threads that prepare clips; 0: the caller does", .min = 0, .max = 256});
  visit("prefetch", prefetch, {.help = "batches prepared ahead", .min = 1, .max = 1024});
  visit("shuffle", shuffle, {.help = "false: the source's order, once"});
  visit(
      "max_errors", max_errors,
      {.help = "unreadable clips that are left out and reported before it is an error", .min = 0});
}

class ClipLoader::Impl {
 public:
  Impl(std::shared_ptr<const ClipSource> source, const LoaderOptions& options, uint64_t seed)
      : source_(std::move(source)),
        options_(options),
        seed_(seed),
        augmentation_(options.augment),
        order_(source_->size(), options.shuffle, seed) {
    if (source_->size() < 1) throw DataError("the data has no clips");
    if (options_.batch < 1) throw ConfigError("batch: expected at least 1");
    if (options_.threads > 0 && options_.prefetch < 1) {
      throw ConfigError("prefetch: expected at least 1");
    }
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
    using Clock = std::chrono::steady_clock;
    while (options_.shuffle || step_ < steps_per_pass()) {
      const auto start = Clock::now();
      PlainBatch plain = options_.threads == 0 ? make(step_) : take(step_);
      stats_.wait_seconds += std::chrono::duration<double>(Clock::now() - start).count();
      advance();
      if (plain.failure) std::rethrow_exception(plain.failure);
      count_errors(plain);
      if (!plain.indices.empty()) return wrap(std::move(plain));
    }
    return {};
  }

  void seek(int64_t step) {
    TORCH_CHECK(step >= 0, "expected a step of at least 0, found ", step);
    {
      const std::lock_guard lock(mutex_);
      if (step == step_) return;  // what is prepared is what is wanted
      ++generation_;
      making_.clear();
      ready_.clear();
      step_ = step;
      claimed_ = step * options_.batch;
    }
    wake_workers_.notify_all();
  }

  int64_t steps_per_pass() const { return (source_->size() + options_.batch - 1) / options_.batch; }

  const LoaderStats& stats() const { return stats_; }

 private:
  /// A batch whose clips the threads are making.
  struct Making {
    std::vector<PlainClip> clips;
    int64_t missing = 0;
  };

  /// What a thread does until the loader goes: claim the next clip, prepare it, put it into its
  /// batch. Whoever brings a batch's last clip puts the batch together.
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_workers_.wait(lock, [this] { return stop_ || may_claim(); });
      if (stop_) return;
      const int64_t place = claimed_++;
      const int64_t step = place / options_.batch;
      const int64_t generation = generation_;
      lock.unlock();
      PlainClip clip = make_clip(place);
      lock.lock();
      if (generation != generation_) continue;  // seek() made it stale
      Making& making = making_[step];
      if (making.clips.empty()) {
        making.missing = clips_in(step);
        making.clips.resize(static_cast<size_t>(making.missing));
      }
      making.clips[static_cast<size_t>(place % options_.batch)] = std::move(clip);
      if (--making.missing > 0) continue;
      std::vector<PlainClip> clips = std::move(making.clips);
      making_.erase(step);
      lock.unlock();
      PlainBatch batch = join(std::move(clips));
      lock.lock();
      if (generation != generation_) continue;
      ready_[step] = std::move(batch);
      wake_consumer_.notify_all();
    }
  }

  bool may_claim() const {
    return claimed_ / options_.batch < step_ + options_.prefetch &&
           (options_.shuffle || claimed_ < source_->size());
  }

  int64_t clips_in(int64_t step) const {
    if (options_.shuffle) return options_.batch;
    return std::min(options_.batch, source_->size() - step * options_.batch);
  }

  PlainBatch take(int64_t step) {
    std::unique_lock lock(mutex_);
    wake_consumer_.wait(lock, [this, step] { return ready_.contains(step); });
    return std::move(ready_.extract(step).mapped());
  }

  void advance() {
    {
      const std::lock_guard lock(mutex_);
      ++step_;
    }
    wake_workers_.notify_all();
  }

  int64_t clip_at(int64_t place) {
    const std::lock_guard lock(order_mutex_);
    return order_.clip(place);
  }

  PlainBatch make(int64_t step) {
    std::vector<PlainClip> clips;
    for (int64_t i = 0; i < clips_in(step); ++i) {
      clips.push_back(make_clip(step * options_.batch + i));
    }
    return join(std::move(clips));
  }

  PlainClip make_clip(int64_t place) {
    PlainClip made;
    try {
      made.index = clip_at(place);
      Random random(seed_, "clip", static_cast<uint64_t>(place));
      const RawClip clip =
          source_->read(made.index, random, [this](int64_t height, int64_t width, Random& draw) {
            return augmentation_.choose(height, width, draw);
          });
      const int64_t shape[4] = {clip.channels, clip.frames, augmentation_.out_height(clip),
                                augmentation_.out_width(clip)};
      std::copy(shape, shape + 4, made.shape);
      made.pixels.resize(static_cast<size_t>(shape[0] * shape[1] * shape[2] * shape[3]));
      augmentation_.write(clip, random, made.pixels.data());
    } catch (const DataError& error) {
      made.message = error.what();
      made.failure = std::current_exception();
    } catch (...) {
      made.failure = std::current_exception();
    }
    return made;
  }

  /// The clips one behind the other, each released once it is copied. Those that could not be read
  /// are left out where that is allowed; else the first of them is the batch's failure.
  PlainBatch join(std::vector<PlainClip> clips) const {
    PlainBatch batch;
    try {
      for (auto& made : clips) {
        const PlainClip clip = std::move(made);
        if (clip.failure) {
          if (clip.message.empty() || options_.max_errors == 0) {
            std::rethrow_exception(clip.failure);
          }
          batch.messages.push_back(clip.message);
          continue;
        }
        if (batch.indices.empty()) {
          std::copy(clip.shape, clip.shape + 4, batch.shape);
          batch.clips.reserve(clip.pixels.size() * clips.size());
        } else if (!std::equal(clip.shape, clip.shape + 4, batch.shape)) {
          throw DataError("clip " + std::to_string(clip.index) + ": " + shape_text(clip.shape) +
                          ", others of its batch " + shape_text(batch.shape) +
                          "; a crop makes sizes equal");
        }
        batch.clips.insert(batch.clips.end(), clip.pixels.begin(), clip.pixels.end());
        batch.indices.push_back(clip.index);
      }
    } catch (...) {
      batch.failure = std::current_exception();
    }
    return batch;
  }

  static std::string shape_text(const int64_t* shape) {
    std::ostringstream text;
    text << shape[1] << " frames of " << shape[2] << " x " << shape[3] << " x " << shape[0];
    return text.str();
  }

  void count_errors(const PlainBatch& batch) {
    stats_.errors += static_cast<int64_t>(batch.messages.size());
    for (const auto& message : batch.messages) {
      if (stats_.messages.size() < kMessages) stats_.messages.push_back(message);
    }
    // With shuffle each step has its own batch, so that none of a step's clips is left is an error.
    if (stats_.errors > options_.max_errors || (options_.shuffle && batch.indices.empty())) {
      throw DataError(batch.messages.back() + " (" + std::to_string(stats_.errors) +
                      " clips could not be read)");
    }
    stats_.batches += batch.indices.empty() ? 0 : 1;
    stats_.clips += static_cast<int64_t>(batch.indices.size());
  }

  /// Tensors over the batch's memory, which lives as long as they do.
  static ClipBatch wrap(PlainBatch plain) {
    auto owner = std::make_shared<PlainBatch>(std::move(plain));
    const auto count = static_cast<int64_t>(owner->indices.size());
    const auto& shape = owner->shape;
    ClipBatch batch;
    batch.clips = torch::from_blob(
        owner->clips.data(), {count, shape[0], shape[1], shape[2], shape[3]}, [owner](void*) {},
        torch::kUInt8);
    batch.indices = torch::from_blob(
        owner->indices.data(), {count}, [owner](void*) {}, torch::kInt64);
    return batch;
  }

  std::shared_ptr<const ClipSource> source_;
  LoaderOptions options_;
  uint64_t seed_;
  Augmentation augmentation_;
  std::mutex order_mutex_;
  PassOrder order_;
  LoaderStats stats_;

  std::mutex mutex_;  // guards everything below
  std::condition_variable wake_workers_;
  std::condition_variable wake_consumer_;
  std::map<int64_t, Making> making_;
  std::map<int64_t, PlainBatch> ready_;
  int64_t step_ = 0;     // the one next() delivers; written under the lock by the consumer only
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
                       uint64_t seed)
    : impl_(std::make_unique<Impl>(std::move(source), options, seed)) {}
ClipLoader::~ClipLoader() = default;
ClipBatch ClipLoader::next() { return impl_->next(); }
void ClipLoader::seek(int64_t step) { impl_->seek(step); }
int64_t ClipLoader::steps_per_pass() const { return impl_->steps_per_pass(); }
LoaderStats ClipLoader::stats() const { return impl_->stats(); }

}  // namespace jepa

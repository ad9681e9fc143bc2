// Batches of 64 moving-digit clips, 8 frames of 32 x 32, by one loader thread: how fast a trainer
// could take them.
#include <jepa/data/clip_store.hpp>
#include <jepa/data/generated.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/data/memory_source.hpp>

#include <benchmark/benchmark.h>

#include <filesystem>
#include <unistd.h>

namespace {

using namespace jepa;
namespace fs = std::filesystem;

constexpr int64_t kClips = 1024;

std::shared_ptr<ClipSource> digits() {
  return std::make_shared<GeneratedSource>(GeneratedOptions{.clips = kClips}, 0);
}

/// The digits as a clip store, in a folder that goes with it.
class StoreFolder {
 public:
  StoreFolder() : folder_(fs::temp_directory_path() / ("jepa_bench_" + std::to_string(getpid()))) {
    fs::create_directories(folder_);
    ClipStoreWriter writer(path(), {});
    for (int64_t i = 0; i < kClips; ++i) {
      Random random(static_cast<uint64_t>(i));
      writer.append(digits()->read(i, random));
    }
    writer.finish({});
  }
  ~StoreFolder() { fs::remove_all(folder_); }
  StoreFolder(const StoreFolder&) = delete;
  StoreFolder& operator=(const StoreFolder&) = delete;

  std::string path() const { return (folder_ / "digits.h5").string(); }

 private:
  fs::path folder_;
};

void load(benchmark::State& state, std::shared_ptr<const ClipSource> source,
          const AugmentOptions& augment) {
  LoaderOptions options;
  options.augment = augment;
  ClipLoader loader(std::move(source), options, 0);
  loader.next();
  for (auto _ : state) benchmark::DoNotOptimize(loader.next());
  state.SetItemsProcessed(state.iterations() * options.batch);
  state.SetLabel("items are clips");
}

void from_store(benchmark::State& state) {
  const StoreFolder folder;
  load(state, open_clip_source(folder.path(), {}), {});
}

void from_memory(benchmark::State& state) { load(state, hold_in_memory(*digits(), 0, 0), {}); }

void random_resized(benchmark::State& state) {
  load(state, hold_in_memory(*digits(), 0, 0), {.crop = "random_resized", .size = 32, .flip = 0.5});
}

BENCHMARK(from_store)->Name("loader/store_b64")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(from_memory)->Name("loader/memory_b64")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(random_resized)
    ->Name("loader/memory_random_resized_b64")
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace

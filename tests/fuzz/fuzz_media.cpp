// Feeds hostile videos, pictures and HDF5 stores to the readers: each must be an error of this
// library, or be read, without a crash, a hang or more memory than is allowed.
// usage: fuzz_media [--mutations N of each kind] [--seed N] [--kind N --only N]
//
// The mutations run in children, so that one that crashes is counted and named, and the rest go on.
#include "allocation_meter.hpp"
#include "mutations.hpp"
#include "work_files.hpp"

#include <eval/report/gif_writer.hpp>
#include <eval/report/image.hpp>
#include <eval/report/video_writer.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/data/video_reader.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

// AddressSanitizer's own settings: what the system would refuse is refused here too.
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1:detect_leaks=0:max_allocation_size_mb=8192";
}

namespace {

using namespace jepa;

/// What a file may make its reader allocate: decoders take up to 2^27 pixels (VideoReader), in
/// three bytes as they are coded and three as they are handed out, and a margin.
constexpr int64_t kMostBytes = int64_t{9} << 27;
constexpr unsigned kSeconds = 60;  ///< after which a mutation counts as hanging

/// A file to start from, and how it is read.
struct Kind {
  std::string name;
  std::string content;
  std::function<void(const std::string& path, bool other)> read;
};

/// What a child tells its parent.
struct Tally {
  int64_t next = 0;  ///< the mutation that runs, or comes next
  int64_t read = 0, errors = 0, failures = 0;
  int64_t most_bytes = 0;
};

void read_video(const std::string& path, bool other) {
  const FrameScale scale{.short_side = other ? 16 : 0};
  VideoReader reader(path, scale, /*luma_only=*/other);
  const int64_t frames = reader.info().frames;
  reader.times();
  const int64_t few = std::min<int64_t>(frames, 3);
  reader.decode(0, few);
  reader.decode(frames - few, few);
  // As training reads it.
  const auto source = open_clip_source(path, {.frames = 2, .fps = other ? 5.0 : 0.0});
  Random random(1);
  source->read(0, random);
}

void read_picture(const std::string& path, bool other) {
  int64_t height = 0, width = 0;
  read_image(path, {.short_side = other ? 8 : 0}, other ? 1 : 3, height, width);
}

void read_store(const std::string& path, bool other) {
  const ClipStore store(path, {.frames = 2, .skip_short = other});
  for (const auto& name : store.columns()) store.column(name);
  const auto signals = store.signals();
  Random random(1);
  for (const int64_t clip : {int64_t{0}, store.size() / 2, store.size() - 1}) {
    if (clip >= 0 && clip < store.size()) store.read(clip, random);
  }
  if (signals.empty()) return;
  const ClipStore acting(path, {.frames = 2, .skip_short = true, .signals = signals.front()});
  if (acting.size() > 0) acting.read(0, random);
}

/// Noise that moves, so that a video has something to predict.
torch::Tensor moving_noise(int64_t frames, int64_t side) {
  torch::manual_seed(0);
  const auto noise = torch::randint(256, {side, side + frames, 3}, torch::kUInt8);
  std::vector<torch::Tensor> all;
  for (int64_t t = 0; t < frames; ++t) all.push_back(noise.slice(1, t, t + side));
  return torch::stack(all).contiguous();
}

std::vector<Kind> make_kinds(const std::string& work) {
  const std::string fixtures = JEPA_TEST_FIXTURES;
  const auto data = [&](const std::string& name) {
    return fuzz::read_file(fixtures + "/data/" + name);
  };
  const auto film = moving_noise(6, 32);
  std::vector<Kind> kinds;
  for (const std::string name :
       {"base.mp4", "vfr_n200.mp4", "rot90.mp4", "cut2.mp4", "r30_98.webm", "c_vp9_601_pc.webm",
        "odd_3x5_yuv444p.mkv", "r30_98.flv", "crash_41.flv", "drop1.ts"}) {
    kinds.push_back({name, data(name), read_video});
  }
  kinds.push_back({"own.mp4", eval::report::encode_video(film, 10), read_video});
  kinds.push_back({"own.gif", eval::report::encode_gif(film, 10), read_video});
  for (const std::string name : {"exif_rot6.jpg", "my%20dog.jpg", "jpg.tif"}) {
    kinds.push_back({name, data(name), read_picture});
  }
  kinds.push_back({"own.png", eval::report::encode_png(film[0]), read_picture});
  const std::string bitmap(
      "BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0\0\0\2\0\0\0\1\0\x18\0"
      "\0\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
      "\1\2\3\4\5\6\0\0\1\2\3\4\5\6\0\0",
      70);
  kinds.push_back({"own.bmp", bitmap, read_picture});
  for (const std::string name :
       {"swm_dataset.h5", "stores/columns.h5", "stores/attributes.h5", "swm_dataset_blosc.h5",
        "stores/lzf.h5", "stores/virtual.h5", "stores/external_link.h5", "stores/packed.h5"}) {
    kinds.push_back({std::filesystem::path(name).filename(), fuzz::read_file(fixtures + "/" + name),
                     read_store});
  }
  {
    ClipStoreWriter writer(work + "/own.h5", {.fps = 5, .attributes = {{"generator", "fuzz"}}});
    for (int64_t i = 0; i < 3; ++i) {
      RawClip clip{.frames = 4,
                   .height = 8,
                   .width = 8,
                   .channels = 3,
                   .pixels = std::vector<uint8_t>(4 * 8 * 8 * 3, 7)};
      clip.signals["action"] = {2, std::vector<float>(8, 0.5F)};
      writer.append(clip);
    }
    writer.finish({{"label", torch::tensor({0, 1, 2})}, {"speed", torch::rand({3, 2})}});
  }
  kinds.push_back({"own.h5", fuzz::read_file(work + "/own.h5"), read_store});
  return kinds;
}

/// Mutations `tally.next` to `end` of a kind; in a child.
void run_mutations(const Kind& kind, const std::string& path, uint64_t seed, int64_t end,
                   Tally& tally) {
  for (; tally.next < end; ++tally.next) {
    Random random(seed, kind.name, static_cast<uint64_t>(tally.next));
    fuzz::write_file(path, fuzz::mutate_media(kind.content, random));
    ::alarm(kSeconds);
    fuzz::reset_allocation_peak();
    try {
      kind.read(path, random.below(2) == 1);
      ++tally.read;
    } catch (const Error&) {
      ++tally.errors;
    } catch (const std::exception& error) {
      std::printf("mutation %lld of %s: a foreign error: %s\n", static_cast<long long>(tally.next),
                  kind.name.c_str(), error.what());
      ++tally.failures;
    }
    const int64_t peak = fuzz::allocation_peak();
    tally.most_bytes = std::max(tally.most_bytes, peak);
    if (peak > kMostBytes) {
      std::printf("mutation %lld of %s: allocated %lld MB for a file of %zu bytes\n",
                  static_cast<long long>(tally.next), kind.name.c_str(),
                  static_cast<long long>(peak >> 20), kind.content.size());
      ++tally.failures;
    }
    std::fflush(stdout);
  }
}

/// All mutations of a kind, going on after those that end their child.
Tally fuzz_kind(const Kind& kind, const std::string& work, uint64_t seed, int64_t first,
                int64_t end) {
  void* shared =
      mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) throw Error("no shared memory");
  auto& tally = *new (shared) Tally;
  tally.next = first;
  while (tally.next < end) {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      run_mutations(kind, work + "/" + kind.name, seed, end, tally);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) break;
    const bool hangs = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
    std::printf("mutation %lld of %s: %s (%s %d)\n", static_cast<long long>(tally.next),
                kind.name.c_str(), hangs ? "hangs" : "crashes",
                WIFSIGNALED(status) ? "signal" : "exit code",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    ++tally.failures;
    ++tally.next;
  }
  const Tally result = tally;
  munmap(shared, sizeof(Tally));
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t mutations = fuzz::argument(argc, argv, "--mutations", 1000);
  const auto seed = static_cast<uint64_t>(fuzz::argument(argc, argv, "--seed", 0));
  const int64_t only = fuzz::argument(argc, argv, "--only", -1);
  const int64_t one_kind = fuzz::argument(argc, argv, "--kind", -1);
  torch::set_num_threads(1);
  const bool shared_memory = std::filesystem::is_directory("/dev/shm");
  const std::string work = std::string(shared_memory ? "/dev/shm" : "/tmp") + "/jepa_fuzz_media_" +
                           std::to_string(::getpid());
  std::filesystem::create_directories(work);
  const std::vector<Kind> kinds = make_kinds(work);
  int64_t failures = 0;
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (one_kind >= 0 && static_cast<size_t>(one_kind) != i) continue;
    const Tally tally =
        fuzz_kind(kinds[i], work, seed, only >= 0 ? only : 0, only >= 0 ? only + 1 : mutations);
    failures += tally.failures;
    std::printf(
        "%2zu %-20s %lld mutations: %lld read, %lld errors, %lld failures, at most %lld MB\n", i,
        kinds[i].name.c_str(), static_cast<long long>(tally.read + tally.errors + tally.failures),
        static_cast<long long>(tally.read), static_cast<long long>(tally.errors),
        static_cast<long long>(tally.failures), static_cast<long long>(tally.most_bytes >> 20));
  }
  if (only < 0) std::filesystem::remove_all(work);
  std::printf("%lld failures (seed %llu)%s\n", static_cast<long long>(failures),
              static_cast<unsigned long long>(seed),
              failures > 0 ? "; again with --kind N --only N" : "");
  return failures == 0 ? 0 : 1;
}

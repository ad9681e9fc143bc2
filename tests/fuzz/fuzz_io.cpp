// Feeds hostile weight files to the readers, in one process: each must be an error of this library,
// or load as what its header declares, without a crash, a hang or more memory than its size
// justifies. usage: fuzz_io [--seconds N | --mutations N] [--seed N] [--only N]
#include "allocation_meter.hpp"
#include "mutations.hpp"
#include "work_files.hpp"

#include <encoders/published.hpp>
#include <jepa/errors.hpp>
#include <predictors/published.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <unistd.h>

namespace {

using namespace jepa;
using fuzz::argument;
using fuzz::read_file;
using fuzz::write_file;

/// A file to start from, and how to change it.
struct Seed {
  std::string name;  ///< of the changed file in the work folder
  std::string content;
  std::function<std::string(std::string, Random&)> mutate;
};

std::vector<Seed> make_seeds(const std::string& fixtures, const std::string& work) {
  const std::string model = read_file(fixtures + "/hf_vjepa2/model.safetensors");
  const std::string index = R"({"metadata":{"total_size":8},"weight_map":)"
                            R"({"encoder.layer.0.norm1.weight":"a.safetensors",)"
                            R"("predictor.proj.weight":"b.safetensors"}})";
  for (const char* name : {"a.safetensors", "b.safetensors"}) {
    write_safetensors(work + "/" + name, {{"encoder.layer.0.norm1.weight", torch::ones({2})},
                                          {"predictor.proj.weight", torch::ones({2, 2})}});
  }
  write_file(work + "/hf/model.safetensors", model);
  return {
      {"vjepa1.pth.tar", read_file(fixtures + "/vjepa1_checkpoint.pth.tar"), fuzz::mutate_torch},
      {"vjepa2.pt", read_file(fixtures + "/vjepa2_checkpoint.pt"), fuzz::mutate_torch},
      {"masks.safetensors", read_file(fixtures + "/ijepa_masks.safetensors"),
       fuzz::mutate_safetensors},
      {"model.safetensors", model, fuzz::mutate_safetensors},
      {"hf/config.json", read_file(fixtures + "/hf_vjepa2/config.json"), fuzz::mutate_json},
      {"m.safetensors.index.json", index, fuzz::mutate_json},
  };
}

/// Adds up every byte, so that each one a tensor claims is really read.
uint64_t touch(const torch::Tensor& tensor) {
  uint64_t sum = 0;
  const torch::Tensor whole = tensor.contiguous();
  const auto* bytes = static_cast<const uint8_t*>(whole.const_data_ptr());
  for (size_t i = 0; i < whole.nbytes(); ++i) sum += bytes[i];
  return sum;
}

/// Opens the file and builds what it holds. True: it loaded.
bool load(const std::string& path) {
  static volatile uint64_t sink = 0;
  try {
    const WeightFile file = WeightFile::open(path);
    for (const std::string& module : file.modules()) {
      for (const auto& [key, tensor] : file.weights(module)) sink = sink + touch(tensor);
    }
    if (file.has("predictor")) describe_predictor(file, ModelFamily::vjepa2, 3);
    if (file.has("encoder") || file.has("target_encoder")) {
      encoders::load_encoder(file, {.heads = path.ends_with("/hf") ? 0 : 3});
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

volatile int64_t current_mutation = 0;

/// Ends the process where a mutation hangs, naming it.
void on_alarm(int) {
  char text[64];
  const int length = std::snprintf(text, sizeof(text), "mutation %lld hangs\n",
                                   static_cast<long long>(current_mutation));
  if (::write(STDOUT_FILENO, text, static_cast<size_t>(length)) < 0) ::_exit(2);
  ::_exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t seconds = argument(argc, argv, "--seconds", 0);
  const int64_t only = argument(argc, argv, "--only", -1);
  const int64_t mutations = argument(argc, argv, "--mutations", seconds > 0 ? INT64_MAX : 20000);
  const auto seed = static_cast<uint64_t>(argument(argc, argv, "--seed", 0));
  torch::set_num_threads(1);
  const bool shared_memory = std::filesystem::is_directory("/dev/shm");
  const std::string work =
      std::string(shared_memory ? "/dev/shm" : "/tmp") + "/jepa_fuzz_" + std::to_string(::getpid());
  std::filesystem::create_directories(work + "/hf");
  const std::vector<Seed> seeds = make_seeds(JEPA_TEST_FIXTURES, work);
  for (const Seed& file : seeds) {  // the unchanged files load (masks hold no model)
    write_file(work + "/" + file.name, file.content);
    const std::string path = work + "/" + (file.name == "hf/config.json" ? "hf" : file.name);
    if (!load(path) && file.name != "masks.safetensors" && !file.name.ends_with("index.json")) {
      std::printf("the unchanged %s does not load\n", file.name.c_str());
      return 1;
    }
  }

  std::signal(SIGALRM, on_alarm);
  const auto start = std::chrono::steady_clock::now();
  int64_t done = 0, loaded = 0, most = 0;
  double margin = 0;
  int failures = 0;
  for (int64_t i = only >= 0 ? only : 0; i < mutations && failures == 0; ++i) {
    if (seconds > 0 && std::chrono::steady_clock::now() - start > std::chrono::seconds(seconds)) {
      break;
    }
    Random random(seed, "fuzz", static_cast<uint64_t>(i));
    const Seed& from = seeds[static_cast<size_t>(random.below(static_cast<int64_t>(seeds.size())))];
    const std::string bytes = from.mutate(from.content, random);
    const std::string path = work + "/" + from.name;
    write_file(path, bytes);
    uint64_t size = bytes.size();
    if (from.name == "hf/config.json")
      size += std::filesystem::file_size(work + "/hf/model.safetensors");
    current_mutation = i;
    ::alarm(20);
    fuzz::reset_allocation_peak();
    try {
      loaded += load(from.name == "hf/config.json" ? work + "/hf" : path);
    } catch (const std::exception& error) {
      std::printf("mutation %lld of %s: a foreign error: %s\n", static_cast<long long>(i),
                  from.name.c_str(), error.what());
      ++failures;
    }
    const int64_t peak = fuzz::allocation_peak();
    const auto limit = static_cast<int64_t>(2 * size + (1 << 20));
    most = std::max(most, peak);
    margin = std::max(margin, static_cast<double>(peak) / static_cast<double>(limit));
    if (peak > limit) {
      std::printf("mutation %lld of %s: allocated %lld bytes for a file of %llu\n",
                  static_cast<long long>(i), from.name.c_str(), static_cast<long long>(peak),
                  static_cast<unsigned long long>(size));
      ++failures;
    }
    ++done;
    if (only >= 0) break;
  }
  ::alarm(0);
  if (failures == 0) std::filesystem::remove_all(work);
  std::printf(
      "%lld mutations (seed %llu): %lld loaded, %lld were errors, %d failed; "
      "at most %lld bytes allocated, %.2f of what is allowed\n",
      static_cast<long long>(done), static_cast<unsigned long long>(seed),
      static_cast<long long>(loaded), static_cast<long long>(done - loaded - failures), failures,
      static_cast<long long>(most), margin);
  if (failures > 0) std::printf("the file is in %s; run again with --only N\n", work.c_str());
  return failures == 0 ? 0 : 1;
}

// Benchmarks of what a training run spends its time in. Two threads unless JEPA_THREADS says
// otherwise, as the twin in Python uses.
#include <jepa/memory.hpp>

#include <benchmark/benchmark.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cstdlib>
#include <string>

int main(int argc, char** argv) {
  const char* threads = std::getenv("JEPA_THREADS");
  torch::set_num_threads(threads != nullptr ? std::stoi(threads) : 2);
  jepa::keep_freed_memory();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

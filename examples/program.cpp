#include <examples/local_processes.hpp>
#include <examples/program.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/json_text.hpp>
#include <jepa/memory.hpp>
#include <jepa/printable.hpp>
#include <jepa/stopped.hpp>
#include <jepa/training/precision.hpp>
#include <jepa/training/process_group.hpp>
#include <jepa/version.hpp>

#include <ATen/Context.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/cuda.h>
#include <torch/types.h>
#include <torch/utils.h>
#include <torch/version.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <new>
#include <sstream>
#include <unistd.h>

namespace jepa::examples {
namespace {

volatile std::sig_atomic_t stop_flag = 0;
volatile double stopped_at = 0;  // s

/// The first one asks to stop. A launcher may send it twice, once to all and once passed on; one
/// that comes later means at once.
void on_stop_signal(int signal) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const double seconds = static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  if (stop_flag == 0) {
    stop_flag = 1;
    stopped_at = seconds;
  } else if (seconds - stopped_at > 1) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

double now_seconds() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

void print_help(const ProgramInfo& info, const std::vector<OptionSection>& sections) {
  std::cout << info.name << ": " << info.summary << "\n\nusage: " << info.name
            << " [--config FILE.ini] [--section.key VALUE ...]\n"
            << "The command line wins over the ini file, where the same options stand as\n"
            << "[section] key = value.\n"
            << "  --help                            this text\n"
            << "  --version                         versions of the library and LibTorch\n"
            << (info.quick ? "  --quick                           far too small sizes: tries "
                             "everything in a minute or two\n"
                           : "")
            << describe_options(sections);
}

/// Takes a flag of the command line out of what was given. True: it was set.
bool take_flag(OptionValues& given, const std::string& name) {
  const auto found = given.find(name);
  if (found == given.end()) return false;
  bool on = false;
  apply_options({{"", "", [&](OptionVisitor& visit) { visit(name, on, {}); }}},
                {{name, found->second}});
  given.erase(found);
  return on;
}

/// Reads the ini file and command line into the sections. True: the program is to run.
bool read_options(int argc, const char* const* argv, const ProgramInfo& info, Program& program) {
  OptionValues given = parse_command_line(argc, argv);
  const bool help = given.erase("help") > 0;
  const bool quick = info.quick && take_flag(given, "quick");
  const OptionValues typed = given;
  if (given.erase("version") > 0) {
    std::cout << info.name << " " << version() << " (LibTorch " << TORCH_VERSION << ")\n";
    return false;
  }
  if (const auto config = given.find("config"); config != given.end()) {
    for (const auto& [key, value] : read_ini(config->second)) {
      // Runs of earlier versions wrote it, with what it made of the other options beside it.
      if (info.quick && key == "quick") continue;
      given.emplace(key, value);
    }
  }
  if (quick) {
    for (const auto& [key, value] : info.quick(given)) {
      if (!typed.contains(key)) given[key] = value;
    }
  }
  if (info.complete && !help) info.complete(given);
  program.sections = info.sections(given);
  auto& common = program.common;
  program.sections.insert(
      program.sections.begin(),
      {"", "", [&common, &info](OptionVisitor& visit) { common.describe(visit, info); }});
  if (help) {
    print_help(info, program.sections);
    return false;
  }
  apply_options(program.sections, given);
  program.device = resolve_device(common.device);
  return true;
}

/// What `auto` means here. Of many processes the first one measures, for all: others may be slower,
/// or busier just then.
void choose_precision(const ProgramInfo& info, Program& program) {
  if (!info.bfloat16) return;
  auto& common = program.common;
  if (info.exact && common.precision == "auto") common.precision = "float32";
  const bool measured = common.precision == "auto";
  const bool waits = measured && !is_first(program);
  nn::BlockOptions block{.dim = 192, .heads = 3, .mlp_hidden = 768};
  if (measured && info.block) {
    const nn::BlockOptions own = info.block();
    // Sizes that do not fit together are for the model to refuse.
    if (own.dim > 0 && own.heads > 0 && own.dim % own.heads == 0) block = own;
  }
  bool halved =
      !waits && resolve_precision(common.precision, program.device, block) == torch::kBFloat16;
  if (measured && program.processes) {
    halved = number_of_first(halved ? 1 : 0, *program.processes) == 1;
  }
  program.precision = halved ? torch::kBFloat16 : torch::kFloat32;
  // A run that is continued must not choose anew.
  common.precision = halved ? "bfloat16" : "float32";
  if (measured) std::cout << "precision          " << common.precision << ", as measured here\n";
}

/// Several processes of one machine take a GPU each, unless one was named.
void take_own_gpu(int64_t local_rank, torch::Device& device) {
  if (!device.is_cuda() || device.has_index()) return;
  const auto count = static_cast<int64_t>(torch::cuda::device_count());
  // A launcher may show each process its own alone; ours shows all to all.
  if (count == 1 && std::getenv(kLocalProcess) == nullptr) return;
  if (local_rank >= count) {
    throw ConfigError("device: process " + std::to_string(local_rank) +
                      " of this machine, which has " + std::to_string(count) + " GPUs");
  }
  device = torch::Device(torch::kCUDA, static_cast<torch::DeviceIndex>(local_rank));
  c10::impl::getDeviceGuardImpl(torch::kCUDA)->setDevice(device);
}

/// OpenMP's threads spin while they wait for work; beside another busy process that takes the core
/// from those that have some. A bounded spin costs nothing on a quiet machine. libgomp reads the
/// variable when it is loaded, before `main`: so the program starts itself anew, once.
void bound_spinning(const char* const* argv) {
  for (const char* name : {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}) {
    if (std::getenv(name) != nullptr) return;
  }
  setenv("GOMP_SPINCOUNT", "10000", 1);
  execv("/proc/self/exe", const_cast<char* const*>(argv));  // where it fails, all goes on as it was
}

}  // namespace

void CommonOptions::describe(OptionVisitor& visit, const ProgramInfo& info) {
  visit("config", config, {.help = "ini file, read before the command line"});
  visit("seed", seed, {.help = "of every random choice", .min = 0});
  visit("device", device, {.help = "auto, cpu, cuda or cuda:N"});
  if (info.bfloat16) {
    visit("precision", precision,
          {.help = info.exact
                       ? "of matrix products; auto: float32"
                       : "of matrix products; auto: bfloat16 where the device computes it fast",
           .choices = {"auto", "float32", "bfloat16"}});
  } else {
    visit("precision", precision,
          {.help = "of matrix products: float32 here", .choices = {"auto", "float32"}});
  }
  visit("threads", threads, {.help = "compute threads; 0: one a core", .min = 0, .max = 4096});
  visit("deterministic", deterministic,
        {.help = "the same bits again on CUDA too (slower); on the CPU it is always so"});
  visit("json", json, {.help = "file for the results, machine readable"});
  if (!info.many) return;
  visit("processes", processes,
        {.help = "start so many on this machine; torchrun, srun and mpirun start their own",
         .min = 1,
         .max = 1024});
  visit("timeout", timeout,
        {.help = "after which a process that does not answer is given up", .unit = "s", .min = 1});
}

namespace {

/// Joins the processes that a launcher started. True: this one is to start them itself.
bool join(Program& program) {
  auto group = processes_from_environment();
  // Of a launcher's single process more can be made.
  if (!group || group->count == 1) return program.common.processes > 1;
  group->timeout = program.common.timeout;
  program.common.processes = group->count;
  take_own_gpu(group->local_rank, program.device);
  program.processes = join_processes(*group);
  // One of them speaks.
  if (group->rank > 0 && std::freopen("/dev/null", "w", stdout) == nullptr) {
    throw Error("standard output cannot be closed");
  }
  return false;
}

/// One line on stderr, at once, so that those of several processes do not mix. Of these one tells.
/// @param of_another what failed is that another process did not answer
void tell_failure(const Program& program, std::string text, bool of_another = false,
                  const std::string& help = "") {
  if (program.processes) {
    if (!program.processes->tells_failure(of_another)) return;
    const std::string rank = "rank " + std::to_string(program.processes->rank()) + " of " +
                             std::to_string(program.processes->count());
    if (!of_another) text = rank + ": " + text;
  }
  std::cerr << "error: " + printable(text) + "\n" + help << std::flush;
}

}  // namespace

int program_main(int argc, const char* const* argv, const ProgramInfo& info) {
  bound_spinning(argv);
  keep_freed_memory();
  Program program;
  try {
    if (!read_options(argc, argv, info, program)) return 0;
  } catch (const ConfigError& error) {
    tell_failure(program, error.what(), /*of_another=*/false, "Try '" + info.name + " --help'.\n");
    return 2;
  } catch (const std::exception& error) {  // what a run that is continued brought along
    tell_failure(program, error.what());
    return 1;
  }
  try {
    if (program.common.threads > 0) {
      torch::set_num_threads(static_cast<int>(program.common.threads));
    }
    if (program.common.deterministic) {
      setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);  // cuBLAS asks for it
      at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
      at::globalContext().setDeterministicCuDNN(true);
    }
    if (info.many && join(program)) return run_local_processes(program.common.processes, argv);
    choose_precision(info, program);
    info.run(program);
    if (is_first(program) && !program.common.json.empty()) {
      write_file_atomic(program.common.json, json_text(program.results, 2) + "\n");
    }
    return 0;
  } catch (const Stopped& stopped) {
    if (!info.goes_on) {
      tell_failure(program, stopped.what());
      return 1;
    }
    if (is_first(program)) {
      std::cerr << "stopped; the same command goes on from here\n" << std::flush;
    }
    return 0;
  } catch (const ConfigError& error) {
    tell_failure(program, error.what(), /*of_another=*/false, "Try '" + info.name + " --help'.\n");
    return 2;
  } catch (const ProcessError& error) {
    tell_failure(program, error.what(), /*of_another=*/true);
  } catch (const std::bad_alloc&) {
    tell_failure(program, "not enough memory");
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    const bool full = text.find("DefaultCPUAllocator: ") != std::string::npos;
    tell_failure(program, full ? "not enough memory for sizes such as these" : text);
  } catch (const std::exception& error) {
    tell_failure(program, error.what());
  }
  return 1;
}

bool is_first(const Program& program) {
  return !program.processes || program.processes->rank() == 0;
}

void require_same_options(const Program& program) {
  if (!program.processes) return;
  std::string text;
  for (const auto& [key, value] : dump_options(program.sections)) {
    // Where each stands, and what is its own.
    if (key == "device" || key == "threads" || key == "json") continue;
    text += key + " = " + value + "\n";
  }
  require_same(text, "options", *program.processes);
}

bool stop_requested() { return stop_flag != 0; }

void catch_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = on_stop_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_seconds_(now_seconds()) {}

void ProgressBar::update(int64_t done, int64_t total, const std::string& text) {
  const double now = now_seconds();
  const double elapsed = now - start_seconds_;
  if (first_ < 0) {
    first_ = done;
    first_seconds_ = now;
  }
  const double interval = terminal_ ? 0.2 : std::max(5.0, elapsed / 20);
  if (now - last_seconds_ < interval && done != total) return;
  last_seconds_ = now;
  std::string left;  // nothing is known at the first call
  if (done > first_) {
    const double each = (now - first_seconds_) / static_cast<double>(done - first_);
    left =
        ", " + std::to_string(std::llround(each * static_cast<double>(total - done))) + " s left";
  }
  char line[256];
  std::snprintf(line, sizeof line, "%s %lld/%lld  %s  %.0f s%s", label_.c_str(),
                static_cast<long long>(done), static_cast<long long>(total), text.c_str(), elapsed,
                left.c_str());
  if (terminal_) {
    std::cerr << "\r\033[K" << line << std::flush;
    open_ = true;
  } else {
    std::cerr << line << std::endl;
  }
}

void ProgressBar::finish() {
  if (open_) std::cerr << "\n";
  open_ = false;
}

}  // namespace jepa::examples

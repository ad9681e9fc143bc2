#include <jepa/errors.hpp>
#include <jepa/training/process_group.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#if defined(USE_C10D_GLOO) && defined(USE_DISTRIBUTED)
#define JEPA_GLOO 1
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#if defined(USE_C10D_NCCL) && __has_include(<nccl.h>)
#define JEPA_NCCL 1
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#endif

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <netinet/in.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace jepa {
namespace {

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

int64_t number(const char* name, std::optional<int64_t> missing = std::nullopt) {
  const auto text = variable(name);
  if (!text) {
    if (missing) return *missing;
    throw ConfigError(std::string("environment: ") + name + " is missing");
  }
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size()) {
    throw ConfigError(std::string("environment: ") + name + " is '" + *text +
                      "', expected a whole number");
  }
  return value;
}

/// Names of a launcher's variables.
struct Launcher {
  const char* rank;
  const char* count;
  const char* local_rank;
};

// Slurm's are those of a step that srun started: a batch script has SLURM_NTASKS too, and is alone.
constexpr Launcher kLaunchers[] = {
    {"RANK", "WORLD_SIZE", "LOCAL_RANK"},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"}};

/// Whether the launcher says that its processes stand on several machines.
bool on_several_machines(int64_t count) {
  return number("SLURM_STEP_NUM_NODES", 1) > 1 ||
         number("OMPI_COMM_WORLD_LOCAL_SIZE", count) < count;
}

}  // namespace

std::optional<ProcessGroupOptions> processes_from_environment() {
  for (const Launcher& launcher : kLaunchers) {
    if (!variable(launcher.rank) || !variable(launcher.count)) continue;
    ProcessGroupOptions options;
    options.rank = number(launcher.rank);
    options.count = number(launcher.count);
    options.local_rank = number(launcher.local_rank, 0);
    if (!variable("MASTER_ADDR") && on_several_machines(options.count)) {
      throw ConfigError("environment: MASTER_ADDR is missing: the machine of rank 0");
    }
    options.address = variable("MASTER_ADDR").value_or(options.address);
    options.port = number("MASTER_PORT", options.port);
    options.serve = variable("TORCHELASTIC_USE_AGENT_STORE").value_or("") != "True";
    if (options.count < 1 || options.rank < 0 || options.rank >= options.count) {
      throw ConfigError(
          c10::str("environment: ", launcher.rank, " is ", options.rank, " of ", options.count));
    }
    return options;
  }
  return std::nullopt;
}

int64_t free_port() {
  const int handle = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const bool found = handle >= 0 &&
                     bind(handle, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                     getsockname(handle, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  if (handle >= 0) close(handle);
  if (!found) throw Error("no free port on this machine");
  return ntohs(address.sin_port);
}

#ifdef JEPA_GLOO

namespace {

/// Gloo for what lies in the host's memory; NCCL, where LibTorch has it, for what lies on a GPU.
class GroupProcesses : public Processes {
 public:
  explicit GroupProcesses(const ProcessGroupOptions& options) : options_(options) {
    guarded("meeting the others", [&] {
      c10d::TCPStoreOptions store;
      store.port = static_cast<uint16_t>(options.port);
      store.isServer = options.serve && options.rank == 0;
      store.numWorkers = static_cast<size_t>(options.count);
      store.waitWorkers = false;
      store.timeout = timeout();
      auto tcp = c10::make_intrusive<c10d::TCPStore>(options.address, store);
      // A launcher's store outlives a restart: what an earlier try left there is not ours.
      const std::string tries = std::getenv("TORCHELASTIC_RESTART_COUNT") != nullptr
                                    ? std::getenv("TORCHELASTIC_RESTART_COUNT")
                                    : "0";
      store_ = c10::make_intrusive<c10d::PrefixStore>("jepa/" + tries, tcp);
      group_ = c10::make_intrusive<c10d::ProcessGroupGloo>(
          store_, static_cast<int>(options.rank), static_cast<int>(options.count),
          c10d::ProcessGroupGloo::Options::create_default(timeout()));
    });
  }

  int64_t rank() const override { return options_.rank; }
  int64_t count() const override { return options_.count; }

  void begin_average(const torch::Tensor& tensor) override {
    guarded("averaging", [&] {
      std::vector<torch::Tensor> one{tensor};
      averages_.emplace_back(tensor, group_of(tensor).allreduce(one));
    });
  }

  void finish_averages() override {
    const torch::NoGradGuard no_grad;
    guarded("averaging", [&] {
      for (auto& [tensor, work] : averages_) {
        work->wait();
        tensor.div_(static_cast<double>(count()));
      }
    });
    averages_.clear();
  }

  torch::Tensor gather(const torch::Tensor& rows) override {
    const torch::NoGradGuard no_grad;
    torch::Tensor own = rows.detach().contiguous();
    std::vector<int64_t> sizes = own.sizes().vec();
    sizes[0] *= count();
    torch::Tensor all = torch::empty(sizes, own.options());
    guarded("gathering", [&] {
      std::vector<std::vector<torch::Tensor>> out{all.chunk(count(), 0)};
      std::vector<torch::Tensor> in{own};
      group_of(own).allgather(out, in)->wait();
    });
    return all;
  }

  void barrier() override {
    guarded("waiting for the others", [&] { group_->barrier()->wait(); });
  }

  /// The first to fail leaves its mark in the store; those that lost it look for that mark, for a
  /// while, since the one that failed may be about to say so.
  bool tells_failure(bool of_another) override {
    using namespace std::chrono_literals;
    try {
      store_->setTimeout(2000ms);
      if (of_another) {
        store_->wait({"failed"}, 2000ms);
        return false;
      }
      const bool first = store_->add("failures", 1) == 1;
      if (first) store_->set("failed", "1");
      // The end of any process may make a launcher end the others: not before it is told.
      if (!first) std::this_thread::sleep_for(1s);
      return first;
    } catch (const std::exception&) {
      // Nobody failed, or the store went with rank 0, whose launcher ends this one too, if it does.
      std::this_thread::sleep_for(1s);
      return of_another;
    }
  }

 private:
  std::chrono::milliseconds timeout() const {
    return std::chrono::milliseconds(static_cast<int64_t>(1000 * options_.timeout));
  }

  /// All processes ask in one order, so all make the GPUs' group at the same call.
  c10d::Backend& group_of(const torch::Tensor& tensor) {
#ifdef JEPA_NCCL
    if (tensor.is_cuda()) {
      if (!gpu_group_) {
        auto options = c10d::ProcessGroupNCCL::Options::create();
        options->timeout = timeout();
        gpu_group_ = c10::make_intrusive<c10d::ProcessGroupNCCL>(
            c10::make_intrusive<c10d::PrefixStore>("nccl", store_), static_cast<int>(options_.rank),
            static_cast<int>(options_.count), options);
      }
      return *gpu_group_;
    }
#endif
    return *group_;
  }

  template <class Function>
  void guarded(const char* what, Function function) const {
    try {
      function();
    } catch (const std::exception& error) {
      const std::string text = error.what();
      throw ProcessError(c10::str("rank ", options_.rank, " of ", options_.count, ", ", what,
                                  " at ", options_.address, ":", options_.port, ": ",
                                  text.substr(0, text.find('\n'))));
    }
  }

  ProcessGroupOptions options_;
  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<c10d::Backend> group_;
  c10::intrusive_ptr<c10d::Backend> gpu_group_;  ///< null until a tensor of a GPU comes
  std::vector<std::pair<torch::Tensor, c10::intrusive_ptr<c10d::Work>>> averages_;  ///< under way
};

}  // namespace

bool has_process_groups() { return true; }

std::unique_ptr<Processes> join_processes(const ProcessGroupOptions& options) {
  return std::make_unique<GroupProcesses>(options);
}

#else

bool has_process_groups() { return false; }

std::unique_ptr<Processes> join_processes(const ProcessGroupOptions& options) {
  throw ConfigError(c10::str("rank ", options.rank, " of ", options.count,
                             ": this LibTorch was built without gloo"));
}

#endif

}  // namespace jepa

#include <jepa/data/hdf5_dataset.hpp>
#include <jepa/data/hdf5_trial.hpp>
#include <jepa/errors.hpp>

#include <hdf5.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <set>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <tuple>
#include <unistd.h>

namespace jepa {
namespace {

constexpr int kWaitSeconds = 120;  ///< for a child that waits for a slow disk

/// A file as it was at one time: device, inode, size, seconds and nanoseconds of its last change.
using FileState = std::tuple<uint64_t, uint64_t, int64_t, int64_t, int64_t>;

FileState state_of(const struct stat& status) {
  return {status.st_dev, status.st_ino, status.st_size, status.st_ctim.tv_sec,
          status.st_ctim.tv_nsec};
}

/// Changes within the clock's grain of each other look alike: a file this young may still change.
bool settled(const struct stat& status) { return std::time(nullptr) - status.st_ctim.tv_sec > 1; }

void read_attributes(const Hdf5File& file) {
  std::vector<std::string> names;
  H5Aiterate2(
      file.id(), H5_INDEX_NAME, H5_ITER_INC, nullptr,
      [](hid_t, const char* name, const H5A_info_t*, void* to) -> herr_t {
        static_cast<std::vector<std::string>*>(to)->emplace_back(name);
        return 0;
      },
      &names);
  file.attributes(names);
}

/// All that readers do with a file, and its errors are theirs to tell.
void walk(const std::string& path) {
  const auto attempt = [](const auto& step) {
    try {
      step();
    } catch (const std::exception&) {
    }
  };
  attempt([&] {
    const Hdf5File file = Hdf5File::open_untried(path);
    attempt([&] { read_attributes(file); });
    // Index datasets are looked for by name even where the group cannot be listed.
    std::set<std::string> names = {"pixels", "ep_len", "ep_offset"};
    attempt([&] {
      for (auto& name : file.datasets()) names.insert(std::move(name));
    });
    for (const auto& name : names) attempt([&] { Hdf5Dataset(file, name).walk(); });
  });
}

/// Memory that a process has in use, in bytes. (A limit of the system's would not do: what HDF5 is
/// refused in the child is an error there, and would be a crash here, where it is granted.)
int64_t memory_of(pid_t process) {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/" + std::to_string(process) + "/statm") >> pages >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

/// In the child: neither the application's handlers nor its terminal hear of what happens here.
[[noreturn]] void run_child(const std::string& path, int answer) {
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGXCPU}) {
    std::signal(signal, SIG_DFL);
  }
  ::prctl(PR_SET_DUMPABLE, 0);
  const rlimit seconds{kTrialSeconds, kTrialSeconds};
  ::setrlimit(RLIMIT_CPU, &seconds);
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  ::dup2(nowhere, STDOUT_FILENO);
  ::dup2(nowhere, STDERR_FILENO);
  walk(path);
  const char survived = 1;
  const ssize_t written = ::write(answer, &survived, 1);
  ::_exit(written == 1 ? 0 : 1);
}

enum class Outcome { survived, died, too_large, too_long };

/// What becomes of a child that had `memory` bytes at its start.
Outcome watch_child(pid_t child, int pipe, int64_t memory) {
  const std::time_t end = std::time(nullptr) + kWaitSeconds;
  while (std::time(nullptr) < end) {
    pollfd waiting{pipe, POLLIN, 0};
    if (::poll(&waiting, 1, 100) > 0) {
      char answer = 0;
      return ::read(pipe, &answer, 1) == 1 ? Outcome::survived : Outcome::died;
    }
    if (memory_of(child) - memory > int64_t{kTrialMegabytes} << 20) return Outcome::too_large;
  }
  return Outcome::too_long;
}

/// Waits for its end. Why a child that did not survive died.
std::string end_of(pid_t child, Outcome outcome) {
  int status = 0;
  pid_t ended = 0;
  while ((ended = ::waitpid(child, &status, 0)) < 0 && errno == EINTR) {
  }
  const int signal = ended == child && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  if (outcome == Outcome::too_large) {
    return "takes more than " + std::to_string(kTrialMegabytes) + " MB";
  }
  if (outcome == Outcome::too_long || signal == SIGXCPU || signal == SIGKILL) {
    return "does not come to an end within " + std::to_string(kTrialSeconds) + " s";
  }
  return "crashes" + (signal > 0 ? " (signal " + std::to_string(signal) + ")" : std::string());
}

void run_trial(const std::string& path) {
  const auto failed = [&](int reason) {
    return DataError(path + ": cannot be tried out in a process of its own (" +
                     std::strerror(reason) + ")");
  };
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw failed(errno);
  const int64_t memory = memory_of(::getpid());
  const pid_t child = ::fork();
  if (child == 0) run_child(path, ends[1]);
  const int reason = errno;
  ::close(ends[1]);
  const Outcome outcome = child < 0 ? Outcome::died : watch_child(child, ends[0], memory);
  ::close(ends[0]);
  if (child < 0) throw failed(reason);
  if (outcome == Outcome::too_large || outcome == Outcome::too_long) ::kill(child, SIGKILL);
  const std::string how = end_of(child, outcome);
  if (outcome != Outcome::survived) {
    throw DataError(path + ": damaged: the HDF5 library " + how + " on it");
  }
}

}  // namespace

void try_hdf5_file(const std::string& path) {
  const Hdf5Lock lock;  // for the child too
  static std::set<FileState> tried;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return;  // opening it says why
  if (tried.contains(state_of(status))) return;
  run_trial(path);
  if (settled(status)) tried.insert(state_of(status));
}

}  // namespace jepa

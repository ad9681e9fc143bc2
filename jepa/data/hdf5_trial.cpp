#include <jepa/data/hdf5_dataset.hpp>
#include <jepa/data/hdf5_trial.hpp>
#include <jepa/errors.hpp>

#include <hdf5.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <set>
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

/// All that readers do with a file, and its errors are theirs to tell. Whether it could be opened.
bool walk(const std::string& path) {
  const auto attempt = [](const auto& step) {
    try {
      step();
    } catch (const std::exception&) {
    }
  };
  bool opened = false;
  attempt([&] {
    const Hdf5File file = Hdf5File::open_untried(path);
    opened = true;
    attempt([&] { read_attributes(file); });
    // Index datasets are looked for by name even where the group cannot be listed.
    std::set<std::string> names = {"pixels", "ep_len", "ep_offset"};
    attempt([&] {
      for (auto& name : file.datasets()) names.insert(std::move(name));
    });
    for (const auto& name : names) attempt([&] { Hdf5Dataset(file, name).walk(); });
  });
  return opened;
}

/// Memory that a process has in use, in bytes. (A limit of the system's would not do: a request
/// that it refuses is an error in the child, and what follows where it is granted would go unseen.)
int64_t memory_of(pid_t process) {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/" + std::to_string(process) + "/statm") >> pages >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

constexpr char kOpened = 1, kNotOpened = 2;

/// In the child: neither the application's handlers nor its terminal hear of what happens here.
[[noreturn]] void run_child(const std::string& path, int answer) {
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGXCPU}) {
    std::signal(signal, SIG_DFL);
  }
  const rlimit none{0, 0}, seconds{kTrialSeconds, kTrialSeconds + 2};
  ::setrlimit(RLIMIT_CORE, &none);
  ::setrlimit(RLIMIT_CPU, &seconds);
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  ::dup2(nowhere, STDOUT_FILENO);
  ::dup2(nowhere, STDERR_FILENO);
  const char survived = walk(path) ? kOpened : kNotOpened;
  const ssize_t written = ::write(answer, &survived, 1);
  ::_exit(written == 1 ? 0 : 1);
}

enum class Outcome { survived, not_opened, died, too_large, too_long };

/// What becomes of a child that had `memory` bytes at its start.
Outcome watch_child(pid_t child, int pipe, int64_t memory) {
  const std::time_t end = std::time(nullptr) + kWaitSeconds;
  while (std::time(nullptr) < end) {
    pollfd waiting{pipe, POLLIN, 0};
    if (::poll(&waiting, 1, 100) > 0) {
      char answer = 0;
      if (::read(pipe, &answer, 1) != 1) return Outcome::died;
      return answer == kOpened ? Outcome::survived : Outcome::not_opened;
    }
    if (memory_of(child) - memory > int64_t{kTrialMegabytes} << 20) return Outcome::too_large;
  }
  return Outcome::too_long;
}

/// The signal that ended a child; 0: none.
int signal_of(pid_t child) {
  int status = 0;
  pid_t ended = 0;
  while ((ended = ::waitpid(child, &status, 0)) < 0 && errno == EINTR) {
  }
  return ended == child && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/// Whether the file was opened and all of it survived.
/// @throws DataError why not, where HDF5 did not survive it
bool run_trial(const std::string& path) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return false;
  const int64_t memory = memory_of(::getpid());
  const pid_t child = ::fork();
  if (child == 0) run_child(path, ends[1]);
  ::close(ends[1]);
  const Outcome outcome = child < 0 ? Outcome::not_opened : watch_child(child, ends[0], memory);
  ::close(ends[0]);
  if (child < 0) return false;  // no processes to be had: better untried than not read
  if (outcome == Outcome::too_large || outcome == Outcome::too_long) ::kill(child, SIGKILL);
  const int signal = signal_of(child);
  if (outcome == Outcome::survived || outcome == Outcome::not_opened) {
    return outcome == Outcome::survived;
  }
  if (outcome == Outcome::too_long) {
    throw DataError(path + ": could not be tried out within " + std::to_string(kWaitSeconds) +
                    " s (is the disk that slow?)");
  }
  if (outcome == Outcome::died && signal == SIGKILL) {
    throw DataError(path + ": the process that tried it out was killed (is memory short?)");
  }
  std::string how = "crashes" + (signal > 0 ? " (signal " + std::to_string(signal) + ")" : "");
  if (signal == SIGXCPU) {
    how = "does not come to an end within " + std::to_string(kTrialSeconds) + " s";
  }
  if (outcome == Outcome::too_large)
    how = "takes more than " + std::to_string(kTrialMegabytes) + " MB";
  throw DataError(path + ": damaged: the HDF5 library " + how + " on it");
}

}  // namespace

void try_hdf5_file(const std::string& path) {
  const Hdf5Lock lock;  // for the child too
  static std::set<FileState> tried;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return;  // opening it says why
  if (tried.contains(state_of(status))) return;
  if (run_trial(path) && settled(status)) tried.insert(state_of(status));
}

}  // namespace jepa

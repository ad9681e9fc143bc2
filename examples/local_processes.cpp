#include <examples/local_processes.hpp>
#include <jepa/errors.hpp>
#include <jepa/training/process_group.hpp>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace jepa::examples {
namespace {

std::vector<pid_t> children;
volatile sig_atomic_t asked_to_stop = 0;

void tell_all(int signal) {
  for (const pid_t child : children) {
    if (child > 0) kill(child, signal);
  }
}

void pass_on(int signal) {
  asked_to_stop = 1;
  tell_all(signal);
}

[[noreturn]] void become(int64_t rank, int64_t count, int64_t port, pid_t parent,
                         const char* const* argv) {
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, SIG_DFL);
  // A terminal's or `timeout`'s signal goes to a whole group: the parent alone passes it on.
  setpgid(0, 0);
  std::signal(SIGTTOU, SIG_IGN);     // it may write to the terminal all the same
  prctl(PR_SET_PDEATHSIG, SIGTERM);  // a parent that is killed leaves nobody behind
  if (getppid() != parent) _exit(1);
  setenv(kLocalProcess, "1", 1);
  const auto set = [](const char* name, int64_t value) {
    setenv(name, std::to_string(value).c_str(), 1);
  };
  set("RANK", rank);
  set("LOCAL_RANK", rank);
  set("WORLD_SIZE", count);
  set("MASTER_PORT", port);
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  // Of a launcher that started this program once: these processes open their own store.
  for (const char* name : {"TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RESTART_COUNT"}) {
    unsetenv(name);
  }
  // Without it each process would start a thread for every core.
  const int64_t cores = sysconf(_SC_NPROCESSORS_ONLN);
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    set("OMP_NUM_THREADS", std::max<int64_t>(1, cores / count));
  }
  if (rank > 0) {
    const int nowhere = open("/dev/null", O_WRONLY);
    if (nowhere >= 0) dup2(nowhere, STDOUT_FILENO);
  }
  execv("/proc/self/exe", const_cast<char* const*>(argv));
  _exit(127);
}

}  // namespace

int run_local_processes(int64_t count, const char* const* argv) {
  const int port = free_port();
  // Passed on, so that the ranks checkpoint and leave.
  for (const int signal : {SIGINT, SIGTERM}) {
    struct sigaction action = {};
    action.sa_handler = pass_on;
    sigaction(signal, &action, nullptr);
  }
  for (int64_t rank = 0; rank < count; ++rank) {
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0) {
      tell_all(SIGKILL);
      throw Error("process " + std::to_string(rank) + " cannot be started");
    }
    if (child == 0) become(rank, count, port, parent, argv);
    children.push_back(child);
  }
  int code = 0;
  for (int64_t left = count; left > 0;) {
    int status = 0;
    const pid_t child = waitpid(-1, &status, 0);
    if (child < 0 && errno == EINTR) continue;
    if (child < 0) break;
    --left;
    for (size_t rank = 0; rank < children.size(); ++rank) {
      if (children[rank] != child) continue;
      children[rank] = 0;
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
      if (code == 0) {
        code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        if (WIFSIGNALED(status)) {
          std::fprintf(stderr, "error: rank %d was ended by signal %d\n", static_cast<int>(rank),
                       WTERMSIG(status));
        }
        // They wait for one that is no more; checkpoints are atomic. On their way out, they save.
        if (asked_to_stop == 0) tell_all(SIGKILL);
      }
    }
  }
  return code;
}

}  // namespace jepa::examples

// Many processes by LibTorch's own engine (c10d): gloo on CPUs, NCCL on GPUs where LibTorch has it,
// rendezvous through its TCPStore.
#pragma once

#include <jepa/training/processes.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace jepa {

/// Who this process is among how many, and where they meet.
struct ProcessGroupOptions {
  int64_t rank = 0;
  int64_t count = 1;
  int64_t local_rank = 0;             ///< among those of this machine: which GPU is its own
  std::string address = "127.0.0.1";  ///< of rank 0
  int64_t port = 29500;
  double timeout = 300;  ///< [s] after which a process that does not answer is given up
  bool serve = true;     ///< rank 0 opens the store; false: a launcher has done so
};

/// What a launcher said in the environment: torchrun and compatible ones (RANK, WORLD_SIZE,
/// LOCAL_RANK, MASTER_ADDR, MASTER_PORT, TORCHELASTIC_USE_AGENT_STORE), Slurm's srun (SLURM_PROCID,
/// SLURM_STEP_NUM_TASKS, SLURM_LOCALID) or Open MPI (OMPI_COMM_WORLD_*); empty: there is none. A
/// launcher may have started one process alone.
/// @throws ConfigError naming a variable that is missing or no number
std::optional<ProcessGroupOptions> processes_from_environment();

/// Whether this build can join processes.
bool has_process_groups();

/// A port of this machine; nobody else has it a moment later, most likely.
/// @throws Error where there is none
int64_t free_port();

/// Meets the others.
/// @throws ConfigError where this build has no process groups; Error naming rank, address and port
///   where they cannot be met within the timeout
std::unique_ptr<Processes> join_processes(const ProcessGroupOptions& options);

}  // namespace jepa

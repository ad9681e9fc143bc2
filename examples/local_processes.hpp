// Several processes on this machine, started by the program itself.
#pragma once

#include <cstdint>

namespace jepa::examples {

/// Set in the environment of those processes.
inline constexpr const char* kLocalProcess = "JEPA_LOCAL_PROCESS";

/// Starts this program `count` times with the variables that launchers set (RANK, WORLD_SIZE,
/// LOCAL_RANK, MASTER_ADDR, MASTER_PORT) and waits. Only rank 0 prints. Where one fails, the others
/// are ended too.
/// @return the exit code: 0 where all ended well
int run_local_processes(int64_t count, const char* const* argv);

}  // namespace jepa::examples

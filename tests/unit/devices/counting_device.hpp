// A device that is none: its memory is the host's and its kernels are the CPU's. It takes the
// code's path for accelerators, and counts what would make the host wait for one.
#pragma once

#include <torch/types.h>

#include <map>
#include <string>

namespace jepa {

/// Of a kind that LibTorch knows and has no kernels for, served by this file's functions once they
/// are linked. (Of its spare kind, PrivateUse1, modules cannot be moved from the CPU.)
inline const torch::Device kCountingDevice{torch::kHPU, 0};

/// What made the host wait since the last call, by name: copies to the host, blocking copies to the
/// device, and operators whose result the host must see (`item`, `nonzero`, ...).
std::map<std::string, int> take_waits();

}  // namespace jepa

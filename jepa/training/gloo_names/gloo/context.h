// Names of gloo's types, so that c10d's ProcessGroupGloo.hpp can be read where gloo's own headers
// are not: LibTorch carries gloo, but not its headers. Nothing here is called, and objects of these
// types are only ever handled by pointer inside LibTorch.
#pragma once

#include <chrono>

namespace gloo {
class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};
}  // namespace gloo

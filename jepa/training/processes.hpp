// The processes that train one model together.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace jepa {

/// What a training step asks of the other processes. This base is a process alone.
class Processes {
 public:
  virtual ~Processes() = default;
  virtual int64_t rank() const { return 0; }
  virtual int64_t count() const { return 1; }
  /// Each of `tensors`, of one shape in all processes, becomes its mean over them, in place.
  virtual void average(const std::vector<torch::Tensor>& /*tensors*/) {}
};

}  // namespace jepa

// A limit on what reading an untrusted file may take.
#pragma once

#include <jepa/errors.hpp>

#include <cstdint>
#include <string>
#include <utility>

namespace jepa {

/// Counts down what a reader allocates, or reads again, on behalf of a file; `charge` throws
/// CheckpointError naming the file once the file asks for more than its size can justify.
class ByteBudget {
 public:
  ByteBudget(std::string file, uint64_t bytes) : file_(std::move(file)), left_(bytes) {}
  void charge(uint64_t bytes) {
    if (bytes > left_) {
      throw CheckpointError(file_ + ": declares more than a file of its size can hold");
    }
    left_ -= bytes;
  }

 private:
  std::string file_;
  uint64_t left_;
};

}  // namespace jepa

// The processes that train one model together.
#pragma once

#include <jepa/errors.hpp>

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace jepa {

/// Another process did not answer.
class ProcessError : public Error {
 public:
  using Error::Error;
};

/// What a training step asks of the other processes. This base is a process alone.
class Processes {
 public:
  virtual ~Processes() = default;
  virtual int64_t rank() const { return 0; }
  virtual int64_t count() const { return 1; }
  /// `tensor`, of one shape in all processes, becomes its mean over them, in place; not to be
  /// touched before `finish_averages`. Any number may be under way, begun in one order by all.
  virtual void begin_average(const torch::Tensor& /*tensor*/) {}
  /// Waits for all that `begin_average` began.
  /// @throws ProcessError naming this rank where another does not answer
  virtual void finish_averages() {}
  /// The rows of all processes, in the order of their ranks: [n, ...] -> [count * n, ...], without
  /// gradient.
  virtual torch::Tensor gather(const torch::Tensor& rows) { return rows; }
  /// Waits for all.
  virtual void barrier() {}
  /// Asked by a process that is about to end in an error, with whether that is another's not having
  /// answered (ProcessError): is it the one to say so? Of several, that is the first whose error is
  /// its own. May take three seconds.
  virtual bool tells_failure(bool /*of_another*/) { return true; }
};

/// This process alone: what those ask that were given no others.
Processes& process_alone();

/// The rows of all processes with gradient: each process computes the same loss of them, and after
/// `average` the weights have the gradient of that one loss.
torch::Tensor gather_rows(const torch::Tensor& rows, Processes& processes);

/// The mean of `value` over all processes with gradient: each process computes a loss of its own
/// rows and of this mean, and after `average` the weights have the gradient of the losses' mean.
torch::Tensor mean_over_processes(const torch::Tensor& value, Processes& processes);

/// The texts of all processes, in the order of their ranks.
std::vector<std::string> gather_texts(const std::string& own, Processes& processes);

/// Rank 0's `number`, in all processes; the others' own are not looked at.
int64_t number_of_first(int64_t number, Processes& processes);

/// `function` of `rows` [B, ...], row by row, each process computing its part -> [B, ...] in all of
/// them, without gradient. The last parts are filled up with the last row, which is then left out.
torch::Tensor share_rows(const torch::Tensor& rows, Processes& processes,
                         const std::function<torch::Tensor(const torch::Tensor&)>& function);

/// Rows of a batch.
struct RowRange {
  int64_t start = 0;
  int64_t count = 0;
};

/// Of rows that all processes share, those of this one.
/// @throws ConfigError where they do not divide
RowRange own_rows(RowRange shared, const Processes& processes);

/// Checks that all processes have the same `text`, such as their options.
/// @throws Error naming `what` and the first rank that differs
void require_same(const std::string& text, const std::string& what, Processes& processes);

}  // namespace jepa

// How what takes long is ended from outside.
#pragma once

#include <jepa/errors.hpp>

#include <functional>
#include <string>

namespace jepa::eval::worlds {

/// Asked every moment while something long goes on; true: it is to end. May be empty.
using StopRequest = std::function<bool()>;

/// Thrown where a StopRequest said so: nothing failed, and what was kept until then stays.
class Interrupted : public Error {
 public:
  using Error::Error;
};

/// @param what is ended, for the message
/// @throws Interrupted
inline void go_on_unless(const StopRequest& stop, const std::string& what) {
  if (stop && stop()) throw Interrupted(what + ": stopped");
}

}  // namespace jepa::eval::worlds

// How what takes long is ended from outside.
#pragma once

#include <jepa/errors.hpp>

#include <functional>
#include <string>

namespace jepa {

/// Asked every moment while something long goes on; true: it is to end. May be empty.
using StopRequest = std::function<bool()>;

/// Thrown where a StopRequest said so: nothing failed, and what was kept until then stays.
class Stopped : public Error {
 public:
  using Error::Error;
};

/// @param what is ended, for the message
/// @throws Stopped
inline void stop_if_asked(const StopRequest& stop, const std::string& what) {
  if (stop && stop()) throw Stopped(what + ": stopped");
}

}  // namespace jepa

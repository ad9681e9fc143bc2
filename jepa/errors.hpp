// The errors a user can cause. Each message names the file, key or shape at fault, what was
// expected and what was found. The library throws them; it never prints and never exits.
#pragma once

#include <stdexcept>
#include <string>

namespace jepa {

/// Base of every error this library throws for bad input.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An option, ini file or command line that cannot be used (programs exit with 2).
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// A data file that is missing, damaged or of the wrong shape.
class DataError : public Error {
 public:
  using Error::Error;
};

/// A checkpoint or weight file that is missing, damaged or belongs to another model.
class CheckpointError : public Error {
 public:
  using Error::Error;
};

}  // namespace jepa

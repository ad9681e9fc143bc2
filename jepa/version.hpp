#pragma once

#include <string>

namespace jepa {

/// The library's version.
std::string version();
/// The commit it was built from, "unknown" outside of a repository.
std::string commit();

}  // namespace jepa

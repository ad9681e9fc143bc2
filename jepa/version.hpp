#pragma once

#include <string>

namespace jepa {

/// The library's version, and the commit it was built from.
std::string version();
std::string commit();

}  // namespace jepa

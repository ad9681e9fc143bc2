// Tests of the Gymnasium bridge run against a stub, in any Python that has numpy.
#pragma once

#include <cstdlib>
#include <string>

namespace jepa {

/// Sets PYTHONPATH and JEPA_PYTHON for the stub. False: there is no Python with numpy here.
inline bool use_gymnasium_stub() {
  static const bool found = [] {
    setenv("PYTHONPATH", JEPA_TEST_FIXTURES "/worlds/gymnasium_stub", 1);
    setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
    for (const std::string& python :
         {std::string("python3"), std::string(JEPA_SOURCE_DIR "/.deps/venv/bin/python")}) {
      if (std::system((python + " -c 'import numpy' 2>/dev/null").c_str()) != 0) continue;
      setenv("JEPA_PYTHON", python.c_str(), 1);
      return true;
    }
    return false;
  }();
  return found;
}

}  // namespace jepa

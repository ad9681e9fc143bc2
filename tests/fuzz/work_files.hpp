// Files and arguments of the fuzz programs.
#pragma once

#include <jepa/errors.hpp>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>

namespace jepa::fuzz {

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError("cannot open " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// The number after `name` among the arguments.
inline int64_t argument(int argc, char** argv, const std::string& name, int64_t otherwise) {
  for (int i = 1; i + 1 < argc; i += 2) {
    if (argv[i] == name) return std::stoll(argv[i + 1]);
  }
  return otherwise;
}

}  // namespace jepa::fuzz

// Where the entries of a zip archive lie.
#pragma once

#include <jepa/io/byte_budget.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace jepa {

/// One file of an archive.
struct ZipEntry {
  std::string_view name;    ///< view of the archive
  uint64_t offset = 0;      ///< of the content, from the archive's start
  uint64_t size = 0;        ///< in the archive
  bool compressed = false;  ///< what lies there is not the content itself
};

/// The entries of the zip or zip64 archive `bytes`, sorted by name. Every range is inside the
/// archive. `path` is the file in messages.
/// @throws CheckpointError: not a zip archive, encrypted entries, damaged or
/// contradicting headers, a name twice.
std::vector<ZipEntry> read_zip_index(std::string_view bytes, const std::string& path,
                                     ByteBudget& budget);

/// The entry called `name`, or null.
const ZipEntry* find_zip_entry(const std::vector<ZipEntry>& entries, std::string_view name);

}  // namespace jepa

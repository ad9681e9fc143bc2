// HDF5's heaps of texts of variable length, looked at before the HDF5 library is let near them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace jepa {

/// What is wrong with a heap of texts ("global heap collection", GCOL) in `bytes`, a part of an
/// HDF5 file that starts where the file does; empty: nothing. HDF5 1.10 follows the sizes that it
/// finds there out of its memory. Heaps that reach beyond `file_bytes` are damaged too.
std::string heap_damage(std::string_view bytes, uint64_t file_bytes);

/// The same of a file's first 256 MB, where attributes have their texts.
std::string heap_damage_of_file(const std::string& path);

}  // namespace jepa

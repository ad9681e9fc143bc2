// Hostile variants of weight files and media: changes that keep most of a file's structure, so that
// they reach header fields and pickle operations and not only the first check.
#pragma once

#include <jepa/random.hpp>

#include <string>

namespace jepa::fuzz {

/// A safetensors file with one to four changes: the header's length, its numbers, names and types,
/// entries twice or out of order, nesting, bytes, truncation.
std::string mutate_safetensors(std::string file, Random& random);

/// A `torch.save` archive with one to four changes: fields of the zip records,
/// records that contradict each other, operations and arguments of the pickle, nesting, foreign
/// globals, bytes, truncation.
std::string mutate_torch(std::string file, Random& random);

/// JSON text with one to four changes.
std::string mutate_json(std::string text, Random& random);

/// A video, picture or HDF5 file with one to four changes: numbers of its headers at the edges, in
/// either byte order, bytes, pieces copied, moved and lost, gaps, truncation. The checksums of a
/// PNG's chunks are mostly made right again.
std::string mutate_media(std::string file, Random& random);

}  // namespace jepa::fuzz

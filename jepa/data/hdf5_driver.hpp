// How the HDF5 library gets at a file that a stranger wrote.
#pragma once

#include <jepa/data/hdf5_file.hpp>

namespace jepa {

/// File access (an HDF5 property list) for reading, through a driver of our own. It gives out bytes
/// of the file and nothing else: what lies beyond its end is an error (HDF5's own driver hands out
/// zeros), and so are addresses that overflow. It does without HDF5's two caches of raw bytes
/// ("metadata accumulator", "data sieve"), in which HDF5 1.10 works out a copy's place from
/// addresses that it does not check: most of the crashes on damaged files that were found.
Hdf5Handle read_only_access();

}  // namespace jepa

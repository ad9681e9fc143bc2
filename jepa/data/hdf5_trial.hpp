// Trying a stranger's HDF5 file out where a crash costs nothing.
#pragma once

#include <string>

namespace jepa {

/// Opens the file, all datasets of its root group and all its attributes, walks the indexes of
/// their chunks and reads what is small, in a child process that is forked for it; the first time
/// only, as long as the file stays as it is. The HDF5 library (Debian's 1.10.8) follows
/// addresses, sizes and counts of a damaged file into crashes and endless loops, more of them than
/// checks in front of it could name: what it does to the child it does not do here. The child calls
/// nothing but HDF5, its filters and the allocator, under HDF5's lock, so it may be forked beside
/// other threads.
///
/// A store costs a fork and its metadata read once more: some milliseconds, and as long as reading
/// the index takes where it has a chunk for each of a million frames on a slow disk. Where no
/// process can be forked the file is read untried.
/// @throws DataError naming the file: HDF5 crashes on it, takes more than kTrialSeconds of
///   processor time or kTrialMegabytes more memory, or does not end within two minutes
void try_hdf5_file(const std::string& path);

inline constexpr int kTrialSeconds = 10;
inline constexpr int kTrialMegabytes = 2048;

}  // namespace jepa

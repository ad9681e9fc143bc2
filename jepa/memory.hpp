// How the process holds its memory.
#pragma once

namespace jepa {

/// Tells the C library to keep freed memory instead of giving it back to the system, so that the
/// tensors of one training step reuse the pages of the last (glibc; elsewhere nothing happens). A
/// choice for a whole process, so programs make it, not the library.
void keep_freed_memory();

}  // namespace jepa

// Files that are saved under a weight file's name and are something else.
#pragma once

#include <string>
#include <string_view>

namespace jepa {

/// What a file that starts with `bytes` is, where it is a known kind that holds no weights this
/// library reads (a Git LFS pointer, a web page, JSON, nothing at all ...), with what to do;
/// empty: none of them.
std::string foreign_file(std::string_view bytes);

}  // namespace jepa

// Text from strangers' files, made fit for a terminal.
#pragma once

#include <string>
#include <string_view>

namespace jepa {

/// `text` with control characters (C0, DEL, C1 in UTF-8, line ends too) escaped as `\n`, `\t` or
/// `\xNN`, so that names from files neither steer a terminal nor pass for lines of ours.
std::string printable(std::string_view text);

}  // namespace jepa

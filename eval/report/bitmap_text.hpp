// Text in pictures, with a tiny built-in font: no font file is needed anywhere.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>

namespace jepa::eval::report {

/// Where ink is of one or more lines (separated by `\n`) in a font of 5 x 7 pixels, each
/// `scale` x `scale` -> bool [rows, columns]. Letters are drawn as capitals, characters outside
/// ASCII and those the font lacks as a box.
torch::Tensor bitmap_text(const std::string& text, int64_t scale = 1);

/// Breaks `text` at blanks into lines of at most `width` characters; longer words stay whole.
std::string wrap_text(const std::string& text, size_t width);

}  // namespace jepa::eval::report

// The side-by-side film: one row of clips for each thing compared, several examples beside each
// other, given frames framed in another colour than predicted ones.
#pragma once

#include <jepa/options.hpp>

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace jepa::eval::comparison {

/// What a row shows.
struct FilmRow {
  std::string caption;               ///< drawn left of the row, broken at blanks
  std::vector<torch::Tensor> clips;  ///< one an example: uint8 [T, H, W] or [C, T, H, W]
  /// Which frames the model was given [T]: framed blue, the others orange. Empty: a thin grey frame
  /// (nothing is predicted).
  std::vector<bool> given = {};
};

/// How films and sheets look.
struct FilmOptions {
  int64_t scale = 4;             ///< every pixel is drawn so many times so many pixels large
  int64_t border = 3;            ///< width of the coloured frame, px
  int64_t gap = 6;               ///< white between pictures, px
  int64_t text_scale = 2;        ///< of the captions' 5 x 7 font
  int64_t caption_letters = 12;  ///< where captions are broken

  void describe(OptionVisitor& visit);
};

/// The first `context` of `frames` frames were given.
std::vector<bool> given_first(int64_t context, int64_t frames);

/// The rows as a film for report::encode_video and report::encode_gif: uint8 [T, H, W, 3]. All
/// clips have the same T, H and W, all rows as many examples.
/// @throws ConfigError for options below 1; shapes are checked
torch::Tensor render_film(const std::vector<FilmRow>& rows, const FilmOptions& options = {});

/// One example as a still picture for report::encode_png, all frames of each row in a line:
/// uint8 [H, W, 3].
torch::Tensor contact_sheet(const std::vector<FilmRow>& rows, int64_t example = 0,
                            const FilmOptions& options = {});

}  // namespace jepa::eval::comparison

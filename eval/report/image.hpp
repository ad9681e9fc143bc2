// Pictures from tensors: PNG files, frame strips, integer upscaling, token masks drawn over a clip.
#pragma once

#include <jepa/grid.hpp>
#include <jepa/model.hpp>

#include <torch/types.h>

#include <string>

namespace jepa::eval::report {

/// A PNG file's bytes from `image` uint8 [H, W, 3]. @throws DataError where the encoder fails.
std::string encode_png(const torch::Tensor& image);

/// Writes `encode_png(image)` to `path`, whole or not at all. @throws DataError naming the file.
void write_png(const std::string& path, const torch::Tensor& image);

/// Frames as they lie in a clip, for people: `clip` uint8 [C, T, H, W] -> [T, H, W, 3]. One channel
/// is shown grey, of more than three the first three are shown, of two the third is black.
torch::Tensor clip_frames(const torch::Tensor& clip);

/// Every pixel `factor` x `factor` times: uint8 [..., H, W, 3] -> [..., factor*H, factor*W, 3].
torch::Tensor upscale(const torch::Tensor& frames, int64_t factor);

/// Frames uint8 [T, H, W, 3] in rows of `columns` with `gap` white pixels between ->
/// [rows*H + ..., columns*W + ..., 3]; cells without a frame stay white.
torch::Tensor frame_grid(const torch::Tensor& frames, int64_t columns, int64_t gap = 2);

/// What a mask shows of a clip: `frames` uint8 [T, H, W, 3] -> [T, H, W, 3], context as it is,
/// target tinted orange, tokens that are neither blue-grey. Row `row` of the mask's context is
/// drawn with the union of its target sets. T, H and W are multiples of the grid's sides.
torch::Tensor draw_mask(const torch::Tensor& frames, const Mask& mask, int64_t row,
                        const TokenGrid& grid);

}  // namespace jepa::eval::report

// Where a token stands: fixed sin-cos tables and three-axis rotary positions.
#pragma once

#include <jepa/grid.hpp>

#include <torch/types.h>

#include <array>
#include <string>

namespace jepa::nn {

/// Sin-cos codes of `positions` (any real numbers) [N] -> float64 [N, dim]; `dim` even.
/// Frequencies 10000^(-i / (dim/2)); first all sines, then all cosines.
torch::Tensor sincos_1d(int64_t dim, const torch::Tensor& positions);

/// Table for an image grid: float32 [h*w, dim], first half for the column, second for the row
/// (I-JEPA). `dim` divides by 4.
torch::Tensor sincos_2d(int64_t dim, int64_t h, int64_t w);

/// Table for a video grid: float32 [t*h*w, dim], parts in the order time, row, column. With
/// `uniform_power` each part has 2*ceil(dim/6) columns and the whole is cut to `dim` (V-JEPA);
/// otherwise time has dim/2, row and column dim/4 each.
torch::Tensor sincos_3d(int64_t dim, const TokenGrid& grid, bool uniform_power);

/// A table of `from` [1, from.size(), dim] brought to grid `to`: the first time steps where only
/// the time is shorter, else interpolated (trilinear; bicubic between image grids).
torch::Tensor resize_positions(const torch::Tensor& table, const TokenGrid& from,
                               const TokenGrid& to);

/// How rotary frequencies are laid out over the elements of a head.
enum class RotaryLayout {
  kTiled,        ///< V-JEPA 2 and 2-AC: element e turns by frequency e mod (width/2), as published
  kInterleaved,  ///< V-JEPA 2.1: both elements of a pair turn by the pair's frequency
};

/// @throws ConfigError for a name that is neither "tiled" nor "interleaved"
RotaryLayout rotary_layout(const std::string& name);

/// Cosines and sines for the rotated part of a head, for every token: float32 [N, R] or [B, N, R],
/// R = 3 * axis width <= head width. Elements from R on are not rotated.
struct RotaryTable {
  torch::Tensor cos;
  torch::Tensor sin;

  bool defined() const { return cos.defined(); }
  /// The rows at `ids` [B, K] -> tables [B, K, R].
  RotaryTable at(const torch::Tensor& ids) const;
};

/// Width of one rotated axis in a head of `head_dim` elements: 2 * floor(floor(head_dim / 3) / 2).
int64_t rotary_axis_width(int64_t head_dim);

/// Angles along one axis: positions float32 [N] -> [N, width]. Computed in float32, as published.
torch::Tensor rotary_angles(const torch::Tensor& positions, int64_t width, RotaryLayout layout);

/// Table for tokens at (time, row, column) = the three tensors float32 [N].
RotaryTable rotary_table(const std::array<torch::Tensor, 3>& positions, int64_t head_dim,
                         RotaryLayout layout);

/// Turns adjacent pairs of the first R elements of `x` [..., N, d] by `table`:
/// y[2j] = x[2j] cos[2j] - x[2j+1] sin[2j], y[2j+1] = x[2j+1] cos[2j+1] + x[2j] sin[2j+1].
/// A table [B, N, R] is for x [B, heads, N, d].
torch::Tensor rotate(const torch::Tensor& x, const RotaryTable& table);

/// (time, row, column) of every token of a grid, float32 [N] each; row and column are stretched to
/// a square of `reference` patches a side when that is not 0 (V-JEPA 2.1).
std::array<torch::Tensor, 3> grid_positions(const TokenGrid& grid, int64_t reference);

/// A model's rotary positions. Tables are made once for each grid and device, never change, and are
/// shared by all models and threads.
class RotaryPositions {
 public:
  RotaryPositions() = default;
  RotaryPositions(int64_t head_dim, RotaryLayout layout, int64_t reference)
      : head_dim_(head_dim), layout_(layout), reference_(reference) {}

  /// Table for tokens at `ids` [B, K] of `grid` (undefined: all, in order); an undefined table when
  /// the model has no rotary positions.
  RotaryTable table(const TokenGrid& grid, const torch::Tensor& ids, torch::Device device) const;

 private:
  int64_t head_dim_ = 0;  // 0: no rotary positions
  RotaryLayout layout_ = RotaryLayout::kTiled;
  int64_t reference_ = 0;
};

}  // namespace jepa::nn

#include <jepa/errors.hpp>
#include <jepa/nn/positions.hpp>
#include <jepa/nn/shared_tables.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <string>
#include <tuple>

namespace jepa::nn {
namespace {

constexpr double kBase = 10000.0;

/// Coordinate of every token along one axis: `i` repeated `inner` times, the whole `outer` times.
torch::Tensor axis_positions(int64_t outer, int64_t length, int64_t inner, at::ScalarType type) {
  return torch::arange(length, type).repeat_interleave(inner).repeat({outer});
}

}  // namespace

torch::Tensor sincos_1d(int64_t dim, const torch::Tensor& positions) {
  TORCH_CHECK(dim % 2 == 0, "sincos_1d: an even width expected, got ", dim);
  const auto steps = torch::arange(dim / 2, torch::kFloat64) / (dim / 2.0);
  const auto omega = torch::pow(kBase, steps).reciprocal();
  const auto angles = torch::outer(positions.to(torch::kFloat64), omega);
  return torch::cat({angles.sin(), angles.cos()}, 1);
}

torch::Tensor sincos_2d(int64_t dim, int64_t h, int64_t w) {
  TORCH_CHECK(dim % 4 == 0, "sincos_2d: a width that divides by 4 expected, got ", dim);
  const auto rows = axis_positions(1, h, w, torch::kFloat64);
  const auto columns = axis_positions(h, w, 1, torch::kFloat64);
  return torch::cat({sincos_1d(dim / 2, columns), sincos_1d(dim / 2, rows)}, 1).to(torch::kFloat32);
}

torch::Tensor sincos_3d(int64_t dim, const TokenGrid& grid, bool uniform_power) {
  const int64_t part = 2 * ((dim + 5) / 6);
  const int64_t time_dim = uniform_power ? part : dim / 2;
  const int64_t side_dim = uniform_power ? part : dim / 4;
  const auto time = axis_positions(1, grid.t, grid.frame_size(), torch::kFloat64);
  const auto rows = axis_positions(grid.t, grid.h, grid.w, torch::kFloat64);
  const auto columns = axis_positions(grid.t * grid.h, grid.w, 1, torch::kFloat64);
  return torch::cat(
             {sincos_1d(time_dim, time), sincos_1d(side_dim, rows), sincos_1d(side_dim, columns)},
             1)
      .narrow(1, 0, dim)
      .to(torch::kFloat32);
}

torch::Tensor resize_positions(const torch::Tensor& table, const TokenGrid& from,
                               const TokenGrid& to) {
  TORCH_CHECK(table.dim() == 3 && table.size(1) == from.size(), "resize_positions: a table [1, ",
              from.size(), ", D] expected, got ", table.sizes());
  if (from == to) return table;
  if (from.h == to.h && from.w == to.w && to.t < from.t) {
    return table.narrow(1, 0, to.size());
  }
  const int64_t dim = table.size(2);
  const auto planes = table.transpose(1, 2);
  const double rows = static_cast<double>(to.h) / from.h;
  const double columns = static_cast<double>(to.w) / from.w;
  torch::Tensor resized;
  if (from.t == 1 && to.t == 1) {
    resized = at::upsample_bicubic2d(planes.reshape({1, dim, from.h, from.w}), {to.h, to.w}, false,
                                     rows, columns);
  } else {
    resized = at::upsample_trilinear3d(planes.reshape({1, dim, from.t, from.h, from.w}),
                                       {to.t, to.h, to.w}, false,
                                       static_cast<double>(to.t) / from.t, rows, columns);
  }
  return resized.flatten(2).transpose(1, 2);
}

RotaryLayout rotary_layout(const std::string& name) {
  if (name == "tiled") return RotaryLayout::kTiled;
  if (name == "interleaved") return RotaryLayout::kInterleaved;
  throw ConfigError("rope_layout: expected tiled or interleaved, found '" + name + "'");
}

RotaryTable RotaryTable::at(const torch::Tensor& ids) const {
  const auto rows = ids.flatten();
  return {cos.index_select(0, rows).view({ids.size(0), ids.size(1), -1}),
          sin.index_select(0, rows).view({ids.size(0), ids.size(1), -1})};
}

int64_t rotary_axis_width(int64_t head_dim) { return 2 * ((head_dim / 3) / 2); }

torch::Tensor rotary_angles(const torch::Tensor& positions, int64_t width, RotaryLayout layout) {
  const auto steps = torch::arange(width / 2, torch::kFloat32) / (width / 2.0);
  const auto omega = torch::pow(kBase, steps).reciprocal();
  const auto angles = torch::outer(positions.to(torch::kFloat32), omega);
  return layout == RotaryLayout::kTiled ? angles.repeat({1, 2}) : angles.repeat_interleave(2, 1);
}

RotaryTable rotary_table(const std::array<torch::Tensor, 3>& positions, int64_t head_dim,
                         RotaryLayout layout) {
  const int64_t width = rotary_axis_width(head_dim);
  const auto angles = torch::cat(
      {rotary_angles(positions[0], width, layout), rotary_angles(positions[1], width, layout),
       rotary_angles(positions[2], width, layout)},
      1);
  return {angles.cos(), angles.sin()};
}

torch::Tensor rotate(const torch::Tensor& x, const RotaryTable& table) {
  const int64_t rotated = table.cos.size(-1);
  const auto per_head = [](const torch::Tensor& t) { return t.dim() == 3 ? t.unsqueeze(1) : t; };
  const auto part = x.narrow(-1, 0, rotated);
  const auto pairs = part.unflatten(-1, {-1, 2});
  const auto turned = torch::stack({-pairs.select(-1, 1), pairs.select(-1, 0)}, -1).flatten(-2);
  const auto y = part * per_head(table.cos) + turned * per_head(table.sin);
  if (rotated == x.size(-1)) return y;
  return torch::cat({y, x.narrow(-1, rotated, x.size(-1) - rotated)}, -1);
}

std::array<torch::Tensor, 3> grid_positions(const TokenGrid& grid, int64_t reference) {
  // A side of one patch stays at 0.
  const auto stretch = [&](int64_t side) {
    return reference == 0 || side == 1 ? 1.0 : (reference - 1.0) / (side - 1.0);
  };
  return {axis_positions(1, grid.t, grid.frame_size(), torch::kFloat32),
          axis_positions(grid.t, grid.h, grid.w, torch::kFloat32) * stretch(grid.h),
          axis_positions(grid.t * grid.h, grid.w, 1, torch::kFloat32) * stretch(grid.w)};
}

RotaryTable RotaryPositions::table(const TokenGrid& grid, const torch::Tensor& ids,
                                   torch::Device device) const {
  if (head_dim_ == 0) return {};
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int, int64_t, std::string>;
  static SharedTables<Key, RotaryTable> tables;
  const auto whole = tables.get(
      {grid.t, grid.h, grid.w, head_dim_, static_cast<int>(layout_), reference_, device.str()},
      [&] {
        const auto table = rotary_table(grid_positions(grid, reference_), head_dim_, layout_);
        return RotaryTable{table.cos.to(device), table.sin.to(device)};
      });
  return ids.defined() ? whole->at(ids) : *whole;
}

}  // namespace jepa::nn

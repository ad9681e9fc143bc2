// Labels and units: the columns of a source as probes take them.
#include <eval/probes/protocol.hpp>
#include <jepa/errors.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <sstream>

namespace jepa::eval::probes {
namespace {

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names;
  std::istringstream stream(text);
  for (std::string name; std::getline(stream, name, ',');) {
    const auto first = name.find_first_not_of(" \t");
    if (first == std::string::npos) continue;
    names.push_back(name.substr(first, name.find_last_not_of(" \t") - first + 1));
  }
  return names;
}

torch::Tensor label_column(const ClipSource& source, const std::string& name) {
  const auto column = source.column(name);
  if (column.scalar_type() == torch::kInt64 && column.dim() == 1) return column;
  if (column.is_floating_point() && column.dim() <= 2) {
    const auto given = column.view({column.size(0), -1}), rows = given.to(torch::kFloat32);
    const auto broken = given.isfinite().all(1).logical_not().nonzero();
    if (broken.size(0) > 0) {
      throw DataError(c10::str(source.name(broken[0][0].item<int64_t>()), ": column '", name,
                               "' is not finite, as in ", broken.size(0), " of ", rows.size(0),
                               " clips"));
    }
    if (!rows.isfinite().all().item<bool>()) {
      throw DataError(source.name(0) + ": column '" + name + "' has numbers above 3.4e38");
    }
    return rows;
  }
  throw DataError("column '" + name +
                  "': expected classes int64 [E] or quantities float [E, K], "
                  "found " +
                  c10::str(column.scalar_type(), " ", column.sizes()));
}

torch::Tensor share_of_labels(const torch::Tensor& labels, double share, uint64_t seed) {
  const int64_t rows = labels.size(0);
  std::vector<int64_t> order(static_cast<size_t>(rows));
  std::iota(order.begin(), order.end(), 0);
  if (share < 1) {
    Random random(seed, "share of labels", 0);
    for (int64_t i = rows - 1; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
    // Of each class, the first of its rows in the shuffled order.
    const bool classes = labels.scalar_type() == torch::kInt64;
    std::map<int64_t, int64_t> total, taken;
    const auto contiguous = labels.contiguous();
    const auto class_of = [&](int64_t row) {
      return classes ? contiguous.data_ptr<int64_t>()[row] : 0;
    };
    for (const int64_t row : order) ++total[class_of(row)];
    std::erase_if(order, [&](int64_t row) {
      const int64_t label = class_of(row);
      const auto wanted =
          static_cast<int64_t>(std::ceil(share * static_cast<double>(total[label])));
      return ++taken[label] > wanted;
    });
    std::sort(order.begin(), order.end());
  }
  return torch::tensor(order, torch::kInt64);
}

const std::vector<std::string>& unit_columns() {
  static const std::vector<std::string> names{"instance", "segment", "unit",    "episode",
                                              "video",    "source",  "subject", "scene"};
  return names;
}

UnitChoice choose_units(const ClipSource& source, const std::string& wanted,
                        const std::vector<std::string>& labels) {
  const auto take = [&](const std::string& name) {
    UnitChoice choice{.column = name};
    choice.numbers = number_units(label_column(source, name), choice.count);
    return choice;
  };
  if (!wanted.empty() && wanted != "auto" && wanted != "none") {
    if (label_column(source, wanted).scalar_type() != torch::kInt64) {
      throw DataError("unit column '" + wanted + "': expected int64");
    }
    UnitChoice choice = take(wanted);
    choice.text = "intervals are over the units of column " + wanted;
    return choice;
  }
  const auto there = source.columns();
  for (const auto& name : unit_columns()) {
    if (wanted == "none" || contains(labels, name) || !contains(there, name)) continue;
    const auto column = source.column(name);
    if (column.scalar_type() != torch::kInt64 || column.dim() != 1) continue;
    UnitChoice choice = take(name);
    if (choice.count < 2) continue;
    choice.text = "intervals are over the units of column " + name + ", chosen since it is there";
    return choice;
  }
  UnitChoice choice{
      .column = "clip", .numbers = torch::arange(source.size()), .count = source.size()};
  choice.text = wanted == "none"
                    ? "intervals are over clips, as asked"
                    : "no column says which clips are not independent: intervals are over clips "
                      "and too narrow if some show the same thing (--unit COLUMN)";
  return choice;
}

}  // namespace jepa::eval::probes

#include <eval/comparison/distance.hpp>
#include <jepa/generator.hpp>

#include <torch/types.h>

#include <algorithm>
#include <optional>
#include <tuple>

namespace jepa::eval::comparison {
namespace {

void check_sets(const torch::Tensor& a, const torch::Tensor& b) {
  TORCH_CHECK(
      a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(1) && a.size(0) >= 2 && b.size(0) >= 2,
      "two sets of features [n >= 2, d] expected, got ", a.sizes(), " and ", b.sizes());
}

/// The square root of a symmetric matrix without negative eigenvalues but for rounding.
torch::Tensor symmetric_root(const torch::Tensor& matrix) {
  const auto [values, vectors] = at::linalg_eigh(matrix);
  return at::mm(vectors * values.clamp_min(0).sqrt(), vectors.t());
}

}  // namespace

double frechet_distance(const torch::Tensor& a, const torch::Tensor& b) {
  check_sets(a, b);
  const auto x = a.to(torch::kFloat64), y = b.to(torch::kFloat64);
  const auto covariance_x = at::cov(x.t()).view({x.size(1), x.size(1)});
  const auto covariance_y = at::cov(y.t()).view({y.size(1), y.size(1)});
  // (S1 S2)^(1/2) has the trace of (S1^(1/2) S2 S1^(1/2))^(1/2), which is symmetric.
  const auto root = symmetric_root(covariance_x);
  const auto product = at::linalg_eigvalsh(at::mm(at::mm(root, covariance_y), root));
  const auto distance = (x.mean(0) - y.mean(0)).square().sum() + covariance_x.trace() +
                        covariance_y.trace() - 2 * product.clamp_min(0).sqrt().sum();
  return distance.item<double>();
}

double polynomial_mmd(const torch::Tensor& a, const torch::Tensor& b) {
  check_sets(a, b);
  const auto x = a.to(torch::kFloat64), y = b.to(torch::kFloat64);
  const auto kernel = [](const torch::Tensor& p, const torch::Tensor& q) {
    return (at::mm(p, q.t()) / static_cast<double>(p.size(1)) + 1).pow(3);
  };
  // Means over pairs of different rows.
  const auto within = [&](const torch::Tensor& p) {
    const auto k = kernel(p, p);
    const auto n = static_cast<double>(p.size(0));
    return (k.sum() - k.trace()) / (n * (n - 1));
  };
  return (within(x) + within(y) - 2 * kernel(x, y).mean()).item<double>();
}

PrincipalProjection::PrincipalProjection(const torch::Tensor& reference, int64_t dimensions) {
  TORCH_CHECK(reference.dim() == 2 && reference.size(0) >= 2 && dimensions >= 1,
              "features [n >= 2, D] and one dimension or more expected, got ", reference.sizes(),
              " and ", dimensions);
  const auto real = reference.to(torch::kFloat64);
  const int64_t kept = std::min({dimensions, real.size(1), real.size(0) - 1});
  mean_ = real.mean(0);
  // Each feature in its own deviations: else those of the largest unit would be all that counts.
  const auto deviation = real.std(0);
  const auto unit = at::where(deviation.gt(0), deviation.reciprocal(), at::zeros_like(deviation));
  const auto covariance = at::cov(real.t()).view({real.size(1), real.size(1)});
  const auto [values, vectors] = at::linalg_eigh(covariance * at::outer(unit, unit));  // ascending
  const auto first = values.size(0) - kept;
  const double scale = values.slice(0, first).clamp_min(0).mean().sqrt().item<double>();
  TORCH_CHECK(scale > 0, "features are the same for all clips");
  directions_ = unit.unsqueeze(1) * vectors.slice(1, first) / scale;
}

torch::Tensor PrincipalProjection::operator()(const torch::Tensor& features) const {
  TORCH_CHECK(features.dim() == 2 && features.size(1) == mean_.size(0), "features [n, ",
              mean_.size(0), "] expected, got ", features.sizes());
  return at::mm(features.to(torch::kFloat64) - mean_, directions_);
}

FeatureDistance feature_distance(const torch::Tensor& reference, const torch::Tensor& other,
                                 int64_t dimensions) {
  const PrincipalProjection project(reference, dimensions);
  const auto a = project(reference), b = project(other);
  return {frechet_distance(a, b), polynomial_mmd(a, b)};
}

std::vector<FeatureDistance> real_floor(const torch::Tensor& real, uint64_t seed, int64_t repeats,
                                        int64_t dimensions) {
  TORCH_CHECK(real.dim() == 2 && real.size(0) >= 4 && repeats >= 1,
              "features [n >= 4, D] and one repeat or more expected, got ", real.sizes(), " and ",
              repeats);
  const int64_t half = real.size(0) / 2;
  std::vector<FeatureDistance> floors;
  for (int64_t i = 0; i < repeats; ++i) {
    const auto order =
        at::randperm(real.size(0), std::optional<at::Generator>(seeded_generator(
                                       seed, "real floor", static_cast<uint64_t>(i))));
    const auto part = [&](int64_t from) {
      return real.index_select(0, order.slice(0, from, from + half));
    };
    floors.push_back(feature_distance(part(0), part(half), dimensions));
  }
  return floors;
}

}  // namespace jepa::eval::comparison

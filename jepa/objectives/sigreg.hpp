// Sketched isotropic Gaussian regularisation (SIGReg; LeJEPA, arXiv 2511.08544).
#pragma once

#include <ATen/core/Generator.h>
#include <torch/types.h>

#include <cstdint>

namespace jepa {

/// The Epps-Pulley statistic against N(0, 1) on random one-dimensional slices.
///
/// With u = z a for `slices` random unit vectors a, phi(t) = exp(-t^2 / 2) and 17 knots t_k on
/// [0, 3], one slice gives sum_k w_k phi(t_k) [(mean cos(t_k u) - phi(t_k))^2 + (mean sin(t_k
/// u))^2], w the trapezoid weights of the symmetric interval [-3, 3]. The result is the mean over
/// slices (and over T). Points all at 0 give 0.40205; n exact normal samples give 1.0525 / n.
///
/// @param samples float [n, D], or [T, n, D] for T separate tests
/// @param slices random directions; 64 to 256 are enough up to D = 192
/// @param scale_by_n multiply by n, as LeJEPA and LeWorldModel do
/// @param generator draws the directions, fresh at every call
/// @return scalar
torch::Tensor sigreg(const torch::Tensor& samples, int64_t slices, bool scale_by_n,
                     at::Generator generator);

/// The same along given unit directions [D, slices], with any number of knots.
torch::Tensor sigreg(const torch::Tensor& samples, const torch::Tensor& directions, bool scale_by_n,
                     int64_t knots = 17);

/// eb_jepa's form (BCS): the same statistic with 10 knots on [-3, 3], never times n, one value a
/// slice. @param samples [n, D] @param directions unit columns [D, slices] -> [slices]
torch::Tensor bcs_statistic(const torch::Tensor& samples, const torch::Tensor& directions,
                            int64_t knots = 10);

/// Directions that eb_jepa draws at its `call`-th use: normal columns of a generator seeded with
/// `call`, over their norms -> [dim, slices].
torch::Tensor bcs_directions(int64_t dim, int64_t slices, int64_t call);

}  // namespace jepa

#include <jepa/objectives/vicreg.hpp>

#include <torch/types.h>

namespace jepa {
namespace {

void check_samples(const torch::Tensor& samples, const char* term) {
  TORCH_CHECK(samples.dim() == 2 && samples.size(0) >= 2, term,
              ": expected samples [n >= 2, D], found ", samples.sizes());
}

}  // namespace

torch::Tensor variance_hinge(const torch::Tensor& samples, double gamma, double eps) {
  check_samples(samples, "variance hinge");
  return at::relu(gamma - samples.var(0).add(eps).sqrt()).mean();
}

torch::Tensor covariance_penalty(const torch::Tensor& samples, CovarianceScale scale) {
  check_samples(samples, "covariance penalty");
  const int64_t width = samples.size(1);
  TORCH_CHECK(width >= 2, "covariance penalty: one dimension has no covariance");
  const auto centred = samples - samples.mean(0);
  const auto covariance = at::mm(centred.t(), centred) / (samples.size(0) - 1);
  const auto off_diagonal = covariance.square().sum() - covariance.diagonal().square().sum();
  const double divisor =
      scale == CovarianceScale::width ? width : static_cast<double>(width) * (width - 1);
  return off_diagonal / divisor;
}

torch::Tensor less_position_mean(const torch::Tensor& tokens, const torch::Tensor& ids,
                                 int64_t positions) {
  TORCH_CHECK(tokens.dim() == 3 && ids.dim() == 2 && tokens.size(0) == ids.size(0) &&
                  tokens.size(1) == ids.size(1),
              "less_position_mean: tokens ", tokens.sizes(), " at ids ", ids.sizes());
  const int64_t width = tokens.size(2);
  const auto rows = tokens.flatten(0, 1);
  const auto flat = ids.flatten();
  // An expanded index (stride 0 along the width) takes ATen's row-wise path both ways.
  const auto index = flat.unsqueeze(1).expand({flat.size(0), width});
  // Not by bincount: on CUDA the host waits for it.
  const auto ones = rows.detach().new_ones(flat.sizes());
  const auto counts = ones.new_zeros({positions}).scatter_add(0, flat, ones).clamp_min(1);
  const auto sums = tokens.new_zeros({positions, width}).scatter_add(0, index, rows);
  const auto means = sums / counts.unsqueeze(1);
  const auto unbias = (counts / (counts - 1).clamp_min(1)).sqrt().index_select(0, flat);
  return ((rows - means.gather(0, index)) * unbias.unsqueeze(1)).view_as(tokens);
}

}  // namespace jepa

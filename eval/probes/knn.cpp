#include <eval/probes/knn.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <string>
#include <tuple>

namespace jepa::eval::probes {
namespace {

/// Unit rows; a row of zeros stays zero.
torch::Tensor directions(const torch::Tensor& features, const torch::Tensor& mean) {
  const auto centred = features - mean;
  return centred / centred.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
}

}  // namespace

std::vector<Candidate> fit_knn(const LabelledFeatures& train,
                               const std::vector<int64_t>& neighbours, double temperature) {
  TORCH_CHECK(train.features.dim() == 2 && train.features.size(0) == train.labels.size(0),
              "k-NN probe: features ", train.features.sizes(), " for labels ",
              train.labels.sizes());
  torch::NoGradGuard no_grad;
  const auto mean = train.features.mean(0);
  const auto memory = directions(train.features, mean);
  const auto values = (train.classes > 0 ? at::one_hot(train.labels, train.classes) : train.labels)
                          .to(torch::kFloat32);
  std::vector<Candidate> candidates;
  for (const int64_t wanted : neighbours) {
    const int64_t k = std::min(wanted, memory.size(0));
    candidates.push_back(
        {"k " + std::to_string(k), [=](const torch::Tensor& features) {
           torch::NoGradGuard no_grad_here;
           const auto cosines = at::mm(directions(features, mean), memory.t());
           const auto [nearest, index] = cosines.topk(k, 1);
           const auto weights = at::softmax(nearest / temperature, 1);  // sums to 1
           const auto votes = values.index_select(0, index.flatten()).view({-1, k, values.size(1)});
           return at::bmm(weights.unsqueeze(1), votes).squeeze(1);
         }});
  }
  return candidates;
}

}  // namespace jepa::eval::probes

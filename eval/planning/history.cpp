#include <eval/planning/history.hpp>

#include <torch/types.h>

#include <algorithm>

namespace jepa::eval::planning {

torch::Tensor rollout_actions(const torch::Tensor& past, const torch::Tensor& past_actions,
                              const torch::Tensor& actions) {
  const int64_t known = past.size(1);
  TORCH_CHECK(known == 1 || (past_actions.defined() && past_actions.size(1) == known - 1),
              "rollout: ", known, " past latents need the ", known - 1, " actions between them");
  return known == 1 ? actions : torch::cat({past_actions, actions}, 1);
}

torch::Tensor rollout_in_parts(
    const torch::Tensor& past, const torch::Tensor& actions, int64_t rows,
    const std::function<torch::Tensor(const torch::Tensor& past, const torch::Tensor& actions)>&
        imagine) {
  std::vector<torch::Tensor> parts;
  for (int64_t start = 0; start < past.size(0); start += rows) {
    const int64_t count = std::min(rows, past.size(0) - start);
    parts.push_back(imagine(past.narrow(0, start, count), actions.narrow(0, start, count)));
  }
  return parts.size() == 1 ? parts.front() : torch::cat(parts);
}

// A window grows until it is full: until then each latent keeps its place, and keys and values of
// the earlier ones are at hand. A full window moves on, which changes every place in it.
torch::Tensor adaln_rollout(
    const predictors::AdaLnPredictor& predictor, const torch::Tensor& past,
    const torch::Tensor& embedded,
    const std::function<torch::Tensor(const torch::Tensor& predicted)>& head) {
  using Window = predictors::AdaLnPredictor::ContainedType::Window;
  const int64_t known = past.size(1), window = predictor->options().frames;
  const int64_t total = embedded.size(1) + 1;  // latents at the end
  const auto signals = predictor->signals(embedded);
  const auto of = [&](int64_t from, int64_t count) {
    std::vector<torch::Tensor> part;
    for (const auto& one : signals) part.push_back(one.narrow(1, from, count));
    return part;
  };
  auto latents = past;
  Window growing;
  for (int64_t end = known; end < total; ++end) {  // latents so far
    Window whole;
    Window& now = end <= window ? growing : whole;
    const int64_t from = end <= window ? growing.frames : end - window;
    const auto next =
        predictor->extend(now, latents.narrow(1, from, end - from), of(from, end - from));
    latents = torch::cat({latents, head ? head(next) : next}, 1);
  }
  return latents.narrow(1, known, total - known);
}

}  // namespace jepa::eval::planning

#include <jepa/model.hpp>

#include <torch/torch.h>

namespace jepa {

torch::Tensor gather_tokens(const torch::Tensor& tokens, const torch::Tensor& ids) {
  TORCH_CHECK(tokens.dim() == 3 && ids.dim() == 2, "gather_tokens: tokens [B, N, D] and ids ",
              "[M*B, K] expected, got ", tokens.sizes(), " and ", ids.sizes());
  const int64_t batch = tokens.size(0);
  const int64_t count = tokens.size(1);
  const int64_t dim = tokens.size(2);
  TORCH_CHECK(ids.size(0) % batch == 0, "gather_tokens: ", ids.size(0),
              " rows of ids do not divide over ", batch, " clips");
  // One index_select over flattened rows: whole rows are copied, no [.., D] index is expanded.
  const auto rows = torch::arange(ids.size(0), ids.options()).remainder_(batch).mul_(count);
  return tokens.reshape({batch * count, dim})
      .index_select(0, (ids + rows.unsqueeze(1)).flatten())
      .view({ids.size(0), ids.size(1), dim});
}

}  // namespace jepa

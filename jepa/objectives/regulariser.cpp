#include <jepa/errors.hpp>
#include <jepa/objectives/regulariser.hpp>
#include <jepa/objectives/sigreg.hpp>
#include <jepa/objectives/vicreg.hpp>

#include <torch/types.h>

namespace jepa {

void RegulariserOptions::describe(OptionVisitor& visit) {
  visit(
      "kind", kind,
      {.help = "what keeps the encoder from collapsing", .choices = {"none", "vicreg", "sigreg"}});
  visit("on", on,
        {.help = "rows it acts on: all tokens, clip means, tokens less their position's batch "
                 "mean, or those less their clip's mean too",
         .choices = {"tokens", "pooled", "token_residual", "token_rest"}});
  visit("variance_weight", variance_weight, {.help = "weight of the variance hinge", .min = 0});
  visit("covariance_weight", covariance_weight, {.help = "weight of the covariances", .min = 0});
  visit("gamma", gamma, {.help = "standard deviation that the hinge asks for", .min = 0});
  visit("covariance_scale", covariance_scale,
        {.help = "squared covariances are divided by the width, or by the number of pairs",
         .choices = {"width", "pairs"}});
  visit("sigreg_weight", sigreg_weight, {.help = "weight of SIGReg", .min = 0});
  visit("slices", slices, {.help = "random directions of SIGReg", .min = 1});
  visit("scale_by_n", scale_by_n, {.help = "multiply SIGReg by the number of rows"});
}

torch::Tensor regularised_rows(const torch::Tensor& tokens, const torch::Tensor& ids,
                               const TokenGrid& grid, const std::string& on) {
  TORCH_CHECK(tokens.dim() == 3, "regulariser: expected tokens [B, K, D], found ", tokens.sizes());
  if (on == "tokens") return tokens.flatten(0, 1);
  if (on == "pooled") return tokens.mean(1);
  const bool less_clip = on == "token_rest";
  if (!less_clip && on != "token_residual") {
    throw ConfigError("unknown regulariser rows '" + on +
                      "': expected tokens, pooled, token_residual or token_rest");
  }
  auto rows = less_position_mean(tokens, ids, grid.size());
  if (less_clip) rows = rows - rows.mean(1, /*keepdim=*/true);
  return rows.flatten(0, 1);
}

RegulariserTerms regularise(const torch::Tensor& tokens, const torch::Tensor& ids,
                            const TokenGrid& grid, const RegulariserOptions& options,
                            at::Generator generator) {
  if (options.kind == "none") return {};
  const auto rows = regularised_rows(tokens, ids, grid, options.on);
  RegulariserTerms terms;
  if (options.kind == "vicreg") {
    const auto scale =
        options.covariance_scale == "pairs" ? CovarianceScale::pairs : CovarianceScale::width;
    const auto variance = variance_hinge(rows, options.gamma);
    const auto covariance = covariance_penalty(rows, scale);
    terms.loss = options.variance_weight * variance + options.covariance_weight * covariance;
    terms.variance = variance.detach();
    terms.covariance = covariance.detach();
  } else if (options.kind == "sigreg") {
    const auto statistic = sigreg(rows, options.slices, options.scale_by_n, generator);
    terms.loss = options.sigreg_weight * statistic;
    terms.sigreg = statistic.detach();
  } else {
    throw ConfigError("unknown regulariser '" + options.kind +
                      "': expected none, vicreg or sigreg");
  }
  return terms;
}

}  // namespace jepa

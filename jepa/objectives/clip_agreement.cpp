#include <jepa/objectives/clip_agreement.hpp>
#include <jepa/objectives/vicreg.hpp>

#include <torch/torch.h>

namespace jepa {
namespace {

/// Rows 2i and 2i + 1 of [2n, D] apart: two of [n, D].
std::vector<torch::Tensor> pairs(const torch::Tensor& rows) {
  return rows.view({-1, 2, rows.size(1)}).unbind(1);
}

}  // namespace

void AgreementOptions::describe(OptionVisitor& visit) {
  visit("weight", weight,
        {.help = "of the agreement (VICReg) between two shifted views of a clip; 0: one view",
         .min = 0});
  visit("shift", shift,
        {.help = "largest shift of a view to each side", .unit = "px", .min = 1, .max = 4096});
  visit("width", width, {.help = "of the projector", .min = 2});
  visit("pool", pool,
        {.help = "how a view's tokens become one vector", .choices = {"mean", "max"}});
  visit("invariance_weight", invariance_weight,
        {.help = "of the squared difference between the views", .min = 0});
  visit("variance_weight", variance_weight,
        {.help = "of the hinge on each direction's deviation", .min = 0});
  visit("covariance_weight", covariance_weight,
        {.help = "of the squared covariances between directions", .min = 0});
  visit("shift_weight", shift_weight,
        {.help = "of reading the shift between the views back (inverse dynamics)", .min = 0});
}

ShiftedViews shifted_views(const torch::Tensor& clips, int64_t shift, at::Generator generator) {
  TORCH_CHECK(clips.dim() == 5, "shifted_views: expected clips [B, C, T, H, W], found ",
              clips.sizes());
  const int64_t rows = 2 * clips.size(0);
  const auto moves = torch::randint(-shift, shift + 1, {rows, 2}, generator, torch::kInt64);
  const auto device = clips.device();
  // [2B, side]: which pixel of the clip is seen at each place of an axis.
  const auto seen = [&](int64_t axis, int64_t side) {
    return (torch::arange(side).unsqueeze(0) - moves.select(1, axis).unsqueeze(1))
        .clamp(0, side - 1)
        .to(device);
  };
  const auto x = seen(0, clips.size(4)).view({rows, 1, 1, 1, -1});
  const auto y = seen(1, clips.size(3)).view({rows, 1, 1, -1, 1});
  const auto twice = clips.repeat_interleave(2, 0);
  auto sizes = twice.sizes().vec();
  return {twice.gather(3, y.expand(sizes)).gather(4, x.expand(sizes)),
          (moves.to(torch::kFloat32) / static_cast<double>(shift)).to(device)};
}

ClipProjectorImpl::ClipProjectorImpl(int64_t dim, int64_t width)
    : hidden_(register_module("hidden", nn::Linear(dim, width))),
      // Always the batch's statistics: the projector is used in training alone.
      norm_(register_module(
          "norm",
          torch::nn::BatchNorm1d(torch::nn::BatchNorm1dOptions(width).track_running_stats(false)))),
      out_(register_module("out", nn::Linear(width, width))),
      shift_(register_module("shift", nn::Linear(dim, 2))) {}

torch::Tensor ClipProjectorImpl::forward(const torch::Tensor& pooled) {
  return out_->forward(at::relu(norm_->forward(hidden_->forward(pooled))));
}

torch::Tensor ClipProjectorImpl::shift(const torch::Tensor& difference) {
  return shift_->forward(difference);
}

void ClipProjectorImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, std::move(generator), /*xavier=*/true);
}

AgreementTerms clip_agreement(const torch::Tensor& tokens, const torch::Tensor& shifts,
                              ClipProjector& projector, const AgreementOptions& options) {
  TORCH_CHECK(
      tokens.dim() == 3 && tokens.size(0) >= 4 && tokens.size(0) % 2 == 0 &&
          shifts.sizes() == at::IntArrayRef({tokens.size(0), 2}),
      "clip_agreement: tokens [2n, K, D] of at least two clips and shifts [2n, 2] expected, "
      "got ",
      tokens.sizes(), " and ", shifts.sizes());
  const torch::Tensor pooled = options.pool == "max" ? tokens.amax(1) : tokens.mean(1);  // [2n, D]
  const auto views = pairs(projector->forward(pooled));  // two of [n, W]
  const auto summaries = pairs(pooled), moved = pairs(shifts);
  const torch::Tensor invariance = (views[0] - views[1]).square().mean();
  const torch::Tensor variance = (variance_hinge(views[0]) + variance_hinge(views[1])) / 2;
  const torch::Tensor covariance =
      (covariance_penalty(views[0]) + covariance_penalty(views[1])) / 2;
  const torch::Tensor shift =
      (projector->shift(summaries[1] - summaries[0]) - (moved[1] - moved[0])).square().mean();
  return {.loss = options.invariance_weight * invariance + options.variance_weight * variance +
                  options.covariance_weight * covariance + options.shift_weight * shift,
          .invariance = invariance.detach(),
          .variance = variance.detach(),
          .covariance = covariance.detach(),
          .shift = shift.detach()};
}

}  // namespace jepa

#include <jepa/errors.hpp>
#include <jepa/objectives/clip_agreement.hpp>
#include <jepa/objectives/sigreg.hpp>
#include <jepa/objectives/vicreg.hpp>

#include <torch/nn/modules/batchnorm.h>
#include <torch/types.h>

#include <cmath>
#include <numbers>

namespace jepa {
namespace {

/// Rows 2i and 2i + 1 of [2m, D] apart: two of [m, D].
std::vector<torch::Tensor> pairs(const torch::Tensor& rows) {
  return rows.view({-1, 2, rows.size(1)}).unbind(1);
}

/// Mean squared error of the shifts between neighbours, read from the difference of their means.
torch::Tensor shift_error(const torch::Tensor& tokens, const torch::Tensor& shifts,
                          ClipProjector& projector) {
  const auto means = pairs(tokens.mean(1)), moved = pairs(shifts);
  return (projector->shift(means[1] - means[0]) - (moved[1] - moved[0])).square().mean();
}

AgreementTerms vicreg_agreement(const torch::Tensor& projected, const torch::Tensor& shift,
                                const AgreementOptions& options) {
  const auto views = pairs(projected);  // two of [n, W]
  const torch::Tensor invariance = (views[0] - views[1]).square().mean();
  const torch::Tensor variance = (variance_hinge(views[0]) + variance_hinge(views[1])) / 2;
  const torch::Tensor covariance =
      (covariance_penalty(views[0]) + covariance_penalty(views[1])) / 2;
  AgreementTerms terms;
  terms.loss = options.invariance_weight * invariance + options.variance_weight * variance +
               options.covariance_weight * covariance + options.shift_weight * shift;
  terms.invariance = invariance.detach();
  terms.variance = variance.detach();
  terms.covariance = covariance.detach();
  terms.shift = shift.detach();
  return terms;
}

AgreementTerms sigreg_agreement(const torch::Tensor& projected, const torch::Tensor& shift,
                                const AgreementOptions& options, at::Generator generator) {
  const auto views = projected.view({-1, options.views, projected.size(1)});  // [n, V, W]
  const torch::Tensor invariance = (views - views.mean(1, /*keepdim=*/true)).square().mean();
  const torch::Tensor statistic =
      sigreg(views.transpose(0, 1), options.slices, /*scale_by_n=*/true, std::move(generator));
  AgreementTerms terms;
  terms.loss = options.invariance_weight * invariance + options.sigreg_weight * statistic +
               options.shift_weight * shift;
  terms.invariance = invariance.detach();
  terms.sigreg = statistic.detach();
  terms.shift = shift.detach();
  return terms;
}

}  // namespace

void AgreementOptions::describe(OptionVisitor& visit) {
  visit("weight", weight,
        {.help = "of the agreement between shifted views of a clip; 0: one view, as it is",
         .min = 0});
  visit("kind", kind,
        {.help = "what keeps clips apart whose views agree: vicreg (two views) or sigreg",
         .choices = {"vicreg", "sigreg"}});
  visit("views", views, {.help = "of each clip, an even number", .min = 2, .max = 64});
  visit("shift", shift,
        {.help = "largest shift of a view to each side", .unit = "px", .min = 1, .max = 4096});
  visit("rotation", rotation,
        {.help = "largest turn of a view to each side", .unit = "degrees", .min = 0, .max = 180});
  visit("zoom", zoom,
        {.help = "largest factor by which a view is enlarged or made smaller", .min = 1, .max = 8});
  visit("width", width, {.help = "of the projector", .min = 2});
  visit("hidden_layers", hidden_layers,
        {.help = "of the projector; 0: linear", .min = 0, .max = 16});
  visit("invariance_weight", invariance_weight,
        {.help = "of the squared difference between the views", .min = 0});
  visit("variance_weight", variance_weight,
        {.help = "of the hinge on each direction's deviation", .min = 0});
  visit("covariance_weight", covariance_weight,
        {.help = "of the squared covariances between directions", .min = 0});
  visit("sigreg_weight", sigreg_weight,
        {.help = "of SIGReg on the views, in place of variance and covariance", .min = 0});
  visit("slices", slices, {.help = "random directions of SIGReg", .min = 1});
  visit("shift_weight", shift_weight,
        {.help = "of reading the shift between the views back (inverse dynamics)", .min = 0});
}

namespace {

/// Clips [n, C, T, H, W], each moved by whole pixels: moves [n, 2] of x and y.
torch::Tensor move(const torch::Tensor& clips, const torch::Tensor& moves) {
  const auto device = clips.device();
  // [n, side]: which pixel of the clip is seen at each place of an axis.
  const auto seen = [&](int64_t axis, int64_t side) {
    return (torch::arange(side).unsqueeze(0) - moves.select(1, axis).unsqueeze(1))
        .clamp(0, side - 1)
        .to(device);
  };
  const auto x = seen(0, clips.size(4)).view({clips.size(0), 1, 1, 1, -1});
  const auto y = seen(1, clips.size(3)).view({clips.size(0), 1, 1, -1, 1});
  const auto sizes = clips.sizes().vec();
  return clips.gather(3, y.expand(sizes)).gather(4, x.expand(sizes));
}

/// Clips [n, C, T, H, W], each turned by angles [n] (radians) and enlarged by factors [n] about the
/// centre of the frame, then moved.
torch::Tensor transform(const torch::Tensor& clips, const torch::Tensor& moves,
                        const torch::Tensor& angles, const torch::Tensor& factors) {
  const int64_t n = clips.size(0), height = clips.size(3), width = clips.size(4);
  // What is seen at a place: the move undone, then the turn and the zoom.
  const auto x = (torch::arange(width) - (width - 1) / 2.0).view({1, 1, -1}) -
                 moves.select(1, 0).view({n, 1, 1});
  const auto y = (torch::arange(height) - (height - 1) / 2.0).view({1, -1, 1}) -
                 moves.select(1, 1).view({n, 1, 1});
  const auto cosine = (angles.cos() / factors).view({n, 1, 1});
  const auto sine = (angles.sin() / factors).view({n, 1, 1});
  // `grid_sample` counts from edge to edge: -1 to 1.
  const auto places = torch::stack(
      {(cosine * x + sine * y) / (width / 2.0), (cosine * y - sine * x) / (height / 2.0)},
      -1);  // [n, H, W, 2]
  auto seen = at::grid_sampler_2d(clips.flatten(1, 2).to(torch::kFloat32),
                                  places.to(clips.device(), torch::kFloat32),
                                  /*interpolation_mode=*/0, /*padding_mode=*/1,
                                  /*align_corners=*/false)
                  .view(clips.sizes());
  if (!clips.is_floating_point()) seen.round_();
  return seen.to(clips.scalar_type());
}

}  // namespace

ShiftedViews shifted_views(const torch::Tensor& clips, const AgreementOptions& options,
                           at::Generator generator, int64_t first, int64_t all) {
  TORCH_CHECK(clips.dim() == 5, "shifted_views: expected clips [B, C, T, H, W], found ",
              clips.sizes());
  const int64_t views = options.views;
  const auto repeated = clips.repeat_interleave(views, 0);
  const int64_t rows = repeated.size(0), drawn = all == 0 ? rows : views * all;
  const auto own = [&](const torch::Tensor& of_all, int64_t axis) {
    return of_all.narrow(axis, views * first, rows);
  };
  const auto moves = own(
      torch::randint(-options.shift, options.shift + 1, {drawn, 2}, generator, torch::kInt64), 0);
  const auto shifts =
      (moves.to(torch::kFloat32) / static_cast<double>(options.shift)).to(clips.device());
  if (options.rotation == 0 && options.zoom == 1) return {move(repeated, moves), shifts};
  const auto turns = own(torch::rand({2, drawn}, generator) * 2 - 1, 1);
  return {transform(repeated, moves, turns[0] * (options.rotation * std::numbers::pi / 180),
                    at::exp(turns[1] * std::log(options.zoom))),
          shifts};
}

ClipProjectorImpl::ClipProjectorImpl(int64_t dim, int64_t width, int64_t hidden_layers) {
  // Always the batch's statistics: the projector is used in training alone.
  const auto norm = torch::nn::BatchNorm1dOptions(width).track_running_stats(false);
  for (int64_t i = 0; i < hidden_layers; ++i) {
    const std::string number = i == 0 ? "" : std::to_string(i + 1);
    hidden_.push_back({register_module("hidden" + number, nn::Linear(i == 0 ? dim : width, width)),
                       register_module("norm" + number, torch::nn::BatchNorm1d(norm))});
  }
  out_ = register_module("out", nn::Linear(hidden_layers == 0 ? dim : width, width));
  shift_ = register_module("shift", nn::Linear(dim, 2));
}

torch::Tensor ClipProjectorImpl::forward(const torch::Tensor& pooled) {
  auto x = pooled;
  for (auto& [linear, norm] : hidden_) x = at::relu(norm->forward(linear->forward(x)));
  return out_->forward(x);
}

torch::Tensor ClipProjectorImpl::shift(const torch::Tensor& difference) {
  return shift_->forward(difference);
}

void ClipProjectorImpl::initialise(at::Generator generator) {
  nn::initialise_layers(*this, std::move(generator), /*xavier=*/true);
}

AgreementTerms clip_agreement(const torch::Tensor& tokens, const torch::Tensor& shifts,
                              ClipProjector& projector, const AgreementOptions& options,
                              at::Generator generator) {
  TORCH_CHECK(tokens.dim() == 3 && tokens.size(0) >= 2 * options.views &&
                  tokens.size(0) % options.views == 0 &&
                  shifts.sizes() == at::IntArrayRef({tokens.size(0), 2}),
              "clip_agreement: tokens [Vn, K, D] of at least two clips, V = ", options.views,
              ", and shifts [Vn, 2] expected, got ", tokens.sizes(), " and ", shifts.sizes());
  // What and where are read apart: both in the mean cost each other most of what they gain.
  const auto projected = projector->forward(tokens.amax(1));
  const auto shift = shift_error(tokens, shifts, projector);
  return options.kind == "sigreg"
             ? sigreg_agreement(projected, shift, options, std::move(generator))
             : vicreg_agreement(projected, shift, options);
}

}  // namespace jepa

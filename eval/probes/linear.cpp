#include <eval/probes/linear.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdio>
#include <string>
#include <tuple>
#include <utility>

namespace jepa::eval::probes {
namespace {

void check(const LabelledFeatures& train) {
  TORCH_CHECK(train.features.dim() == 2 && train.features.size(0) == train.labels.size(0),
              "linear probe: features ", train.features.sizes(), " for labels ",
              train.labels.sizes());
}

std::string decay_name(double decay) {
  char text[32];
  std::snprintf(text, sizeof text, "decay %g", decay);
  return text;
}

struct Spectrum {
  torch::Tensor values;   ///< double [D], of X^T X / n
  torch::Tensor vectors;  ///< double [D, D], columns
};

Spectrum spectrum(const torch::Tensor& standardised) {
  const auto x = standardised.to(torch::kFloat64);
  const auto gram = at::mm(x.t(), x) / static_cast<double>(x.size(0));
  auto [values, vectors] = at::linalg_eigh(gram);
  return {values.clamp_min(0), vectors};
}

}  // namespace

Standardiser::Standardiser(const torch::Tensor& features) {
  set(features.mean(0), features.std(0, /*unbiased=*/false));
}

Standardiser Standardiser::of_moments(const torch::Tensor& moments) {
  Standardiser made;
  made.set(moments[0], moments[1]);
  return made;
}

Standardiser Standardiser::of_scale(torch::Tensor mean, torch::Tensor scale) {
  Standardiser made;
  made.mean = std::move(mean);
  made.scale = std::move(scale);
  return made;
}

void Standardiser::set(const torch::Tensor& centre, const torch::Tensor& deviation) {
  mean = centre;
  // Rounding leaves a constant feature a deviation of some 1e-7 of its size.
  const auto floor = 1e-6 * (mean.abs() + 1e-6);
  scale = at::where(deviation > floor, deviation.reciprocal(), torch::zeros_like(deviation));
}

torch::Tensor Standardiser::operator()(const torch::Tensor& features) const {
  return (features - mean) * scale;
}

Candidate linear_candidate(const Standardiser& standardise, torch::Tensor weight,
                           torch::Tensor bias, std::string setting) {
  return {std::move(setting),
          [standardise, weight, bias](const torch::Tensor& features) {
            return at::addmm(bias, standardise(features), weight);
          },
          {{"mean", standardise.mean},
           {"scale", standardise.scale},
           {"weight", weight},
           {"bias", bias}}};
}

std::vector<double> ridge_grid() { return {1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100}; }
std::vector<double> logistic_grid() { return {1e-4, 1e-3, 1e-2, 1e-1, 1, 10}; }

std::vector<Candidate> fit_ridge(const LabelledFeatures& train, const std::vector<double>& decays) {
  check(train);
  torch::NoGradGuard no_grad;
  const Standardiser standardise(train.features);
  const auto x = standardise(train.features);
  const auto [values, vectors] = spectrum(x);
  const auto y = (train.classes > 0 ? at::one_hot(train.labels, train.classes) : train.labels)
                     .to(torch::kFloat64);
  const auto mean = y.mean(0);
  const auto moment = at::mm(vectors.t(), at::mm(x.to(torch::kFloat64).t(), y - mean)) /
                      static_cast<double>(x.size(0));
  std::vector<Candidate> candidates;
  for (const double decay : decays) {
    const auto weight = at::mm(vectors, moment / (values + decay).unsqueeze(1));
    candidates.push_back(linear_candidate(standardise, weight.to(torch::kFloat32),
                                          mean.to(torch::kFloat32), decay_name(decay)));
  }
  return candidates;
}

std::vector<Candidate> fit_logistic(const LabelledFeatures& train,
                                    const std::vector<double>& decays,
                                    const LogisticOptions& options) {
  check(train);
  TORCH_CHECK(train.classes > 1, "logistic probe: needs at least two classes");
  torch::NoGradGuard no_grad;
  const Standardiser standardise(train.features);
  const auto standardised = standardise(train.features);
  const auto [values, vectors] = spectrum(standardised);
  const auto basis = vectors.to(torch::kFloat32);
  const int64_t rows = standardised.size(0), width = standardised.size(1);
  const auto grid = static_cast<int64_t>(decays.size());

  // Rotated features and a column of ones; a weight's curvature is at most half its eigenvalue.
  const auto x = torch::cat({at::mm(standardised, basis), torch::ones({rows, 1})}, 1);
  const auto y = at::one_hot(train.labels, train.classes).to(torch::kFloat32).unsqueeze(1);
  const auto eigenvalues = torch::cat({values, torch::ones({1}, torch::kFloat64)});
  auto decay = torch::tensor(decays, torch::kFloat64).repeat({width + 1, 1});
  decay[width].zero_();  // the bias
  const auto inverse_curvature =
      (0.5 * eigenvalues.unsqueeze(1) + decay).reciprocal().to(torch::kFloat32).unsqueeze(2);
  const auto shrink = decay.to(torch::kFloat32).unsqueeze(2);

  auto weight = torch::zeros({width + 1, grid, train.classes});
  auto ahead = weight;
  auto age = torch::zeros({1, grid, 1});  // steps since each decay's momentum restarted
  for (int64_t i = 0; i < options.iterations; ++i) {
    const auto logits = at::mm(x, ahead.flatten(1)).view({rows, grid, train.classes});
    const auto error = (at::softmax(logits, -1) - y).flatten(1) / static_cast<double>(rows);
    const auto gradient = at::mm(x.t(), error).view_as(ahead) + shrink * ahead;
    if (gradient.abs().max().item<double>() < options.tolerance) break;
    const auto next = ahead - inverse_curvature * gradient;
    const auto step = next - weight;
    const auto uphill = (gradient * step).sum(at::IntArrayRef({0, 2}), /*keepdim=*/true) > 0;
    age = at::where(uphill, torch::zeros_like(age), age + 1);
    ahead = next + age / (age + 3) * step;
    weight = next;
  }

  std::vector<Candidate> candidates;
  for (int64_t g = 0; g < grid; ++g) {
    candidates.push_back(linear_candidate(standardise,
                                          at::mm(basis, weight.select(1, g).narrow(0, 0, width)),
                                          weight[width][g].clone(), decay_name(decays[g])));
  }
  return candidates;
}

}  // namespace jepa::eval::probes

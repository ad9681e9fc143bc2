#include <jepa/errors.hpp>
#include <jepa/objectives/collapse.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace jepa {
namespace {

/// The one list of fields that `values` and `from_values` share.
constexpr std::pair<const char*, double CollapseReport::*> kFields[] = {
    {"rankme", &CollapseReport::rankme},
    {"effective_rank", &CollapseReport::effective_rank},
    {"content_rank", &CollapseReport::content_rank},
    {"std_min", &CollapseReport::std_min},
    {"std_median", &CollapseReport::std_median},
    {"cosine", &CollapseReport::cosine},
    {"position_share", &CollapseReport::position_share},
    {"clip_share", &CollapseReport::clip_share},
    {"rest_share", &CollapseReport::rest_share},
};

/// exp of the entropy of non-negative `weights` [D] scaled to sum to 1, plus 1e-7 each.
double exp_entropy(const torch::Tensor& weights) {
  const double sum = weights.sum().item<double>();
  if (sum <= 0) return 0;
  const auto p = weights / sum + 1e-7;
  return std::exp(-(p * p.log()).sum().item<double>());
}

/// Eigenvalues of a Gram matrix; rounding below zero is cut off.
torch::Tensor spectrum(const torch::Tensor& gram) { return at::linalg_eigvalsh(gram).clamp_min(0); }

double ratio(double value, double initial) { return initial > 0 ? value / initial : 1; }

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.0f %%", 100 * share);
  return text;
}

std::string decimal(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

}  // namespace

std::map<std::string, double> CollapseReport::values() const {
  std::map<std::string, double> result;
  for (const auto& [name, member] : kFields) result[name] = this->*member;
  return result;
}

CollapseReport CollapseReport::from_values(const std::map<std::string, double>& values) {
  CollapseReport report;
  for (const auto& [name, member] : kFields) {
    const auto found = values.find(name);
    if (found == values.end()) {
      throw CheckpointError(std::string("collapse report: no field '") + name + "'");
    }
    report.*member = found->second;
  }
  return report;
}

CollapseReport measure_collapse(const torch::Tensor& tokens) {
  TORCH_CHECK(tokens.dim() == 3 && tokens.size(0) >= 2 && tokens.size(1) >= 2,
              "collapse diagnostics: expected tokens [B >= 2, N >= 2, D], found ", tokens.sizes());
  torch::NoGradGuard no_grad;
  const auto x = tokens.detach().to(torch::kFloat32);
  const int64_t clips = x.size(0), width = x.size(2);
  const auto rows = static_cast<double>(clips * x.size(1));

  // Sums in double, clip by clip: the spectrum of a nearly collapsed matrix drowns in float
  // rounding, and the whole batch in double would be large.
  const auto wide = x.options().dtype(torch::kFloat64);
  auto gram = torch::zeros({width, width}, wide);
  auto position = torch::zeros({x.size(1), width}, wide);
  auto clip = torch::empty({clips, width}, wide);
  for (int64_t i = 0; i < clips; ++i) {
    const auto one = x[i].to(torch::kFloat64);
    gram.addmm_(one.t(), one);
    position += one;
    clip[i] = one.mean(0);
  }
  position /= static_cast<double>(clips);
  const auto mean = clip.mean(0);
  const auto covariance = gram / rows - at::outer(mean, mean);
  const auto content =
      gram / rows - at::mm(position.t(), position) / static_cast<double>(x.size(1));
  const auto variance = covariance.diagonal().clamp_min(0);
  const double total = variance.sum().item<double>();
  if (!std::isfinite(total)) throw Error("collapse diagnostics: a token is not finite");

  CollapseReport report;
  report.rankme = exp_entropy(spectrum(gram).sqrt());
  const auto units = at::nan_to_num(x / x.norm(2, {-1}, /*keepdim=*/true));
  const auto direction = units.flatten(0, 1).sum(0);
  const double length = direction.norm().item<double>();
  report.cosine = (length * length - rows) / (rows * (rows - 1));
  // Below float's own rounding there is no variance to split.
  if (total <= 1e-12 * gram.diagonal().sum().item<double>() / rows) return report;
  const auto deviation = variance.sqrt();
  report.std_min = deviation.min().item<double>();
  report.std_median = deviation.median().item<double>();
  report.effective_rank = exp_entropy(spectrum(covariance));
  report.content_rank = exp_entropy(spectrum(content));
  report.position_share = (position - mean).square().sum(1).mean().item<double>() / total;
  report.clip_share = (clip - mean).square().sum(1).mean().item<double>() / total;
  report.rest_share = 1 - report.position_share - report.clip_share;
  return report;
}

void CollapseOptions::describe(OptionVisitor& visit) {
  visit("drift", drift,
        {.help = "share of its value at initialisation below which a measure is named a drift",
         .min = 0,
         .max = 1});
  visit("collapse", collapse,
        {.help = "share of its value at initialisation below which it is a collapse",
         .min = 0,
         .max = 1});
}

Verdict assess(const CollapseReport& report, const CollapseReport& initial,
               const CollapseOptions& options) {
  const auto content = [](const CollapseReport& r) { return r.clip_share + r.rest_share; };
  const auto rest = [&](const CollapseReport& r) {
    return content(r) > 0 ? r.rest_share / content(r) : 0;
  };
  const double dimensional = std::min({ratio(report.rankme, initial.rankme),
                                       ratio(report.content_rank, initial.content_rank),
                                       ratio(report.std_median, initial.std_median)});
  struct Measure {
    CollapseState state;
    double kept;  ///< relative to initialisation
    std::string becoming;
    std::string numbers;
  };
  const std::vector<Measure> measures = {
      {CollapseState::dimensional, dimensional, "becoming all alike",
       "RankMe " + decimal(report.rankme) + " (at the start " + decimal(initial.rankme) +
           "), content rank " + decimal(report.content_rank) + " (" +
           decimal(initial.content_rank) + "), median deviation " + decimal(report.std_median) +
           " (" + decimal(initial.std_median) + "), mean cosine " + decimal(report.cosine) + " (" +
           decimal(initial.cosine) + ")"},
      {CollapseState::position_codes, ratio(content(report), content(initial)),
       "becoming position codes",
       percent(report.position_share) + " of the token variance is position alone (at the start " +
           percent(initial.position_share) + ")"},
      {CollapseState::clip_codes, ratio(rest(report), rest(initial)), "becoming clip codes",
       percent(1 - rest(report)) +
           " of the variance that is not position is the clip alone (at "
           "the start " +
           percent(1 - rest(initial)) + ")"},
  };
  const auto& worst =
      *std::min_element(measures.begin(), measures.end(),
                        [](const auto& a, const auto& b) { return a.kept < b.kept; });
  Verdict verdict;
  if (worst.kept >= options.drift) {
    verdict.text = "healthy: variance is " + percent(report.position_share) + " position, " +
                   percent(report.clip_share) + " clip, " + percent(report.rest_share) +
                   " rest; content rank " + decimal(report.content_rank);
    return verdict;
  }
  verdict.state = worst.state;
  verdict.collapsed = worst.kept < options.collapse;
  verdict.text = (verdict.collapsed ? "collapsed: tokens are " : "drifting: tokens are ") +
                 worst.becoming + "; " + worst.numbers;
  return verdict;
}

}  // namespace jepa

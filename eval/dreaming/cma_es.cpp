#include <eval/dreaming/cma_es.hpp>
#include <jepa/errors.hpp>
#include <jepa/random.hpp>

#include <Eigen/Dense>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace jepa::eval::dreaming {
namespace {

using Vector = Eigen::VectorXd;
using Matrix = Eigen::MatrixXd;

torch::Tensor to_tensor(const Vector& v) {
  return torch::tensor(std::vector<double>(v.data(), v.data() + v.size()), torch::kFloat64);
}

}  // namespace

// Names as in Hansen's tutorial.
struct CmaEs::State {
  int64_t n, lambda, mu;
  bool diagonal;
  double sigma;
  Vector weights;
  double mueff, cc, cs, c1, cmu, damps, chi;
  Vector mean, pc, ps;
  Matrix covariance, basis;  // full form
  Vector scale;              // square roots of the eigenvalues, or of the diagonal
  Vector variances;          // diagonal form
  Matrix steps;              // [n, lambda], (x - mean) / sigma of the last candidates
  Vector best;
  double best_cost = std::numeric_limits<double>::infinity();
  int64_t generation = 0, decomposed = 0;
  bool asked = false;
  Random random;

  State(const std::vector<double>& start, const CmaEsOptions& options);
  void decompose();
  Vector whiten(const Vector& step) const;  // C^(-1/2) step
  void adapt(const std::vector<int64_t>& order);
};

CmaEs::State::State(const std::vector<double>& start, const CmaEsOptions& options)
    : n(static_cast<int64_t>(start.size())),
      lambda(options.population > 0
                 ? options.population
                 : 4 + static_cast<int64_t>(3 * std::log(static_cast<double>(start.size())))),
      mu(lambda / 2),
      diagonal(options.diagonal),
      sigma(options.step),
      random(options.seed, "cma_es", 0) {
  if (n < 1 || lambda < 4 || !(sigma > 0)) {
    throw ConfigError(c10::str("CMA-ES: ", n, " parameters, ", lambda, " candidates and step ",
                               sigma, "; at least 1, 4 and a step above 0 are needed"));
  }
  const auto dims = static_cast<double>(n);
  weights.resize(mu);
  for (int64_t i = 0; i < mu; ++i) {
    weights[i] =
        std::log((static_cast<double>(lambda) + 1) / 2) - std::log(static_cast<double>(i + 1));
  }
  weights /= weights.sum();
  mueff = 1 / weights.squaredNorm();
  cc = (4 + mueff / dims) / (dims + 4 + 2 * mueff / dims);
  cs = (mueff + 2) / (dims + mueff + 5);
  c1 = 2 / ((dims + 1.3) * (dims + 1.3) + mueff);
  cmu = std::min(1 - c1, 2 * (mueff - 2 + 1 / mueff) / ((dims + 2) * (dims + 2) + mueff));
  if (diagonal) {  // n parameters instead of n^2 can be learned faster
    c1 = std::min(1.0, c1 * (dims + 2) / 3);
    cmu = std::min(1 - c1, cmu * (dims + 2) / 3);
  }
  damps = 1 + 2 * std::max(0.0, std::sqrt((mueff - 1) / (dims + 1)) - 1) + cs;
  chi = std::sqrt(dims) * (1 - 1 / (4 * dims) + 1 / (21 * dims * dims));
  mean = Eigen::Map<const Vector>(start.data(), n);
  pc = ps = Vector::Zero(n);
  scale = variances = Vector::Ones(n);
  if (!diagonal) covariance = basis = Matrix::Identity(n, n);
  best = mean;
}

void CmaEs::State::decompose() {
  if (diagonal) {
    scale = variances.cwiseSqrt();
    return;
  }
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(covariance);
  basis = solver.eigenvectors();
  // Rounding may take the smallest ones below zero.
  const double least = 1e-20 * std::max(solver.eigenvalues().maxCoeff(), 1e-300);
  scale = solver.eigenvalues().cwiseMax(least).cwiseSqrt();
  decomposed = generation;
}

Vector CmaEs::State::whiten(const Vector& step) const {
  if (diagonal) return step.cwiseQuotient(scale);
  return basis * (basis.transpose() * step).cwiseQuotient(scale);
}

void CmaEs::State::adapt(const std::vector<int64_t>& order) {
  Vector move = Vector::Zero(n);
  for (int64_t i = 0; i < mu; ++i) move += weights[i] * steps.col(order[i]);
  mean += sigma * move;
  ps = (1 - cs) * ps + std::sqrt(cs * (2 - cs) * mueff) * whiten(move);
  const double expected =
      std::sqrt(1 - std::pow(1 - cs, 2.0 * static_cast<double>(generation + 1)));
  const bool steady = ps.norm() / expected / chi < 1.4 + 2 / (static_cast<double>(n) + 1);
  pc = (1 - cc) * pc;
  if (steady) pc += std::sqrt(cc * (2 - cc) * mueff) * move;
  const double lost = steady ? 0 : c1 * cc * (2 - cc);
  if (diagonal) {
    variances = (1 - c1 - cmu + lost) * variances + c1 * pc.cwiseAbs2();
    for (int64_t i = 0; i < mu; ++i) {
      variances += cmu * weights[i] * steps.col(order[i]).cwiseAbs2();
    }
  } else {
    covariance = (1 - c1 - cmu + lost) * covariance + c1 * pc * pc.transpose();
    for (int64_t i = 0; i < mu; ++i) {
      covariance += cmu * weights[i] * steps.col(order[i]) * steps.col(order[i]).transpose();
    }
  }
  sigma *= std::exp(std::min(1.0, (cs / damps) * (ps.norm() / chi - 1)));
}

CmaEs::CmaEs(const std::vector<double>& start, CmaEsOptions options)
    : state_(std::make_unique<State>(start, options)) {}
CmaEs::~CmaEs() = default;
CmaEs::CmaEs(CmaEs&&) noexcept = default;
CmaEs& CmaEs::operator=(CmaEs&&) noexcept = default;

torch::Tensor CmaEs::ask() {
  State& s = *state_;
  // A decomposition costs n^3: as often as the covariance really changes.
  const double every = 1 / ((s.c1 + s.cmu) * static_cast<double>(s.n) * 10);
  if (s.diagonal || static_cast<double>(s.generation - s.decomposed) >= every) s.decompose();
  s.steps.resize(s.n, s.lambda);
  auto candidates = torch::empty({s.lambda, s.n}, torch::kFloat64);
  for (int64_t k = 0; k < s.lambda; ++k) {
    Vector z(s.n);
    for (int64_t i = 0; i < s.n; ++i) z[i] = s.random.normal();
    const Vector scaled = z.cwiseProduct(s.scale);
    s.steps.col(k) = s.diagonal ? scaled : Vector(s.basis * scaled);
    Eigen::Map<Vector>(candidates.mutable_data_ptr<double>() + k * s.n, s.n) =
        s.mean + s.sigma * s.steps.col(k);
  }
  s.asked = true;
  return candidates;
}

void CmaEs::tell(const torch::Tensor& told) {
  State& s = *state_;
  TORCH_CHECK(s.asked, "CMA-ES: costs told before candidates were asked for");
  if (told.dim() != 1 || told.size(0) != s.lambda) {
    throw DataError(c10::str("CMA-ES: costs [", s.lambda, "] expected, found ", told.sizes()));
  }
  const auto costs = told.detach().to(torch::kCPU, torch::kFloat64).contiguous();
  const double* cost = costs.const_data_ptr<double>();
  std::vector<int64_t> order(s.lambda);
  std::iota(order.begin(), order.end(), 0);
  const auto rank = [&](int64_t k) {
    return std::isfinite(cost[k]) ? cost[k] : std::numeric_limits<double>::infinity();
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return rank(a) < rank(b); });
  if (!std::isfinite(cost[order[0]])) {
    throw DataError("CMA-ES: no cost of this generation is finite");
  }
  if (cost[order[0]] < s.best_cost) {
    s.best_cost = cost[order[0]];
    s.best = s.mean + s.sigma * s.steps.col(order[0]);
  }
  s.adapt(order);
  ++s.generation;
  s.asked = false;
}

torch::Tensor CmaEs::mean() const { return to_tensor(state_->mean); }
torch::Tensor CmaEs::best() const { return to_tensor(state_->best); }
double CmaEs::best_cost() const { return state_->best_cost; }
double CmaEs::step() const { return state_->sigma; }
int64_t CmaEs::generation() const { return state_->generation; }
int64_t CmaEs::population() const { return state_->lambda; }

CmaEs minimise(const std::function<torch::Tensor(const torch::Tensor&)>& cost,
               const std::vector<double>& start, const CmaEsOptions& options, double target,
               int64_t evaluations) {
  CmaEs search(start, options);
  while (search.best_cost() > target &&
         (search.generation() + 1) * search.population() <= evaluations) {
    search.tell(cost(search.ask()));
  }
  return search;
}

}  // namespace jepa::eval::dreaming

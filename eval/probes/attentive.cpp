#include <eval/probes/attentive.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/weights.hpp>

#include <torch/optim.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <numbers>
#include <numeric>
#include <optional>
#include <string>

namespace jepa::eval::probes {
namespace {

constexpr int64_t kPredictBatch = 64;

struct Member {
  AttentiveProbe probe{nullptr};
  double rate = 0;
  double decay = 0;
};

std::string setting(const Member& member) {
  char text[64];
  std::snprintf(text, sizeof text, "rate %g, decay %g", member.rate, member.decay);
  return text;
}

/// One probe for each pair of rate and decay, all from the same initial weights.
std::vector<Member> make_grid(const AttentiveOptions& options, int64_t width, int64_t outputs) {
  if (options.rates.empty() || options.decays.empty()) {
    throw ConfigError("attentive probe: rates and decays need at least one value each");
  }
  const int64_t heads = attentive_heads(options, width);
  std::vector<Member> grid;
  for (const double rate : options.rates) {
    for (const double decay : options.decays) {
      AttentiveProbe probe(
          nn::AttentivePoolerOptions{.dim = width, .heads = heads, .depth = options.depth},
          outputs);
      probe->initialise(seeded_generator(static_cast<uint64_t>(options.seed), "attentive"));
      probe->to(options.device);
      grid.push_back({probe, rate, decay});
    }
  }
  return grid;
}

torch::Tensor loss(const torch::Tensor& prediction, const torch::Tensor& target, int64_t classes) {
  return classes > 0 ? at::cross_entropy_loss(prediction, target)
                     : at::mse_loss(prediction, target);
}

void train_grid(std::vector<Member>& grid, const TokenRows& tokens, const torch::Tensor& chosen,
                const torch::Tensor& targets, int64_t classes, const AttentiveOptions& options) {
  std::vector<torch::optim::OptimizerParamGroup> groups;
  for (const auto& member : grid) {
    groups.emplace_back(member.probe->parameters(),
                        std::make_unique<torch::optim::AdamWOptions>(
                            torch::optim::AdamWOptions(member.rate).weight_decay(member.decay)));
  }
  torch::optim::AdamW optimizer(groups, torch::optim::AdamWOptions());
  const int64_t rows = targets.size(0);
  const int64_t steps_per_epoch = (rows + options.batch - 1) / options.batch;
  const auto steps = static_cast<double>(options.epochs * steps_per_epoch);
  auto generator = seeded_generator(static_cast<uint64_t>(options.seed), "attentive batches");
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    const auto order = at::randperm(rows, std::optional<at::Generator>(generator));
    for (int64_t i = 0; i < steps_per_epoch; ++i) {
      const double done = static_cast<double>(epoch * steps_per_epoch + i) / steps;
      const double factor = 0.5 * (1 + std::cos(std::numbers::pi * done));
      for (size_t m = 0; m < grid.size(); ++m) {
        static_cast<torch::optim::AdamWOptions&>(optimizer.param_groups()[m].options())
            .lr(factor * grid[m].rate);
      }
      const auto ids = order.slice(0, i * options.batch, (i + 1) * options.batch);
      const auto read = chosen.defined() ? chosen.index_select(0, ids) : ids;
      const auto x = tokens.rows(read).to(options.device);
      const auto y = targets.index_select(0, ids).to(options.device);
      auto total = torch::zeros({}, options.device);
      for (auto& member : grid) total = total + loss(member.probe->forward(x), y, classes);
      optimizer.zero_grad();
      total.backward();
      optimizer.step();
    }
  }
}

}  // namespace

AttentiveProbeImpl::AttentiveProbeImpl(const nn::AttentivePoolerOptions& options, int64_t outputs) {
  TORCH_CHECK(options.queries == 1, "AttentiveProbe: one query, found ", options.queries);
  pooler_ = register_module("pooler", nn::AttentivePooler(options));
  linear_ = register_module("linear", nn::Linear(options.dim, outputs));
}

torch::Tensor AttentiveProbeImpl::forward(const torch::Tensor& tokens) {
  return linear_->forward(pooler_->forward(tokens).squeeze(1));
}

void AttentiveProbeImpl::initialise(at::Generator generator) {
  pooler_->initialise(generator);
  nn::initialise_layers(*linear_, generator);
}

void AttentiveOptions::describe(OptionVisitor& visit) {
  visit("depth", depth,
        {.help = "1: V-JEPA's cross-attention alone; 4: three blocks before it, as V-JEPA 2",
         .min = 1,
         .max = 64});
  visit("heads", heads, {.help = "0: 16, or what it shares with the width", .min = 0});
  visit("epochs", epochs, {.help = "passes over the training clips", .min = 1});
  visit("batch", batch, {.help = "clips in one step", .min = 1});
  visit("rates", rates, {.help = "learning rates of the grid", .min = 0});
  visit("decays", decays, {.help = "weight decays of the grid", .min = 0});
}

int64_t attentive_heads(const AttentiveOptions& options, int64_t width) {
  const int64_t heads = options.heads > 0 ? options.heads : std::gcd(width, int64_t{16});
  if (width % heads != 0) {
    throw ConfigError("attentive probe: " + std::to_string(heads) + " heads do not divide width " +
                      std::to_string(width));
  }
  return heads;
}

Candidate attentive_candidate(AttentiveProbe probe, const torch::Tensor& mean,
                              const torch::Tensor& deviation, torch::Device device,
                              std::string setting) {
  TensorMap parts = state_dict(*probe);
  if (mean.defined()) {
    parts["target.mean"] = mean;
    parts["target.deviation"] = deviation;
  }
  return {
      std::move(setting),
      [probe = std::move(probe), mean, deviation, device](const torch::Tensor& features) mutable {
        torch::NoGradGuard no_grad;
        std::vector<torch::Tensor> rows;
        for (const auto& part : features.split(kPredictBatch)) {
          rows.push_back(probe->forward(part.to(device)).cpu());
        }
        const auto out = torch::cat(rows);
        return mean.defined() ? out * deviation + mean : out;
      },
      std::move(parts)};
}

std::vector<Candidate> fit_attentive(const TokenRows& tokens, const torch::Tensor& labels,
                                     int64_t classes, const AttentiveOptions& options,
                                     const torch::Tensor& rows) {
  const int64_t clips = rows.defined() ? rows.size(0) : tokens.size();
  TORCH_CHECK(clips == labels.size(0), "attentive probe: tokens of ", clips, " clips for labels ",
              labels.sizes());
  auto grid = make_grid(options, tokens.width(), classes > 0 ? classes : labels.size(1));
  torch::Tensor mean, deviation, targets = labels;
  if (classes == 0) {
    mean = targets.mean(0);
    deviation = targets.std(0, /*unbiased=*/false).clamp_min(1e-6);
    targets = (targets - mean) / deviation;
  }
  train_grid(grid, tokens, rows, targets, classes, options);

  std::vector<Candidate> candidates;
  for (auto& member : grid) {
    candidates.push_back(
        attentive_candidate(member.probe, mean, deviation, options.device, setting(member)));
  }
  return candidates;
}

std::vector<Candidate> fit_attentive(const LabelledFeatures& train,
                                     const AttentiveOptions& options) {
  return fit_attentive(TokenRows(train.features), train.labels, train.classes, options);
}

torch::Tensor predict_rows(const Candidate& candidate, const TokenRows& tokens) {
  std::vector<torch::Tensor> parts;
  for (int64_t at = 0; at < tokens.size(); at += kPredictBatch) {
    parts.push_back(candidate.predict(tokens.slice(at, at + kPredictBatch)));
  }
  return torch::cat(parts);
}

}  // namespace jepa::eval::probes

#include "acting_models.hpp"

#include <eval/planning/planner.hpp>
#include <jepa/nn/layers.hpp>
#include <jepa/objectives/sigreg.hpp>
#include <predictors/mixture_density.hpp>

#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>
#include <torch/types.h>

#include <cmath>
#include <filesystem>

namespace parity {
namespace {

namespace planning = jepa::eval::planning;

constexpr double kCostTolerance = 1e-5;  // relative: costs are sums of about 100

torch::Tensor one(const torch::Tensor& scalar) { return scalar.reshape({1}); }

// Warm-up from nearly nothing, then cosine.
double learning_rate(const Case& test, int64_t step) {
  const auto number = [&](const char* key) { return test.config().at(key).get<double>(); };
  const int64_t total = test.size("total_steps");
  const auto warm = static_cast<int64_t>(number("warmup_ratio") * static_cast<double>(total));
  const double lr = number("lr"), start = 1e-8;
  if (step < warm) {
    return lr * (start + (1 - start) * static_cast<double>(step) / static_cast<double>(warm));
  }
  const double share = static_cast<double>(step - warm) / static_cast<double>(total - warm);
  return number("min_lr") + (lr - number("min_lr")) * (1 + std::cos(M_PI * share)) / 2;
}

std::vector<torch::Tensor> gradients_of(torch::nn::Module& module) { return module.parameters(); }

void probe(Case& test, planning::EbJepa& model) {
  const auto& first = test.tensor("weights/prober/mlp.0.weight");
  const auto& last = test.tensor("weights/prober/mlp.2.weight");
  jepa::nn::Linear hidden(first.size(1), first.size(0)), out(last.size(1), last.size(0));
  test.load(*hidden, "prober/mlp.0.");
  test.load(*out, "prober/mlp.2.");
  const auto state = model.encoder->frames(test.tensor("in/clip.0").select(2, 0)).detach();
  const auto told = out->forward(at::relu(hidden->forward(state))).unsqueeze(-1);
  const auto loss = (told - test.tensor("in/location").narrow(2, 0, 1)).square().mean();
  const double deviation = (16.1025 + 16.1353) / 2;
  test.forward("probe", told);
  test.relative("out/probe_loss", one(loss));
  test.relative("out/probe_loss_pixels", one(loss * deviation * deviation));
  (loss * deviation * deviation).backward();
  test.gradients(*hidden, "prober/mlp.0.");
  test.gradients(*out, "prober/mlp.2.");
}

void first_step(Case& test, planning::EbJepa& model, const planning::EbJepaLoss& loss) {
  test.forward("states", as_maps(loss.states));
  test.forward("predicted_states", as_maps(loss.predicted));
  test.forward("inverse_actions", loss.inverse_actions);
  test.relative("out/loss", one(loss.total));
  test.relative("out/prediction_loss", one(loss.prediction));
  test.relative("out/regulariser", one(loss.regulariser));
  test.relative("out/cov_loss", one(loss.covariance));
  test.relative("out/std_loss", one(loss.variance));
  test.relative("out/sim_loss_t", one(loss.similarity));
  test.relative("out/idm_loss", one(loss.inverse));
  test.relative("out/regulariser_unweighted",
                one(loss.covariance + loss.variance + loss.similarity + loss.inverse));
  {
    const torch::NoGradGuard no_grad;
    const auto start = model.encode(test.tensor("in/clip.0").select(2, 0)).unsqueeze(1);
    const auto later = model.rollout(start, {}, test.tensor("in/actions.0").transpose(1, 2));
    test.forward("planned_states", as_maps(torch::cat({start, later}, 1)));
  }
  test.gradients(*model.encoder, "model/encoder.");
  test.gradients(*model.predictor, "model/predictor.", {}, {"final_ln.weight", "final_ln.bias"});
  test.gradients(*model.inverse, "model/regularizer.idm_loss_fn.idm.");
}

// The published file that lies beside the fixture, where one does.
void eb_jepa_file(Case& test) {
  const std::string path = test.folder() + "/ebjepa_checkpoint.pth.tar";
  if (!std::filesystem::exists(path)) return;
  auto model = planning::load_eb_jepa(path, test.size("height"), test.size("width"));
  test.final_weights(*model.encoder, "model/encoder.");
  test.final_weights(*model.predictor, "model/predictor.");
  test.final_weights(*model.inverse, "model/regularizer.idm_loss_fn.idm.");
}

void planned(Case& test, planning::LeWorldModel& model, const std::string& name) {
  const auto pixels = test.tensor("in/" + name + ".pixels");
  const int64_t batch = pixels.size(0), known = pixels.size(1);
  const auto past = model.encode(pixels.flatten(0, 1)).unflatten(0, {batch, known});
  const auto history = known == 1 ? torch::Tensor() : test.tensor("in/" + name + ".action_history");
  const auto& candidates = test.tensor("in/plan.candidates");
  const int64_t samples = candidates.size(1);
  const auto each = [&](const torch::Tensor& of) {
    return of.defined() ? of.unsqueeze(1).expand({-1, samples, -1, -1}).flatten(0, 1) : of;
  };
  const auto later = model.rollout(each(past), each(history), candidates.flatten(0, 1));
  test.forward(name + ".predicted_emb",
               torch::cat({each(past), later}, 1).unflatten(0, {batch, samples}));
  const auto goal = model.encode(test.tensor("in/plan.goal").flatten(0, 1));
  const auto costs =
      planning::goal_costs(model, past, history, goal, planning::le_world_model_cost());
  test.relative("out/" + name + ".cost", costs(candidates), kCostTolerance);
}

void searched(Case& test, planning::LeWorldModel& model);

void evaluated(Case& test, planning::LeWorldModel& model) {
  const torch::NoGradGuard no_grad;
  model.train(false);
  const auto& pixels = test.tensor("in/pixels");
  const int64_t batch = pixels.size(0), frames = pixels.size(1), history = test.size("history");
  const auto unflat = [&](const torch::Tensor& x) { return x.unflatten(0, {batch, frames}); };
  test.forward("eval.cls", unflat(model.encoder->frames(pixels.flatten(0, 1))));
  const auto latents = unflat(model.encode(pixels.flatten(0, 1)));
  const auto actions = model.action_encoder->forward(test.tensor("in/action").nan_to_num(0));
  test.forward("eval.emb", latents);
  test.forward("eval.act_emb", actions);
  test.forward("eval.pred_emb",
               model.predict(latents.narrow(1, 0, history), actions.narrow(1, 0, history)));
  test.forward("plan.goal_emb",
               model.encode(test.tensor("in/plan.goal").flatten(0, 1)).unsqueeze(1));
  planned(test, model, "plan1");
  planned(test, model, c10::str("plan", history));
  searched(test, model);
}

void searched(Case& test, planning::LeWorldModel& model) {
  const auto past = model.encode(test.tensor("in/plan1.pixels").flatten(0, 1)).unsqueeze(1);
  const auto goal = model.encode(test.tensor("in/plan.goal").flatten(0, 1));
  const auto& noise = test.tensor("in/cem.noise");
  auto options = planning::cem_variant("lewm");
  options.samples = test.size("cem_samples");
  options.elites = test.size("cem_topk");
  options.iterations = test.size("cem_steps");
  int64_t drawn = 0;
  const planning::Draws draws{[&](at::IntArrayRef) { return noise[drawn++]; }, {}, {}};
  std::vector<planning::Iteration> trace;
  const auto plan = planning::Cem(options).plan(
      planning::goal_costs(model, past, {}, goal, planning::le_world_model_cost()),
      {.episodes = noise.size(1), .horizon = noise.size(3), .action_width = noise.size(4)}, draws,
      &trace);
  const auto stack = [&](torch::Tensor planning::Iteration::*field) {
    std::vector<torch::Tensor> all;
    for (const auto& iteration : trace) all.push_back(iteration.*field);
    return torch::stack(all);
  };
  test.forward("cem.candidates", stack(&planning::Iteration::candidates));
  test.relative("out/cem.costs", stack(&planning::Iteration::costs), kCostTolerance);
  test.equal("cem.elites", stack(&planning::Iteration::elites).to(torch::kInt32));
  test.forward("cem.mean", stack(&planning::Iteration::mean));
  test.forward("cem.std", stack(&planning::Iteration::std));
  test.forward("cem.plan", plan.actions);
}

// The published folder beside the fixture, where there is one: the same weights.
void le_world_model_folder(Case& test) {
  const std::string folder = test.folder() + "/lewm_checkpoint";
  if (!std::filesystem::exists(folder)) return;
  auto model = planning::load_le_world_model(folder);
  const torch::NoGradGuard no_grad;
  planned(test, model, "plan1");
  planned(test, model, c10::str("plan", test.size("history")));
}

}  // namespace

/// eb_jepa: forward, losses, gradients, and some steps with its clipping and schedule.
void ebjepa_ac(Case& test) {
  auto model = eb_jepa(test, "model/");
  auto number = [&](const char* key) { return test.config().at(key).get<double>(); };
  probe(test, model);
  auto parameters = gradients_of(*model.encoder);
  for (auto& item : model.predictor->named_parameters()) {
    if (!item.key().starts_with("final_ln")) parameters.push_back(item.value());
  }
  for (auto& parameter : model.inverse->parameters()) parameters.push_back(parameter);
  torch::optim::AdamW optimiser(parameters,
                                torch::optim::AdamWOptions(1).weight_decay(number("weight_decay")));

  const planning::EbJepaWeights weights{number("cov_coeff"), number("std_coeff"),
                                        number("sim_coeff_t"), number("idm_coeff")};
  std::vector<double> losses, norms, rates;
  for (int64_t step = 0; step < test.size("steps"); ++step) {
    const auto loss = model.loss(test.tensor(c10::str("in/clip.", step)),
                                 test.tensor(c10::str("in/actions.", step)).transpose(1, 2),
                                 test.size("nsteps"), weights);
    for (const auto& term : {loss.total, loss.prediction, loss.covariance, loss.variance,
                             loss.similarity, loss.inverse}) {
      losses.push_back(term.item<double>());
    }
    optimiser.zero_grad();
    loss.total.backward();
    if (step == 0) first_step(test, model, loss);
    rates.push_back(learning_rate(test, step));
    static_cast<torch::optim::AdamWOptions&>(optimiser.param_groups()[0].options())
        .lr(rates.back());
    // The shared layer norm is clipped in both norms.
    norms.push_back(
        torch::nn::utils::clip_grad_norm_(gradients_of(*model.encoder), number("clip_encoder")));
    norms.push_back(torch::nn::utils::clip_grad_norm_(gradients_of(*model.predictor),
                                                      number("clip_predictor")));
    optimiser.step();
  }
  test.relative("out/losses", torch::tensor(losses, torch::kFloat64).view({-1, 6}));
  test.relative("out/gradient_norms", torch::tensor(norms, torch::kFloat64).view({-1, 2}));
  test.forward("lr", torch::tensor(rates, torch::kFloat64), kScheduleTolerance);
  test.final_weights(*model.encoder, "model/encoder.");
  test.final_weights(*model.predictor, "model/predictor.");
  test.final_weights(*model.inverse, "model/regularizer.idm_loss_fn.idm.");
  eb_jepa_file(test);
}

/// LeWorldModel: a training pass, rollouts, costs and a search.
void lewm_step(Case& test) {
  {
    auto model = le_world_model(test);
    model.train(true);
    const auto loss =
        model.loss(test.tensor("in/pixels"), test.tensor("in/action"), test.size("num_preds"),
                   test.config().at("sigreg_weight").get<double>(), test.tensor("in/directions"));
    test.forward("emb", loss.latents);
    test.forward("act_emb", loss.actions);
    test.forward("pred_emb", loss.predicted);
    test.relative("out/pred_loss", one(loss.prediction));
    test.relative("out/sigreg_loss", one(loss.sigreg));
    test.relative("out/loss", one(loss.total));
    loss.total.backward();
    std::map<std::string, std::set<std::string>> zero = {{"encoder", {"layernorm.bias"}},
                                                         {"predictor", {"transformer.norm.bias"}},
                                                         {"projector", {"net.0.bias"}},
                                                         {"pred_proj", {"net.0.bias"}}};
    for (int64_t i = 0; i < test.size("layers"); ++i) {
      zero["encoder"].insert(c10::str("encoder.layer.", i, ".attention.attention.key.bias"));
    }
    for (const auto& [name, module] : model.modules()) {
      test.gradients(*module, name + ".", zero[name]);
      test.final_buffers(*module, name + ".");
    }
  }
  auto model = le_world_model(test);
  evaluated(test, model);
  le_world_model_folder(test);
}

/// SIGReg of LeWorldModel and BCS of eb_jepa.
void sigreg(Case& test) {
  for (const auto& name : test.names("out/lewm.")) {
    const std::string key = "lewm." + name;
    auto z = test.tensor("in/" + key).clone().set_requires_grad(true);
    const auto value = jepa::sigreg(z, test.tensor("in/lewm.directions"), true, test.size("knots"));
    test.relative("out/" + key, one(value));
    if (!test.has("grad/" + key)) continue;
    value.sum().backward();
    test.relative("grad/" + key, z.grad());
  }
  for (int64_t call = 0; test.has(c10::str("in/bcs.", call, ".z1")); ++call) {
    const std::string key = c10::str("bcs.", call, ".");
    auto z1 = test.tensor("in/" + key + "z1").clone().set_requires_grad(true);
    auto z2 = test.tensor("in/" + key + "z2").clone().set_requires_grad(true);
    const auto directions =
        jepa::bcs_directions(test.size("bcs_dim"), test.size("bcs_directions"), call);
    if (!torch::allclose(directions, test.tensor("in/" + key + "directions"), 0, 1e-6)) {
      test.fail("in/" + key + "directions: drawn otherwise");
    }
    const int64_t knots = test.size("bcs_knots");
    const auto first = jepa::bcs_statistic(z1, directions, knots);
    const auto bcs = (first.mean() + jepa::bcs_statistic(z2, directions, knots).mean()) / 2;
    const auto invariance = (z1 - z2).square().mean();
    const auto loss = invariance + test.config().at("bcs_lambda").get<double>() * bcs;
    test.forward(key + "per_direction", first);
    test.relative("out/" + key + "bcs_loss", one(bcs));
    test.relative("out/" + key + "invariance_loss", one(invariance));
    test.relative("out/" + key + "loss", one(loss));
    loss.backward();
    test.relative("grad/" + key + "z1", z1.grad());
    test.relative("grad/" + key + "z2", z2.grad());
  }
}

/// Ha's mixture density.
void ha_mdn(Case& test) {
  auto output = test.tensor("in/output").clone().set_requires_grad(true);
  const auto mixture =
      jepa::predictors::split_mixture(output, test.size("latent"), test.size("mixtures"));
  const auto nll = jepa::predictors::mixture_nll(mixture, test.tensor("in/target"));
  const auto& done = test.tensor("in/done");
  const auto cross = jepa::predictors::done_cross_entropy(mixture, done, 1);
  const auto weighted = jepa::predictors::done_cross_entropy(
      mixture, done, test.config().at("done_weight").get<double>());
  test.forward("log_weights", mixture.log_weights);
  test.forward("nll", nll);
  test.forward("done_bce", cross);
  test.forward("mixture_loss", one(nll.mean()));
  test.forward("done_loss", one(weighted.mean()));
  const auto loss = nll.mean() + weighted.mean();
  test.forward("loss", one(loss));
  loss.backward();
  test.relative("grad/output", output.grad());

  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> latents, components;
  jepa::predictors::MixtureSample sample;
  const auto temperatures = test.config().at("temperatures").get<std::vector<double>>();
  for (size_t i = 0; i < temperatures.size(); ++i) {
    sample = jepa::predictors::sample_mixture(
        mixture, temperatures[i], test.tensor("in/sample.uniforms")[static_cast<int64_t>(i)],
        test.tensor("in/sample.normals")[static_cast<int64_t>(i)]);
    latents.push_back(sample.latent);
    components.push_back(sample.component);
  }
  test.forward("sample.z", torch::stack(latents));
  test.equal("sample.component", torch::stack(components).to(torch::kInt32));
  test.equal("sample.done", sample.done.to(torch::kUInt8));
}

}  // namespace parity

#include <eval/dynamics/model.hpp>
#include <eval/planning/history.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/objectives/sigreg.hpp>
#include <jepa/objectives/vicreg.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace jepa::eval::dynamics {
namespace {

constexpr double kLeastDeviation = 1e-12;
constexpr int64_t kLatentsAtOnce = 2048;  // of a rollout: activations stay in the second cache

// Frames as the encoder takes them, from uint8 [B, C, T, H, W]: one look-up a pixel, written
// channels last, which takes convolutions of few channels about half the time.
template <class Real>
torch::Tensor look_up(const torch::Tensor& clips, const std::vector<std::vector<Real>>& table) {
  const auto x = clips.contiguous();
  const int64_t batch = x.size(0), channels = x.size(1), frames = x.size(2);
  const int64_t pixels = x.size(3) * x.size(4);
  auto out = torch::empty({batch * frames, channels, x.size(3), x.size(4)},
                          torch::TensorOptions()
                              .dtype(c10::CppTypeToScalarType<Real>::value)
                              .memory_format(at::MemoryFormat::ChannelsLast));
  const uint8_t* in = x.const_data_ptr<uint8_t>();
  Real* to = out.template mutable_data_ptr<Real>();
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t c = 0; c < channels; ++c) {
      const Real* values = table[static_cast<size_t>(c)].data();
      for (int64_t t = 0; t < frames; ++t, in += pixels) {
        Real* frame = to + (b * frames + t) * pixels * channels + c;
        for (int64_t p = 0; p < pixels; ++p) frame[p * channels] = values[in[p]];
      }
    }
  }
  return out;
}

template <class Real>
torch::Tensor normalised(const torch::Tensor& clips, const PixelStatistics& pixels) {
  const auto greys = torch::arange(256, torch::kFloat32)
                         .view({1, 1, 256, 1, 1})
                         .expand({1, clips.size(1), 256, 1, 1});
  const auto values = pixels.normalise(greys)
                          .to(c10::CppTypeToScalarType<Real>::value)
                          .view({clips.size(1), 256})
                          .contiguous();
  std::vector<std::vector<Real>> table;
  for (int64_t c = 0; c < clips.size(1); ++c) {
    const Real* row = values.template const_data_ptr<Real>() + 256 * c;
    table.emplace_back(row, row + 256);
  }
  return look_up<Real>(clips, table);
}

std::shared_ptr<LatentPredictor> make_predictor(const ModelOptions& o,
                                                const PredictorShape& shape) {
  return make_latent_predictor(shape, o.encoder.dim, o.action_width * o.block);
}

}  // namespace

void ModelOptions::describe(OptionVisitor& visit) {
  visit("channels", encoder.channels, {.help = "of a frame; 0: the data's", .min = 0});
  visit("height", encoder.height, {.help = "of a frame; 0: the data's", .unit = "px", .min = 0});
  visit("width", encoder.width, {.help = "of a frame; 0: the data's", .unit = "px", .min = 0});
  visit("action_width", action_width,
        {.help = "numbers of one step's action; 0: the data's", .min = 0});
  visit("block", block, {.help = "steps that one prediction covers", .min = 1});
  encoder.describe(visit);
  visit("inverse_hidden", inverse_hidden, {.help = "width of the inverse dynamics", .min = 1});
  visit("action_mean", action_mean,
        {.help = "taken off a step's action, one value or one a number; measured (or empty): on "
                 "the training data"});
  visit("action_std", action_std,
        {.help = "what actions are then divided by; measured (or empty): likewise"});
  visit("pixel_mean", pixels.mean, {.help = "taken off pixels 0..255, one value or one a channel"});
  visit("pixel_std", pixels.std, {.help = "what they are then divided by"});
}

namespace {

void require_one_or_each(const std::vector<double>& values, int64_t width, const char* what) {
  const auto given = static_cast<int64_t>(values.size());
  if (given == 1 || given == width) return;
  throw ConfigError(
      c10::str("option model.", what, " has ", given, " values, actions have ", width));
}

}  // namespace

ModelOptions ModelOptions::fitted(at::IntArrayRef clips, int64_t actions) const {
  ModelOptions fit = *this;
  if (actions < block || actions % block != 0) {
    throw DataError(c10::str("the data's actions have ", actions,
                             " numbers a frame, which are no blocks of ", block, " steps"));
  }
  const auto take = [](const char* what, int64_t& known, int64_t found) {
    if (known != 0 && known != found) {
      throw DataError(c10::str("the model's ", what, " is ", known, ", the data's ", found));
    }
    known = found;
  };
  take("number of channels", fit.encoder.channels, clips[1]);
  take("frame height", fit.encoder.height, clips[3]);
  take("frame width", fit.encoder.width, clips[4]);
  take("action width", fit.action_width, actions / block);
  for (const auto& [name, values] :
       {std::pair{"action_mean", &action_mean}, {"action_std", &action_std}}) {
    if (!values->empty()) require_one_or_each(*values, fit.action_width, name);
  }
  for (const double deviation : action_std) {
    if (deviation > 0) continue;
    throw ConfigError(c10::str("option model.action_std: ", deviation, " is not above 0"));
  }
  return fit;
}

// The variance over steps side by side is the mean of theirs and the variance of their means.
void ModelOptions::take_action_statistics(const ColumnStatistics& rows, int64_t steps) {
  const int64_t count = rows.mean.size(0);
  if (count % steps != 0) {
    throw DataError(c10::str("rows of ", count, " numbers are no ", steps, " actions"));
  }
  const auto mean = rows.mean.view({steps, -1}), std = rows.deviation.view({steps, -1});
  const auto deviation = (std.square().mean(0) + mean.var(0, /*unbiased=*/false)).sqrt();
  const auto list = [](const torch::Tensor& x) {
    const auto full = x.to(torch::kFloat64).contiguous();
    return std::vector<double>(full.const_data_ptr<double>(),
                               full.const_data_ptr<double>() + full.numel());
  };
  if (action_mean.empty()) action_mean = list(mean.mean(0));
  if (!action_std.empty()) return;
  action_std = list(deviation);
  const auto still = std::find_if(action_std.begin(), action_std.end(),
                                  [](double x) { return x < kLeastDeviation; });
  if (still == action_std.end()) return;
  throw DataError(c10::str("number ", still - action_std.begin() + 1,
                           " of the actions never varies: option model.action_std must say what "
                           "it is divided by"));
}

namespace {

// `values` for actions of `count` numbers, steps of `width` side by side.
torch::Tensor for_actions(const std::vector<double>& values, int64_t width, int64_t count,
                          const char* what) {
  require_one_or_each(values, width, what);
  const auto one = torch::tensor(values, torch::kFloat32);
  return values.size() == 1 ? one : one.repeat({count / width});
}

}  // namespace

torch::Tensor ModelOptions::model_actions(const torch::Tensor& actions) const {
  const int64_t count = actions.size(-1);
  return (actions - for_actions(action_mean, action_width, count, "action_mean")) /
         for_actions(action_std, action_width, count, "action_std");
}

torch::Tensor ModelOptions::world_actions(const torch::Tensor& actions) const {
  const int64_t count = actions.size(-1);
  return actions * for_actions(action_std, action_width, count, "action_std") +
         for_actions(action_mean, action_width, count, "action_mean");
}

DynamicsModel::DynamicsModel(const ModelOptions& o, const PredictorShape& shape)
    : options(o),
      predictor_shape(shape),
      encoder(o.encoder),
      predictor(make_predictor(o, shape)),
      inverse(predictors::InverseDynamicsOptions{
          .dim = o.encoder.dim, .action_width = o.action_width, .hidden = o.inverse_hidden}) {}

void DynamicsModel::replace_predictor(const PredictorShape& shape) {
  predictor_shape = shape;
  predictor = make_predictor(options, shape);
}

void DynamicsModel::initialise(uint64_t seed) {
  encoder->initialise(seeded_generator(seed, "encoder"));
  predictor->initialise(seed);
  inverse->initialise(seeded_generator(seed, "inverse"));
}

torch::Tensor DynamicsModel::encode(const torch::Tensor& frames) {
  TORCH_CHECK(frames.dim() == 4, "encode: [N, C, H, W] expected, got ", frames.sizes());
  return encode_clips(frames.unsqueeze(2)).squeeze(1);
}

torch::Tensor DynamicsModel::encode_clips(const torch::Tensor& clips) {
  const auto& o = options.encoder;
  if (clips.dim() != 5 || clips.size(1) != o.channels || clips.size(3) != o.height ||
      clips.size(4) != o.width || clips.scalar_type() != torch::kUInt8) {
    throw DataError(c10::str("the model takes frames of ", o.channels, " x ", o.height, " x ",
                             o.width, " (channels, height, width), found ", clips.sizes()));
  }
  const auto device = encoder->parameters().front().device();
  const auto pixels = clips.to(torch::kCPU);
  const auto x = precision == torch::kBFloat16 ? normalised<at::BFloat16>(pixels, options.pixels)
                                               : normalised<float>(pixels, options.pixels);
  const AutocastScope autocast(device, precision);
  return encoder->frames(to_device(x, device))
      .to(torch::kFloat32)
      .view({clips.size(0), clips.size(2), o.dim});
}

torch::Tensor DynamicsModel::rollout(const torch::Tensor& past, const torch::Tensor& past_actions,
                                     const torch::Tensor& actions) {
  const at::AutoGradMode gradient(at::GradMode::is_enabled() && actions.requires_grad());
  const AutocastScope autocast(past.device(), precision);
  const int64_t known = past.size(1), seen = std::min(known, history());
  const auto all = seen == 1 ? actions
                             : planning::rollout_actions(past, past_actions, actions)
                                   .narrow(1, known - seen, seen - 1 + actions.size(1));
  return planning::rollout_in_parts(past.narrow(1, known - seen, seen),
                                    to_device(all, past.device()),
                                    std::max<int64_t>(1, kLatentsAtOnce / history()),
                                    [&](const torch::Tensor& from, const torch::Tensor& with) {
                                      return predictor->rollout(from, with);
                                    });
}

void ObjectiveWeights::describe(OptionVisitor& visit) {
  visit("rollout", rollout, {.help = "predictions fed back in, from the first frame", .min = 0});
  visit("one_step", one_step, {.help = "predictions from each true latent", .min = 0});
  visit("variance", variance, {.help = "VICReg's variance hinge", .min = 0});
  visit("covariance", covariance, {.help = "VICReg's mean squared covariance", .min = 0});
  visit("similarity", similarity, {.help = "latents one block apart", .min = 0});
  visit("inverse", inverse, {.help = "inverse dynamics: a block's mean action", .min = 0});
  visit("sigreg", sigreg, {.help = "SIGReg, not multiplied by n", .min = 0});
  visit("slices", slices, {.help = "SIGReg's random directions", .min = 1});
}

DynamicsLoss prediction_loss(DynamicsModel& model, const torch::Tensor& latents,
                             const torch::Tensor& actions, const ObjectiveWeights& weights) {
  const int64_t blocks = actions.size(1);
  TORCH_CHECK(latents.dim() == 3 && latents.size(1) == blocks + 1 &&
                  actions.size(2) == model.action_width(),
              "prediction_loss: latents [B, T, D] and actions [B, T - 1, ", model.action_width(),
              "] expected, got ", latents.sizes(), " and ", actions.sizes());
  const AutocastScope autocast(latents.device(), model.precision);
  const auto later = latents.narrow(1, 1, blocks);
  DynamicsLoss loss;
  loss.total = torch::zeros({}, latents.options());
  if (weights.rollout > 0) {
    const auto imagined = model.predictor->rollout(latents.narrow(1, 0, 1), actions);
    loss.rollout = (imagined - later).square().mean();
    loss.total = loss.total + weights.rollout * loss.rollout;
  }
  if (weights.one_step > 0) {
    loss.one_step = teacher_forced_error(*model.predictor, latents, later, actions);
    loss.total = loss.total + weights.one_step * loss.one_step;
  }
  return loss;
}

DynamicsLoss joint_loss(DynamicsModel& model, const torch::Tensor& latents,
                        const torch::Tensor& actions, const ObjectiveWeights& weights,
                        at::Generator generator, Processes& processes) {
  DynamicsLoss loss = prediction_loss(model, latents, actions, weights);
  const auto add = [&](double weight, torch::Tensor& term, const auto& value) {
    if (weight <= 0) return;
    term = value();
    loss.total = loss.total + weight * term;
  };
  const int64_t blocks = actions.size(1);
  const bool regularised = weights.variance > 0 || weights.covariance > 0 || weights.sigreg > 0;
  const auto samples = (regularised ? gather_rows(latents, processes) : latents).flatten(0, 1);
  const auto before = latents.narrow(1, 0, blocks), after = latents.narrow(1, 1, blocks);
  add(weights.variance, loss.variance, [&] { return variance_hinge(samples); });
  add(weights.covariance, loss.covariance,
      [&] { return covariance_penalty(samples, CovarianceScale::pairs); });
  add(weights.similarity, loss.similarity, [&] { return (after - before).square().mean(); });
  add(weights.inverse, loss.inverse, [&] {
    const auto& o = model.options;
    const auto mean = actions.unflatten(2, {o.block, o.action_width}).mean(2);
    const AutocastScope autocast(latents.device(), model.precision);
    return (model.inverse->forward(before, after) - mean).square().mean();
  });
  add(weights.sigreg, loss.sigreg,
      [&] { return sigreg(samples, weights.slices, /*scale_by_n=*/false, std::move(generator)); });
  return loss;
}

}  // namespace jepa::eval::dynamics

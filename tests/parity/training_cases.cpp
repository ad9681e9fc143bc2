#include "case.hpp"
#include "models.hpp"

#include <encoders/vision_transformer.hpp>
#include <jepa/training/trainer.hpp>
#include <predictors/masked.hpp>

#include <torch/types.h>

#include <memory>

namespace parity {
namespace {

jepa::TrainerOptions trainer_options(const Case& test) {
  const auto& schedule = test.config().at("schedule");
  const auto number = [&](const char* key) { return schedule.at(key).get<double>(); };
  jepa::TrainerOptions options;
  options.optimisation.schedule = "cosine";
  options.optimisation.total_steps = schedule.at("total").get<int64_t>();
  options.optimisation.warmup_steps = schedule.at("warmup").get<int64_t>();
  options.optimisation.start_lr = number("start_lr");
  options.optimisation.lr = number("lr");
  options.optimisation.final_lr = number("final_lr");
  options.optimisation.weight_decay = number("wd");
  options.optimisation.final_weight_decay = number("final_wd");
  options.optimisation.momentum = schedule.at("ema").at(0).get<double>();
  options.optimisation.final_momentum = schedule.at("ema").at(1).get<double>();
  options.objective.loss = "l1";
  return options;
}

}  // namespace

/// Ten steps of the library's own trainer with given masks.
void training(Case& test) {
  const bool first_version = test.kind() == "vjepa1_train";
  const int64_t masks = test.size("masks");
  const auto shape = video_encoder(test, first_version ? "sincos" : "rope");
  auto predictor_shape = video_predictor(test, first_version ? "sincos" : "rope");
  if (!first_version) {
    // One clip length, so only the first token is ever used.
    predictor_shape.mask_tokens = 0;
    for (const auto& name : test.names("weights/predictor/mask_tokens.")) {
      predictor_shape.mask_tokens =
          std::max<int64_t>(predictor_shape.mask_tokens, std::stoll(name) + 1);
    }
    predictor_shape.mask_token_index = 0;
  }
  const auto make_encoder = [&] {
    std::shared_ptr<jepa::EncoderImpl> encoder =
        std::make_shared<jepa::encoders::VisionTransformerImpl>(shape);
    return jepa::Encoder(std::move(encoder));
  };
  auto encoder = make_encoder();
  auto target_encoder = make_encoder();
  std::shared_ptr<jepa::PredictorImpl> built =
      std::make_shared<jepa::predictors::MaskedPredictorImpl>(predictor_shape,
                                                              model_shape(shape, masks));
  jepa::Predictor predictor(std::move(built));
  test.load(*encoder, "encoder/");
  test.load(*predictor, "predictor/");

  jepa::Trainer trainer(encoder, target_encoder, predictor, trainer_options(test));
  test.load(*trainer.target_encoder(), "target_encoder/");
  std::map<std::string, std::vector<double>> series;
  for (int64_t step = 0; step < test.size("steps"); ++step) {
    std::vector<jepa::Mask> drawn;
    for (int64_t m = 0; m < masks; ++m) {
      drawn.push_back({test.tensor(c10::str("in/context_mask.", step, ".", m)),
                       test.tensor(c10::str("in/target_mask.", step, ".", m))});
    }
    jepa::StepTrace trace;
    const auto metrics =
        trainer.step(test.tensor(c10::str("in/clip.", step)), drawn, step == 0 ? &trace : nullptr);
    for (const char* name : {"loss", "lr", "weight_decay", "momentum"}) {
      series[name].push_back(metrics.at(name));
    }
    if (step > 0) continue;
    test.forward("step0.encoder_full", trace.target_tokens);
    for (size_t m = 0; m < drawn.size(); ++m) {
      test.forward(c10::str("step0.predictions.", m), trace.predictions.at(m));
      test.forward(c10::str("step0.targets.", m), trace.targets.at(m));
    }
    test.gradients(*trainer.encoder(), "encoder/");
    test.gradients(*trainer.predictor(), "predictor/");
  }
  for (const auto& [name, values] : series) {
    test.forward(name, torch::tensor(values, torch::kFloat64),
                 name == "loss" ? kLossTolerance : kScheduleTolerance);
  }
  test.final_weights(*trainer.encoder(), "encoder/");
  test.final_weights(*trainer.target_encoder(), "target_encoder/");
  test.final_weights(*trainer.predictor(), "predictor/");
}

}  // namespace parity

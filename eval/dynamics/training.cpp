#include <eval/dynamics/training.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/random.hpp>

#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <filesystem>

namespace jepa::eval::dynamics {
namespace {

void fill_from(const std::string& folder, const std::string& name, torch::nn::Module& module) {
  const std::string path = folder + "/" + name + ".safetensors";
  load_into(module, read_safetensors(path).tensors, path);
}

// Null where it is not stored, or not wanted.
void fill_inverse(const std::string& folder, DynamicsModel& model) {
  if (model.inverse.is_empty()) return;
  if (std::filesystem::exists(folder + "/inverse.safetensors")) {
    fill_from(folder, "inverse", *model.inverse);
  } else {
    model.inverse = nullptr;
  }
}

// The files' names say which phase a checkpoint stands in.
std::map<std::string, std::shared_ptr<torch::nn::Module>> predictor_files(
    const LatentPredictor& predictor, bool alone) {
  std::map<std::string, std::shared_ptr<torch::nn::Module>> files;
  for (const auto& [name, module] : predictor.modules()) {
    files[(alone ? "" : "joint_") + name] = module;
  }
  return files;
}

bool has_second_predictor(const std::string& folder) {
  return std::filesystem::exists(folder + "/predictor.safetensors");
}

void fill_predictor(const std::string& folder, const LatentPredictor& predictor, bool alone) {
  for (const auto& [name, module] : predictor_files(predictor, alone)) {
    fill_from(folder, name, *module);
  }
}

// The predictor in training mode; what dropout takes is drawn from a generator of its own.
class TrainingMode {
 public:
  TrainingMode(LatentPredictor& predictor, torch::Device device, uint64_t seed)
      : predictor_(predictor), drawn_(device, seed) {
    predictor_.train(true);
  }
  ~TrainingMode() { predictor_.train(false); }
  TrainingMode(const TrainingMode&) = delete;
  TrainingMode& operator=(const TrainingMode&) = delete;

 private:
  LatentPredictor& predictor_;
  DefaultGeneratorScope drawn_;
};

void add_terms(const DynamicsLoss& loss, MetricSums& sums) {
  sums.add("loss", loss.total);
  const std::pair<const char*, const torch::Tensor&> terms[] = {
      {"rollout", loss.rollout},       {"one_step", loss.one_step},     {"variance", loss.variance},
      {"covariance", loss.covariance}, {"similarity", loss.similarity}, {"inverse", loss.inverse},
      {"sigreg", loss.sigreg}};
  for (const auto& [name, term] : terms) {
    if (term.defined()) sums.add(name, term);
  }
}

}  // namespace

void SecondPhaseOptions::describe(OptionVisitor& visit) {
  visit("from_step", from_step,
        {.help = "steps of the first phase; 0: there is no second", .unit = "steps", .min = 0});
  predictor.describe(visit);
  visit("updates", updates, {.help = "of the predictor for each batch encoded", .min = 1});
  visit("batch", batch, {.help = "an update", .unit = "clips", .min = 1});
  visit("buffer", buffer, {.help = "latents that are kept", .unit = "clips", .min = 1});
}

DynamicsTask::DynamicsTask(DynamicsModel& model, DynamicsTrainingOptions options,
                           HeldOutClips held_out, Processes* processes)
    : model_(model),
      options_(std::move(options)),
      held_out_(std::move(held_out)),
      processes_(processes == nullptr ? process_alone() : *processes) {
  for (const auto* optimisation : {&options_.optimisation, &options_.second_optimisation}) {
    check(*optimisation);
    if (optimisation->accumulate == 1) continue;
    throw ConfigError("accumulate: a model of dynamics is trained on whole batches");
  }
  const bool both = options_.frozen || options_.second.from_step > 0;
  if (both && options_.second.batch % processes_.count() != 0) {
    throw ConfigError(c10::str("second.batch is ", options_.second.batch,
                               ", which does not divide over ", processes_.count(), " processes"));
  }
  auto modules = predictor_files(*model_.predictor, /*alone=*/false);
  modules["encoder"] = model_.encoder.ptr();
  if (!options_.frozen && options_.weights.inverse <= 0) model_.inverse = nullptr;
  if (!model_.inverse.is_empty()) modules["inverse"] = model_.inverse.ptr();
  first_ = std::make_unique<AdamW>(modules, options_.optimisation, &processes_);
  if (options_.frozen) {
    options_.second.from_step = 0;
    begin_second_phase();
  }
}

StepMetrics DynamicsTask::step(const ClipBatch& batch, bool watched,
                               std::map<std::string, std::string>& texts) {
  const RowRange own = own_rows({0, batch.size()}, processes_);
  return step_of_parts(
      batch.size(), [&] { return batch.rows(own.start, own.count); }, watched, texts);
}

StepMetrics DynamicsTask::step_of_parts(int64_t, const std::function<ClipBatch()>& next, bool,
                                        std::map<std::string, std::string>&) {
  const auto& second = options_.second;
  if (second_ == nullptr && second.from_step > 0 && step_ >= second.from_step) {
    begin_second_phase();
  }
  auto metrics = second_ == nullptr ? joint_step(next()) : predictor_step(next());
  ++step_;
  return metrics;
}

// The backward pass, all gradients clipped, and a step, by all processes together.
StepMetrics DynamicsTask::update(AdamW& optimizer, const OptimisationOptions& optimisation,
                                 int64_t done, const DynamicsLoss& loss) {
  optimizer.begin_reduce(processes_);
  loss.total.backward();
  MetricSums sums;
  add_terms(loss, sums);
  optimizer.reduce(processes_, sums);
  return apply_gradients(optimizer, optimisation, done, sums);
}

StepMetrics DynamicsTask::joint_step(const ClipBatch& own) {
  const auto actions = model_.options.model_actions(actions_between(own));
  first_->zero_gradients();
  const auto latents = model_.encode_clips(own.clips);
  const auto loss = [&] {
    const TrainingMode mode(*model_.predictor, latents.device(), dropout_seed("dropout", step_));
    return joint_loss(model_, latents, to_device(actions, latents.device()), options_.weights,
                      seeded_generator(options_.seed, "sigreg", static_cast<uint64_t>(step_)),
                      processes_);
  }();
  return update(*first_, options_.optimisation, step_, loss);
}

uint64_t DynamicsTask::dropout_seed(const char* stream, int64_t done) const {
  return stream_seed(options_.seed, stream,
                     static_cast<uint64_t>(done * processes_.count() + processes_.rank()));
}

void DynamicsTask::freeze_encoder() {
  for (auto& parameter : model_.encoder->parameters()) parameter.set_requires_grad(false);
  if (model_.inverse.is_empty()) return;
  for (auto& parameter : model_.inverse->parameters()) parameter.set_requires_grad(false);
}

void DynamicsTask::begin_second_phase() {
  first_.reset();
  freeze_encoder();
  const auto device = model_.encoder->parameters().front().device();
  model_.replace_predictor(options_.second.predictor);
  model_.predictor->initialise(options_.seed, "second ");
  model_.predictor->to(device);
  second_ = std::make_unique<AdamW>(predictor_files(*model_.predictor, /*alone=*/true),
                                    options_.second_optimisation, &processes_);
}

// A ring: clip number w lies at w modulo the capacity.
void DynamicsTask::remember(const torch::Tensor& latents, const torch::Tensor& actions) {
  const int64_t capacity = options_.second.buffer;
  if (!buffer_.latents.defined()) {
    buffer_.latents = latents.new_zeros({capacity, latents.size(1), latents.size(2)});
    buffer_.actions = actions.new_zeros({capacity, actions.size(1), actions.size(2)});
  }
  const auto places =
      (torch::arange(latents.size(0), latents.device()) + buffer_.written).remainder(capacity);
  buffer_.latents.index_copy_(0, places, latents);
  buffer_.actions.index_copy_(0, places, actions);
  buffer_.written += latents.size(0);
}

StepMetrics DynamicsTask::predictor_step(const ClipBatch& own) {
  const auto& o = options_.second;
  {
    const torch::NoGradGuard no_grad;
    const auto latents = model_.encode_clips(own.clips);
    const auto actions =
        to_device(model_.options.model_actions(actions_between(own)), latents.device());
    remember(processes_.gather(latents), processes_.gather(actions));
  }
  const int64_t held = std::min(buffer_.written, o.buffer);
  const RowRange part = own_rows({0, o.batch}, processes_);
  StepMetrics metrics;
  for (int64_t u = 0; u < o.updates; ++u) {
    const int64_t done = (step_ - o.from_step) * o.updates + u;
    const auto drawn = torch::randint(
        held, {o.batch}, seeded_generator(options_.seed, "rows", static_cast<uint64_t>(done)));
    const auto rows = to_device(drawn.narrow(0, part.start, part.count), buffer_.latents.device());
    second_->zero_gradients();
    const auto loss = [&] {
      const TrainingMode mode(*model_.predictor, rows.device(),
                              dropout_seed("second dropout", done));
      return prediction_loss(model_, buffer_.latents.index_select(0, rows),
                             buffer_.actions.index_select(0, rows), options_.weights);
    }();
    metrics = update(*second_, options_.second_optimisation, done, loss);
  }
  return metrics;
}

StepMetrics DynamicsTask::evaluate() {
  if (!held_out_.clips.defined()) return {};
  StateProbe probe;
  found_ = measure(model_, held_out_, options_.state_names, &probe);
  if (options_.wall_cases > 0 && probe.read) {
    found_.merge(named(wall_test(model_, probe, options_.wall_cases, options_.seed)));
  }
  return found_;
}

std::map<std::string, TensorMap> DynamicsTask::tensors() const {
  std::map<std::string, TensorMap> files = {{"encoder", state_dict(*model_.encoder)}};
  if (!model_.inverse.is_empty()) files["inverse"] = state_dict(*model_.inverse);
  for (const auto& [name, module] : predictor_files(*model_.predictor, second_ != nullptr)) {
    files[name] = state_dict(*module);
  }
  files["optimizer"] = second_ == nullptr ? first_->state() : second_->state();
  if (buffer_.latents.defined()) {
    files["buffer"] = {{"latents", buffer_.latents},
                       {"actions", buffer_.actions},
                       {"written", torch::tensor({buffer_.written}, torch::kInt64)}};
  }
  return files;
}

void DynamicsTask::restore(int64_t step, const std::string& folder) {
  const bool inverse = !model_.inverse.is_empty();
  load_encoder(folder, model_);
  if (inverse && !options_.frozen && model_.inverse.is_empty()) {
    throw CheckpointError(folder + "/inverse.safetensors is missing");
  }
  if (has_second_predictor(folder)) begin_second_phase();
  fill_predictor(folder, *model_.predictor, second_ != nullptr);
  const auto moments = read_safetensors(folder + "/optimizer.safetensors").tensors;
  (second_ == nullptr ? *first_ : *second_).load_state(moments);
  const std::string path = folder + "/buffer.safetensors";
  if (std::filesystem::exists(path)) {
    const auto buffer = read_safetensors(path).tensors;
    for (const char* key : {"latents", "actions", "written"}) {
      if (!buffer.contains(key)) {
        throw CheckpointError(path + ": key " + std::string(key) + " is missing");
      }
    }
    const auto device = model_.encoder->parameters().front().device();
    buffer_ = {buffer.at("latents").clone().to(device), buffer.at("actions").clone().to(device),
               buffer.at("written").item<int64_t>()};
  }
  step_ = step;
}

std::map<std::string, double> DynamicsTask::numbers() const {
  auto numbers = found_;
  numbers["phase"] = second_ == nullptr ? 1 : 2;
  return numbers;
}

void DynamicsTask::restore_numbers(const std::map<std::string, double>& numbers) {
  for (const char* prefix : {"skill_", "r2_", "wall_", "error_", "within_clip"}) {
    for (const auto& [name, value] : numbers) {
      if (name.starts_with(prefix)) found_[name] = value;
    }
  }
}

void load_encoder(const std::string& folder, DynamicsModel& model) {
  fill_from(folder, "encoder", *model.encoder);
  fill_inverse(folder, model);
}

DynamicsModel load_dynamics(const std::string& folder, const ModelOptions& options,
                            const PredictorShape& first, const PredictorShape& second) {
  const bool alone = has_second_predictor(folder);
  DynamicsModel model(options, alone ? second : first);
  fill_from(folder, "encoder", *model.encoder);
  fill_inverse(folder, model);  // of no use to a planner
  fill_predictor(folder, *model.predictor, alone);
  return model;
}

}  // namespace jepa::eval::dynamics

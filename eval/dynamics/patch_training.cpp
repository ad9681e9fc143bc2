#include <eval/diffusion/saved_run.hpp>
#include <eval/dynamics/patch_training.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/random.hpp>
#include <jepa/training/checkpoint.hpp>

#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <filesystem>
#include <optional>

namespace jepa::eval::dynamics {
namespace {

constexpr const char* kFingerprint = "fingerprint";
constexpr int64_t kHeldOutAtOnce = 16;  // clips

// States that stand beside the actions; undefined where the model takes none.
torch::Tensor states_of(const PatchDynamicsModel& model, const torch::Tensor& states) {
  if (!model.patches.states) return {};
  const int64_t width = model.patches.action_conditioned.state_width;
  if (!states.defined()) {
    throw DataError(
        "the clips have no signal 'state', which patches.states takes (option "
        "clip.signals)");
  }
  if (states.size(2) != width) {
    throw DataError(c10::str("states of ", states.size(2), " numbers, the model takes ", width));
  }
  return to_device(states, model.device());
}

void require_encoder(const std::string& folder, const PatchDynamicsModel& model,
                     int64_t fingerprint) {
  const std::string path = folder + "/" + kFrozenEncoder + ".safetensors";
  const auto tensors = read_safetensors(path).tensors;
  const auto found = tensors.find(kFingerprint);
  if (found == tensors.end() || found->second.numel() != 1) {
    throw CheckpointError(path + ": key " + kFingerprint + " is missing");
  }
  if (found->second.item<int64_t>() == fingerprint) return;
  throw CheckpointError(folder + ": trained over another encoder than " + model.patches.weights +
                        " (option patches.weights)");
}

void fill_predictor(const std::string& folder, PatchDynamicsModel& model) {
  for (const auto& [name, module] : model.trained()) {
    diffusion::load_saved(folder, name, *module);
  }
}

double squares(const torch::Tensor& x) { return x.square().sum().item<double>(); }

}  // namespace

PatchDynamicsTask::PatchDynamicsTask(PatchDynamicsModel& model,
                                     const OptimisationOptions& optimisation, uint64_t seed,
                                     HeldOutClips held_out, Processes* processes)
    : model_(model),
      optimisation_(optimisation),
      seed_(seed),
      held_out_(std::move(held_out)),
      processes_(processes == nullptr ? process_alone() : *processes),
      optimizer_(model.trained(), optimisation, &processes_),
      fingerprint_(model.encoder_fingerprint()) {
  check(optimisation_);
}

StepMetrics PatchDynamicsTask::step(const ClipBatch& batch, bool watched,
                                    std::map<std::string, std::string>& texts) {
  const auto parts = micro_batches(optimisation_, batch.size());
  size_t i = 0;
  const auto next = [&] {
    const RowRange own = own_rows({parts[i].start, parts[i].count}, processes_);
    ++i;
    return batch.rows(own.start, own.count);
  };
  return step_of_parts(batch.size(), next, watched, texts);
}

PatchLoss PatchDynamicsTask::loss(const ClipBatch& own, int64_t part) {
  const auto actions = model_.options.model_actions(actions_between(own));
  const auto state = own.signals.find("state");
  const auto states =
      states_of(model_, state == own.signals.end() ? torch::Tensor() : state->second);
  const auto latents = model_.encode_clips(own.clips);
  std::optional<DefaultGeneratorScope> drawn;  // what dropout takes
  if (model_.adaln != nullptr && model_.patches.adaln.dropout > 0) {
    const auto place = static_cast<uint64_t>(
        (step_ * optimisation_.accumulate + part) * processes_.count() + processes_.rank());
    drawn.emplace(model_.device(), stream_seed(seed_, "dropout", place));
  }
  return patch_loss(model_, latents, to_device(actions, latents.device()), states);
}

StepMetrics PatchDynamicsTask::step_of_parts(int64_t clips, const std::function<ClipBatch()>& next,
                                             bool, std::map<std::string, std::string>&) {
  const auto parts = micro_batches(optimisation_, clips);
  for (const auto& [name, module] : model_.trained()) module->train();
  optimizer_.zero_gradients();
  MetricSums sums;
  for (size_t i = 0; i < parts.size(); ++i) {
    const PatchLoss found = loss(next(), static_cast<int64_t>(i));
    if (i + 1 == parts.size()) optimizer_.begin_reduce(processes_);
    (found.total * parts[i].share).backward();
    sums.set_share(parts[i].share);
    sums.add("loss", found.total);
    sums.add("one_step", found.one_step);
    if (found.rollout.defined()) sums.add("rollout", found.rollout);
  }
  for (const auto& [name, module] : model_.trained()) module->eval();
  optimizer_.reduce(processes_, sums);
  auto metrics = apply_gradients(optimizer_, optimisation_, step_, sums);
  ++step_;
  return metrics;
}

StepMetrics PatchDynamicsTask::evaluate() {
  if (!held_out_.clips.defined()) return {};
  const torch::NoGradGuard no_grad;
  const int64_t clips = held_out_.clips.size(0), blocks = held_out_.actions.size(1);
  double loss = 0, one = 0, one_copied = 0, last = 0, last_copied = 0;
  for (int64_t start = 0; start < clips; start += kHeldOutAtOnce) {
    const int64_t count = std::min(kHeldOutAtOnce, clips - start);
    const auto part = [&](const torch::Tensor& x) {
      return x.defined() ? x.narrow(0, start, count) : x;
    };
    const auto z = model_.encode_clips(part(held_out_.clips));
    const auto actions =
        to_device(model_.options.model_actions(part(held_out_.actions)), z.device());
    const auto states = states_of(model_, part(held_out_.states));
    loss += patch_loss(model_, z, actions, states).total.item<double>() *
            static_cast<double>(count) / static_cast<double>(clips);
    const int64_t seen = model_.window() > 0 ? std::min(blocks, model_.window()) : blocks;
    const auto now = z.narrow(1, 0, seen), later = z.narrow(1, 1, seen);
    const auto before = states.defined() ? states.narrow(1, 0, seen) : states;
    one += squares(model_.predict(now, actions.narrow(1, 0, seen), before) - later);
    one_copied += squares(now - later);
    const auto end = z.select(1, blocks);
    const auto imagined = model_.imagine(z.narrow(1, 0, 1), actions, states, blocks);
    last += squares(imagined.select(1, blocks - 1) - end);
    last_copied += squares(z.select(1, 0) - end);
  }
  found_ = {{"validation_loss", loss}};
  add_skill(found_, "skill_1", one, one_copied);
  add_skill(found_, "skill_k", last, last_copied);
  return found_;
}

std::map<std::string, TensorMap> PatchDynamicsTask::tensors() const {
  std::map<std::string, TensorMap> files = {
      {"optimizer", optimizer_.state()},
      {kFrozenEncoder, {{kFingerprint, torch::tensor({fingerprint_}, torch::kInt64)}}}};
  for (const auto& [name, module] : model_.trained()) files[name] = state_dict(*module);
  return files;
}

void PatchDynamicsTask::restore(int64_t step, const std::string& folder) {
  require_encoder(folder, model_, fingerprint_);
  fill_predictor(folder, model_);
  optimizer_.load_state(read_safetensors(folder + "/optimizer.safetensors").tensors);
  step_ = step;
}

void PatchDynamicsTask::restore_numbers(const std::map<std::string, double>& numbers) {
  for (const char* name : {"validation_loss", "skill_1", "skill_k"}) {
    const auto found = numbers.find(name);
    if (found != numbers.end()) found_[name] = found->second;
  }
}

void load_patch_predictor(const std::string& folder, PatchDynamicsModel& model) {
  require_encoder(folder, model, model.encoder_fingerprint());
  fill_predictor(folder, model);
}

bool is_patch_run(const std::string& path) {
  const bool run = std::filesystem::exists(path + "/checkpoints");
  const std::string folder = run ? find_checkpoint(path) : path;
  return std::filesystem::exists(folder + "/" + kFrozenEncoder + ".safetensors");
}

}  // namespace jepa::eval::dynamics

#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/training/checkpoint.hpp>

#include <torch/torch.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace jepa {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string checkpoints_folder(const std::string& run) { return run + "/checkpoints"; }

std::string step_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return name;
}

void load_module(const std::string& path, torch::nn::Module& module) {
  load_into(module, read_safetensors(path).tensors, path);
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw CheckpointError(path + ": cannot be opened");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string read_name(const std::string& path) {
  std::string name = read_text(path);
  while (!name.empty() && (name.back() == '\n' || name.back() == ' ')) name.pop_back();
  return name;
}

/// Removes what killed runs left half written.
void remove_partial(const std::string& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with("partial-")) fs::remove_all(entry.path());
  }
}

void remove_old(const std::string& folder, int64_t keep) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  const std::string best =
      fs::exists(folder + "/best") ? read_name(folder + "/best") : std::string();
  for (size_t i = 0; i + static_cast<size_t>(keep) < names.size(); ++i) {
    if (names[i] != best) fs::remove_all(folder + "/" + names[i]);
  }
}

}  // namespace

void save_checkpoint(const std::string& run_folder, Trainer& trainer, const CheckpointState& state,
                     const std::string& config_ini, int64_t keep) {
  const std::string folder = checkpoints_folder(run_folder);
  const std::string name = step_name(state.step);
  const std::string partial = folder + "/partial-" + name;
  try {
    fs::create_directories(folder);
    remove_partial(folder);
    fs::create_directory(partial);
    write_safetensors(partial + "/encoder.safetensors", state_dict(*trainer.encoder()));
    write_safetensors(partial + "/target_encoder.safetensors",
                      state_dict(*trainer.target_encoder()));
    write_safetensors(partial + "/predictor.safetensors", state_dict(*trainer.predictor()));
    write_safetensors(partial + "/optimizer.safetensors", trainer.optimizer_state());
    Json json{{"step", state.step}};
    json["numbers"] = state.numbers;
    json["texts"] = state.texts;
    write_file_atomic(partial + "/state.json", json.dump(2) + "\n");
    write_file_atomic(partial + "/config.ini", config_ini);
    sync_directory(partial);
    fs::remove_all(folder + "/" + name);  // the same step, from a run that was started again
    fs::rename(partial, folder + "/" + name);
    sync_directory(folder);
    write_file_atomic(folder + "/latest", name + "\n");
    remove_old(folder, std::max<int64_t>(1, keep));
  } catch (const fs::filesystem_error& error) {
    throw DataError(std::string("checkpoint ") + folder + "/" + name + ": " + error.what());
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(partial, ignored);
    throw;
  }
}

void mark_best(const std::string& run_folder, int64_t step) {
  write_file_atomic(checkpoints_folder(run_folder) + "/best", step_name(step) + "\n");
}

std::string find_checkpoint(const std::string& run_folder, const std::string& name) {
  const std::string folder = checkpoints_folder(run_folder);
  if (!fs::exists(folder + "/" + name)) return "";
  const std::string found = folder + "/" + read_name(folder + "/" + name);
  if (!fs::is_directory(found)) {
    throw CheckpointError(folder + "/" + name + " names " + found + ", which is not there");
  }
  return found;
}

CheckpointState read_checkpoint_state(const std::string& checkpoint_folder) {
  const std::string path = checkpoint_folder + "/state.json";
  try {
    const Json json = Json::parse(read_text(path));
    CheckpointState state;
    state.step = json.at("step").get<int64_t>();
    state.numbers = json.at("numbers").get<std::map<std::string, double>>();
    state.texts = json.at("texts").get<std::map<std::string, std::string>>();
    return state;
  } catch (const nlohmann::json::exception& error) {
    throw CheckpointError(path + ": " + error.what());
  }
}

CheckpointState load_checkpoint(const std::string& checkpoint_folder, Trainer& trainer) {
  const CheckpointState state = read_checkpoint_state(checkpoint_folder);
  load_module(checkpoint_folder + "/encoder.safetensors", *trainer.encoder());
  load_module(checkpoint_folder + "/target_encoder.safetensors", *trainer.target_encoder());
  load_module(checkpoint_folder + "/predictor.safetensors", *trainer.predictor());
  trainer.restore(state.step,
                  read_safetensors(checkpoint_folder + "/optimizer.safetensors").tensors);
  return state;
}

}  // namespace jepa

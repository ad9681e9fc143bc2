#include <eval/diffusion/saved_run.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/training/checkpoint.hpp>

#include <torch/nn/module.h>
#include <torch/types.h>

#include <filesystem>

namespace jepa::eval::diffusion {
namespace {

namespace fs = std::filesystem;

std::string weights_path(const std::string& folder, const std::string& name) {
  return folder + "/" + name + ".safetensors";
}

}  // namespace

std::string weights_folder(const std::string& path, const std::string& name,
                           const std::string& program) {
  std::string folder = path;
  if (fs::exists(path + "/checkpoints")) {
    folder = find_checkpoint(path);
    if (folder.empty()) throw CheckpointError(path + ": a run without a checkpoint");
  }
  const std::string weights = weights_path(folder, name);
  if (!fs::exists(weights)) {
    throw CheckpointError(weights + " is missing: not a run of " + program);
  }
  return folder;
}

OptionValues read_saved_options(const std::string& folder) {
  const std::string path = folder + "/config.ini";
  if (!fs::exists(path)) throw CheckpointError(path + " is missing");
  return read_ini(path);
}

void apply_known_options(const OptionValues& kept, const std::vector<OptionSection>& sections) {
  const OptionValues known = dump_options(sections);
  OptionValues own;
  for (const auto& [key, value] : kept) {
    if (known.contains(key)) own[key] = value;
  }
  apply_options(sections, own);
}

void apply_saved_options(const std::string& folder, const std::vector<OptionSection>& sections) {
  apply_known_options(read_saved_options(folder), sections);
}

void load_saved(const std::string& folder, const std::string& name, torch::nn::Module& module) {
  const std::string path = weights_path(folder, name);
  load_into(module, read_safetensors(path).tensors, path);
}

int64_t saved_channels(const std::string& folder, const std::string& name, const std::string& key) {
  const std::string path = weights_path(folder, name);
  const TensorMap weights = read_safetensors(path).tensors;
  const auto found = weights.find(key);
  if (found == weights.end() || found->second.dim() != 5) {
    throw CheckpointError(path + ": no " + key + " of five dimensions");
  }
  return found->second.size(1);
}

}  // namespace jepa::eval::diffusion

// What a run of a diffusion program left behind, read back.
#pragma once

#include <jepa/options.hpp>

#include <torch/nn/module.h>

#include <string>
#include <vector>

namespace jepa::eval::diffusion {

/// The folder that holds the weights `name`.safetensors: `path` itself where it is a checkpoint,
/// or the latest checkpoint where it is a run.
/// @param program what makes such runs, for messages
/// @throws CheckpointError naming the file that is missing
std::string weights_folder(const std::string& path, const std::string& name,
                           const std::string& program);

/// What `folder`/config.ini says. @throws CheckpointError where there is no such file
OptionValues read_saved_options(const std::string& folder);
/// Applies the keys of it that `sections` know.
/// @throws ConfigError for a value that is wrong
void apply_known_options(const OptionValues& kept, const std::vector<OptionSection>& sections);
/// Applies the keys of `folder`/config.ini that `sections` know; a run's file holds more.
/// @throws CheckpointError where there is no such file, ConfigError for a value that is wrong
void apply_saved_options(const std::string& folder, const std::vector<OptionSection>& sections);

/// Fills `module` from `folder`/`name`.safetensors. @throws CheckpointError naming file and key
void load_saved(const std::string& folder, const std::string& name, torch::nn::Module& module);

/// Channels of the clips a saved model reads: the second size of its first weight `key`, which is
/// [out, channels, t, h, w].
/// @throws CheckpointError where there is no such weight
int64_t saved_channels(const std::string& folder, const std::string& name, const std::string& key);

}  // namespace jepa::eval::diffusion

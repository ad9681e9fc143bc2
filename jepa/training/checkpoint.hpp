// Checkpoints of a run: whole or absent, and exact.
#pragma once

#include <jepa/training/trainer.hpp>

#include <map>
#include <string>

namespace jepa {

/// What stands beside the weights in `state.json`.
struct CheckpointState {
  int64_t step = 0;
  std::map<std::string, double> numbers;     ///< diagnostics at initialisation, best probe, totals
  std::map<std::string, std::string> texts;  ///< provenance: commit, versions, machine, data
};

/// Writes `RUN/checkpoints/step-NNNNNNNN/` with encoder, target_encoder, predictor and optimizer
/// as safetensors, `state.json` and `config.ini`; beside and renamed into place after fsync, then
/// names it in `checkpoints/latest`. Older ones beyond `keep` are removed, the one named in
/// `checkpoints/best` excepted.
/// @throws DataError naming the file; what was there before is still there.
void save_checkpoint(const std::string& run_folder, Trainer& trainer, const CheckpointState& state,
                     const std::string& config_ini, int64_t keep);

/// Names the checkpoint of `step` in `checkpoints/best`.
void mark_best(const std::string& run_folder, int64_t step);

/// Folder of the newest complete checkpoint of a run; empty: there is none.
/// @param name "latest" or "best"
/// @throws CheckpointError where the text file names a folder that is not there.
std::string find_checkpoint(const std::string& run_folder, const std::string& name = "latest");

/// Loads weights, moments and counters into `trainer`.
/// @throws CheckpointError naming the file and key that is missing or of another shape.
CheckpointState load_checkpoint(const std::string& checkpoint_folder, Trainer& trainer);

/// Reads state.json of a checkpoint.
CheckpointState read_checkpoint_state(const std::string& checkpoint_folder);

}  // namespace jepa

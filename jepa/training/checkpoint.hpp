// Checkpoints of a run: whole or absent, and exact.
#pragma once

#include <jepa/io/safetensors.hpp>

#include <cstdint>
#include <map>
#include <string>

namespace jepa {

/// What stands beside the tensors in `state.json`.
struct CheckpointState {
  int64_t step = 0;
  std::map<std::string, double> numbers;     ///< totals, best score, the task's own
  std::map<std::string, std::string> texts;  ///< provenance: commit, versions, machine, data
};

/// Writes `RUN/checkpoints/step-NNNNNNNN/` with a NAME.safetensors for each of `files`,
/// `state.json` and `config.ini`; beside and renamed into place after fsync, then names it in
/// `checkpoints/latest`. Older ones beyond `keep` are removed, the one named in `checkpoints/best`
/// excepted. Whenever the process is killed, both text files name whole folders.
/// @param best name it in `checkpoints/best` too (before `latest`)
/// @throws DataError naming the file; what was there before is still there.
void save_checkpoint(const std::string& run_folder, const std::map<std::string, TensorMap>& files,
                     const CheckpointState& state, const std::string& config_ini, int64_t keep,
                     bool best);

/// Folder of a run's newest whole checkpoint ("latest"), or of its best one ("best"); empty: there
/// is none. Where a kill came between the two names, the best is newer than what `latest` names:
/// it then is the newest, and no run that goes on from here has to write it again.
/// @throws CheckpointError where the text file is empty or names a folder that is not there, with
/// the newest whole one.
std::string find_checkpoint(const std::string& run_folder, const std::string& name = "latest");

/// @throws CheckpointError where a file of the checkpoint is missing, cut or damaged; names it, the
/// newest other checkpoint that is whole, and how to go on from that one
void require_whole(const std::string& checkpoint_folder);

/// Reads state.json of a checkpoint.
/// @throws CheckpointError naming the file.
CheckpointState read_checkpoint_state(const std::string& checkpoint_folder);

}  // namespace jepa

// Weights wherever they come from: a run, a published checkpoint, a Hugging Face folder.
#pragma once

#include <jepa/io/safetensors.hpp>
#include <jepa/options.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace jepa {

/// An opened weight file or folder. Tensors are views of memory-mapped files; nothing is read
/// before it is used.
///
/// Understood are
///  - a run folder (its latest checkpoint), a checkpoint folder, a `.safetensors` file from one;
///  - PyTorch checkpoints (`.pt`, `.pth.tar`) with modules under `encoder`, `target_encoder` (or
///    `ema_encoder`), `predictor`, `classifiers`, or a bare state dict; also inside `model`,
///    `state_dict`, `module` (Lightning's, one state dict over all modules: `encoder.norm.weight`);
///  - the same layout as safetensors, keys `encoder/module.backbone.norm.weight`;
///  - a Hugging Face folder (config.json and model.safetensors, sharded or not, or
///    pytorch_model.bin) or its file.
/// Names that PyTorch's wrappers add are removed, see strip_wrappers().
class WeightFile {
 public:
  /// @throws CheckpointError naming the path: missing, damaged, none of the above
  static WeightFile open(const std::string& path);

  /// What was opened in the end (a run's checkpoint folder, for instance).
  const std::string& path() const { return path_; }
  /// Names of the modules: some of encoder, target_encoder, predictor, probe.
  std::vector<std::string> modules() const;
  bool has(const std::string& module) const { return modules_.contains(module); }
  /// The module's weights as they lie in the file: wrappers' prefixes removed, Hugging Face's names
  /// where the file has them.
  const TensorMap& stored(const std::string& module) const;
  /// The module's weights under the published names (see name_map.hpp).
  /// @throws CheckpointError where the module is missing or incomplete
  TensorMap weights(const std::string& module) const;

  bool hugging_face() const { return hugging_face_; }
  /// Numbers and strings beside the weights: config.json's outermost ones, a `.pt` file's epoch.
  const std::map<std::string, std::string>& notes() const { return notes_; }
  /// A whole number of `notes()`, or `otherwise`.
  /// @throws CheckpointError where it is not one
  int64_t number(const std::string& key, int64_t otherwise) const;
  /// The options of the run that wrote the weights; empty for published files.
  const OptionValues& options() const { return options_; }

 private:
  void open_folder(const std::string& folder);
  void open_checkpoint(const std::string& folder);
  void open_file(const std::string& file);
  void read_options(const std::string& ini);
  void add(const std::string& module, const std::string& key, const torch::Tensor& tensor);
  void sort_out(TensorMap tensors, const std::string& only_module);
  void take_mappings(SafetensorsFile& file);

  std::string path_;
  bool hugging_face_ = false;
  std::map<std::string, TensorMap> modules_;
  std::map<std::string, std::string> notes_;
  OptionValues options_;
  std::vector<std::string> unknown_;  // some keys, where no module was found
  std::vector<std::shared_ptr<MappedFile>> mappings_;
};

}  // namespace jepa

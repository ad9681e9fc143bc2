#include <jepa/errors.hpp>
#include <jepa/io/foreign_file.hpp>
#include <jepa/io/json_walk.hpp>
#include <jepa/io/mapped_file.hpp>
#include <jepa/io/name_map.hpp>
#include <jepa/io/torch_pickle.hpp>
#include <jepa/io/unwrap.hpp>
#include <jepa/io/weight_file.hpp>
#include <jepa/printable.hpp>

#include <c10/util/StringUtil.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace jepa {
namespace {

namespace fs = std::filesystem;

std::string read_first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Collects the outermost numbers and strings of a config.json.
class ConfigVisitor : public JsonVisitor {
 public:
  std::map<std::string, std::string> values;
  void object(const std::vector<std::string>&) override {}
  void array(const std::vector<std::string>&) override {}
  void scalar(const std::vector<std::string>& path, const JsonScalar& value) override {
    if (path.size() != 1) return;
    std::string text;
    if (const auto* string = std::get_if<std::string_view>(&value)) text = *string;
    if (const auto* whole = std::get_if<uint64_t>(&value)) text = std::to_string(*whole);
    if (const auto* real = std::get_if<double>(&value)) text = c10::str(*real);
    if (!text.empty()) values[path[0]] = text;
  }
};

std::map<std::string, std::string> read_config_json(const std::string& path) {
  const std::shared_ptr<MappedFile> file = MappedFile::open(path);
  ConfigVisitor visitor;
  walk_json(file->bytes(), path, visitor);
  return std::move(visitor.values);
}

// A key without the dicts that training scripts save a state dict in.
std::string strip_dicts(std::string key) {
  for (bool again = true; again;) {
    again = false;
    for (const std::string dict : {"model/", "state_dict/", "model_state_dict/", "module/"}) {
      if (!key.starts_with(dict)) continue;
      key.erase(0, dict.size());
      again = true;
    }
  }
  return key;
}

// A module's name at the start of a key: "encoder/x" of the published files' dicts, "encoder.x" of
// one state dict over all modules (Lightning's). {"", key}: there is none.
std::pair<std::string, std::string> split_module(const std::string& key) {
  const size_t slash = key.find('/');
  if (slash != std::string::npos) return {key.substr(0, slash), key.substr(slash + 1)};
  const std::string name = strip_wrappers(key);
  for (const std::string module : {"encoder", "target_encoder", "ema_encoder", "predictor"}) {
    if (name.starts_with(module + ".")) return {module, name.substr(module.size() + 1)};
  }
  return {"", name};
}

// Some of the keys that are there, for a message.
std::string some_keys(const std::vector<std::string>& keys) {
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(keys.size(), 4); ++i) {
    text += (i > 0 ? ", '" : "'") + printable(keys[i].substr(0, 80)) + "'";
  }
  return text;
}

// Which module a bare state dict is, by what only that module has; "": none.
std::string module_of_state_dict(const TensorMap& tensors) {
  for (const auto& [key, tensor] : tensors) {
    const std::string name = strip_wrappers(strip_dicts(key));
    if (name.starts_with("patch_embed.")) return "encoder";
    if (name.starts_with("predictor_")) return "predictor";
    if (name.starts_with("pooler.")) return "probe";
  }
  return "";
}

bool is_hugging_face(const TensorMap& tensors) {
  const auto layer = [&](const std::string& start) {
    const auto found = tensors.lower_bound(start);
    return found != tensors.end() && found->first.starts_with(start);
  };
  return layer("encoder.layer.") || layer("vjepa2.encoder.layer.");
}

}  // namespace

WeightFile WeightFile::open(const std::string& path) {
  WeightFile file;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    file.open_folder(path);
  } else {
    file.open_file(path);
  }
  if (file.modules_.empty()) {
    const std::string keys = some_keys(file.unknown_);
    throw CheckpointError(file.path_ +
                          ": holds no encoder, predictor or probe that is known here; " +
                          (keys.empty() ? "it has no tensors" : "its keys are " + keys + " ..."));
  }
  return file;
}

void WeightFile::open_folder(const std::string& folder) {
  for (const char* name :
       {"/model.safetensors", "/model.safetensors.index.json", "/pytorch_model.bin"}) {
    if (fs::exists(folder + name)) {
      open_file(folder + name);
      path_ = folder;
      return;
    }
  }
  if (fs::exists(folder + "/pytorch_model.bin.index.json")) {
    throw CheckpointError(folder +
                          ": pytorch_model.bin in several files is not read here; save it "
                          "as safetensors (save_pretrained does)");
  }
  const std::string latest = folder + "/checkpoints/latest";
  if (fs::exists(latest)) {
    const std::string name = read_first_line(latest);
    if (name.empty() || !fs::is_directory(folder + "/checkpoints/" + name)) {
      throw CheckpointError(
          latest +
          (name.empty() ? " is empty" : " names '" + printable(name) + "', which is not there") +
          "; name a folder beside it, step-NNNNNNNN");
    }
    open_checkpoint(folder + "/checkpoints/" + name);
  } else if (fs::exists(folder + "/encoder.safetensors") ||
             fs::exists(folder + "/target_encoder.safetensors")) {
    open_checkpoint(folder);
  } else {
    throw CheckpointError(folder +
                          ": no model.safetensors, pytorch_model.bin, checkpoints/latest or "
                          "encoder.safetensors");
  }
}

void WeightFile::open_checkpoint(const std::string& folder) {
  path_ = folder;
  for (const std::string module : {"encoder", "target_encoder", "predictor", "probe"}) {
    const std::string path = folder + "/" + module + ".safetensors";
    if (!fs::exists(path)) continue;
    SafetensorsFile file = read_safetensors(path);
    for (const auto& [key, tensor] : file.tensors) add(module, key, tensor);
    take_mappings(file);
  }
  read_options(folder + "/config.ini");
}

// A config.ini beside the weights counts if it describes an encoder.
void WeightFile::read_options(const std::string& ini) {
  if (!fs::exists(ini)) return;
  OptionValues options = read_ini(ini);
  const auto found = options.lower_bound("encoder.");
  if (found != options.end() && found->first.starts_with("encoder.")) options_ = std::move(options);
}

void WeightFile::open_file(const std::string& path) {
  path_ = path;
  // Also says what cannot be opened or is no file.
  const std::shared_ptr<MappedFile> mapped = MappedFile::open(path);
  const std::string_view start = mapped->bytes().substr(0, 64);
  if (!path.ends_with(".index.json")) {
    const std::string foreign = foreign_file(start);
    if (!foreign.empty()) throw CheckpointError(path + ": " + foreign);
  }
  const fs::path folder = fs::path(path).parent_path();
  TensorMap tensors;
  const bool pickled = start.starts_with("PK") || start.starts_with("\x80\x02");
  if (pickled) {
    TorchFile file = read_torch_file(path);
    notes_ = std::move(file.scalars);
    tensors = std::move(file.tensors);
  } else {
    SafetensorsFile file = read_safetensors(path);
    notes_ = std::move(file.metadata);
    take_mappings(file);
    tensors = std::move(file.tensors);
  }
  tensors = unwrap(std::move(tensors), path);
  hugging_face_ = is_hugging_face(tensors);
  if (!pickled && !hugging_face_) read_options(folder / "config.ini");
  if (hugging_face_ && fs::exists(folder / "config.json")) {
    notes_ = read_config_json(folder / "config.json");
  }
  const std::string stem = fs::path(path).stem().string();
  sort_out(std::move(tensors), stem == "target_encoder" ? stem : "");
}

void WeightFile::take_mappings(SafetensorsFile& file) {
  mappings_.insert(mappings_.end(), std::make_move_iterator(file.mappings.begin()),
                   std::make_move_iterator(file.mappings.end()));
}

// Distributes the tensors of one file over the modules.
void WeightFile::sort_out(TensorMap tensors, const std::string& only_module) {
  const std::string bare = only_module.empty() ? module_of_state_dict(tensors) : only_module;
  for (const auto& [key, tensor] : tensors) {
    if (hugging_face_) {
      const std::string name = key.starts_with("vjepa2.") ? key.substr(7) : key;
      if (name.starts_with("encoder.")) add("encoder", name.substr(8), tensor);
      if (name.starts_with("predictor.")) add("predictor", name.substr(10), tensor);
      if (name.starts_with("pooler.") || name.starts_with("classifier."))
        add("probe", name, tensor);
      continue;
    }
    const auto [module, name] = split_module(strip_dicts(key));
    if (module.empty()) {
      if (!bare.empty()) add(bare, name, tensor);
    } else if (module == "encoder" || module == "target_encoder" || module == "predictor") {
      add(module, strip_dicts(name), tensor);
    } else if (module == "ema_encoder") {  // V-JEPA 2.1's distilled models
      add("target_encoder", strip_dicts(name), tensor);
    } else if (module == "classifiers" && name.starts_with("0/")) {
      add("probe", name.substr(2), tensor);
    } else if (module == "probe") {  // that unwrap() found
      add(module, name, tensor);
    }
  }
  if (!modules_.empty()) return;
  for (const auto& [key, tensor] : tensors) {
    if (unknown_.size() < 4) unknown_.push_back(key);
  }
}

void WeightFile::add(const std::string& module, const std::string& key,
                     const torch::Tensor& tensor) {
  const std::string name = strip_wrappers(key);
  if (!modules_[module].emplace(name, tensor).second) {
    throw CheckpointError(path_ + ": '" + name + "' of the " + module + " comes twice");
  }
}

std::vector<std::string> WeightFile::modules() const {
  std::vector<std::string> names;
  for (const auto& [name, tensors] : modules_) names.push_back(name);
  return names;
}

const TensorMap& WeightFile::stored(const std::string& module) const {
  const auto found = modules_.find(module);
  if (found == modules_.end()) {
    throw CheckpointError(path_ + ": holds no " + module + ", only " + c10::Join(", ", modules()));
  }
  return found->second;
}

TensorMap WeightFile::weights(const std::string& module) const {
  const TensorMap& tensors = stored(module);
  if (!hugging_face_) return tensors;
  return from_hugging_face(module, tensors, path_, [&](const torch::Tensor& part) {
    for (const auto& mapping : mappings_) mapping->release(part);
  });
}

int64_t WeightFile::number(const std::string& key, int64_t otherwise) const {
  const auto found = notes_.find(key);
  if (found == notes_.end()) return otherwise;
  const std::string& text = found->second;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw CheckpointError(path_ + ": " + key + " is '" + text + "', a whole number is expected");
  }
  return value;
}

}  // namespace jepa

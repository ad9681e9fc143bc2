#include <jepa/errors.hpp>
#include <jepa/io/json_walk.hpp>
#include <jepa/io/mapped_file.hpp>
#include <jepa/io/name_map.hpp>
#include <jepa/io/torch_pickle.hpp>
#include <jepa/io/weight_file.hpp>

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

// Which module a bare state dict is, by what only that module has; "": none.
std::string module_of_state_dict(const TensorMap& tensors) {
  for (const auto& [key, tensor] : tensors) {
    const std::string name = strip_wrappers(key);
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
    throw CheckpointError(file.path_ + ": holds no encoder, predictor or probe that is known here");
  }
  return file;
}

void WeightFile::open_folder(const std::string& folder) {
  for (const char* name : {"/model.safetensors", "/model.safetensors.index.json"}) {
    if (fs::exists(folder + name)) {
      open_file(folder + name);
      path_ = folder;
      return;
    }
  }
  const std::string latest = folder + "/checkpoints/latest";
  if (fs::exists(latest)) {
    open_checkpoint(folder + "/checkpoints/" + read_first_line(latest));
  } else if (fs::exists(folder + "/encoder.safetensors") ||
             fs::exists(folder + "/target_encoder.safetensors")) {
    open_checkpoint(folder);
  } else {
    throw CheckpointError(folder +
                          ": no model.safetensors, checkpoints/latest or encoder.safetensors");
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
  char start[2] = {};
  std::ifstream(path, std::ios::binary).read(start, 2);
  if (std::string_view(start, 2) == "PK" || std::string_view(start, 2) == "\x80\x02") {
    TorchFile file = read_torch_file(path);
    notes_ = std::move(file.scalars);
    sort_out(std::move(file.tensors), "");
    return;
  }
  SafetensorsFile file = read_safetensors(path);
  notes_ = std::move(file.metadata);
  take_mappings(file);
  hugging_face_ = is_hugging_face(file.tensors);
  const fs::path folder = fs::path(path).parent_path();
  if (hugging_face_) {
    if (fs::exists(folder / "config.json")) notes_ = read_config_json(folder / "config.json");
  } else {
    read_options(folder / "config.ini");
  }
  const std::string stem = fs::path(path).stem().string();
  sort_out(std::move(file.tensors), stem == "target_encoder" ? stem : "");
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
    const size_t slash = key.find('/');
    if (slash == std::string::npos) {
      if (!bare.empty()) add(bare, key, tensor);
      continue;
    }
    const std::string module = key.substr(0, slash), name = key.substr(slash + 1);
    if (module == "encoder" || module == "target_encoder" || module == "predictor") {
      add(module, name, tensor);
    } else if (module == "ema_encoder") {  // V-JEPA 2.1's distilled models
      add("target_encoder", name, tensor);
    } else if (module == "classifiers" && name.starts_with("0/")) {
      add("probe", name.substr(2), tensor);
    }
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

// LeWorldModel's published files.
#include <eval/planning/le_world_model.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/json_walk.hpp>
#include <jepa/io/mapped_file.hpp>
#include <jepa/io/torch_pickle.hpp>
#include <jepa/io/weights.hpp>

#include <c10/util/StringUtil.h>

#include <charconv>
#include <filesystem>
#include <string_view>

namespace jepa::eval::planning {
namespace {

namespace fs = std::filesystem;

// Whole numbers of config.json under their keys joined by '.'.
class NumbersVisitor : public JsonVisitor {
 public:
  std::map<std::string, int64_t> values;
  void object(const std::vector<std::string>&) override {}
  void array(const std::vector<std::string>&) override {}
  void scalar(const std::vector<std::string>& path, const JsonScalar& value) override {
    std::string key;
    for (const auto& part : path) key += (key.empty() ? "" : ".") + part;
    if (const auto* whole = std::get_if<uint64_t>(&value)) {
      values[key] = static_cast<int64_t>(*whole);
    }
  }
};

// transformers 5 renamed the ViT's modules; the names here are transformers 4's.
std::string old_name(const std::string& key) {
  static const std::vector<std::pair<std::string, std::string>> parts = {
      {".attention.q_proj.", ".attention.attention.query."},
      {".attention.k_proj.", ".attention.attention.key."},
      {".attention.v_proj.", ".attention.attention.value."},
      {".attention.o_proj.", ".attention.output.dense."},
      {".mlp.fc1.", ".intermediate.dense."},
      {".mlp.fc2.", ".output.dense."}};
  const std::string start = "encoder.layers.";
  if (!key.starts_with(start)) return key;
  std::string name = "encoder.encoder.layer." + key.substr(start.size());
  for (const auto& [now, then] : parts) {
    const size_t at = name.find(now);
    if (at != std::string::npos) name.replace(at, now.size(), then);
  }
  return name;
}

std::string find_weights(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return path;
  if (fs::exists(path + "/weights.pt")) return path + "/weights.pt";
  std::string newest;
  int64_t highest = -1;
  for (const auto& entry : fs::directory_iterator(path, ignored)) {
    const std::string name = entry.path().filename();
    constexpr std::string_view kStart = "weights_epoch_", kEnd = ".pt";
    if (!name.starts_with(kStart) || !name.ends_with(kEnd)) continue;
    const char* const end = name.data() + name.size() - kEnd.size();
    int64_t epoch = -1;
    const auto read = std::from_chars(name.data() + kStart.size(), end, epoch);
    if (read.ec == std::errc() && read.ptr == end && epoch > highest) {
      highest = epoch;
      newest = entry.path();
    }
  }
  if (newest.empty()) throw CheckpointError(path + ": no weights.pt or weights_epoch_N.pt");
  return newest;
}

TensorMap read_state_dict(const std::string& path) {
  const auto file = read_torch_file(path);
  TensorMap weights;
  for (const auto& [key, value] : file.tensors) {
    std::string name = key;
    for (const std::string prefix : {"state_dict/", "model/"}) {
      if (name.starts_with(prefix)) name = name.substr(prefix.size());
    }
    if (name.find('/') == std::string::npos) weights[old_name(name)] = value;
  }
  return weights;
}

// Sizes from the weights; only heads and the patch's place in a frame are the config's.
class Shape {
 public:
  Shape(const TensorMap& weights, std::string source, std::map<std::string, int64_t> config,
        std::string config_path)
      : weights_(weights),
        source_(std::move(source)),
        config_(std::move(config)),
        config_path_(std::move(config_path)) {}

  int64_t of(const std::string& key, int64_t dim) const {
    const auto found = weights_.find(key);
    if (found == weights_.end()) throw CheckpointError(source_ + ": '" + key + "' is missing");
    if (found->second.dim() <= dim) {
      throw CheckpointError(c10::str(source_, ": '", key, "' has shape ", found->second.sizes()));
    }
    return found->second.size(dim);
  }
  int64_t count(const std::string& start, const std::string& end) const {
    int64_t n = 0;
    while (weights_.contains(c10::str(start, n, end))) ++n;
    return n;
  }
  int64_t config(const std::string& key, int64_t otherwise) const {
    const auto found = config_.find(key);
    if (found != config_.end()) return found->second;
    if (otherwise < 0) throw CheckpointError(config_path_ + ": no whole number '" + key + "'");
    return otherwise;
  }

 private:
  const TensorMap& weights_;
  std::string source_;
  std::map<std::string, int64_t> config_;
  std::string config_path_;
};

LeWorldModelOptions read_options(const Shape& shape) {
  LeWorldModelOptions options;
  auto& encoder = options.encoder;
  const std::string patches = "encoder.embeddings.patch_embeddings.projection.weight";
  encoder.dim = shape.of(patches, 0);
  encoder.channels = shape.of(patches, 1);
  encoder.patch = shape.of(patches, 2);
  encoder.size = shape.config("encoder.image_size", 224);
  encoder.depth = shape.count("encoder.encoder.layer.", ".layernorm_before.weight");
  // "tiny", "small", "base" and "large" have heads of 64.
  encoder.heads =
      shape.config("encoder.num_attention_heads", std::max<int64_t>(encoder.dim / 64, 1));
  encoder.mlp_hidden = shape.of("encoder.encoder.layer.0.intermediate.dense.weight", 0);

  auto& predictor = options.predictor;
  predictor.frames = shape.of("predictor.pos_embedding", 1);
  predictor.dim = shape.of("predictor.pos_embedding", 2);
  predictor.depth = shape.count("predictor.transformer.layers.", ".attn.to_qkv.weight");
  predictor.heads = shape.config("predictor.heads", -1);
  const int64_t inner = shape.of("predictor.transformer.layers.0.attn.to_out.0.weight", 1);
  predictor.head_dim =
      shape.config("predictor.dim_head", inner / std::max<int64_t>(predictor.heads, 1));
  predictor.mlp_hidden = shape.of("predictor.transformer.layers.0.mlp.net.1.weight", 0);

  options.smoothed = shape.of("action_encoder.patch_embed.weight", 0);
  options.action_width = shape.of("action_encoder.patch_embed.weight", 1);
  options.action_scale =
      shape.of("action_encoder.embed.0.weight", 0) / std::max<int64_t>(predictor.dim, 1);
  options.projector_hidden = shape.of("projector.net.0.weight", 0);
  return options;
}

}  // namespace

LeWorldModel load_le_world_model(const std::string& path) {
  const std::string file = find_weights(path);
  const std::string config = (fs::path(file).parent_path() / "config.json").string();
  NumbersVisitor numbers;
  if (!fs::exists(config)) throw CheckpointError(config + ": is missing beside " + file);
  const auto text = MappedFile::open(config);
  walk_json(text->bytes(), config, numbers);
  const TensorMap weights = read_state_dict(file);
  LeWorldModel model(read_options(Shape(weights, file, numbers.values, config)));

  std::map<std::string, TensorMap> parts;
  for (const auto& [key, value] : weights) {
    const size_t dot = key.find('.');
    parts[key.substr(0, dot)][dot == std::string::npos ? "" : key.substr(dot + 1)] = value;
  }
  for (const auto& [name, module] : model.modules()) {
    load_into(*module, parts[name], file);
    parts.erase(name);
  }
  if (!parts.empty()) {
    throw CheckpointError(file + ": '" + parts.begin()->first + "' belongs to another model");
  }
  model.train(false);
  return model;
}

}  // namespace jepa::eval::planning

#include <eval/probes/linear.hpp>
#include <eval/probes/saved_probe.hpp>
#include <jepa/data/label_names.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/published.hpp>
#include <jepa/io/weights.hpp>
#include <jepa/random.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>

namespace jepa::eval::probes {
namespace {

constexpr const char* kFormat = "jepa probes 1";
constexpr int64_t kMostProbes = 1000;

using Metadata = std::map<std::string, std::string>;

/// The metadata of a file of probes, value by value.
struct ProbeMetadata {
  const std::string& path;
  const Metadata& values;

  const std::string& text(const std::string& key) const {
    const auto found = values.find(key);
    if (found == values.end()) {
      throw CheckpointError(path + ": not a file of probes: its metadata has no '" + key + "'");
    }
    return found->second;
  }
  int64_t number(const std::string& key, int64_t low, int64_t high) const {
    const std::string& value = text(key);
    int64_t number = 0;
    const char* end = value.data() + value.size();
    const auto [last, error] = std::from_chars(value.data(), end, number);
    if (error != std::errc() || last != end || number < low || number > high) {
      throw CheckpointError(
          c10::str(path, ": metadata '", key, "': expected a number from ", low, " to ", high));
    }
    return number;
  }
};

const torch::Tensor& part(const SavedProbe& probe, const std::string& name,
                          const std::string& path) {
  const auto found = probe.parts.find(name);
  if (found == probe.parts.end()) {
    throw CheckpointError(path + ": the " + probe.kind + " probe of " + probe.label + " has no '" +
                          name + "'");
  }
  return found->second;
}

/// @throws CheckpointError unless it is float32 of these sizes
const torch::Tensor& sized_part(const SavedProbe& probe, const std::string& name,
                                at::IntArrayRef sizes, const std::string& path) {
  const auto& tensor = part(probe, name, path);
  if (tensor.sizes() != sizes || tensor.scalar_type() != torch::kFloat32) {
    throw CheckpointError(c10::str(path, ": the ", probe.kind, " probe of ", probe.label, ": '",
                                   name, "' expected float32 ", sizes, ", found ",
                                   tensor.scalar_type(), " ", tensor.sizes()));
  }
  return tensor;
}

std::string last_weight(const SavedProbe& probe) {
  return probe.kind == "attentive" ? "linear.bias" : "bias";
}

SavedProbe read_probe(const ProbeMetadata& metadata, int64_t index, const TensorMap& tensors) {
  const std::string prefix = std::to_string(index) + ".";
  const auto key = [&](const char* name) { return prefix + name; };
  SavedProbe probe;
  probe.label = metadata.text(key("label"));
  probe.kind = metadata.text(key("kind"));
  probe.setting = metadata.text(key("setting"));
  probe.score = metadata.text(key("score"));
  if (probe.kind != "linear" && probe.kind != "ridge" && probe.kind != "attentive") {
    throw CheckpointError(metadata.path + ": metadata '" + key("kind") +
                          "': expected linear, ridge or attentive");
  }
  probe.classes = metadata.number(key("classes"), 0, 1'000'000);
  probe.depth = metadata.number(key("depth"), 1, 64);
  probe.heads = metadata.number(key("heads"), 1, 1024);
  probe.names = read_names(metadata.text(key("names")));
  for (auto at = tensors.lower_bound(prefix); at != tensors.end(); ++at) {
    if (!at->first.starts_with(prefix)) break;
    probe.parts[at->first.substr(prefix.size())] = at->second;
  }
  require_finite(probe.parts, metadata.path);
  const auto& bias = part(probe, last_weight(probe), metadata.path);
  const auto names = static_cast<int64_t>(probe.names.size());
  if (bias.dim() != 1 || bias.size(0) < 1 || (probe.classes > 0 && bias.size(0) != probe.classes)) {
    throw CheckpointError(c10::str(metadata.path, ": the ", probe.kind, " probe of ", probe.label,
                                   ": ", probe.classes, " classes, found outputs ", bias.sizes()));
  }
  if (names > probe.classes) {
    throw CheckpointError(c10::str(metadata.path, ": the ", probe.kind, " probe of ", probe.label,
                                   ": ", names, " names of ", probe.classes, " classes"));
  }
  return probe;
}

}  // namespace

int64_t SavedProbe::outputs() const { return parts.at(last_weight(*this)).size(0); }

std::string encoder_identity(const EncoderImpl& encoder) {
  return tensor_identity(state_dict(encoder));
}

std::string tensor_identity(const TensorMap& tensors) {
  uint64_t digest = 0;
  const auto take = [&](std::string_view bytes) {
    digest = mix_bits(digest ^ bytes.size());
    for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
      uint64_t word = 0;
      std::memcpy(&word, bytes.data() + at, std::min(sizeof word, bytes.size() - at));
      digest = mix_bits(digest ^ word);
    }
  };
  for (const auto& [name, tensor] : tensors) {
    const auto values = tensor.detach().cpu().contiguous();
    take(c10::str(name, " ", values.scalar_type(), " ", values.sizes()));
    take({static_cast<const char*>(values.const_data_ptr()), values.nbytes()});
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(digest));
  return text;
}

std::vector<SavedProbe> savable_probes(const std::vector<ProbeResult>& results,
                                       const ProbeOptions& options, int64_t width,
                                       const std::vector<std::string>& names) {
  std::vector<SavedProbe> probes;
  for (const auto& result : results) {
    if (result.parts.empty()) continue;
    SavedProbe probe{.label = result.label, .kind = result.probe, .setting = result.setting};
    char score[96];
    std::snprintf(score, sizeof score, "%s %.3f [%.3f, %.3f]", result.metric.c_str(),
                  result.score.value, result.score.low, result.score.high);
    probe.score = score;
    probe.parts = result.parts;
    probe.classes = result.metric == "accuracy" ? probe.outputs() : 0;
    if (result.label == "label" && static_cast<int64_t>(names.size()) <= probe.classes) {
      probe.names = names;
    }
    if (result.probe == "attentive") {
      probe.depth = options.attentive.depth;
      probe.heads = attentive_heads(options.attentive, width);
    }
    probes.push_back(std::move(probe));
  }
  return probes;
}

void write_probes(const std::string& path, const SavedProbes& saved) {
  if (saved.probes.empty()) {
    throw ConfigError(path + ": no probe to save; kind: linear, ridge or attentive");
  }
  Metadata metadata{{"format", kFormat},
                    {"encoder", saved.encoder},
                    {"module", saved.module},
                    {"summary", saved.summary},
                    {"layer", std::to_string(saved.layer)},
                    {"pool", saved.pool},
                    {"probes", std::to_string(saved.probes.size())}};
  for (size_t i = 0; i < saved.clip_sizes.size(); ++i) {
    metadata["clip." + std::to_string(i)] = std::to_string(saved.clip_sizes[i]);
  }
  TensorMap tensors;
  for (size_t i = 0; i < saved.probes.size(); ++i) {
    const SavedProbe& probe = saved.probes[i];
    const std::string prefix = std::to_string(i) + ".";
    metadata[prefix + "label"] = probe.label;
    metadata[prefix + "kind"] = probe.kind;
    metadata[prefix + "setting"] = probe.setting;
    metadata[prefix + "score"] = probe.score;
    metadata[prefix + "classes"] = std::to_string(probe.classes);
    metadata[prefix + "depth"] = std::to_string(probe.depth);
    metadata[prefix + "heads"] = std::to_string(probe.heads);
    metadata[prefix + "names"] = join_names(probe.names);
    for (const auto& [name, tensor] : probe.parts) tensors[prefix + name] = tensor;
  }
  write_safetensors(path, tensors, metadata);
}

SavedProbes read_probes(const std::string& path) {
  const SafetensorsFile file = read_safetensors(path);
  const ProbeMetadata metadata{path, file.metadata};
  if (metadata.text("format") != kFormat) {
    throw CheckpointError(path + ": expected format '" + kFormat + "'");
  }
  SavedProbes saved{.encoder = metadata.text("encoder"),
                    .module = metadata.text("module"),
                    .summary = metadata.text("summary"),
                    .layer = metadata.number("layer", -1000, 1000),
                    .pool = metadata.text("pool"),
                    .clip_sizes = {}};
  if (saved.module != "encoder" && saved.module != "target_encoder") {
    throw CheckpointError(path + ": metadata 'module': expected encoder or target_encoder");
  }
  if (saved.pool != "mean" && saved.pool != "max" && saved.pool != "mean_max") {
    throw CheckpointError(path + ": metadata 'pool': expected mean, max or mean_max");
  }
  for (const char* axis : {"clip.0", "clip.1", "clip.2", "clip.3"}) {
    saved.clip_sizes.push_back(metadata.number(axis, 1, 1 << 20));
  }
  const int64_t count = metadata.number("probes", 1, kMostProbes);
  for (int64_t i = 0; i < count; ++i) saved.probes.push_back(read_probe(metadata, i, file.tensors));
  return saved;
}

void require_encoder(const SavedProbes& saved, const std::string& path, const EncoderImpl& encoder,
                     const std::vector<int64_t>& sizes) {
  const std::string own = encoder_identity(encoder);
  if (own != saved.encoder) {
    throw CheckpointError(path + ": probes of another encoder: expected " + own + ", found " +
                          saved.encoder);
  }
  if (sizes != saved.clip_sizes) {
    throw ConfigError(c10::str(path, ": probes of clips [C, T, H, W] ",
                               at::IntArrayRef(saved.clip_sizes), ", asked about clips of ",
                               at::IntArrayRef(sizes)));
  }
}

Candidate restore_probe(const SavedProbe& probe, const SavedProbes& saved, int64_t width,
                        torch::Device device, const std::string& path) {
  const int64_t outputs = probe.outputs();
  if (probe.kind != "attentive") {
    const int64_t features = saved.pool == "mean_max" ? 2 * width : width;
    return linear_candidate(Standardiser::of_scale(sized_part(probe, "mean", {features}, path),
                                                   sized_part(probe, "scale", {features}, path)),
                            sized_part(probe, "weight", {features, outputs}, path),
                            sized_part(probe, "bias", {outputs}, path), probe.setting);
  }
  if (width % probe.heads != 0) {
    throw CheckpointError(c10::str(path, ": the attentive probe of ", probe.label, ": ",
                                   probe.heads, " heads do not divide width ", width));
  }
  AttentiveProbe module(
      nn::AttentivePoolerOptions{.dim = width, .heads = probe.heads, .depth = probe.depth},
      outputs);
  TensorMap weights = probe.parts;
  torch::Tensor mean, deviation;
  if (probe.classes == 0) {
    mean = sized_part(probe, "target.mean", {outputs}, path);
    deviation = sized_part(probe, "target.deviation", {outputs}, path);
    weights.erase("target.mean");
    weights.erase("target.deviation");
  }
  load_into(*module, weights, path);
  module->to(device);
  return attentive_candidate(module, mean, deviation, device, probe.setting);
}

}  // namespace jepa::eval::probes

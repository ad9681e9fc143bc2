#include <jepa/errors.hpp>
#include <jepa/io/name_map.hpp>
#include <jepa/io/unwrap.hpp>
#include <jepa/printable.hpp>

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string_view>

namespace jepa {
namespace {

// The key that every model of a kind has.
struct FirstLayer {
  std::string_view key;
  std::string_view module;  // "": a Hugging Face model, all of whose modules stand together
};
constexpr std::array kFirstLayers = {
    FirstLayer{"patch_embed.proj.weight", "encoder"},
    FirstLayer{"predictor_embed.weight", "predictor"},
    FirstLayer{"predictor_embed.0.weight", "predictor"},
    FirstLayer{"pooler.query_tokens", "probe"},
    FirstLayer{"encoder.embeddings.patch_embeddings.proj.weight", ""},
};

// What a model's keys start with in the file, and shall start with.
struct Root {
  std::string prefix, replacement;
};

bool is_module(std::string_view part) {
  return part == "encoder" || part == "target_encoder" || part == "ema_encoder" ||
         part == "predictor";
}

bool is_usual(std::string_view part) {
  return part == "module" || part == "backbone" || part == "model" || part == "state_dict" ||
         part == "model_state_dict" || part == "classifiers" || part == "0";
}

// What stands before `first` in `key`, if `key` ends in it.
std::optional<std::string> prefix_before(const std::string& key, std::string_view first) {
  if (!key.ends_with(first)) return std::nullopt;
  std::string prefix = key.substr(0, key.size() - first.size());
  if (!prefix.empty() && prefix.back() != '.' && prefix.back() != '/') return std::nullopt;
  return prefix;
}

// The module that a prefix names last, and whether all its parts are ones that are known.
struct Described {
  std::string module;
  bool usual = true;
};
Described describe_prefix(std::string_view prefix) {
  Described described;
  while (!prefix.empty()) {
    const size_t end = prefix.find_first_of("./");
    const std::string_view part = prefix.substr(0, end);
    if (is_module(part)) {
      described.module = part;
    } else if (!is_usual(part)) {
      described.usual = false;
    }
    prefix.remove_prefix(end + 1);
  }
  return described;
}

std::optional<Root> root_of(const std::string& key, std::map<std::string, bool>& usual) {
  for (const FirstLayer& first : kFirstLayers) {
    std::optional<std::string> prefix = prefix_before(key, first.key);
    if (!prefix) continue;
    if (first.module.empty()) {
      if (prefix->ends_with("vjepa2.")) prefix->resize(prefix->size() - 7);
      if (prefix->empty()) return std::nullopt;
      return Root{*prefix, ""};
    }
    const Described described = describe_prefix(*prefix);
    const std::string module =
        described.module.empty() ? std::string(first.module) : described.module;
    if (described.usual) {
      usual[module] = true;
      return std::nullopt;
    }
    return Root{*prefix, module + "/"};
  }
  return std::nullopt;
}

}  // namespace

TensorMap unwrap(TensorMap tensors, const std::string& path) {
  std::map<std::string, bool> usual;
  std::map<std::string, std::string> roots;  // replacement -> prefix
  std::vector<std::string> others;           // prefixes of what is passed over
  std::vector<Root> found;
  for (const auto& [key, tensor] : tensors) {
    if (auto root = root_of(strip_inner_wrappers(key), usual)) found.push_back(std::move(*root));
  }
  for (const Root& root : found) {
    const std::string module = root.replacement.substr(0, root.replacement.find('/'));
    if (usual.contains(module)) {
      others.push_back(root.prefix);
      continue;
    }
    const auto [place, is_new] = roots.emplace(root.replacement, root.prefix);
    if (!is_new && place->second != root.prefix) {
      throw CheckpointError(path + ": holds more than one " + (module.empty() ? "model" : module) +
                            ", under '" + printable(place->second) + "' and '" +
                            printable(root.prefix) + "'; save one of them alone");
    }
  }
  if (found.empty()) return tensors;
  TensorMap result;
  for (auto& [key, tensor] : tensors) {
    std::string name = strip_inner_wrappers(key);
    if (std::any_of(others.begin(), others.end(),
                    [&](const std::string& prefix) { return name.starts_with(prefix); })) {
      continue;
    }
    // The longest prefix: a predictor may stand inside what holds the encoder.
    const std::string* best = nullptr;
    std::string replacement;
    for (const auto& [with, prefix] : roots) {
      if (!name.starts_with(prefix) || (best != nullptr && best->size() >= prefix.size())) continue;
      best = &prefix;
      replacement = with;
    }
    if (best != nullptr) name = replacement + name.substr(best->size());
    if (!result.emplace(name, tensor).second) {
      throw CheckpointError(path + ": '" + printable(name) + "' comes twice");
    }
  }
  return result;
}

}  // namespace jepa

#include <jepa/errors.hpp>
#include <jepa/io/name_map.hpp>

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>

#include <vector>

namespace jepa {
namespace {

constexpr int64_t kMaxMaskTokens = 1024;  // published: 10

// Where the pieces of a model stand.
struct PrefixRule {
  std::string published, other;
};
// What a layer is made of; several parts of the other side are one matrix here, stacked by rows.
struct LayerRule {
  std::string published;
  std::vector<std::string> parts;
};
struct NameRules {
  std::vector<PrefixRule> prefixes;
  std::vector<LayerRule> layers;
};

const NameRules& rules_of(const std::string& module) {
  static const std::vector<LayerRule> block = {
      {"attn.qkv", {"attention.query", "attention.key", "attention.value"}},
      {"attn.proj", {"attention.proj"}},
      {"norm1", {"norm1"}},
      {"norm2", {"norm2"}},
      {"mlp.fc1", {"mlp.fc1"}},
      {"mlp.fc2", {"mlp.fc2"}},
      {"mlp.fc3", {"mlp.fc3"}},
  };
  static const NameRules encoder = {{{"patch_embed.proj.", "embeddings.patch_embeddings.proj."},
                                     {"blocks.", "layer."},
                                     {"norm.", "layernorm."}},
                                    block};
  static const NameRules predictor = {{{"predictor_embed.", "embeddings.predictor_embeddings."},
                                       {"predictor_blocks.", "layer."},
                                       {"predictor_norm.", "layernorm."},
                                       {"predictor_proj.", "proj."}},
                                      block};
  static const NameRules probe = {
      {{"pooler.blocks.", "pooler.self_attention_layers."},
       {"pooler.cross_attention_block.", "pooler.cross_attention_layer."},
       {"pooler.query_tokens", "pooler.query_tokens"},
       {"linear.", "classifier."}},
      {
          {"attn.qkv", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
          {"attn.proj", {"self_attn.out_proj"}},
          {"xattn.q", {"cross_attn.q_proj"}},
          {"xattn.kv", {"cross_attn.k_proj", "cross_attn.v_proj"}},
          {"norm1", {"layer_norm1"}},
          {"norm2", {"layer_norm2"}},
          {"mlp.fc1", {"mlp.fc1"}},
          {"mlp.fc2", {"mlp.fc2"}},
      }};
  if (module == "encoder") return encoder;
  return module == "predictor" ? predictor : probe;
}

bool is_leaf(const std::string& text) { return text == "weight" || text == "bias"; }

// A key taken apart: prefix rule, layer number with its dot ("" outside blocks), inner name, leaf.
struct Parsed {
  const PrefixRule* prefix = nullptr;
  std::string number, inner, leaf;
};

Parsed parse(const NameRules& rules, const std::string& key, std::string PrefixRule::*side,
             const std::string& source) {
  Parsed parsed;
  for (const PrefixRule& rule : rules.prefixes) {
    if (!key.starts_with(rule.*side)) continue;
    parsed.prefix = &rule;
    std::string rest = key.substr((rule.*side).size());
    const size_t digits = rest.find_first_not_of("0123456789");
    if (digits != std::string::npos && digits > 0 && rest[digits] == '.') {
      parsed.number = rest.substr(0, digits + 1);
      rest.erase(0, digits + 1);
    }
    const size_t dot = rest.rfind('.');
    parsed.inner = dot == std::string::npos ? "" : rest.substr(0, dot);
    parsed.leaf = dot == std::string::npos ? rest : rest.substr(dot + 1);
    if (is_leaf(parsed.leaf) || rest.empty()) return parsed;
  }
  throw CheckpointError(source + ": '" + key + "' has no counterpart in the other layout");
}

}  // namespace

std::string strip_inner_wrappers(std::string key) {
  // Compilation, FSDP and checkpointing wrap single blocks too.
  for (const std::string inner :
       {"_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module."}) {
    for (size_t at = key.find(inner); at != std::string::npos; at = key.find(inner, at)) {
      if (at == 0 || key[at - 1] == '.' || key[at - 1] == '/') {
        key.erase(at, inner.size());
      } else {
        at += inner.size();
      }
    }
  }
  return key;
}

std::string strip_wrappers(std::string key) {
  key = strip_inner_wrappers(std::move(key));
  for (bool again = true; again;) {
    again = false;
    for (const std::string prefix : {"module.", "backbone.", "model."}) {
      if (!key.starts_with(prefix)) continue;
      key.erase(0, prefix.size());
      again = true;
    }
  }
  return key;
}

TensorMap from_hugging_face(const std::string& module, const TensorMap& weights,
                            const std::string& source,
                            const std::function<void(const torch::Tensor&)>& joined) {
  const NameRules& rules = rules_of(module);
  TensorMap result;
  std::map<std::string, std::vector<torch::Tensor>> parts;
  for (const auto& [key, tensor] : weights) {
    if (module == "predictor" && key == "embeddings.mask_tokens") {
      if (tensor.dim() != 4 || tensor.numel() == 0 || tensor.size(0) > kMaxMaskTokens) {
        throw CheckpointError(c10::str(source, ": '", key, "' has shape ", tensor.sizes(),
                                       ", [mask tokens, 1, 1, width] is expected"));
      }
      for (int64_t i = 0; i < tensor.size(0); ++i) {
        result["mask_tokens." + std::to_string(i)] = tensor[i];
      }
      continue;
    }
    const Parsed name = parse(rules, key, &PrefixRule::other, source);
    const std::string start = name.prefix->published + name.number;
    if (name.inner.empty()) {
      result[start + name.leaf] = tensor;
      continue;
    }
    bool known = false;
    for (const LayerRule& rule : rules.layers) {
      for (size_t i = 0; i < rule.parts.size(); ++i) {
        if (rule.parts[i] != name.inner) continue;
        auto& list = parts[start + rule.published + "." + name.leaf];
        list.resize(rule.parts.size());
        list[i] = tensor;
        known = true;
      }
    }
    if (!known) throw CheckpointError(source + ": '" + key + "' has no counterpart here");
  }
  for (auto& [key, list] : parts) {
    for (const torch::Tensor& part : list) {
      if (!part.defined() || part.dim() == 0 || part.sizes().slice(1) != list[0].sizes().slice(1) ||
          part.scalar_type() != list[0].scalar_type()) {
        throw CheckpointError(source + ": the parts of '" + key + "' are incomplete or differ");
      }
    }
    result[key] = list.size() == 1 ? list[0] : at::cat(list);
    for (const torch::Tensor& part : list) {
      if (list.size() > 1 && joined) joined(part);
    }
  }
  return result;
}

TensorMap to_hugging_face(const std::string& module, const TensorMap& weights) {
  const NameRules& rules = rules_of(module);
  const std::string source = module;
  TensorMap result;
  std::vector<torch::Tensor> mask_tokens;
  for (const auto& [key, tensor] : weights) {
    if (module == "predictor" && key.starts_with("mask_tokens.")) {
      const std::string digits = key.substr(12);
      if (digits.empty() || digits.size() > 3 ||
          digits.find_first_not_of("0123456789") != std::string::npos) {
        throw CheckpointError(source + ": '" + key + "' has no counterpart there");
      }
      const auto index = static_cast<size_t>(std::stoi(digits));
      mask_tokens.resize(std::max(mask_tokens.size(), index + 1));
      mask_tokens[index] = tensor;
      continue;
    }
    const Parsed name = parse(rules, key, &PrefixRule::published, source);
    const std::string start = name.prefix->other + name.number;
    if (name.inner.empty()) {
      result[start + name.leaf] = tensor;
      continue;
    }
    bool known = false;
    for (const LayerRule& rule : rules.layers) {
      if (rule.published != name.inner) continue;
      const auto pieces = tensor.chunk(static_cast<int64_t>(rule.parts.size()));
      for (size_t i = 0; i < pieces.size(); ++i) {
        result[start + rule.parts[i] + "." + name.leaf] = pieces[i];
      }
      known = true;
    }
    if (!known) throw CheckpointError(source + ": '" + key + "' has no counterpart there");
  }
  for (const torch::Tensor& token : mask_tokens) {
    if (!token.defined()) throw CheckpointError(source + ": mask tokens are missing in between");
  }
  if (!mask_tokens.empty()) result["embeddings.mask_tokens"] = at::stack(mask_tokens);
  return result;
}

}  // namespace jepa

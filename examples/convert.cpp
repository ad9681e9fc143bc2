// Weights from one layout to another: this library's, the V-JEPA code's, Hugging Face's.
#include <encoders/published.hpp>
#include <examples/encoder_module.hpp>
#include <examples/program.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/name_map.hpp>
#include <predictors/published.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <filesystem>
#include <iostream>

namespace {

using namespace jepa;
using Json = nlohmann::ordered_json;

struct ConvertOptions {
  std::string weights, out, to = "safetensors";
  examples::EncoderModule module;
  encoders::LoadOptions load;
  int64_t predictor_heads = 0;
  int64_t size = 0, frames = 0;

  std::vector<OptionSection> sections();
};

std::vector<OptionSection> ConvertOptions::sections() {
  return {
      {"", "",
       [this](OptionVisitor& visit) {
         visit("weights", weights, {.help = "run, checkpoint, published file or folder"});
         visit("out", out,
               {.help = "folder (safetensors, huggingface) or .safetensors file (vjepa)"});
         visit("to", to,
               {.help =
                    "safetensors: one file a module and config.ini; vjepa: the V-JEPA code's keys "
                    "in one file; huggingface: config.json and model.safetensors",
                .choices = {"safetensors", "vjepa", "huggingface"}});
         visit("size", size,
               {.help =
                    "side of a clip, where the weights do not say (Hugging Face's positions are on "
                    "the grid of its config.json); 0: 16 patches",
                .unit = "pixels",
                .min = 0});
         visit("frames", frames,
               {.help = "frames of a clip, where the weights do not say; 0: 16", .min = 0});
         module.describe(visit, "which encoder, of two, Hugging Face's layout gets");
       }},
      {"encoder", "of published weights", [this](OptionVisitor& visit) { load.describe(visit); }},
      {"predictor", "of published weights", [this](OptionVisitor& visit) {
         visit("heads", predictor_heads,
               {.help = "attention heads; 0: from the file or its family", .min = 0});
       }}};
}

/// A weight file and what its modules are.
struct Model {
  WeightFile file;
  encoders::StoredEncoder encoder;  // the one that describes the shape
  std::optional<predictors::StoredPredictor> predictor;
};

Model open_model(const ConvertOptions& options) {
  Model model;
  model.file = WeightFile::open(options.weights);
  encoders::LoadOptions load = options.load;
  load.which = options.module.of(model.file);
  model.encoder = encoders::read_encoder(model.file, load);
  auto& encoder = model.encoder.options;
  if (model.file.options().empty() && encoder.vit.positions == "rope") {
    if (options.size > 0) encoder.vit.height = encoder.vit.width = options.size;
    if (options.frames > 0) encoder.vit.frames = options.frames;
  }
  encoder = encoder.resolved();
  encoder.preset = "custom";
  if (model.file.has("predictor") && model.encoder.family != ModelFamily::vjepa2_ac) {
    model.predictor = predictors::read_predictor(model.file, model.encoder.family,
                                                 options.predictor_heads, encoder.vit.heads);
    auto& masked = model.predictor->options.masked;
    if (masked.heads == 0) masked.heads = encoder.vit.heads;
  }
  return model;
}

void make_folder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw DataError("cannot create " + path + ": " + error.message());
}

/// One file a module, and the options that build the modules.
void write_own(const std::string& folder, Model& model) {
  make_folder(folder);
  for (const std::string& module : model.file.modules()) {
    write_safetensors(folder + "/" + module + ".safetensors",
                      family_weights(model.file, module, model.encoder.family));
  }
  std::vector<OptionSection> sections = {
      {"encoder", "", [&](OptionVisitor& visit) { model.encoder.options.describe(visit); }}};
  if (model.predictor) {
    sections.push_back(
        {"predictor", "", [&](OptionVisitor& visit) { model.predictor->options.describe(visit); }});
  }
  if (model.encoder.family) {
    sections.push_back({"published", "", [&](OptionVisitor& visit) {
                          std::string family = to_string(*model.encoder.family);
                          visit("family", family, {.help = "whose weights these are"});
                        }});
  }
  write_file_atomic(folder + "/config.ini", dump_ini(sections));
}

/// The V-JEPA code's nested dict as `module/key`; `dict` and `split("/")` make it again in Python.
void write_vjepa(const std::string& path, const Model& model) {
  const auto family = model.encoder.family;
  const bool bare = family == ModelFamily::ijepa || family == ModelFamily::vjepa2_ac;
  const std::string wrappers = bare ? "module." : "module.backbone.";
  TensorMap tensors;
  for (const std::string& module : model.file.modules()) {
    const bool probe = module == "probe";
    for (const auto& [key, tensor] : model.file.weights(module)) {
      tensors[probe ? "classifiers/0/module." + key : module + "/" + wrappers + key] = tensor;
    }
  }
  const auto& vit = model.encoder.options.vit;
  std::map<std::string, std::string> notes = {{"num_attention_heads", std::to_string(vit.heads)},
                                              {"crop_size", std::to_string(vit.height)},
                                              {"frames_per_clip", std::to_string(vit.frames)}};
  if (model.predictor) {
    notes["pred_num_attention_heads"] = std::to_string(model.predictor->options.masked.heads);
  }
  write_safetensors(path, tensors, notes);
}

/// config.json of VJEPA2Model or, with a probe, VJEPA2ForVideoClassification.
Json hugging_face_config(const Model& model, int64_t labels, int64_t pooler_layers,
                         int64_t mask_tokens) {
  const auto& vit = model.encoder.options.vit;
  const auto& masked = model.predictor->options.masked;
  Json config = {
      {"architectures", {labels > 0 ? "VJEPA2ForVideoClassification" : "VJEPA2Model"}},
      {"model_type", "vjepa2"},
      {"dtype", "float32"},
      {"patch_size", vit.patch},
      {"tubelet_size", vit.tubelet},
      {"crop_size", vit.height},
      {"frames_per_clip", vit.frames},
      {"in_chans", vit.channels},
      {"hidden_size", vit.dim},
      {"num_hidden_layers", vit.depth},
      {"num_attention_heads", vit.heads},
      {"mlp_ratio", vit.mlp_ratio},
      {"hidden_act", "gelu"},
      {"qkv_bias", true},
      {"layer_norm_eps", 1e-6},
      {"drop_path_rate", 0.0},
      {"attention_dropout", 0.0},
      {"attention_probs_dropout_prob", 0.0},
      {"initializer_range", 0.02},
      {"pred_hidden_size", masked.dim},
      {"pred_num_hidden_layers", masked.depth},
      {"pred_num_attention_heads", masked.heads},
      {"pred_mlp_ratio", masked.mlp_ratio},
      {"pred_num_mask_tokens", mask_tokens},
      {"pred_zero_init_mask_tokens", true},
      {"num_pooler_layers", pooler_layers},
  };
  for (int64_t label = 0; label < labels; ++label) {
    const std::string name = "LABEL_" + std::to_string(label);
    config["id2label"][std::to_string(label)] = name;
    config["label2id"][name] = label;
  }
  return config;
}

/// What VJEPA2Model cannot represent is an error that says what it is.
void check_hugging_face(const Model& model) {
  const auto& vit = model.encoder.options.vit;
  const auto require = [](bool good, const std::string& what) {
    if (!good) throw ConfigError("Hugging Face's VJEPA2Model has no " + what);
  };
  require(model.predictor.has_value(), "place for a model without masked predictor");
  const auto& masked = model.predictor->options.masked;
  require(vit.positions == "rope" && masked.positions == "rope", "sin-cos positions");
  require(vit.rope_layout == "tiled" && masked.rope_layout == "tiled", "interleaved rotary table");
  require(vit.rope_reference == 0 && masked.rope_reference == 0, "interpolated positions");
  require(vit.activation == "gelu", "SwiGLU");
  require(vit.output_levels.empty() && !masked.context_head && masked.embed_hidden == 0,
          "several output levels");
  require(vit.height == vit.width, "clips that are not square");
  require(vit.frames > 1, "image encoder");
}

void write_hugging_face(const std::string& folder, const Model& model) {
  check_hugging_face(model);
  const bool probe = model.file.has("probe");
  const std::string prefix = probe ? "vjepa2." : "";
  TensorMap tensors;
  const auto add = [&](const std::string& stored, const std::string& module,
                       const std::string& start) {
    const TensorMap weights = family_weights(model.file, stored, model.encoder.family);
    for (const auto& [key, tensor] : to_hugging_face(module, weights))
      tensors[start + key] = tensor;
  };
  add(model.encoder.module, "encoder", prefix + "encoder.");
  add("predictor", "predictor", prefix + "predictor.");
  if (probe) add("probe", "probe", "");
  int64_t pooler_layers = 0;
  while (tensors.contains("pooler.self_attention_layers." + std::to_string(pooler_layers) +
                          ".layer_norm1.weight")) {
    ++pooler_layers;
  }
  const int64_t labels = probe ? tensors.at("classifier.weight").size(0) : 0;
  const int64_t mask_tokens = tensors.at(prefix + "predictor.embeddings.mask_tokens").size(0);
  make_folder(folder);
  write_safetensors(folder + "/model.safetensors", tensors, {{"format", "pt"}});
  write_file_atomic(
      folder + "/config.json",
      hugging_face_config(model, labels, probe ? pooler_layers : 3, mask_tokens).dump(2) + "\n");
}

void run(examples::Program& program, const ConvertOptions& options) {
  if (options.weights.empty() || options.out.empty()) {
    throw ConfigError("--weights and --out are needed");
  }
  const torch::InferenceMode guard;
  Model model = open_model(options);
  if (options.to == "safetensors") write_own(options.out, model);
  if (options.to == "vjepa") write_vjepa(options.out, model);
  if (options.to == "huggingface") write_hugging_face(options.out, model);
  const auto& vit = model.encoder.options.vit;
  std::cout << options.weights << " ("
            << (model.encoder.family ? to_string(*model.encoder.family)
                                     : std::string("a run of this library"))
            << ", width " << vit.dim << ", depth " << vit.depth << ", heads " << vit.heads
            << ") written to " << options.out << " as " << options.to << "\n";
  program.results = {{"out", options.out}, {"to", options.to}};
}

}  // namespace

int main(int argc, char** argv) {
  ConvertOptions options;
  return examples::program_main(
      argc, argv,
      {.name = "convert",
       .summary = "weights from one layout to another",
       .sections = [&](const OptionValues&) { return options.sections(); },
       .run = [&](examples::Program& program) { run(program, options); }});
}

// Probes a frozen encoder: what can be read from its features, beside controls.
#include <encoders/published.hpp>
#include <eval/probes/protocol.hpp>
#include <examples/program.hpp>
#include <jepa/errors.hpp>
#include <jepa/random.hpp>

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <cstdio>
#include <filesystem>

namespace {

using namespace jepa;

struct Options {
  std::string weights;
  std::string module = "auto";
  std::string train;
  std::string validation;
  std::string test;
  std::string dataset;
  eval::probes::ProbeOptions probe;
  encoders::LoadOptions load;
  ClipOptions clip{.random_window = false};

  void describe(OptionVisitor& visit) {
    visit("weights", weights, {.help = "run folder, checkpoint, or published weights"});
    visit("module", module,
          {.help = "which encoder of the weights; auto: the one that the run probed as it trained, "
                   "else target_encoder",
           .choices = {"auto", "encoder", "target_encoder"}});
    visit("train", train, {.help = "labelled clips that probes are fitted on"});
    visit("validation", validation, {.help = "labelled clips that settings are chosen on"});
    visit("test", test, {.help = "labelled clips that results are reported on"});
    visit("dataset", dataset, {.help = "its name in the results; none: the test clips' path"});
    probe.describe(visit);
    probe.features.describe(visit);
  }

  std::vector<OptionSection> sections() {
    return {
        {"", "", [this](OptionVisitor& visit) { describe(visit); }},
        {"encoder", "how weights are read", [this](OptionVisitor& visit) { load.describe(visit); }},
        {"attentive", "training of the attentive probes",
         [this](OptionVisitor& visit) { probe.attentive.describe(visit); }},
        {"clip", "how clips are cut; where not given, length and rate of the weights' run",
         [this](OptionVisitor& visit) { clip.describe(visit); }},
        {"loader", "batches; always in order, every clip read",
         [this](OptionVisitor& visit) { probe.loader.describe(visit); }},
        {"augment", "", [this](OptionVisitor& visit) { probe.loader.augment.describe(visit); }}};
  }
};

/// Clips are as long and as far apart in time as in the run that made the weights, except where
/// `given` says otherwise. Which part of a video is used (from, to) is each source's own matter.
void take_clips_from_run(const WeightFile& weights, const OptionValues& given, ClipOptions& clip) {
  OptionValues values;
  for (const char* key :
       {"clip.frames", "clip.frame_step", "clip.fps", "clip.short_side", "clip.channels"}) {
    const auto found = weights.options().find(key);
    if (found != weights.options().end() && !given.contains(key)) values.insert(*found);
  }
  apply_options({{"clip", "", [&](OptionVisitor& visit) { clip.describe(visit); }}}, values);
}

eval::probes::ProbeSources open_sources(const Options& options) {
  const auto open = [&](const char* name, const std::string& path) {
    if (path.empty()) throw ConfigError(std::string("option ") + name + ": name labelled clips");
    return open_clip_source(path, options.clip);
  };
  return {open("train", options.train), open("validation", options.validation),
          open("test", options.test)};
}

void run(examples::Program& program, Options& options, const OptionValues& given) {
  if (options.weights.empty()) throw ConfigError("option weights: name a run or a weight file");
  const auto weights = WeightFile::open(options.weights);
  take_clips_from_run(weights, given, options.clip);
  const auto sources = open_sources(options);
  auto& probe = options.probe;
  probe.seed = probe.attentive.seed = program.common.seed;
  probe.features.device = program.device;
  probe.features.precision = program.precision;

  const auto probed = weights.options().find("training.probe_module");
  options.load.which = options.module != "auto"            ? options.module
                       : probed != weights.options().end() ? probed->second
                                                           : "target_encoder";
  auto loaded = encoders::load_encoder(weights, options.load);
  std::printf("%s\n", loaded.summary.c_str());
  probe.features.pixels = loaded.options.pixels;
  // The control has the published initialisation, whatever scale the model started from.
  encoders::EncoderOptions published = loaded.options;
  published.vit.xavier = false;
  Encoder random_init = encoders::make_encoder(published);
  random_init->initialise(at::make_generator<at::CPUGeneratorImpl>(
      stream_seed(static_cast<uint64_t>(program.common.seed), "random init", 0)));
  loaded.encoder->to(program.device);
  random_init->to(program.device);

  const auto results =
      run_probes(loaded.encoder, random_init, sources, probe,
                 [](const std::string& what) { std::fprintf(stderr, "%s\n", what.c_str()); });
  std::printf("%s", results_table(results).c_str());
  const std::string dataset = options.dataset.empty()
                                  ? std::filesystem::path(options.test).stem().string()
                                  : options.dataset;
  program.results["weights"] = options.weights;
  program.results["encoder"] = loaded.summary;
  program.results["results"] = nlohmann::json::parse(results_json(results, dataset));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  OptionValues given;
  return examples::program_main(
      argc, argv,
      {.name = "probe",
       .summary = "reads labels from a frozen encoder's features, beside controls",
       .bfloat16 = true,
       .sections =
           [&](const OptionValues& values) {
             given = values;
             return options.sections();
           },
       .run = [&](examples::Program& program) { run(program, options, given); }});
}

// Probes a frozen encoder: what can be read from its features, beside controls.
#include <encoders/published.hpp>
#include <eval/probes/protocol.hpp>
#include <eval/probes/saved_probe.hpp>
#include <examples/encoder_module.hpp>
#include <examples/program.hpp>
#include <jepa/data/label_names.hpp>
#include <jepa/data/readable_clips.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>
#include <jepa/printable.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using namespace jepa;

struct Options {
  std::string weights;
  examples::EncoderModule module;
  std::string train;
  std::string validation;
  std::string test;
  std::string dataset;
  std::string save;
  eval::probes::ProbeOptions probe;
  encoders::LoadOptions load;
  ClipOptions clip{.random_window = false};
  int64_t draws = 3;      ///< of the untrained control
  int64_t published = 0;  ///< draws of the published initialisation beside it

  void describe(OptionVisitor& visit) {
    visit("weights", weights, {.help = "run folder, checkpoint, or published weights"});
    module.describe(visit);
    visit("train", train, {.help = "labelled clips that probes are fitted on"});
    visit("validation", validation, {.help = "labelled clips that settings are chosen on"});
    visit("test", test, {.help = "labelled clips that results are reported on"});
    visit("dataset", dataset, {.help = "its name in the results; none: the test clips' path"});
    visit(
        "save", save,
        {.help = "FILE.safetensors of the model's fitted probes, for `watch --probes`; k-NN is not "
                 "saved"});
    probe.describe(visit);
    probe.features.describe(visit);
  }

  std::vector<OptionSection> sections() {
    return {
        {"", "", [this](OptionVisitor& visit) { describe(visit); }},
        {"encoder", "how weights are read", [this](OptionVisitor& visit) { load.describe(visit); }},
        {"control", "untrained encoders that the model is measured beside",
         [this](OptionVisitor& visit) {
           visit("draws", draws,
                 {.help = "of the model's own initialisation; intervals hold their spread",
                  .min = 1,
                  .max = 100});
           visit("published", published,
                 {.help = "of the published initialisation (0.02), as a further control",
                  .min = 0,
                  .max = 100});
         }},
        {"attentive", "training of the attentive probes",
         [this](OptionVisitor& visit) { probe.attentive.describe(visit); }},
        {"clip", "how clips are cut; where not given, length and rate of the weights' run",
         [this](OptionVisitor& visit) { clip.describe(visit); }},
        {"loader", "batches; always in order, every clip read that can be",
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

/// Clips of published weights are cut as `embed` cuts them, except where `given` says otherwise.
void take_published_clips(const WeightFile& weights, const encoders::LoadedEncoder& loaded,
                          const OptionValues& given, Options& options) {
  if (!weights.options().empty() && !loaded.family) return;
  // A store's clips were cut when it was made.
  if (options.test.ends_with(".h5") || options.test.ends_with(".hdf5")) return;
  const ClipOptions& trained = loaded.clip;
  ClipOptions& clip = options.clip;
  const auto free = [&](const char* key) { return !given.contains(key); };
  if (free("clip.frames")) clip.frames = trained.frames;
  if (free("clip.channels")) clip.channels = trained.channels;
  if (free("clip.fps") && free("clip.frame_step")) {
    clip.fps = trained.fps;
    clip.frame_step = trained.frame_step;
  }
  auto& augment = options.probe.loader.augment;
  if (free("augment.crop") && free("augment.size")) {
    augment.crop = "centre";
    augment.size = loaded.encoder->clip_sizes()[3];
  }
}

/// @param left_out takes a line for each clip that cannot be read, where loader.max_errors lets
/// some
eval::probes::ProbeSources open_sources(const Options& options,
                                        std::vector<std::string>& left_out) {
  const auto open = [&](const char* name, const std::string& path) {
    if (path.empty()) throw ConfigError(std::string("option ") + name + ": name labelled clips");
    return open_clip_source(path, options.clip);
  };
  eval::probes::ProbeSources sources{open("train", options.train),
                                     open("validation", options.validation),
                                     open("test", options.test)};
  require_same_labels(*sources.train, options.train, *sources.validation, options.validation);
  require_same_labels(*sources.train, options.train, *sources.test, options.test);
  for (auto* source : {&sources.train, &sources.validation, &sources.test}) {
    *source = readable_clips(*source, options.probe.loader, left_out);
  }
  return sources;
}

/// Folder of the checkpoint of step 0 of the run that `weights` are from; empty: it is not there.
std::string first_checkpoint(const WeightFile& weights) {
  namespace fs = std::filesystem;
  fs::path folder = weights.path();
  if (!fs::is_directory(folder)) folder = folder.parent_path();
  if (!folder.has_filename()) folder = folder.parent_path();
  if (!folder.filename().string().starts_with("step-")) return "";
  const fs::path first = folder.parent_path() / "step-00000000";
  return fs::is_directory(first) ? first.string() : "";
}

/// Makes untrained encoders like `loaded`, on `device`.
class Untrained {
 public:
  Untrained(const WeightFile& weights, const encoders::LoadedEncoder& loaded,
            const encoders::LoadOptions& load, torch::Device device)
      : options_(loaded.options),
        scale_(loaded.encoder->initialisation()),
        load_(load),
        device_(device) {
    const auto& values = weights.options();
    of_run_ = !values.empty();
    if (const auto seed = values.find("seed"); seed != values.end()) {
      run_seed_ = std::stoull(seed->second);
    }
    if (const auto init = values.find("init"); init != values.end()) init_ = init->second;
    first_ = first_checkpoint(weights);
  }

  /// What the model started from: of a run its recipe's initialisation, the run's own first; of
  /// weights without a run the published one.
  eval::probes::ControlEncoders initialisation(int64_t draws, int64_t seed) const {
    if (!of_run_) {
      auto control = published(draws, seed);
      control.name = "initialisation";
      control.what += "; these weights come without a run that says how they began";
      return control;
    }
    const std::string others = draws > 1 ? "; others from further seeds" : "";
    std::string first = "the first from the run's seed" + others;
    if (init_.empty() && !first_.empty()) first = "the first is the run's step 0" + others;
    if (!init_.empty()) first = "not what the run began from, " + init_;
    return {"initialisation",
            "as the run's recipe starts (" + scale_ + "), draws " + std::to_string(draws) + "; " +
                first,
            draws, [*this](int64_t draw) {
              if (draw == 0 && init_.empty() && !first_.empty()) return load(first_);
              const uint64_t own =
                  draw == 0 ? run_seed_
                            : stream_seed(run_seed_, "control", static_cast<uint64_t>(draw));
              return fresh(options_, stream_seed(own, "encoder", 0));
            }};
  }

  eval::probes::ControlEncoders published(int64_t draws, int64_t seed) const {
    encoders::EncoderOptions options = options_;
    options.vit.xavier = false;
    return {"published_init",
            "the published initialisation (deviation 0.02), draws " + std::to_string(draws), draws,
            [*this, options, seed](int64_t draw) {
              return fresh(options, stream_seed(static_cast<uint64_t>(seed), "random init",
                                                static_cast<uint64_t>(draw)));
            }};
  }

  /// Of a run that began from other weights: those, where its step 0 is still there.
  eval::probes::ControlEncoders start() const {
    const int64_t draws = !init_.empty() && !first_.empty() ? 1 : 0;
    return {"start", "the run's step 0, from " + init_, draws,
            [*this](int64_t) { return load(first_); }};
  }

 private:
  Encoder fresh(const encoders::EncoderOptions& options, uint64_t seed) const {
    Encoder encoder = encoders::make_encoder(options);
    encoder->initialise(seeded_generator(seed));
    encoder->to(device_);
    return encoder;
  }
  Encoder load(const std::string& checkpoint) const {
    Encoder encoder = encoders::load_encoder(WeightFile::open(checkpoint), load_).encoder;
    encoder->to(device_);
    return encoder;
  }

  encoders::EncoderOptions options_;
  std::string scale_;  // of the first weights
  encoders::LoadOptions load_;
  torch::Device device_;
  bool of_run_ = false;
  uint64_t run_seed_ = 0;
  std::string init_;
  std::string first_;
};

/// Sizes [C, T, H, W] of clips as the encoder is shown them.
std::vector<int64_t> shown_sizes(const std::shared_ptr<const ClipSource>& source,
                                 LoaderOptions loader) {
  loader.batch = 1;
  loader.shuffle = false;
  return ClipLoader(source, loader, /*seed=*/0).next().clips.sizes().slice(1).vec();
}

void save_probes(const Options& options, const encoders::LoadedEncoder& loaded,
                 const eval::probes::ProbeSources& sources,
                 const std::vector<eval::probes::ProbeResult>& results) {
  const auto& probe = options.probe;
  eval::probes::write_probes(
      options.save,
      {.encoder = eval::probes::encoder_identity(*loaded.encoder),
       .module = loaded.module,
       .summary = loaded.summary,
       .layer = probe.features.layer,
       .pool = probe.features.pool,
       .clip_sizes = shown_sizes(sources.test, probe.loader),
       .probes = eval::probes::savable_probes(results, probe, loaded.encoder->output_width(),
                                              label_names(*sources.train))});
  std::printf("probes saved       %s\n", options.save.c_str());
}

void run(examples::Program& program, Options& options, const OptionValues& given) {
  if (options.weights.empty()) throw ConfigError("option weights: name a run or a weight file");
  const auto weights = WeightFile::open(options.weights);
  take_clips_from_run(weights, given, options.clip);
  auto& probe = options.probe;
  probe.seed = probe.attentive.seed = program.common.seed;
  probe.features.device = program.device;
  probe.features.precision = program.precision;
  probe.features.processes = program.processes.get();
  examples::require_same_options(program);

  options.load.which = options.module.of(weights);
  auto loaded = encoders::load_encoder(weights, options.load);
  std::printf("%s\n", printable(loaded.summary).c_str());
  take_published_clips(weights, loaded, given, options);
  std::printf("%s\n", encoders::describe_clips(options.clip).c_str());
  std::vector<std::string> left_out;
  const auto sources = open_sources(options, left_out);
  for (const auto& clip : left_out) std::fprintf(stderr, "left out: %s\n", printable(clip).c_str());
  probe.features.pixels = loaded.options.pixels;
  loaded.encoder->to(program.device);
  const Untrained untrained(weights, loaded, options.load, program.device);
  std::vector<eval::probes::ControlEncoders> controls{
      untrained.initialisation(options.draws, program.common.seed),
      untrained.published(options.published, program.common.seed), untrained.start()};

  const auto results =
      run_probes(loaded.encoder, controls, sources, probe,
                 [](const std::string& what) { std::fprintf(stderr, "%s\n", what.c_str()); });
  std::printf("%s", results_table(results).c_str());
  if (examples::is_first(program) && !options.save.empty())
    save_probes(options, loaded, sources, results);
  const std::string dataset = options.dataset.empty()
                                  ? std::filesystem::path(options.test).stem().string()
                                  : options.dataset;
  program.results["weights"] = options.weights;
  program.results["encoder"] = loaded.summary;
  program.results["left_out"] = left_out;
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
       .many = true,
       .sections =
           [&](const OptionValues& values) {
             given = values;
             return options.sections();
           },
       .run = [&](examples::Program& program) { run(program, options, given); }});
}

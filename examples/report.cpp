// Turns run folders into one self-contained report.html: did it learn, and what that rests on.
#include <encoders/published.hpp>
#include <eval/report/run_media.hpp>
#include <eval/report/run_report.hpp>
#include <examples/program.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/io/json_text.hpp>
#include <jepa/training/checkpoint.hpp>
#include <jepa/training/pretraining.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdio>
#include <fstream>
#include <sstream>

namespace {

using namespace jepa;
namespace rep = eval::report;

struct ReportOptions {
  std::string run;
  std::string out;
  std::string summary;
  std::string comparison;
  std::string title;
  std::string checkpoint = "latest";
  bool pictures = true;
  int64_t clips = 48;

  void describe(OptionVisitor& visit) {
    visit("run", run, {.help = "run folder, or several with commas between"});
    visit("out", out, {.help = "file to write; empty: report.html in the run folder"});
    visit("summary", summary, {.help = "JSON file for the numbers of all runs; empty: none"});
    visit("comparison", comparison,
          {.help = "folder of `compare`, whose tables and film become a section; empty: none"});
    visit("title", title, {.help = "heading of the report; empty: the runs' names"});
    visit("checkpoint", checkpoint,
          {.help = "whose features are painted", .choices = {"latest", "best"}});
    visit("pictures", pictures, {.help = "draw masks and features (needs the run's data)"});
    visit("clips", clips, {.help = "clips that the painted components are found on", .min = 1});
  }
};

/// The part of a run's configuration that its pictures need.
struct PictureConfig {
  std::string data;
  int64_t seed = 0;
  ClipOptions clip;
  LoaderOptions loader;
  std::vector<MaskOptions> masks;

  explicit PictureConfig(const OptionValues& stored) {
    masks.resize(static_cast<size_t>(count_numbered(stored, "mask")));
    std::vector<OptionSection> sections{
        {"", "",
         [this](OptionVisitor& visit) {
           visit("data", data, {});
           visit("seed", seed, {});
         }},
        {"clip", "", [this](OptionVisitor& visit) { clip.describe(visit); }},
        {"loader", "", [this](OptionVisitor& visit) { loader.describe(visit); }},
        {"augment", "", [this](OptionVisitor& visit) { loader.augment.describe(visit); }}};
    for (size_t i = 0; i < masks.size(); ++i) {
      sections.push_back({"mask." + std::to_string(i + 1), "",
                          [this, i](OptionVisitor& visit) { masks[i].describe(visit); }});
    }
    // A run has more options (predictor, optimisation, ...), which is none of our business.
    OptionValues wanted;
    for (const auto& [key, value] : dump_options(sections)) {
      if (const auto found = stored.find(key); found != stored.end()) wanted.insert(*found);
    }
    apply_options(sections, wanted);
  }
};

/// The last block's normed tokens [B, N, D] of clips uint8 [B, C, T, H, W], a few clips at a time.
torch::Tensor encode_clips(encoders::LoadedEncoder& loaded, const torch::Tensor& clips,
                           torch::Device device) {
  torch::NoGradGuard no_grad;
  Encoder& encoder = loaded.encoder;
  std::vector<torch::Tensor> tokens;
  for (const auto& part : clips.split(8)) {
    const auto clip = loaded.options.pixels.normalise(part, device);
    tokens.push_back(encoder->layers(clip, {encoder->depth() - 1}).front().cpu());
  }
  return torch::cat(tokens);
}

/// Masks and painted features of a run, from its checkpoint and its data.
rep::ReportMedia draw_pictures(const std::string& folder, const ReportOptions& options,
                               torch::Device device) {
  const std::string checkpoint = find_checkpoint(folder, options.checkpoint);
  if (checkpoint.empty()) throw CheckpointError(folder + ": has no checkpoint yet");
  const WeightFile file = WeightFile::open(checkpoint);
  PictureConfig config(file.options());
  const auto seed = static_cast<uint64_t>(config.seed);
  encoders::LoadedEncoder loaded = encoders::load_encoder(file);
  loaded.encoder->to(device);

  config.loader.batch = options.clips;
  config.loader.threads = 0;
  config.loader.shuffle = true;
  ClipLoader loader(open_clip_source(config.data, config.clip), config.loader, seed);
  const torch::Tensor clips = loader.next().clips;
  const TokenGrid grid = loaded.encoder->grid(clips.sizes());

  std::vector<std::unique_ptr<MaskSampler>> samplers;
  for (const auto& mask : config.masks) samplers.push_back(make_mask_sampler(mask));
  const auto drawn = draw_masks(samplers, clips.size(0), grid, seed, 0);
  std::vector<rep::NamedMask> masks;
  for (size_t i = 0; i < drawn.size(); ++i) {
    masks.push_back({"Mask " + std::to_string(i + 1) + ", " + config.masks[i].kind, drawn[i]});
  }
  return {rep::draw_masks_over_clip(clips, grid, masks),
          rep::draw_features(clips, encode_clips(loaded, clips, device), grid)};
}

/// What a run took and where its tokens' variance went.
nlohmann::ordered_json summarise(const rep::RunRecord& run) {
  const auto number = [&](const std::string& name) -> nlohmann::ordered_json {
    const auto found = run.numbers.find(name);
    if (found == run.numbers.end()) return nullptr;
    return found->second;
  };
  const auto variance = [&](const std::string& prefix) {
    return nlohmann::ordered_json{{"position", number(prefix + "position_share")},
                                  {"clip", number(prefix + "clip_share")},
                                  {"rest", number(prefix + "rest_share")}};
  };
  const auto commit = run.texts.find("commit");
  return {{"dataset", run.name},
          {"steps", number("steps")},
          {"clips", number("clips")},
          {"train_seconds", number("train_seconds")},
          {"peak_rss_mb", number("peak_rss_mb")},
          {"loader_wait_share", number("loader_wait_share")},
          {"variance", variance("")},
          {"variance_random_init", variance("initial_")},
          {"commit", commit == run.texts.end() ? "" : commit->second}};
}

/// A file of a comparison's folder. @throws DataError naming it
std::string read_comparison(const std::string& folder, const std::string& name) {
  const std::string path = folder + "/" + name;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(path + ": cannot be opened; has `compare` ended?");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Probe results and costs of all runs in one file, and a comparison's rows where there is one.
void write_summary(const std::string& path, const std::vector<rep::RunReport>& reports,
                   const std::string& comparison) {
  nlohmann::ordered_json summary{{"results", nlohmann::ordered_json::array()},
                                 {"runs", nlohmann::ordered_json::array()}};
  for (const auto& report : reports) {
    summary["runs"].push_back(summarise(report.run));
    for (const auto& path : rep::probe_files(report.run.folder)) {
      std::ifstream file(path);
      const auto probes = nlohmann::ordered_json::parse(file);
      for (const auto& result : probes.contains("results") ? probes["results"] : probes) {
        summary["results"].push_back(result);
      }
    }
  }
  if (!comparison.empty()) {
    const auto rows = nlohmann::ordered_json::parse(read_comparison(comparison, "summary.json"));
    summary["comparison"] = rows.at("rows");
  }
  write_file_atomic(path, json_text(summary, 2) + "\n");
}

void run(examples::Program& program, const ReportOptions& options) {
  std::vector<std::string> folders;
  std::istringstream names(options.run);
  for (std::string name; std::getline(names, name, ',');) {
    if (!name.empty()) folders.push_back(name);
  }
  if (folders.empty()) throw ConfigError("option run: name a run folder");
  std::string out = options.out;
  if (out.empty()) {
    if (folders.size() > 1) throw ConfigError("option out: needed for a report of several runs");
    out = folders.front() + "/report.html";
  }

  std::vector<rep::RunReport> reports;
  std::string title = options.title;
  for (const auto& folder : folders) {
    rep::RunReport report{rep::read_run(folder), {}};
    if (options.pictures) {
      try {
        report.media = draw_pictures(folder, options, program.device);
      } catch (const Error& error) {
        // The numbers are worth reporting also where the data or the weights have gone.
        report.run.notes.push_back(std::string("Without pictures: ") + error.what());
        std::fprintf(stderr, "%s: without pictures: %s\n", folder.c_str(), error.what());
      }
    }
    const rep::Assessment assessment = rep::assess(report.run);
    std::printf("%-20s %s\n", report.run.name.c_str(), assessment.headline.c_str());
    program.results["runs"].push_back({{"run", folder}, {"outcome", assessment.headline}});
    if (options.title.empty()) title += (title.empty() ? "" : ", ") + report.run.name;
    reports.push_back(std::move(report));
  }
  const std::string section =
      options.comparison.empty() ? "" : read_comparison(options.comparison, "section.html");
  rep::write_report(out, title, reports, section);
  if (!options.summary.empty()) write_summary(options.summary, reports, options.comparison);
  program.results["report"] = out;
  std::printf("report               %s\n", out.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  ReportOptions options;
  return examples::program_main(
      argc, argv,
      {.name = "report",
       .summary = "writes one self-contained report.html for one or several run folders",
       .sections =
           [&](const OptionValues&) {
             return std::vector<OptionSection>{
                 {"", "", [&](OptionVisitor& visit) { options.describe(visit); }}};
           },
       .run = [&](examples::Program& program) { run(program, options); }});
}

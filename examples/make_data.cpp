// Makes a clip store: generated clips with known truth, or clips cut from videos, footage and
// images.
#include <examples/program.hpp>
#include <examples/training_run.hpp>
#include <jepa/data/clip_store.hpp>
#include <jepa/data/footage.hpp>
#include <jepa/data/label_names.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/data/recipe.hpp>
#include <jepa/data/video_source.hpp>
#include <jepa/errors.hpp>
#include <jepa/printable.hpp>
#include <jepa/version.hpp>

#include <torch/types.h>

#include <algorithm>
#include <filesystem>
#include <iostream>

namespace {

using namespace jepa;

struct MakeDataOptions {
  std::string out;
  std::string licence;
  DataRecipe recipe;
  AugmentOptions augment;
  int64_t max_errors = 0;

  std::vector<OptionSection> sections() {
    std::vector<OptionSection> all = recipe.sections();
    all.insert(all.begin(), {"", "", [this](OptionVisitor& visit) {
                               visit("out", out, {.help = "the clip store to write (.h5)"});
                               visit("licence", licence,
                                     {.help = "noted in the store; empty: of digits and shapes "
                                              "their own, of a clip store what it says"});
                               visit("max_errors", max_errors,
                                     {.help = "unreadable clips that are left out and reported "
                                              "before it is an error",
                                      .min = 0});
                             }});
    all.push_back({"augment", "crop and size of the clips, drawn once",
                   [this](OptionVisitor& visit) { augment.describe(visit); }});
    return all;
  }
};

/// Clip `i` of a batch as a store takes it.
RawClip clip_of(const ClipBatch& batch, int64_t i) {
  const torch::Tensor clip = batch.clips[i].permute({1, 2, 3, 0}).contiguous();
  const auto* pixels = clip.const_data_ptr<uint8_t>();
  RawClip raw{
      clip.size(0), clip.size(1), clip.size(2), clip.size(3), {pixels, pixels + clip.numel()}};
  for (const auto& [name, values] : batch.signals) {
    const torch::Tensor rows = values[i].contiguous();
    const auto* row = rows.const_data_ptr<float>();
    raw.signals[name] = {rows.size(1), {row, row + rows.numel()}};
  }
  return raw;
}

/// What the store says about itself: where its clips come from and how fast they run.
ClipStoreInfo describe_store(examples::Program& program, const MakeDataOptions& options,
                             const ClipSource& source) {
  const ClipOptions& clip = options.recipe.clip;
  std::string licence = options.licence.empty() ? options.recipe.licence() : options.licence;
  ClipStoreInfo info;
  if (const auto* store = dynamic_cast<const ClipStore*>(&source)) {
    const ClipStoreInfo& from = store->info();
    if (from.fps > 0) {
      info.fps = from.fps / static_cast<double>(frame_step(from.fps, clip, options.recipe.data));
    }
    const auto found = from.attributes.find("licence");
    if (licence.empty() && found != from.attributes.end()) licence = found->second;
  }
  info.attributes = {{"generator", "jepa make_data"},
                     {"version", version() + " (" + commit() + ")"},
                     {"recipe", dump_ini(program.sections)},
                     {"seed", std::to_string(program.common.seed)},
                     {"licence", licence.empty() ? "unknown" : licence}};
  // HDF5 takes attributes of up to 64 KB.
  const std::string names = join_names(label_names(source));
  if (!names.empty() && names.size() < 60000) info.attributes["label_names"] = names;
  return info;
}

/// @throws DataError naming the first clip and one of another size
void require_same_size(const ClipSource& source, const ClipBatch& clip, const ClipBatch& first) {
  const auto size = [](const ClipBatch& one) { return one.clips.sizes().slice(3); };
  const auto channels = [](const ClipBatch& one) { return one.clips.size(1); };
  if (size(clip) == size(first) && channels(clip) == channels(first)) return;
  const auto text = [&](const ClipBatch& one) {
    return std::to_string(size(one)[0]) + " x " + std::to_string(size(one)[1]) + " x " +
           std::to_string(channels(one));
  };
  const auto name = [&](const ClipBatch& one) {
    return source.name(one.indices[0].item<int64_t>());
  };
  throw DataError(name(clip) + ": frames of " + text(clip) + ", but " + text(first) + " in " +
                  name(first) + "; a store has frames of one size: augment.crop makes them equal");
}

/// Notes how fast the clips of videos run, which is known once they have been read.
void note_rate(const ClipSource& source, ClipStoreWriter& writer) {
  const auto* videos = dynamic_cast<const VideoSource*>(&source);
  if (videos == nullptr) return;
  const double rate = videos->frames_a_second();
  writer.set_fps(rate);
  const auto [lowest, highest] = videos->rates();
  if (rate > 0 || highest <= 0) return;
  std::cout << "rate of the clips: ";
  if (lowest > 0) {
    std::cout << lowest << " to " << highest << " frames a second";
  } else {
    std::cout << "unknown of some";
  }
  std::cout << ", so the store says fps 0 (unknown)\n";
}

void make_data(examples::Program& program, MakeDataOptions& options) {
  if (options.out.empty()) throw ConfigError("option out: a file to write is needed");
  const auto seed = static_cast<uint64_t>(program.common.seed);
  auto& footage = options.recipe.footage;
  footage.max_errors = std::max(footage.max_errors, options.max_errors);
  const std::shared_ptr<ClipSource> source = options.recipe.open(seed);
  // One by one: a store takes clips of unequal length, a batch does not.
  LoaderOptions loading{.batch = 1,
                        .threads = 2,
                        .prefetch = 8,
                        .shuffle = false,
                        .max_errors = options.max_errors,
                        .augment = options.augment};
  ClipLoader loader(source, loading, seed);

  const std::filesystem::path folder = std::filesystem::path(options.out).parent_path();
  if (!folder.empty()) examples::make_folder(folder);
  ClipStoreWriter writer(options.out, describe_store(program, options, *source));
  examples::ProgressBar progress("clips");
  std::vector<int64_t> written;
  ClipBatch first;
  for (ClipBatch batch = loader.next(); batch.size() > 0; batch = loader.next()) {
    if (first.size() == 0) first = {batch.clips.slice(2, 0, 1).clone(), batch.indices.clone()};
    require_same_size(*source, batch, first);
    writer.append(clip_of(batch, 0));
    written.push_back(batch.indices[0].item<int64_t>());
    progress.update(static_cast<int64_t>(written.size()), source->size(), options.out);
  }
  progress.finish();
  std::map<std::string, torch::Tensor> columns;
  for (const auto& name : source->columns()) {
    columns[name] = source->column(name).index_select(0, torch::tensor(written));
  }
  note_rate(*source, writer);
  writer.finish(columns);

  LoaderStats stats = loader.stats();
  if (const auto* videos = dynamic_cast<const FootageSource*>(source.get())) {
    for (const auto& line : videos->left_out()) stats.messages.push_back(line);
  }
  for (const auto& message : stats.messages)
    std::cerr << "left out: " << printable(message) << "\n";
  std::cout << options.out << ": " << written.size() << " clips";
  if (stats.errors > 0) std::cout << ", " << stats.errors << " left out";
  for (const auto& [name, values] : columns) std::cout << ", " << name << " " << values.sizes();
  std::cout << "\n";
  const auto names = label_names(*source);
  if (!names.empty()) std::cout << "label:";
  for (size_t i = 0; i < names.size(); ++i) {
    std::cout << (i > 0 ? ", " : " ") << i << " " << printable(names[i]);
  }
  if (!names.empty()) std::cout << "\n";
  program.results["label_names"] = names;
  program.results["out"] = options.out;
  program.results["clips"] = written.size();
  program.results["errors"] = stats.errors;
  program.results["left_out"] = stats.messages;
}

}  // namespace

int main(int argc, char** argv) {
  MakeDataOptions options;
  return examples::program_main(
      argc, argv,
      {.name = "make_data",
       .summary = "turns generated clips, videos, footage or images into a clip store",
       .sections = [&](const OptionValues&) { return options.sections(); },
       .run = [&](examples::Program& program) { make_data(program, options); }});
}

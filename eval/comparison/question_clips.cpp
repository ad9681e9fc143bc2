// The clips of a comparison: generated ones or a person's own, and what can be asked of them.
#include <eval/comparison/cell.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/data/memory_source.hpp>
#include <jepa/errors.hpp>

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>

namespace jepa::eval::comparison {
namespace {

bool has_column(const ClipSource& source, const std::string& name) {
  const auto names = source.columns();
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// One of a person's own splits, at most `count` clips.
std::shared_ptr<const ClipSource> hold_own(const char* option, const std::string& path,
                                           const ClipOptions& clip, int64_t count) {
  if (path.empty()) {
    throw ConfigError(std::string("option ") + option +
                      ": name labelled clips (data alone is what the arms are trained on)");
  }
  const auto source = open_clip_source(path, clip);
  return hold_in_memory(*source, std::min(count, source->size()), /*seed=*/0);
}

std::vector<int64_t> shape_of(const ClipSource& source) {
  Random random(0);
  const RawClip clip = source.read(0, random);
  return {clip.frames, clip.height, clip.width, clip.channels};
}

QuestionClips own_clips(const QuestionOptions& options) {
  ClipOptions middle = options.clip;
  middle.random_window = false;
  QuestionClips clips{hold_own("data", options.data, options.clip, options.train_clips),
                      hold_own("probe", options.probe, middle, options.probe_clips),
                      hold_own("validation", options.validation, middle, options.validation_clips),
                      hold_own("test", options.test, middle, options.test_clips)};
  const auto shape = shape_of(*clips.train);
  for (const auto& [path, source] : {std::pair{options.probe, clips.probe},
                                     {options.validation, clips.validation},
                                     {options.test, clips.test}}) {
    if (shape_of(*source) != shape) {
      throw DataError(c10::str(path, ": clips of [T, H, W, C] ", shape_of(*source), ", but ",
                               options.data, " has ", shape));
    }
  }
  return clips;
}

}  // namespace

void QuestionOptions::describe(OptionVisitor& visit) {
  visit("report_on", report_on,
        {.help = "clips that probes and futures are reported on: validation while anything is "
                 "tuned, test once",
         .choices = {"test", "validation"}});
  visit("train_clips", train_clips, {.help = "to train on; of one's own data at most", .min = 1});
  visit("probe_clips", probe_clips, {.help = "to fit probes on", .min = 10});
  visit("validation_clips", validation_clips,
        {.help = "to choose layers and decays on", .min = 10});
  visit("test_clips", test_clips, {.help = "to report probes on", .min = 10});
  visit("predicted_clips", predicted_clips,
        {.help = "test clips whose futures are drawn", .min = 2});
  visit("futures", futures, {.help = "drawn of each", .min = 1});
  visit("horizons", horizons, {.help = "frames after the context that are reported", .min = 1});
  visit("radius", radius, {.help = "of coverage", .unit = "px", .min = 0});
  visit("attentive", attentive, {.help = "attentive probes too: they take a few minutes a cell"});
}

void QuestionOptions::describe_data(OptionVisitor& visit) {
  visit("data", data,
        {.help = "one's own clips to train on (clip store, videos, list, folder); empty: generated "
                 "ones"});
  visit("probe", probe, {.help = "labelled clips that probes are fitted on, with data"});
  visit("validation", validation,
        {.help = "labelled clips that settings are chosen on, with data"});
  visit("test", test, {.help = "labelled clips that are reported on, with data"});
  visit("labels", labels,
        {.help = "columns that probes are asked for, comma-separated; auto: digit, shape, "
                 "direction, position, velocity, count where they are there"});
}

namespace {

QuestionClips all_clips(const QuestionOptions& options, double noise, uint64_t seed) {
  if (!options.data.empty()) return own_clips(options);
  const auto hold = [&](const char* split, int64_t count, uint64_t stream) {
    GeneratedOptions generated = options.clips;
    generated.split = split;
    generated.clips = count;
    generated.noise = noise;
    return hold_in_memory(GeneratedSource(generated, stream_seed(seed, "clips", stream)), 0, 0);
  };
  return {hold("train", options.train_clips, 0), hold("train", options.probe_clips, 1),
          hold("validation", options.validation_clips, 2), hold("test", options.test_clips, 3)};
}

}  // namespace

QuestionClips make_clips(const QuestionOptions& options, double noise, uint64_t seed) {
  QuestionClips clips = all_clips(options, noise, seed);
  if (options.report_on == "validation") clips.test = clips.validation;  // test is not looked at
  return clips;
}

std::vector<Question> make_questions(const QuestionClips& clips, const QuestionOptions& options) {
  std::vector<std::string> names = probes::split_names(options.labels);
  const bool choose = options.labels == "auto";
  if (choose) names = {"digit", "shape", "direction", "position", "velocity", "count"};
  std::vector<Question> asked;
  for (const auto& name : names) {
    if (choose && !has_column(*clips.probe, name)) continue;
    Question question{name, 0};
    const auto fitted = probes::label_column(*clips.probe, name);
    if (fitted.scalar_type() == torch::kInt64) {
      for (const auto& source : {clips.probe, clips.validation, clips.test}) {
        const auto column = probes::label_column(*source, name);
        if (column.scalar_type() != torch::kInt64 || column.min().item<int64_t>() < 0) {
          throw DataError("column '" + name + "': classes are numbered from 0 in every split");
        }
        question.classes = std::max(question.classes, column.max().item<int64_t>() + 1);
      }
      const bool varies = fitted.min().item<int64_t>() < fitted.max().item<int64_t>();
      if (!varies && choose) continue;
      if (!varies) throw DataError("column '" + name + "': every clip has the same class");
    }
    asked.push_back(question);
  }
  if (asked.empty()) {
    throw ConfigError("option labels: name columns to probe; there are " +
                      c10::Join(", ", clips.probe->columns()));
  }
  return asked;
}

bool judge_can_read(const ClipSource& source, const std::string& label, std::string& missing) {
  std::vector<std::string> lacking;
  for (const auto& name : {label, std::string("direction"), std::string("position"),
                           std::string("velocity")}) {
    if (!has_column(source, name)) lacking.push_back(name);
  }
  missing = c10::Join(", ", lacking);
  return lacking.empty();
}

torch::Tensor first_clips(const std::shared_ptr<const ClipSource>& source, int64_t count) {
  ClipLoader loader(source, {.batch = std::min(count, source->size()), .shuffle = false}, 0);
  return loader.next().clips;
}

}  // namespace jepa::eval::comparison

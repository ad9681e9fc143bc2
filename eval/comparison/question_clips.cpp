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
  visit("shift_clips", shift_clips,
        {.help = "test clips of each range outside that of training", .min = 10});
  visit("prompted_clips", prompted_clips,
        {.help = "creatures drawn from words, of each range", .min = 2});
  visit("predicted_clips", predicted_clips,
        {.help = "test clips whose futures are drawn", .min = 2});
  visit("futures", futures, {.help = "drawn of each", .min = 1});
  visit("horizons", horizons, {.help = "frames after the context that are reported", .min = 1});
  visit("radius", radius, {.help = "of coverage", .unit = "px", .min = 0});
  visit("attentive", attentive, {.help = "attentive probes too: they take a few minutes a cell"});
}

void QuestionOptions::describe_creatures(OptionVisitor& visit) {
  creatures.describe(visit);
  visit("longer_min", longer_min,
        {.help = "shortest legs of those longer than any seen", .unit = "px", .min = 1});
  visit("longer_max", longer_max,
        {.help = "longest legs of those longer than any seen", .unit = "px", .min = 1});
}

void QuestionOptions::describe_data(OptionVisitor& visit) {
  visit("world", world,
        {.help = "what clips are generated of", .choices = {"digits", "creatures", "balls"}});
  visit("data", data,
        {.help = "one's own clips to train on (clip store, videos, list, folder); empty: generated "
                 "ones"});
  visit("probe", probe, {.help = "labelled clips that probes are fitted on, with data"});
  visit("validation", validation,
        {.help = "labelled clips that settings are chosen on, with data"});
  visit("test", test, {.help = "labelled clips that are reported on, with data"});
  visit("labels", labels,
        {.help = "columns that probes are asked for, comma-separated; auto: digit, shape, "
                 "direction, position, velocity, count, legs, class, body, colour, leg_length "
                 "where they are there"});
}

namespace {

/// Creatures of a split in memory.
std::shared_ptr<const ClipSource> hold_creatures(CreatureOptions creatures, const char* split,
                                                 int64_t count, uint64_t seed) {
  creatures.split = split;
  creatures.clips = count;
  return hold_in_memory(CreatureSource(creatures, seed), 0, 0);
}

QuestionClips creature_clips(const QuestionOptions& options, uint64_t seed) {
  const auto hold = [&](const CreatureOptions& creatures, const char* split, int64_t count,
                        uint64_t stream) {
    return hold_creatures(creatures, split, count, stream_seed(seed, "creatures", stream));
  };
  const CreatureOptions& seen = options.creatures;
  QuestionClips clips{hold(seen, "train", options.train_clips, 0),
                      hold(seen, "train", options.probe_clips, 1),
                      hold(seen, "validation", options.validation_clips, 2),
                      hold(seen, "test", options.test_clips, 3)};
  CreatureOptions combination = seen, longer = seen;
  combination.combinations = "held_out";
  longer.length_min = options.longer_min;
  longer.length_max = options.longer_max;
  clips.shifts = {{"combination", hold(combination, "test", options.shift_clips, 4)},
                  {"longer", hold(longer, "test", options.shift_clips, 5)}};
  return clips;
}

QuestionClips ball_clips(const QuestionOptions& options, uint64_t seed) {
  const auto hold = [&](const worlds::FactorRanges& ranges, int64_t count, int64_t frames,
                        uint64_t stream) {
    return worlds::ball_films(options.balls, ranges, count, frames,
                              stream_seed(seed, "balls", stream));
  };
  const auto seen = worlds::ball_ranges(options.balls);
  const int64_t frames = options.balls.frames;
  QuestionClips clips{
      hold(seen, options.train_clips, frames, 0), hold(seen, options.probe_clips, frames, 1),
      hold(seen, options.validation_clips, frames, 2), hold(seen, options.test_clips, frames, 3)};
  uint64_t stream = 4;
  for (const auto& factor : worlds::ball_factors()) {
    for (const char* level : {"near", "far"}) {
      const auto ranges = worlds::ball_ranges(options.balls, factor, level);
      clips.shifts.push_back(
          {factor + "_" + level, hold(ranges, options.shift_clips, frames, stream++)});
    }
  }
  for (const auto& [name, length] : {std::pair{"horizon_near", options.balls.near_frames},
                                     {"horizon_far", options.balls.far_frames}}) {
    clips.shifts.push_back(
        {name, hold(seen, options.shift_clips, length, stream++), /*probed=*/false});
  }
  return clips;
}

QuestionClips all_clips(const QuestionOptions& options, double noise, uint64_t seed) {
  if (!options.data.empty()) return own_clips(options);
  if (options.world == "creatures") return creature_clips(options, seed);
  if (options.world == "balls") return ball_clips(options, seed);
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
  if (options.report_on == "validation") {  // test is not looked at
    clips.test = clips.validation;
    clips.shifts.clear();
  }
  return clips;
}

JudgeClips make_judge_clips(const QuestionOptions& options, const JudgeOptions& judge,
                            const QuestionClips& clips, uint64_t seed) {
  if (!options.data.empty() || options.world == "digits") return {clips.train, clips.validation};
  const uint64_t own = stream_seed(seed, "judge clips", 0);
  if (options.world == "creatures") {
    CreatureOptions any = options.creatures;
    any.combinations = "all";
    any.length_max = std::max(any.length_max, options.longer_max);
    CreatureOptions counted = any;
    counted.legs = {5, 6, 7, 8, 9};
    return {hold_creatures(counted, "train", judge.clips, own),
            hold_creatures(any, "validation", judge.held_out_clips, own)};
  }
  auto ranges = worlds::ball_ranges(options.balls);
  for (const auto& factor : worlds::ball_factors()) {
    const auto far = worlds::ball_ranges(options.balls, factor, "far").at(factor);
    auto& range = ranges.at(factor);
    range = {.low = std::min(range.low, far.low), .high = std::max(range.high, far.high)};
  }
  const int64_t frames = options.balls.frames;
  return {worlds::ball_films(options.balls, ranges, judge.clips, frames, own),
          worlds::ball_films(options.balls, ranges, judge.held_out_clips, frames,
                             stream_seed(seed, "judge clips", 1))};
}

std::vector<Question> make_questions(const QuestionClips& clips, const QuestionOptions& options) {
  std::vector<std::string> names = probes::split_names(options.labels);
  const bool choose = options.labels == "auto";
  if (choose) {
    names = {"digit", "shape", "direction", "position", "velocity",  "count",
             "legs",  "class", "body",      "colour",   "leg_length"};
  }
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
  for (const auto& name :
       {label, std::string("direction"), std::string("position"), std::string("velocity")}) {
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

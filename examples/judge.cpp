// Has a supervised judge read what a diffusion model or a decoder draws: prompted digits and
// directions, and futures by horizon beside copying, a straight line and, of a decoder, its ceiling
// and floor.
#include <eval/comparison/cell.hpp>
#include <eval/comparison/prediction_metrics.hpp>
#include <eval/diffusion/generative_model.hpp>
#include <eval/probes/protocol.hpp>
#include <examples/program.hpp>
#include <jepa/errors.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>

#include <cstdio>
#include <filesystem>

namespace {

using namespace jepa;
using namespace jepa::eval::comparison;
using eval::diffusion::GenerativeModel;
using eval::diffusion::PromptVocabulary;

constexpr int64_t kBatch = 64;  // clips drawn at once

/// What this program is asked to do.
struct Options {
  std::string model, judge_file, train, validation, test;
  int64_t context_frames = 4;
  int64_t clips = 320, prompted = 320;
  QuestionOptions questions;
  JudgeOptions judge;
  eval::diffusion::SamplerOptions sampler;
  OptionValues said;  ///< what is not left at its default

  std::vector<OptionSection> sections();
};

std::vector<OptionSection> Options::sections() {
  return {
      {"", "",
       [this](OptionVisitor& visit) {
         visit("model", model, {.help = "run or checkpoint of train_diffusion"});
         visit("judge_file", judge_file,
               {.help = "FILE.safetensors of the judge; trained and written where it is missing"});
         visit("train", train, {.help = "labelled clips that the judge is trained on"});
         visit("validation", validation, {.help = "labelled clips that the judge is scored on"});
         visit("test", test, {.help = "labelled clips whose futures are drawn"});
         visit("context_frames", context_frames,
               {.help = "shown of each clip; a decoder brings its own", .min = 2});
         visit("clips", clips, {.help = "test clips used", .min = 2});
         visit("futures", questions.futures, {.help = "drawn of each", .min = 1});
         visit("horizons", questions.horizons,
               {.help = "frames after the context that are reported", .min = 1});
         visit("radius", questions.radius, {.help = "of coverage", .unit = "px", .min = 0});
         visit("prompted", prompted,
               {.help = "clips drawn from prompts, every class and direction (of creatures: "
                        "colour) in turn; of models with prompts",
                .min = 0});
       }},
      {"judge", "its training", [this](OptionVisitor& visit) { judge.describe(visit); }},
      {"sampler", "", [this](OptionVisitor& visit) { sampler.describe(visit); }}};
}

std::shared_ptr<const ClipSource> open(const char* option, const std::string& path) {
  if (path.empty()) throw ConfigError(std::string("option ") + option + ": name labelled clips");
  return open_clip_source(path, {.random_window = false});
}

/// The judge of a file that is there, whose options become those of the run.
/// @throws ConfigError for one that was said and is another
TrainedJudge judge_of_file(Options& options) {
  const auto values = [&] {
    return dump_options(
        {{"judge", "", [&](OptionVisitor& visit) { options.judge.describe(visit); }}});
  };
  const OptionValues asked = values();
  TrainedJudge trained = load_judge(options.judge_file);
  options.judge = trained.judge->options();
  for (const auto& [key, value] : values()) {
    if (!options.said.contains(key) || asked.at(key) == value) continue;
    throw ConfigError("option " + key + " is " + asked.at(key) + ", but the judge of " +
                      options.judge_file + " was trained with " + value);
  }
  std::printf("judge of           %s, as it was trained\n", options.judge_file.c_str());
  return trained;
}

TrainedJudge judge_of(Options& options) {
  if (!options.judge_file.empty() && std::filesystem::exists(options.judge_file)) {
    return judge_of_file(options);
  }
  const auto train = open("train", options.train);
  const auto validation = open("validation", options.validation);
  examples::ProgressBar bar("judge");
  const TrainedJudge trained = train_judge(train, validation, options.judge, 0,
                                           [&](int64_t step, int64_t steps, double loss) {
                                             bar.update(step, steps, c10::str("loss ", loss));
                                           });
  bar.finish();
  if (!options.judge_file.empty()) save_judge(options.judge_file, trained);
  return trained;
}

/// Runs `draw` on batches of rows (clips, prompts, latents) and joins what it gives.
template <class Draw>
torch::Tensor in_batches(const torch::Tensor& rows, const Draw& draw) {
  std::vector<torch::Tensor> parts;
  for (int64_t start = 0; start < rows.size(0); start += kBatch) {
    parts.push_back(draw(rows.slice(0, start, start + kBatch), static_cast<uint64_t>(start)));
  }
  return torch::cat(parts);
}

/// Clips drawn from every pair of words of the first two slots in turn (class and direction, of
/// creatures kind and colour), the third left open: how often the judge reads what was asked for.
Results measure_prompted(GenerativeModel& model, Judge& judge, const Options& options,
                         at::IntArrayRef sizes, uint64_t seed) {
  const PromptVocabulary& vocabulary = *model.vocabulary();
  const std::string& label = judge->options().label;
  const auto classes = torch::tensor(prompted_classes(vocabulary, label));
  const auto words = [&](int64_t slot) {  // ids of a slot's words
    std::vector<int64_t> ids;
    for (const auto& word : vocabulary.words()) {
      const auto id = vocabulary.encode(word)[slot].item<int64_t>();
      if (id > 0) ids.push_back(id);
    }
    return torch::tensor(ids);
  };
  const auto kinds = words(0), others = words(1);
  const auto number = torch::arange(options.prompted);
  const auto kind = number % kinds.size(0);
  const auto other = number.div(kinds.size(0), "floor") % others.size(0);
  auto prompts = torch::zeros({options.prompted, PromptVocabulary::kSlots}, torch::kInt64);
  prompts.select(1, 0).copy_(kinds.index_select(0, kind));
  prompts.select(1, 1).copy_(others.index_select(0, other));
  const auto drawn = in_batches(prompts, [&](const torch::Tensor& rows, uint64_t start) {
    auto batch = sizes.vec();
    batch[0] = rows.size(0);
    return model.draw(batch, {rows, {}}, {}, options.sampler, stream_seed(seed, "prompted", start));
  });
  const JudgeReading read = read_clips(judge, drawn);
  const auto share = [&](const torch::Tensor& right) {
    return mean_interval(right.to(torch::kFloat64), {}, seed);
  };
  Results results{{label, share(read.classes.eq(classes.index_select(0, kind)))}};
  if (vocabulary.kind() != "creatures") results["direction"] = share(read.direction.eq(other));
  return results;
}

void print_row(const std::string& name, const std::string& label, const Results& results) {
  std::printf("%-18s", name.c_str());
  for (const auto& [key, value] : results) {
    const bool shown = key == label || key == "direction" || key == "position_error" ||
                       key.starts_with("position_error/");
    if (shown)
      std::printf("  %s %.3f [%.3f, %.3f]", key.c_str(), value.value, value.low, value.high);
  }
  std::printf("\n");
}

/// What the model draws of the clips' futures, and where it decodes latents, what it makes of the
/// encoder's own and of other clips' latents: name and results of each row.
template <class Add>
void measure_model(GenerativeModel& model, const torch::Tensor& clips, const ClipSource& source,
                   Judge& judge, const Options& options, uint64_t seed, const Add& add) {
  const bool decodes = model.jepa() != nullptr;
  const int64_t context = decodes ? model.context_frames() : options.context_frames;
  const auto measured = [&](const torch::Tensor& futures) {
    return measure_futures(futures, clips, source, judge, options.questions);
  };
  const auto latents = [&](bool predicted) {
    return in_batches(
        clips, [&](const torch::Tensor& part, uint64_t) { return model.latents(part, predicted); });
  };
  const auto decoded = [&](const torch::Tensor& part, uint64_t own) {
    auto sizes = clips.sizes().vec();
    sizes[0] = part.size(0);
    return model.draw_latents(part, sizes, options.sampler, own);
  };
  const auto shown = decodes ? latents(/*predicted=*/true) : clips;
  std::vector<torch::Tensor> futures;
  for (int64_t k = 0; k < options.questions.futures; ++k) {
    futures.push_back(in_batches(shown, [&](const torch::Tensor& part, uint64_t start) {
      const uint64_t own = stream_seed(
          seed, "future",
          start * static_cast<uint64_t>(options.questions.futures) + static_cast<uint64_t>(k));
      return decodes ? decoded(part, own) : model.draw_future(part, context, options.sampler, own);
    }));
  }
  add("future", measured(torch::stack(futures)));
  if (!decodes) return;
  const auto measured_once = [&](const torch::Tensor& all) {
    const auto draw = [&](const torch::Tensor& part, uint64_t start) {
      return decoded(part, stream_seed(seed, "decoded", start));
    };
    return measured(in_batches(all, draw).unsqueeze(0));
  };
  add("encoder's latents", measured_once(latents(/*predicted=*/false)));
  add("shuffled latents", measured_once(shown.roll(1, 0)));
}

/// @param shown frames of a clip @throws ConfigError for a horizon beyond the clips
void require_horizons(const Options& options, int64_t shown, int64_t frames) {
  if (!options.said.contains("horizons")) return;  // of the usual ones those that are there
  for (const int64_t horizon : options.questions.horizons) {
    if (horizon <= frames - shown) continue;
    throw ConfigError(c10::str("option horizons: ", horizon, "; ", options.test, " has clips of ",
                               frames, " frames, of which ", shown, " are shown: the longest is ",
                               frames - shown));
  }
}

void run(examples::Program& program, Options& options) {
  if (options.model.empty()) throw ConfigError("option model: name a run of train_diffusion");
  GenerativeModel model = GenerativeModel::load(options.model);
  model.to(program.device);
  const bool decodes = model.jepa() != nullptr;
  const int64_t context = decodes ? model.context_frames() : options.context_frames;
  const auto source = open("test", options.test);
  const auto clips = first_clips(source, options.clips);
  if (context < 2 || clips.size(2) < context + 2) {  // a direction takes two frames
    throw DataError(c10::str(options.test, ": clips of ", clips.size(2), " frames; ", context,
                             " are shown, two of which and two more are needed"));
  }
  require_horizons(options, context, clips.size(2));
  TrainedJudge trained = judge_of(options);
  Judge& judge = trained.judge;
  std::printf("judge on %lld held-out clips: %s %.3f, direction %.3f, position error %.2f px\n",
              static_cast<long long>(trained.held_out.clips), judge->options().label.c_str(),
              trained.held_out.classes, trained.held_out.direction,
              trained.held_out.position_error);
  const auto seed = static_cast<uint64_t>(program.common.seed);
  std::map<std::string, Results> rows;
  const bool prompted = !decodes && model.vocabulary() && options.prompted > 0;
  if (prompted) prompted_classes(*model.vocabulary(), judge->options().label);  // before any draw
  const auto add = [&](const std::string& name, const Results& results) {
    rows[name] = results;
    print_row(name, judge->options().label, results);
  };
  // First, since they meet every label and size that the costly draws will.
  for (const auto& [name, results] :
       measure_trivial(clips, *source, judge, options.questions, context)) {
    add(name, results);
  }
  if (prompted) {
    add("prompted", measure_prompted(model, judge, options, clips.sizes(), seed));
  }
  measure_model(model, clips, *source, judge, options, seed, add);
  auto& json = program.results;
  json["options"] = dump_options(program.sections);
  json["clips"] = clips.size(0);
  json["context_frames"] = context;
  json["judge"] = {{"clips", trained.held_out.clips},
                   {judge->options().label, trained.held_out.classes},
                   {"direction", trained.held_out.direction},
                   {"position_error", trained.held_out.position_error}};
  for (const auto& [name, results] : rows) {
    json["rows"][name] = nlohmann::json::parse(results_json(results));
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  return examples::program_main(
      argc, argv,
      {.name = "judge",
       .summary = "a judge trained on real frames reads what a diffusion model or decoder draws",
       .sections =
           [&](const OptionValues& given) {
             options.said = given;
             return options.sections();
           },
       .run = [&](examples::Program& program) { run(program, options); }});
}

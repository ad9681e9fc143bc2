// Longer futures than an arm was trained on, and clips from words alone.
#include <eval/comparison/recorder.hpp>
#include <eval/diffusion/prompt.hpp>
#include <jepa/data/creatures.hpp>
#include <jepa/errors.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>

#include <algorithm>
#include <map>

namespace jepa::eval::comparison {
namespace {

constexpr int64_t kDrawnAtOnce = 32;  // clips; bounds the memory of drawing

/// Creatures that are asked for: kind and colour.
struct Wanted {
  bool spider = false;
  int64_t colour = 0;

  bool in_range() const { return colour != (spider ? kInsectColour : kSpiderColour); }
};

/// Prompts of one range: every kind, colour and length of legs that it has, in turn.
std::vector<std::string> prompts_of(bool in_range) {
  std::vector<std::string> prompts;
  const auto& colours = creature_colours();
  for (const char* length : {"short", "long"}) {
    for (size_t c = 0; c < colours.size(); ++c) {
      for (const bool spider : {false, true}) {
        const Wanted wanted{spider, static_cast<int64_t>(c)};
        if (wanted.in_range() != in_range) continue;
        prompts.push_back(std::string(spider ? "spider " : "insect ") + colours[c] + " " + length);
      }
    }
  }
  return prompts;
}

}  // namespace

torch::Tensor roll_out(const Arm& arm, const torch::Tensor& clips, int64_t context_frames,
                       int64_t trained_frames, int64_t futures, uint64_t seed) {
  const int64_t horizon = clips.size(2) - context_frames;
  if (clips.size(2) == trained_frames) return arm.predict(clips, futures, seed);
  const auto window = [&](const torch::Tensor& context) {
    auto sizes = context.sizes().vec();
    sizes[2] = trained_frames - context_frames;
    return torch::cat({context, torch::zeros(sizes, context.options())}, 2);
  };
  auto drawn = arm.predict(window(clips.narrow(2, 0, context_frames)), futures, seed);
  const int64_t chains = drawn.size(0), batch = clips.size(0);
  std::vector<torch::Tensor> parts{drawn};
  int64_t done = drawn.size(3);
  auto seen = torch::cat(
      {clips.narrow(2, 0, context_frames).unsqueeze(0).expand({chains, -1, -1, -1, -1, -1}), drawn},
      3);
  while (done < horizon) {
    const auto context = seen.narrow(3, seen.size(3) - context_frames, context_frames);
    const auto next = arm.predict(window(context.flatten(0, 1)), 1,
                                  stream_seed(seed, "window", static_cast<uint64_t>(done)));
    drawn = next[0].unflatten(0, {chains, batch});
    seen = torch::cat({context, drawn}, 3);
    parts.push_back(drawn);
    done += drawn.size(3);
  }
  return torch::cat(parts, 3).narrow(3, 0, horizon).contiguous();
}

std::vector<int64_t> prompted_classes(const diffusion::PromptVocabulary& vocabulary,
                                      const std::string& label) {
  static const std::map<std::string, std::map<std::string, std::vector<int64_t>>> known{
      {"digits", {{"digit", {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}}},
      {"shapes", {{"shape", {0, 1, 2, 3, 4}}}},
      {"creatures", {{"legs", {6, 8}}, {"class", {0, 1}}}}};  // insects, spiders
  const auto& labels = known.at(vocabulary.kind());
  const auto found = labels.find(label);
  if (found != labels.end()) return found->second;
  throw ConfigError("prompts of " + vocabulary.kind() + " do not say the " + label +
                    " that the judge reads; ask for no prompted clips (option prompted)");
}

Results measure_prompted(const Arm& arm, at::IntArrayRef clip_sizes, Judge& judge,
                         const QuestionOptions& options, uint64_t seed, Scores* scores) {
  const diffusion::PromptVocabulary vocabulary("creatures");
  Results results;
  for (const bool in_range : {true, false}) {
    const auto prompts = prompts_of(in_range);
    const int64_t count = options.prompted_clips;
    std::vector<torch::Tensor> ids;
    std::vector<int64_t> legs;
    for (int64_t i = 0; i < count; ++i) {
      const auto& prompt = prompts[static_cast<size_t>(i) % prompts.size()];
      ids.push_back(vocabulary.encode(prompt));
      legs.push_back(prompt.starts_with("spider") ? 8 : 6);
    }
    const auto rows = torch::stack(ids);
    std::vector<torch::Tensor> read;
    for (int64_t at = 0; at < count; at += kDrawnAtOnce) {
      auto sizes = clip_sizes.vec();
      sizes[0] = std::min(kDrawnAtOnce, count - at);
      const auto drawn = arm.draw(
          rows.narrow(0, at, sizes[0]), sizes,
          stream_seed(seed, in_range ? "prompted" : "combination", static_cast<uint64_t>(at)));
      read.push_back(read_clips(judge, drawn).classes);
    }
    const auto said = torch::cat(read).unsqueeze(0);  // [1, n]
    const auto truth = torch::tensor(legs, torch::kInt64);
    Recorder record(count, scores, in_range ? "prompted/in/" : "prompted/combination/");
    record.mean("legs", said[0].eq(truth).to(torch::kFloat64));
    record_confusion(record, said, truth, "read/");
    results.merge(record.results);
  }
  return results;
}

}  // namespace jepa::eval::comparison

#include "case.hpp"

#include <jepa/data/clip_store.hpp>
#include <jepa/data/hdf5_file.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

namespace parity {
namespace {

using jepa::ClipStore;

struct Question {
  int64_t frames, step;
  std::vector<std::string> signals;  // all keys but pixels
  torch::Tensor places;              // int32 [clips, 2]: episode and start of those asked for
};

torch::Tensor pixels_of(const jepa::RawClip& clip) {
  return torch::tensor(at::ArrayRef<uint8_t>(clip.pixels))
      .view({clip.frames, clip.height, clip.width, clip.channels})
      .permute({0, 3, 1, 2})
      .contiguous();
}

void compare_clips(Case& test, const ClipStore& store, const Question& question) {
  std::map<std::string, std::vector<torch::Tensor>> found;
  for (int64_t i = 0; i < question.places.size(0); ++i) {
    const auto clip =
        store.read_at(question.places[i][0].item<int64_t>(), question.places[i][1].item<int64_t>());
    found["pixels"].push_back(pixels_of(clip));
    for (const auto& [name, signal] : clip.signals) {
      found[name].push_back(
          torch::tensor(at::ArrayRef<float>(signal.values)).view({clip.frames, signal.width}));
    }
  }
  for (const auto& [name, clips] : found) test.equal("clip." + name, torch::stack(clips));
}

// Where an action is unknown, which clips show as 0.
torch::Tensor unknown_actions(const jepa::Hdf5File& file, const Question& question) {
  const auto action = file.read("action"), offset = file.read("ep_offset");
  std::vector<torch::Tensor> rows;
  for (int64_t i = 0; i < question.places.size(0); ++i) {
    const int64_t first = offset[question.places[i][0].item<int64_t>()].item<int64_t>() +
                          question.places[i][1].item<int64_t>();
    rows.push_back(action.narrow(0, first, question.frames * question.step)
                       .isnan()
                       .view({question.frames, -1}));
  }
  return torch::stack(rows).to(torch::kUInt8);
}

// The same clips from the layout before April 2026, or the reason why they cannot be read here.
void compare_compressed(Case& test, const std::string& path, const jepa::ClipOptions& options,
                        const Question& question) {
  try {
    compare_clips(test, ClipStore(path, options), question);
  } catch (const jepa::DataError& error) {
    const std::string text = error.what();
    const bool said = text.find("hdf5plugin") != std::string::npos ||
                      text.find("written by a newer HDF5") != std::string::npos;
    if (!said) test.fail(text);
  }
}

}  // namespace

/// stable-worldmodel's data set: which clips there are, what is in them, and its normalisers'
/// statistics.
void swm_dataset(Case& test) {
  const std::string path = test.folder() + "/" + test.config().at("file").get<std::string>();
  Question question{test.size("num_steps"), test.size("frameskip"), {}, {}};
  jepa::ClipOptions options{
      .frames = question.frames, .frame_step = question.step, .skip_short = true};
  for (const auto& key : test.config().at("keys")) {
    const auto name = key.get<std::string>();
    if (name == "pixels") continue;
    question.signals.push_back(name);
    options.signals += (options.signals.empty() ? "" : ",") + name;
  }
  const ClipStore store(path, options);
  std::vector<torch::Tensor> places;
  for (const auto& [episode, start] : store.windows()) {
    places.push_back(torch::tensor({episode, start}));
  }
  const auto all = torch::stack(places).to(torch::kInt32);
  test.equal("clip_indices", all);
  const auto file = jepa::Hdf5File::open(path);
  test.equal("ep_len", file.read("ep_len").to(torch::kInt32));
  test.equal("ep_offset", file.read("ep_offset"));
  question.places = all.index_select(0, test.tensor("in/clips").to(torch::kInt64));
  compare_clips(test, store, question);
  test.equal("clip.action_is_nan", unknown_actions(file, question));
  for (const auto& name : question.signals) {
    const auto statistics = store.statistics(name);
    constexpr double kSummed = 1e-6;  // theirs were summed in float32
    test.relative("out/population." + name + ".mean", statistics.mean, kSummed);
    test.relative("out/population." + name + ".std", statistics.deviation, kSummed);
    test.relative("out/sample." + name + ".mean", statistics.mean, kSummed);
    test.relative("out/sample." + name + ".std", statistics.sample_deviation, kSummed);
  }
  if (test.config().contains("blosc_file")) {
    compare_compressed(test,
                       test.folder() + "/" + test.config().at("blosc_file").get<std::string>(),
                       options, question);
  }
}

}  // namespace parity

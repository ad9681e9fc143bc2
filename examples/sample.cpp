// Draws video from a trained diffusion model: from a prompt, around given frames, or both.
#include <eval/diffusion/generative_model.hpp>
#include <eval/report/image.hpp>
#include <examples/media.hpp>
#include <examples/program.hpp>
#include <jepa/errors.hpp>

#include <torch/types.h>

#include <chrono>
#include <cstdio>
#include <sstream>

namespace {

using namespace jepa;
using namespace jepa::eval::diffusion;

/// What this program is asked to do.
struct SampleOptions {
  std::string model, prompt, given, given_frames, out;
  int64_t given_clip = 0;
  int64_t frames = 8, height = 32, width = 32, count = 8;
  int64_t window = 0, overlap = 4;
  int64_t scale = 4;
  double fps = 8;
  SamplerOptions sampler;
  OptionValues said;  ///< what is not left at its default

  std::vector<OptionSection> sections();
};

std::vector<OptionSection> SampleOptions::sections() {
  return {
      {"", "",
       [this](OptionVisitor& visit) {
         visit("model", model, {.help = "run or checkpoint of train_diffusion"});
         visit("prompt", prompt, {.help = "such as \"three left fast\"; what is left out is free"});
         visit("given", given, {.help = "clip store, video or folder with frames that are known"});
         visit("given_clip", given_clip, {.help = "which of its clips", .min = 0});
         visit("given_frames", given_frames,
               {.help = "where they stand in the film: 0:4 extends forwards, 8:12 backwards, "
                        "0:2,10:12 fills between"});
         visit("frames", frames, {.help = "of the film", .min = 1, .max = 65536});
         visit("height", height, {.help = "of the film", .unit = "px", .min = 1, .max = 4096});
         visit("width", width, {.help = "of the film", .unit = "px", .min = 1, .max = 4096});
         visit("count", count, {.help = "films drawn", .min = 1, .max = 4096});
         visit("window", window,
               {.help = "longer films are drawn in windows of so many frames; 0: in one",
                .unit = "frames",
                .min = 0});
         visit("overlap", overlap,
               {.help = "frames that a window takes from the last one", .min = 1});
         visit("out", out, {.help = "FILE.mp4, .gif, .png (frames in a line) or .h5 (clips)"});
         visit("scale", scale, {.help = "each pixel drawn so many times", .min = 1, .max = 64});
         visit("fps", fps, {.help = "of the film written", .min = 0.1, .max = examples::kMostFps});
       }},
      {"sampler", "", [this](OptionVisitor& visit) { sampler.describe(visit); }}};
}

/// Frames that are known, from the ranges `0:2,10:12` of `frames`: bool [frames].
torch::Tensor parse_frames(const std::string& text, int64_t frames) {
  auto known = torch::zeros({frames}, torch::kBool);
  std::istringstream stream(text);
  for (std::string range; std::getline(stream, range, ',');) {
    long long first = 0, last = 0;
    char rest = 0;
    if (std::sscanf(range.c_str(), "%lld:%lld%c", &first, &last, &rest) != 2 || first < 0 ||
        first >= last || last > frames) {
      throw ConfigError("option given_frames: " + range + " is no range first:end within " +
                        std::to_string(frames) + " frames");
    }
    known.slice(0, first, last).fill_(true);
  }
  return known;
}

/// The given clip's frames at their places. A clip as long as the film keeps its places; of another
/// length, its first frames are set in order.
KnownFrames read_given(const SampleOptions& options, int64_t channels, int64_t frames) {
  if (options.given.empty()) return {};
  if (options.given_frames.empty()) {
    throw ConfigError("option given_frames: say where the given frames stand");
  }
  KnownFrames known;
  known.frames = parse_frames(options.given_frames, frames);
  const auto source =
      open_clip_source(options.given, {.random_window = false, .channels = channels});
  const auto clip = examples::read_clips(*source, options.given_clip, 1);  // [1, C, T, H, W]
  if (clip.size(1) != channels || clip.size(3) != options.height || clip.size(4) != options.width) {
    throw DataError(c10::str(options.given, ": clip ", clip.sizes(), ", the film is [1, ", channels,
                             ", T, ", options.height, ", ", options.width, "]"));
  }
  const auto places = known.frames.nonzero().flatten();
  if (clip.size(2) < places.size(0)) {
    throw DataError(c10::str(options.given, ": ", clip.size(2), " frames, ", places.size(0),
                             " are to be given"));
  }
  known.clips =
      torch::zeros({options.count, channels, frames, options.height, options.width}, torch::kUInt8);
  const auto taken =
      clip.size(2) == frames ? clip.index_select(2, places) : clip.narrow(2, 0, places.size(0));
  known.clips.index_copy_(2, places, taken.expand({options.count, -1, -1, -1, -1}).contiguous());
  return known;
}

/// What can be told wrong before anything is read.
void require_whole(const SampleOptions& options) {
  if (options.model.empty()) throw ConfigError("option model: name a run of train_diffusion");
  if (options.out.empty()) throw ConfigError("option out: name the file to write");
  if (options.given.empty() && !options.given_frames.empty()) {
    throw ConfigError("option given_frames: " + options.given_frames +
                      " of no clip; name the one that has them by option given");
  }
  if (options.window == 0 && options.said.contains("overlap")) {
    throw ConfigError("option overlap: of windows; say how long they are by option window");
  }
  examples::require_media_file(options.out);
}

void run(examples::Program& program, const SampleOptions& options) {
  require_whole(options);
  GenerativeModel model = GenerativeModel::load(options.model);
  model.to(program.device);
  if (model.jepa() != nullptr) {
    throw ConfigError("option model: " + options.model + " decodes JEPA latents; use `decode`");
  }
  Condition condition;
  if (!options.prompt.empty() && model.vocabulary()) {
    condition.prompt =
        model.vocabulary()->encode(options.prompt).unsqueeze(0).repeat({options.count, 1});
  } else if (!options.prompt.empty()) {
    throw ConfigError("option prompt: " + options.model + " was trained without prompts");
  }
  const bool in_windows = options.window > 0 && options.window < options.frames;
  const int64_t known_length = in_windows ? options.window : options.frames;
  const KnownFrames known = read_given(options, model.channels(), known_length);
  const std::vector<int64_t> sizes{options.count, model.channels(), options.frames, options.height,
                                   options.width};
  const auto seed = static_cast<uint64_t>(program.common.seed);
  const auto start = std::chrono::steady_clock::now();
  const auto clips = in_windows ? model.draw_long(sizes, condition, known, options.window,
                                                  options.overlap, options.sampler, seed)
                                : model.draw(sizes, condition, known, options.sampler, seed);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  examples::write_clips(options.out, clips, options.scale, options.fps);
  std::printf("%lld films of %lld frames in %.2f s (seed %lld): %s\n",
              static_cast<long long>(options.count), static_cast<long long>(options.frames),
              seconds, static_cast<long long>(program.common.seed), options.out.c_str());
  program.results = {{"out", options.out},
                     {"films", options.count},
                     {"frames", options.frames},
                     {"seconds", seconds},
                     {"seed", program.common.seed}};
}

}  // namespace

int main(int argc, char** argv) {
  SampleOptions options;
  return examples::program_main(
      argc, argv,
      {.name = "sample",
       .summary = "draws video from a diffusion model: from a prompt, around given frames, or both",
       .sections =
           [&](const OptionValues& given) {
             options.said = given;
             return options.sections();
           },
       .run = [&](examples::Program& program) { run(program, options); }});
}

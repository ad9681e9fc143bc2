// What a JEPA foresees, as video: the first frames of a clip in, its predicted future out.
#include <eval/comparison/film.hpp>
#include <eval/diffusion/generative_model.hpp>
#include <eval/report/gif_writer.hpp>
#include <eval/report/image.hpp>
#include <eval/report/video_writer.hpp>
#include <examples/media.hpp>
#include <examples/program.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/atomic_file.hpp>
#include <jepa/random.hpp>

#include <torch/types.h>

#include <cstdio>

namespace {

using namespace jepa;
using eval::comparison::FilmRow;
using eval::diffusion::GenerativeModel;

/// What this program is asked to do.
struct DecodeOptions {
  std::string model, video, out;
  int64_t first = 0, count = 4, draws = 2;
  double fps = 4;
  ClipOptions clip{.random_window = false};
  eval::diffusion::SamplerOptions sampler;
  OptionValues said;  ///< what is not left at its default

  std::vector<OptionSection> sections();
};

std::vector<OptionSection> DecodeOptions::sections() {
  return {
      {"", "",
       [this](OptionVisitor& visit) {
         visit("model", model, {.help = "run or checkpoint of a decoder (train_diffusion --jepa)"});
         visit("video", video, {.help = "clip store, video, list or folder"});
         visit("first", first, {.help = "clip to begin with", .min = 0});
         visit("count", count, {.help = "clips", .min = 1, .max = 64});
         visit("draws", draws, {.help = "of each predicted latent", .min = 1, .max = 64});
         visit("out", out,
               {.help = "FILE.mp4, .gif or .png: truth, what was shown, decoded predictions, "
                        "decoded encoder latents, another clip's latents; FILE.h5: first draws"});
         visit("fps", fps, {.help = "of the film written", .min = 0.1, .max = examples::kMostFps});
       }},
      {"clip", "how clips are cut", [this](OptionVisitor& visit) { clip.describe(visit); }},
      {"sampler", "", [this](OptionVisitor& visit) { sampler.describe(visit); }}};
}

/// @param path ends in one of .mp4, .gif, .png
void write_rows(const std::string& path, const std::vector<FilmRow>& rows, double fps) {
  if (path.ends_with(".mp4")) {
    eval::report::write_video(path, eval::comparison::render_film(rows), fps);
  } else if (path.ends_with(".gif")) {
    write_file_atomic(path, eval::report::encode_gif(eval::comparison::render_film(rows), fps));
  } else {
    eval::report::write_png(path, eval::comparison::contact_sheet(rows));
  }
}

/// How clips are cut: with the channels that the model has seen.
ClipOptions cut_of(const DecodeOptions& options, const GenerativeModel& model) {
  ClipOptions cut = options.clip;
  if (options.said.contains("clip.channels") && cut.channels != model.channels()) {
    throw ConfigError(c10::str("option clip.channels is ", cut.channels, ", but ", options.model,
                               " was trained on clips of ", model.channels()));
  }
  cut.channels = model.channels();
  return cut;
}

void run(examples::Program& program, const DecodeOptions& options) {
  if (options.model.empty()) throw ConfigError("option model: name a decoder's run");
  if (options.video.empty()) throw ConfigError("option video: name the clips");
  if (options.out.empty()) throw ConfigError("option out: name the file to write");
  examples::require_media_file(options.out);
  GenerativeModel model = GenerativeModel::load(options.model);
  model.to(program.device);
  if (model.jepa() == nullptr) {
    throw ConfigError("option model: " + options.model + " decodes no latents; use `sample`");
  }
  const auto clips = examples::read_clips(*open_clip_source(options.video, cut_of(options, model)),
                                          options.first, options.count);
  const int64_t context = model.context_frames();
  if (clips.size(2) <= context) {
    throw DataError(c10::str(options.video, ": clips of ", clips.size(2), " frames; ", context,
                             " are shown and some more are needed"));
  }
  const auto seed = static_cast<uint64_t>(program.common.seed);
  const auto draw = [&](const torch::Tensor& latents, uint64_t number) {
    const auto future = model.draw_latents(latents, clips.sizes(), options.sampler,
                                           stream_seed(seed, "draw", number));
    return torch::cat({clips.narrow(2, 0, context), future}, 2);
  };
  const auto predicted = model.latents(clips, /*predicted=*/true);
  if (options.out.ends_with(".h5")) {
    examples::write_clips(options.out, draw(predicted, 0), 1, options.fps);
  } else {
    const auto given = eval::comparison::given_first(context, clips.size(2));
    auto shown = clips.clone();
    shown.slice(2, context).zero_();
    std::vector<FilmRow> rows{{"truth", clips.unbind(0)}, {"shown", shown.unbind(0), given}};
    for (int64_t i = 0; i < options.draws; ++i) {
      rows.push_back({i == 0 ? "predicted" : "again",
                      draw(predicted, static_cast<uint64_t>(i)).unbind(0), given});
    }
    rows.push_back(
        {"encoder's latents", draw(model.latents(clips, /*predicted=*/false), 0).unbind(0), given});
    if (clips.size(0) > 1) {  // another clip's
      rows.push_back({"shuffled latents", draw(predicted.roll(1, 0), 0).unbind(0), given});
    }
    write_rows(options.out, rows, options.fps);
  }
  std::printf("%lld clips, %lld frames shown, %lld predicted: %s\n",
              static_cast<long long>(clips.size(0)), static_cast<long long>(context),
              static_cast<long long>(clips.size(2) - context), options.out.c_str());
  program.results = {{"out", options.out},
                     {"clips", clips.size(0)},
                     {"context_frames", context},
                     {"predicted_frames", clips.size(2) - context},
                     {"seed", program.common.seed}};
}

}  // namespace

int main(int argc, char** argv) {
  DecodeOptions options;
  return examples::program_main(
      argc, argv,
      {.name = "decode",
       .summary = "turns what a JEPA predicts of a clip's future into video",
       .sections =
           [&](const OptionValues& given) {
             options.said = given;
             return options.sections();
           },
       .run = [&](examples::Program& program) { run(program, options); }});
}

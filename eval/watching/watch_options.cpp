// What `watch` is told, the model it asks, and the summary that it leaves.
#include <encoders/published.hpp>
#include <eval/physics/surprise_models.hpp>
#include <eval/watching/watch.hpp>
#include <jepa/data/video_library.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/json_text.hpp>

#include <c10/util/StringUtil.h>
#include <nlohmann/json.hpp>
#include <torch/types.h>

#include <algorithm>

namespace jepa::eval::watching {

std::string summary_json(const WatchOptions& options, const WatchResult& result) {
  nlohmann::ordered_json json;
  json["program"] = "watch";
  json["video"] = options.video;
  json["weights"] = options.weights;
  json["frames"] = result.frames;
  json["watched"] = result.watched;
  json["windows"] = result.windows;
  json["seconds"] = result.seconds;
  json["film_fps"] = result.film_fps;
  json["wall_seconds"] = result.wall_seconds;
  json["fps"] = result.fps();
  json["first_ms_per_frame"] = result.first_ms;
  json["last_ms_per_frame"] = result.last_ms;
  json["peak_mb"] = result.peak_mb;
  json["stopped"] = result.stopped;
  json["marks"] = result.marks;
  json["problems"] = result.problems;
  json["films"] = result.films;
  json["peaks"] = nlohmann::ordered_json::array();
  for (size_t i = 0; i < result.peaks.size(); ++i) {
    const auto& row = result.peaks[i].at.row;
    json["peaks"].push_back({{"frame", row.frame},
                             {"seconds", row.seconds},
                             {"surprise", row.surprise},
                             {"clip", "peak-" + std::to_string(i + 1) + ".mp4"}});
  }
  return json_text(json, 2) + "\n";
}

void WatchOptions::describe(OptionVisitor& visit) {
  visit("video", video,
        {.help = "file of any length, folder, `path label` list, or `-`: a container on the "
                 "standard input"});
  visit("weights", weights,
        {.help = "run folder of pretrain, checkpoint, or published weights with a predictor"});
  visit("out", out, {.help = "folder of the curve, the film, the page"});
  visit("past", past, {.help = "frames of a window that are known; 0: half of it", .min = 0});
  visit("stride", stride, {.help = "watched frames from one window to the next", .min = 1});
  visit("batch", batch, {.help = "windows asked together", .min = 1});
  visit("frame_step", frame_step,
        {.help = "film frames from one watched frame to the next; 0: as trained", .min = 0});
  visit("fps", fps,
        {.help = "watched frames a second; wins over frame_step; 0: as trained", .min = 0});
  visit("short_side", short_side,
        {.help = "frames are scaled to it, then cropped about the middle; 0: as trained",
         .unit = "px",
         .min = 0});
  visit("loop_minutes", loop_minutes,
        {.help = "the films again and again, cuts marked, for so long; 0: once", .min = 0});
  visit("stall", stall,
        {.help = "after which a pipe that gives nothing has stalled; 0: waits",
         .unit = "s",
         .min = 0});
  visit("peaks", peaks,
        {.help = "most surprising moments that become clips", .min = 0, .max = 100});
  visit("around", around,
        {.help = "of a clip before and after its peak", .unit = "s", .min = 0, .max = 60});
  visit("film", film, {.help = "write the film with its heat"});
  visit("film_scale", film_scale,
        {.help = "each watched pixel so many times", .min = 1, .max = 16});
  visit("piece_minutes", piece_minutes,
        {.help = "of a film file: the index of an MP4 grows with its length",
         .min = 0.05,
         .max = 60});
  visit("heat", heat,
        {.help = "surprise that is drawn brightest; 0: the 0.995 quantile of what was seen so far",
         .min = 0});
  visit("features", features,
        {.help = "FILE.h5: the target encoder's tokens of every window, one row each"});
  visit("pool", pool,
        {.help = "of the features over a window's tokens",
         .choices = {"mean", "max", "mean_max", "none"}});
  visit("probes", probes,
        {.help = "file of `probe --save`: its probes' answers about every window, in the curve and "
                 "on the page"});
}

WatchedModel WatchOptions::at_asked_rate(WatchedModel model) const {
  if (fps > 0 || frame_step > 0) {
    model.fps = fps;
    model.frame_step = std::max<int64_t>(frame_step, 1);
  }
  return model;
}

int64_t WatchOptions::known_frames(int64_t window, int64_t tubelet) const {
  return past > 0 ? past : std::max(window / 2 / tubelet, int64_t{1}) * tubelet;
}

WatchedModel load_watched(const std::string& weights, torch::Device device) {
  const WeightFile file = WeightFile::open(weights);
  const auto loaded = encoders::load_encoder(file, {.which = "encoder"});
  const auto& vit = loaded.options.vit;
  if (vit.frames < 2) {
    throw ConfigError(weights + ": a model of still images foretells no frames");
  }
  const ClipOptions& clip = loaded.clip;
  WatchedModel model;
  model.surprise = physics::load_surprise(weights, vit.frames, device);
  model.height = vit.height;
  model.width = vit.width;
  model.channels = vit.channels;
  model.frame_step = clip.frame_step;
  model.fps = clip.fps;
  model.short_side = clip.short_side;
  return model;
}

int64_t scaled_side(const WatchedModel& model, int64_t wanted) {
  const int64_t least = std::max(model.height, model.width);
  if (wanted == 0) return std::max(least + least % 2, model.short_side);
  if (wanted < least) {
    throw ConfigError(c10::str("short_side: the model's frames are ", model.height, " x ",
                               model.width, " px, found ", wanted));
  }
  return wanted + wanted % 2;
}

torch::Tensor central_picture(const VideoFrame& frame, int64_t frame_height, int64_t frame_width,
                              const WatchedModel& model) {
  if (frame_height < model.height || frame_width < model.width) {
    throw DataError(c10::str("a frame of ", frame_height, " x ", frame_width,
                             " px, the model's are ", model.height, " x ", model.width));
  }
  const PixelRect part{(frame_height - model.height) / 2, (frame_width - model.width) / 2,
                       model.height, model.width};
  auto picture = torch::empty({model.height, model.width, model.channels}, torch::kUInt8);
  write_part(frame, frame_height, frame_width, model.channels, part, picture.data_ptr<uint8_t>());
  return picture.permute({2, 0, 1}).contiguous();
}

}  // namespace jepa::eval::watching

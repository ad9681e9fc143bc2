#include <eval/comparison/judge.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/errors.hpp>
#include <jepa/io/weights.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace jepa::eval::comparison {
namespace {

constexpr int64_t kReadFrames = 1024;  // at once; bounds the memory of reading
constexpr double kWhite = 255.0;

/// The square of `side` px around `centres` [n, 2] of frames [n, C, H, W], black outside ->
/// [n, C, cells, cells].
torch::Tensor cut_windows(const torch::Tensor& frames, const torch::Tensor& centres, double side,
                          int64_t cells) {
  const auto sides = torch::tensor({frames.size(3), frames.size(2)}, frames.options());
  // Frames span -1 to 1 both ways for grid_sampler.
  const auto theta = torch::cat({at::diag_embed(side / sides).expand({frames.size(0), 2, 2}),
                                 (2 * centres / sides - 1).unsqueeze(2)},
                                2);
  const auto grid = at::affine_grid_generator(theta, {frames.size(0), frames.size(1), cells, cells},
                                              /*align_corners=*/false);
  return at::grid_sampler_2d(frames, grid, /*bilinear*/ 0, /*zeros*/ 0, /*align_corners=*/false);
}

/// Centres of the cells of a side of `length` px cut in `cells` -> [cells], px.
torch::Tensor cell_centres(int64_t cells, int64_t length, const torch::TensorOptions& like) {
  return (torch::arange(cells, like) + 0.5) * (static_cast<double>(length) / cells);
}

}  // namespace

void JudgeOptions::describe(OptionVisitor& visit) {
  visit("label", label, {.help = "column of the object's class"});
  visit("width", width, {.help = "channels of the first layers", .min = 1, .max = 1024});
  visit("window", window,
        {.help = "square around the object that its class is read in", .unit = "px", .min = 1});
  visit("cells", cells,
        {.help = "samples along a side of that square, a multiple of 4", .min = 4, .max = 256});
  visit("clips", clips, {.help = "training clips, held in memory", .min = 1});
  visit("held_out_clips", held_out_clips, {.help = "clips it is scored on", .min = 1});
  visit("steps", steps, {.help = "optimiser steps", .min = 1});
  visit("batch", batch, {.help = "frames a step", .min = 1});
  visit("rate", rate, {.help = "learning rate", .min = 0});
  visit("decay", decay, {.help = "weight decay", .min = 0});
  visit("turn", turn, {.help = "objects are turned by up to this", .unit = "degrees", .min = 0});
  visit("stretch", stretch, {.help = "objects are stretched by up to this", .min = 0, .max = 0.9});
  visit("blur", blur, {.help = "widest Gaussian blur", .unit = "px", .min = 0, .max = 8});
  visit("fade", fade, {.help = "largest loss of contrast", .min = 0, .max = 1});
  visit("noise", noise, {.help = "brightest background pixel, 1 is white", .min = 0, .max = 1});
  visit("grain", grain, {.help = "largest deviation of Gaussian noise", .min = 0, .max = 1});
}

torch::Tensor JudgeImpl::Convolution::operator()(const torch::Tensor& x) const {
  const int64_t padding = dilation * (weight.size(2) / 2);
  return at::conv2d(x, weight, bias, stride, padding, dilation);
}

JudgeImpl::Convolution JudgeImpl::convolution(const std::string& name, int64_t in, int64_t out,
                                              int64_t kernel, int64_t stride, int64_t dilation) {
  return {register_parameter(name + "_weight", torch::empty({out, in, kernel, kernel})),
          register_parameter(name + "_bias", torch::empty({out})), stride, dilation};
}

JudgeImpl::JudgeImpl(const JudgeOptions& options, int64_t channels, int64_t classes)
    : options_(options), channels_(channels), classes_(classes) {
  if (options.width < 1 || channels < 1 || classes < 1) {
    throw ConfigError("judge: width, channels and classes must be at least 1, found " +
                      std::to_string(options.width) + ", " + std::to_string(channels) + " and " +
                      std::to_string(classes));
  }
  if (options.cells < 4 || options.cells % 4 != 0) {
    throw ConfigError("judge: cells must be a multiple of 4, found " +
                      std::to_string(options.cells));
  }
  const int64_t w = options.width;
  // At half resolution; dilated, so that a place sees the whole object around it.
  place_ = {convolution("place0", channels, w, 5, 2), convolution("place1", w, w, 3),
            convolution("place2", w, w, 3, 1, 2), convolution("place3", w, w, 3, 1, 2)};
  place_map_ = convolution("place_map", w, 1, 1);
  kind_ = {convolution("kind0", channels, 2 * w, 3), convolution("kind1", 2 * w, 2 * w, 3, 2),
           convolution("kind2", 2 * w, 4 * w, 3), convolution("kind3", 4 * w, 4 * w, 3, 2)};
  const int64_t cells = options.cells / 4;  // after two strides
  head_weight_ = register_parameter("head_weight", torch::empty({classes, 4 * w * cells * cells}));
  head_bias_ = register_parameter("head_bias", torch::empty({classes}));
}

torch::Tensor JudgeImpl::centres(const torch::Tensor& frames) const {
  TORCH_CHECK(frames.dim() == 4 && frames.size(1) == channels_, "judge: frames [n, ", channels_,
              ", H, W] expected, got ", frames.sizes());
  auto x = frames;
  for (const auto& layer : place_) x = at::relu(layer(x));
  const auto map = place_map_(x);
  const auto weights = at::softmax(map.flatten(1), 1).view({-1, map.size(2), map.size(3)});
  const auto xs = cell_centres(map.size(3), frames.size(3), map.options());
  const auto ys = cell_centres(map.size(2), frames.size(2), map.options());
  return torch::stack({(weights.sum(1) * xs).sum(1), (weights.sum(2) * ys).sum(1)}, 1);
}

torch::Tensor JudgeImpl::logits(const torch::Tensor& frames, const torch::Tensor& centres) const {
  auto x = cut_windows(frames, centres, options_.window, options_.cells);
  for (const auto& layer : kind_) x = at::relu(layer(x));
  return at::linear(x.flatten(1), head_weight_, head_bias_);
}

void JudgeImpl::initialise(at::Generator generator) {
  const torch::NoGradGuard no_grad;
  for (auto& parameter : parameters()) {
    if (parameter.dim() == 1) {
      parameter.zero_();
    } else {
      const auto fan_in = static_cast<double>(parameter.numel() / parameter.size(0));
      parameter.normal_(0, std::sqrt(2.0 / fan_in), generator);
    }
  }
}

JudgeReading read_clips(Judge& judge, const torch::Tensor& clips) {
  TORCH_CHECK(clips.dim() == 5 && clips.scalar_type() == torch::kUInt8 && clips.size(2) >= 2,
              "judge: clips uint8 [B, C, T >= 2, H, W] expected, got ", clips.scalar_type(), " ",
              clips.sizes());
  const torch::NoGradGuard no_grad;
  const int64_t batch = clips.size(0), frames = clips.size(2);
  std::vector<torch::Tensor> logits, centres;
  for (const auto& part : clips.transpose(1, 2).flatten(0, 1).split(kReadFrames)) {
    const auto pictures = part.to(torch::kFloat32) / kWhite;
    centres.push_back(judge->centres(pictures));
    logits.push_back(judge->logits(pictures, centres.back()));
  }
  JudgeReading reading;
  reading.logits = torch::cat(logits).view({batch, frames, -1}).mean(1);
  reading.classes = reading.logits.argmax(1);
  reading.centres = torch::cat(centres).view({batch, frames, 2});
  reading.velocity = line_velocity(reading.centres);
  reading.direction = nearest_direction(reading.velocity);
  return reading;
}

torch::Tensor line_velocity(const torch::Tensor& centres) {
  const int64_t frames = centres.size(-2);
  TORCH_CHECK(frames >= 2 && centres.size(-1) == 2, "centres [..., T >= 2, 2] expected, got ",
              centres.sizes());
  const auto time = (torch::arange(frames, centres.options()) - 0.5 * (frames - 1)).unsqueeze(1);
  return (centres * time).sum(-2) / time.square().sum();
}

torch::Tensor nearest_direction(const torch::Tensor& velocity) {
  const auto angle = at::atan2(velocity.select(-1, 1), velocity.select(-1, 0));
  return (angle * (4.0 / std::numbers::pi)).round().to(torch::kInt64).remainder(8);
}

torch::Tensor true_centres(const ClipSource& source, const torch::Tensor& ids, int64_t frames) {
  const auto column = [&](const std::string& name) {
    return probes::label_column(source, name).index_select(0, ids).unsqueeze(1);
  };
  const auto known = source.columns();
  const auto has = [&](const char* name) {
    return std::find(known.begin(), known.end(), name) != known.end();
  };
  if (has("track")) {
    const auto track = probes::label_column(source, "track").index_select(0, ids);
    if (track.size(1) != 2 * frames) {
      throw DataError(c10::str("column 'track': ", 2 * frames, " numbers a clip expected for ",
                               frames, " frames, found ", track.size(1)));
    }
    return track.view({-1, frames, 2});
  }
  const auto time = (torch::arange(frames) - 0.5 * (frames - 1)).view({1, -1, 1});
  const auto straight = column("position") + time * column("velocity");
  if (!has("acceleration")) return straight;
  return straight + 0.5 * time.square() * column("acceleration");
}

JudgeAccuracy score_judge(Judge& judge, const std::shared_ptr<const ClipSource>& source,
                          int64_t clips) {
  const int64_t count = clips == 0 ? source->size() : std::min(clips, source->size());
  const auto labels = probes::label_column(*source, judge->options().label);
  const auto directions = probes::label_column(*source, "direction");
  Random random(0);
  const auto truth =
      true_centres(*source, torch::arange(source->size()), source->read(0, random).frames);
  JudgeAccuracy accuracy;
  ClipLoader loader(source, {.threads = 0, .shuffle = false}, /*seed=*/0);
  while (accuracy.clips < count) {
    const ClipBatch batch = loader.next();
    const int64_t used = std::min(batch.size(), count - accuracy.clips);
    const auto ids = batch.indices.slice(0, 0, used);
    const auto reading = read_clips(judge, batch.clips.slice(0, 0, used));
    accuracy.classes += (reading.classes == labels.index_select(0, ids)).sum().item<double>();
    accuracy.direction +=
        (reading.direction == directions.index_select(0, ids)).sum().item<double>();
    accuracy.position_error +=
        (reading.centres - truth.index_select(0, ids)).norm(2, -1).mean(1).sum().item<double>();
    accuracy.clips += used;
  }
  const auto total = static_cast<double>(accuracy.clips);
  accuracy.classes /= total;
  accuracy.direction /= total;
  accuracy.position_error /= total;
  return accuracy;
}

void save_judge(const std::string& path, const TrainedJudge& trained) {
  const Judge& judge = trained.judge;
  JudgeOptions options = judge->options();
  const auto& held_out = trained.held_out;
  write_safetensors(
      path, state_dict(*judge),
      {{"judge", dump_ini({{"judge", "", [&](OptionVisitor& v) { options.describe(v); }}})},
       {"channels", std::to_string(judge->channels())},
       {"classes", std::to_string(judge->classes())},
       {"held_out_classes", std::to_string(held_out.classes)},
       {"held_out_direction", std::to_string(held_out.direction)},
       {"held_out_position_error", std::to_string(held_out.position_error)},
       {"held_out_clips", std::to_string(held_out.clips)}});
}

TrainedJudge load_judge(const std::string& path) {
  const auto file = read_safetensors(path);
  const auto text = [&](const std::string& key) -> const std::string& {
    const auto found = file.metadata.find(key);
    if (found == file.metadata.end()) {
      throw CheckpointError(path + ": not a judge: its metadata has no '" + key + "'");
    }
    return found->second;
  };
  const auto number = [&](const std::string& key) {
    try {
      return std::stod(text(key));
    } catch (const std::logic_error&) {
      throw CheckpointError(path + ": metadata '" + key + "': expected a number, found '" +
                            text(key) + "'");
    }
  };
  JudgeOptions options;
  TrainedJudge trained;
  try {
    apply_options({{"judge", "", [&](OptionVisitor& v) { options.describe(v); }}},
                  parse_ini(text("judge"), path));
    trained.judge = Judge(options, static_cast<int64_t>(number("channels")),
                          static_cast<int64_t>(number("classes")));
  } catch (const ConfigError& error) {
    throw CheckpointError(path + ": " + error.what());
  }
  load_into(*trained.judge, file.tensors, path);
  trained.held_out = {number("held_out_classes"), number("held_out_direction"),
                      number("held_out_position_error"),
                      static_cast<int64_t>(number("held_out_clips"))};
  return trained;
}

}  // namespace jepa::eval::comparison

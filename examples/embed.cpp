// Clips in, features out: the frozen encoder of a run or of published weights over videos or
// tensors, and a picture of what it sees.
#include <encoders/published.hpp>
#include <eval/report/features_pca.hpp>
#include <eval/report/video_writer.hpp>
#include <examples/encoder_module.hpp>
#include <examples/program.hpp>
#include <jepa/data/hdf5_rows.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/data/video_reader.hpp>
#include <jepa/device.hpp>
#include <jepa/errors.hpp>
#include <jepa/printable.hpp>

#include <torch/types.h>
#include <torch/utils.h>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>

namespace {

using namespace jepa;

/// What this program is asked to do.
struct EmbedOptions {
  std::string weights, clip, video, out, pca;
  std::string layout = "bcthw";
  int64_t batch = 4;
  examples::EncoderModule module;
  encoders::LoadOptions load;
  // How clips are cut from `video`; 0: as the encoder was trained.
  int64_t frames = 0, size = 0, frame_step = 0, clips = 0;
  double fps = 0;

  std::vector<OptionSection> sections();
};

std::vector<OptionSection> EmbedOptions::sections() {
  return {
      {"", "",
       [this](OptionVisitor& visit) {
         visit("weights", weights,
               {.help =
                    "run folder, checkpoint, .safetensors, .pt, .pth.tar or Hugging Face folder"});
         module.describe(visit);
         visit(
             "clip", clip,
             {.help = "FILE.safetensors:NAME of clips; float is taken as it is, uint8 through the "
                      "encoder's pixel statistics"});
         visit("clip-layout", layout,
               {.help = "axes: batch, channels, frames, height, width",
                .choices = {"bcthw", "btchw"}});
         visit("video", video, {.help = "video, folder or list of videos or images, clip store"});
         visit("out", out, {.help = "`tokens` [B, N, D] to FILE.safetensors or FILE.h5"});
         visit("pca", pca,
               {.help = "FILE.mp4: first three principal components beside the frames"});
         visit("batch", batch, {.help = "clips encoded together", .min = 1});
       }},
      {"encoder", "of published weights", [this](OptionVisitor& visit) { load.describe(visit); }},
      {"video", "how clips are cut; 0: as the encoder was trained",
       [this](OptionVisitor& visit) {
         visit("frames", frames, {.help = "frames a clip", .min = 0});
         visit("size", size, {.help = "side of the central square", .unit = "pixels", .min = 0});
         visit("frame_step", frame_step, {.help = "video frames a clip frame", .min = 0});
         visit("fps", fps, {.help = "clip frames a second; wins over frame_step", .min = 0});
         visit("clips", clips,
               {.help = "clips of each video; 0: as many as fit, of one video", .min = 0});
       }},
  };
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The tensor that `FILE:NAME` names, as [B, C, T, H, W].
torch::Tensor read_clip_tensor(const std::string& argument, const std::string& layout) {
  const size_t colon = argument.rfind(':');
  if (colon == std::string::npos) {
    throw ConfigError("--clip " + argument + ": expected FILE.safetensors:NAME");
  }
  const std::string path = argument.substr(0, colon), name = argument.substr(colon + 1);
  const TensorMap tensors = read_safetensors(path).tensors;
  const auto found = tensors.find(name);
  if (found == tensors.end()) throw DataError(path + ": no tensor '" + name + "'");
  torch::Tensor clip = found->second;
  if (clip.dim() != 5 || !(clip.is_floating_point() || clip.scalar_type() == torch::kUInt8)) {
    throw DataError(c10::str(path, ": '", name, "' is ", clip.scalar_type(), " ", clip.sizes(),
                             ", expected five axes of float or uint8"));
  }
  return layout == "btchw" ? clip.transpose(1, 2) : clip;
}

/// How the videos are cut: as the encoder was trained, but for what the options say.
ClipOptions choose_clips(const EmbedOptions& options, ClipOptions clip) {
  if (options.frames > 0) clip.frames = options.frames;
  if (options.fps > 0 || options.frame_step > 0) {
    clip.fps = options.fps;
    clip.frame_step = std::max<int64_t>(options.frame_step, 1);
  }
  clip.clips_per_video = std::max<int64_t>(options.clips, 1);
  clip.cache_mb = 1;  // the last frames alone: each clip is read once, in order
  const bool one_video = std::filesystem::is_regular_file(options.video) &&
                         !options.video.ends_with(".h5") && !options.video.ends_with(".txt") &&
                         !options.video.ends_with(".csv") && !options.video.ends_with(".hdf5");
  if (one_video && options.clips == 0) {
    const VideoInfo info = VideoReader(options.video, {}, true).info();
    const double step =
        clip.fps > 0 && info.fps > 0 ? info.fps / clip.fps : static_cast<double>(clip.frame_step);
    const auto fits = static_cast<int64_t>(static_cast<double>(info.frames) /
                                           (step * static_cast<double>(clip.frames)));
    clip.clips_per_video = std::max<int64_t>(fits, 1);
  }
  return clip;
}

/// Clips, a few at a time: [b, C, T, H, W], uint8 or float.
class Clips {
 public:
  /// Those of a tensor file, which stays mapped.
  Clips(torch::Tensor tensor, int64_t batch) : tensor_(std::move(tensor)), batch_(batch) {}

  Clips(const EmbedOptions& options, const ClipOptions& clip, int64_t side)
      : batch_(options.batch) {
    LoaderOptions batches;
    batches.batch = options.batch;
    batches.threads = 0;
    batches.shuffle = false;
    batches.augment.crop = "centre";
    batches.augment.size = options.size > 0 ? options.size : side;
    auto source = open_clip_source(options.video, clip);
    count_ = source->size();
    loader_ = std::make_unique<ClipLoader>(std::move(source), batches, 0);
  }

  int64_t count() const { return tensor_.defined() ? tensor_.size(0) : count_; }

  /// Undefined after the last one.
  torch::Tensor next() {
    if (loader_) return loader_->next().clips;
    if (at_ >= tensor_.size(0)) return {};
    const int64_t first = at_;
    at_ = std::min(at_ + batch_, tensor_.size(0));
    return tensor_.slice(0, first, at_);
  }

 private:
  torch::Tensor tensor_;
  std::unique_ptr<ClipLoader> loader_;
  int64_t batch_ = 1, at_ = 0, count_ = 0;
};

/// Tokens [b, N, D] on the CPU.
torch::Tensor encode(encoders::LoadedEncoder& loaded, torch::Tensor clip, torch::Device device,
                     torch::ScalarType precision) {
  const torch::InferenceMode guard;
  clip = clip.to(device);
  if (clip.scalar_type() == torch::kUInt8) clip = loaded.options.pixels.normalise(clip, device);
  clip = clip.to(torch::kFloat).contiguous();
  // A video encoder sees an image as a still of one tubelet; V-JEPA 2.1 has patches for images.
  if (clip.size(2) == 1) clip = clip.repeat({1, 1, loaded.encoder->min_frames(), 1, 1});
  const AutocastScope autocast(device, precision);
  return loaded.encoder->forward(clip).to(torch::kFloat).cpu();
}

/// Where tokens go as they come: rows of an HDF5 dataset, a safetensors file at the end, or
/// nowhere.
class TokenWriter {
 public:
  TokenWriter(std::string path, const std::string& weights) : path_(std::move(path)) {
    about_ = {{"weights", weights}};
    if (path_.ends_with(".h5") || path_.ends_with(".hdf5")) {
      rows_ = std::make_unique<Hdf5RowWriter>(path_, "tokens", about_);
    }
  }

  void add(const torch::Tensor& tokens) {
    if (shape_.empty()) {
      shape_ = tokens.sizes().vec();
    } else {
      shape_[0] += tokens.size(0);
    }
    if (rows_) {
      rows_->append(tokens);
    } else if (!path_.empty()) {
      kept_.push_back(tokens);
    }
  }

  /// [B, N, D] of all.
  std::vector<int64_t> finish() {
    if (rows_) {
      rows_->finish();
    } else if (!path_.empty()) {
      write_safetensors(path_, {{"tokens", torch::cat(kept_)}}, about_);
    }
    return shape_;
  }

 private:
  std::string path_;
  std::map<std::string, std::string> about_;
  std::unique_ptr<Hdf5RowWriter> rows_;
  std::vector<torch::Tensor> kept_;
  std::vector<int64_t> shape_;
};

/// Frames beside their features, clip after clip.
void write_pca(const std::string& path, const torch::Tensor& clips, const torch::Tensor& tokens,
               const encoders::LoadedEncoder& loaded) {
  const torch::InferenceMode guard;
  torch::Tensor pixels = clips;
  if (pixels.scalar_type() != torch::kUInt8) {
    const torch::Tensor low = pixels.min(), range = (pixels.max() - low).clamp_min(1e-6);
    pixels = ((pixels - low) / range * 255).round().to(torch::kUInt8);
  }
  const auto colours = eval::report::fit_pca(tokens).colours(tokens);
  const int64_t scale = std::max<int64_t>(1, 256 / pixels.size(3));
  std::vector<int64_t> sizes = pixels.sizes().vec();
  if (sizes[2] == 1) sizes[2] = loaded.encoder->min_frames();
  const TokenGrid grid = loaded.encoder->grid(sizes);
  std::vector<torch::Tensor> frames;
  for (int64_t i = 0; i < pixels.size(0); ++i) {
    // [C, T, H, W] -> [T, H, W, 3], small clips enlarged
    torch::Tensor clip = pixels[i].permute({1, 2, 3, 0}).expand({-1, -1, -1, 3});
    clip = clip.repeat_interleave(scale, 1).repeat_interleave(scale, 2);
    frames.push_back(eval::report::pca_frames(clip.contiguous(), colours[i], grid));
  }
  eval::report::write_video(path, torch::cat(frames), 8);
}

void run(examples::Program& program, EmbedOptions& options) {
  if (options.weights.empty()) throw ConfigError("--weights is needed");
  examples::require_same_options(program);
  if (options.clip.empty() == options.video.empty()) {
    throw ConfigError("one of --clip and --video is needed");
  }
  if (options.out.empty() && options.pca.empty() && program.common.json.empty()) {
    throw ConfigError("nothing to write: give --out, --pca or --json (shape and seconds alone)");
  }
  torch::Tensor tensor;
  if (!options.clip.empty()) tensor = read_clip_tensor(options.clip, options.layout);
  const auto start = std::chrono::steady_clock::now();
  const auto weights = WeightFile::open(options.weights);
  options.load.which = options.module.of(weights);
  auto loaded = encoders::load_encoder(weights, options.load);
  loaded.encoder->to(program.device);
  const double load_seconds = seconds_since(start);
  std::cout << printable(loaded.summary) << "\n";

  std::unique_ptr<Clips> clips;
  if (tensor.defined()) {
    clips = std::make_unique<Clips>(tensor, options.batch);
  } else {
    const ClipOptions clip = choose_clips(options, loaded.clip);
    std::cout << encoders::describe_clips(clip) << "\n";
    clips = std::make_unique<Clips>(options, clip, loaded.encoder->clip_sizes()[3]);
  }
  const auto encode_start = std::chrono::steady_clock::now();
  const bool first = examples::is_first(program);
  TokenWriter writer(first ? options.out : "", loaded.summary);
  std::vector<torch::Tensor> shown, shown_tokens;  // the film is of all clips together
  examples::ProgressBar progress("encode");
  int64_t done = 0;
  for (torch::Tensor clip = clips->next(); clip.defined(); clip = clips->next()) {
    const auto tokens_of = [&](const torch::Tensor& part) {
      return encode(loaded, part, program.device, program.precision);
    };
    const torch::Tensor tokens =
        program.processes ? share_rows(clip, *program.processes, tokens_of) : tokens_of(clip);
    writer.add(tokens);
    if (!options.pca.empty()) {
      shown.push_back(clip);
      shown_tokens.push_back(tokens);
    }
    done += clip.size(0);
    progress.update(done, clips->count(), "clips");
  }
  progress.finish();
  if (done == 0) throw DataError("no clips to encode");
  const std::vector<int64_t> shape = writer.finish();
  const double encode_seconds = seconds_since(encode_start);
  std::cout << "tokens " << at::IntArrayRef(shape) << ", loaded in " << load_seconds
            << " s, encoded in " << encode_seconds << " s, peak memory " << peak_memory_mb()
            << " MB\n";
  if (first && !options.pca.empty()) {
    write_pca(options.pca, torch::cat(shown), torch::cat(shown_tokens), loaded);
  }
  program.results = {{"weights", loaded.summary},
                     {"module", loaded.module},
                     {"shape", shape},
                     {"load_seconds", load_seconds},
                     {"encode_seconds", encode_seconds},
                     {"peak_rss_mb", peak_memory_mb()}};
  if (loaded.family) program.results["family"] = to_string(*loaded.family);
}

}  // namespace

int main(int argc, char** argv) {
  EmbedOptions options;
  return examples::program_main(
      argc, argv,
      {.name = "embed",
       .summary = "features of clips under a frozen encoder",
       .bfloat16 = true,
       .exact = true,
       .many = true,
       .sections = [&](const OptionValues&) { return options.sections(); },
       .run = [&](examples::Program& program) { run(program, options); }});
}

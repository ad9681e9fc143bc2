#include <eval/comparison/judge.hpp>
#include <eval/probes/protocol.hpp>
#include <jepa/data/loader.hpp>
#include <jepa/errors.hpp>
#include <jepa/generator.hpp>

#include <torch/optim.h>
#include <torch/types.h>

#include <cmath>
#include <numbers>

namespace jepa::eval::comparison {
namespace {

constexpr double kBrightest = 255.0;
constexpr double kPositionWeight = 0.5;  // of a pixel, against a nat of class loss
constexpr double kJitter = 0.4;          // px: deviation of the window from the true centre
constexpr int64_t kWarmUp = 50;

/// Clips in memory with what is known of them.
struct Examples {
  torch::Tensor clips;    ///< uint8 [n, C, T, H, W]
  torch::Tensor classes;  ///< int64 [n]
  torch::Tensor centres;  ///< float [n, T, 2]
};

Examples hold(const std::shared_ptr<const ClipSource>& source, const JudgeOptions& options) {
  const auto classes = probes::label_column(*source, options.label);
  if (classes.scalar_type() != torch::kInt64) {
    throw DataError("judge: column '" + options.label + "' holds quantities, not classes");
  }
  ClipLoader loader(source, {.threads = 0, .shuffle = false}, /*seed=*/0);
  const int64_t count = std::min(options.clips, source->size());
  std::vector<torch::Tensor> parts;
  for (int64_t held = 0; held < count; held += parts.back().size(0)) {
    parts.push_back(loader.next().clips);
  }
  Examples examples;
  examples.clips = torch::cat(parts).slice(0, 0, count);
  examples.classes = classes.slice(0, 0, count);
  examples.centres = true_centres(*source, torch::arange(count), examples.clips.size(2));
  return examples;
}

/// Draws the random spoiling of frames, all from one generator.
class Spoiler {
 public:
  Spoiler(const JudgeOptions& options, at::Generator generator)
      : options_(options), generator_(std::move(generator)) {}

  /// Frames [n, C, H, W] in 0..1 with objects at `centres` [n, 2], which stay where they are.
  torch::Tensor operator()(torch::Tensor frames, const torch::Tensor& centres) {
    frames = warp(frames, centres);
    // Half of the frames keep their sharpness, contrast and background.
    frames = torch::where(coin(frames), blur(frames), frames);
    frames = frames * (1 - options_.fade * draw(frames) * coin(frames));
    const auto level = options_.noise * draw(frames) * coin(frames);
    frames = frames + (1 - frames) * level * draw_like(frames);
    const auto grain = options_.grain * draw(frames) * coin(frames);
    return (frames + grain * at::randn(frames.sizes(), generator_, frames.options())).clamp(0, 1);
  }

 private:
  /// Uniform in [0, 1), one for each frame.
  torch::Tensor draw(const torch::Tensor& frames) {
    return at::rand({frames.size(0), 1, 1, 1}, generator_, frames.options());
  }
  torch::Tensor draw_like(const torch::Tensor& frames) {
    return at::rand(frames.sizes(), generator_, frames.options());
  }
  torch::Tensor coin(const torch::Tensor& frames) { return draw(frames) < 0.5; }

  /// Turns and stretches each frame about its object's centre.
  torch::Tensor warp(const torch::Tensor& frames, const torch::Tensor& centres) {
    if (options_.turn == 0 && options_.stretch == 0) return frames;
    const int64_t height = frames.size(2), width = frames.size(3);
    const auto signed_draw = [&] { return 2 * draw(frames).flatten() - 1; };
    const auto angle = signed_draw() * (options_.turn * std::numbers::pi / 180);
    const auto scale_x = (1 + options_.stretch * signed_draw()).reciprocal();
    const auto scale_y = (1 + options_.stretch * signed_draw()).reciprocal();
    // From a place in the result to the place it is taken from: turn back, then shrink back.
    const auto matrix =
        torch::stack({torch::stack({angle.cos() * scale_x, angle.sin() * scale_x}, 1),
                      torch::stack({-angle.sin() * scale_y, angle.cos() * scale_y}, 1)},
                     1);
    const auto axes = torch::meshgrid(
        {torch::arange(height, frames.options()), torch::arange(width, frames.options())}, "ij");
    const auto places = torch::stack({axes[1], axes[0]}, -1).view({1, -1, 2}) + 0.5;
    const auto centre = centres.unsqueeze(1);
    const auto from = at::bmm(places - centre, matrix.transpose(1, 2)) + centre;
    const auto sides = torch::tensor({width, height}, frames.options());
    const auto grid = (2 * from / sides - 1).view({-1, height, width, 2});
    return at::grid_sampler_2d(frames, grid, /*bilinear*/ 0, /*zeros*/ 0, /*align_corners=*/false);
  }

  /// A Gaussian of one random width over all frames.
  torch::Tensor blur(const torch::Tensor& frames) {
    const double sigma = options_.blur * at::rand({}, generator_).item<double>();
    const auto radius = static_cast<int64_t>(std::ceil(2.5 * sigma));
    if (radius == 0) return frames;
    auto kernel = torch::arange(-radius, radius + 1, frames.options());
    kernel = (-kernel.square() / (2 * sigma * sigma)).exp();
    kernel = (kernel / kernel.sum()).view({1, 1, 1, -1});
    const auto planes = frames.flatten(0, 1).unsqueeze(1);
    const auto rows = at::conv2d(planes, kernel, {}, 1, at::IntArrayRef{0, radius});
    return at::conv2d(rows, kernel.transpose(2, 3), {}, 1, at::IntArrayRef{radius, 0})
        .view(frames.sizes());
  }

  const JudgeOptions& options_;
  at::Generator generator_;
};

double learning_rate(const JudgeOptions& options, int64_t step) {
  const double warm = std::min(1.0, static_cast<double>(step + 1) / kWarmUp);
  const double done = static_cast<double>(step) / static_cast<double>(options.steps);
  return options.rate * warm * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

void train(Judge& judge, const Examples& examples, uint64_t seed, const JudgeProgress& progress) {
  const JudgeOptions& options = judge->options();
  torch::optim::AdamW optimizer(
      judge->parameters(), torch::optim::AdamWOptions(options.rate).weight_decay(options.decay));
  auto& rate = static_cast<torch::optim::AdamWOptions&>(optimizer.param_groups()[0].options());
  auto generator = seeded_generator(seed, "judge frames");
  Spoiler spoil(options, generator);
  const int64_t clips = examples.clips.size(0), frames = examples.clips.size(2);
  for (int64_t step = 0; step < options.steps; ++step) {
    const auto ids = at::randint(clips, {options.batch}, generator, torch::kInt64);
    const auto times = at::randint(frames, {options.batch}, generator, torch::kInt64);
    const auto centres = examples.centres.index({ids, times});
    const auto pictures = examples.clips.index({ids, torch::indexing::Slice(), times});
    const auto seen = spoil(pictures.to(torch::kFloat32) / kBrightest, centres);
    // Windows around the true centres, not quite: centres read later are not exact either.
    const auto around = centres + kJitter * at::randn(centres.sizes(), generator);
    const auto loss =
        at::cross_entropy_loss(judge->logits(seen, around), examples.classes.index_select(0, ids)) +
        kPositionWeight * at::smooth_l1_loss(judge->centres(seen), centres);
    optimizer.zero_grad();
    loss.backward();
    rate.lr(learning_rate(options, step));
    optimizer.step();
    if (progress) progress(step + 1, options.steps, loss.item<double>());
  }
}

}  // namespace

TrainedJudge train_judge(const std::shared_ptr<const ClipSource>& train_source,
                         const std::shared_ptr<const ClipSource>& validation,
                         const JudgeOptions& options, uint64_t seed,
                         const JudgeProgress& progress) {
  const auto examples = hold(train_source, options);
  TrainedJudge trained;
  trained.judge =
      Judge(options, examples.clips.size(1), examples.classes.max().item<int64_t>() + 1);
  trained.judge->initialise(seeded_generator(seed, "judge weights"));
  train(trained.judge, examples, seed, progress);
  for (auto& parameter : trained.judge->parameters()) parameter.set_requires_grad(false);
  trained.held_out = score_judge(trained.judge, validation, options.held_out_clips);
  return trained;
}

}  // namespace jepa::eval::comparison

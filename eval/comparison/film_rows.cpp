#include <eval/comparison/grid.hpp>
#include <eval/probes/protocol.hpp>

#include <torch/types.h>

#include <algorithm>

namespace jepa::eval::comparison {
namespace {

constexpr int64_t kDraws = 8;  // of one latent, for their mean and deviation
constexpr int64_t kShownDraws = 2;

/// The context as it was shown, then `future` [B, C, T', H, W].
torch::Tensor after_context(const torch::Tensor& clips, const torch::Tensor& future) {
  return torch::cat({clips.narrow(2, 0, clips.size(2) - future.size(2)), future}, 2);
}

}  // namespace

std::vector<FilmRow> film_rows(const ComparisonOptions& options, int64_t count,
                               const ComparisonHooks& hooks) {
  const double noise = options.noises.front();
  const double tera = *std::max_element(options.budgets.begin(), options.budgets.end());
  QuestionOptions few = options.questions;
  few.probe_clips = few.validation_clips = few.shift_clips = 10;
  const QuestionClips source = make_clips(few, noise, kQuestionSeed);
  const auto clips = first_clips(source.test, count);
  const int64_t context = options.arm.context_frames;
  auto shown = clips.clone();
  shown.slice(2, context).zero_();
  const auto given = given_first(context, clips.size(2));
  std::vector<FilmRow> rows;
  const auto add = [&](const std::string& caption, const torch::Tensor& row, bool predicted) {
    rows.push_back({caption, row.unbind(0), predicted ? given : std::vector<bool>()});
  };
  add("truth", clips, false);
  add("shown", shown, true);
  for (const auto& cell : plan_cells(options)) {
    const bool wanted = cell.tera == tera && cell.noise == noise &&
                        cell.seed == options.seeds.front() && cell.width == options.widths.back();
    if (!wanted) continue;
    const Arm arm =
        train_arm(cell_plan(options, cell), cell_arm(options, cell), source.train, hooks.training);
    if (!arm.predict) continue;
    const auto futures = arm.predict(clips, arm.ceiling ? kDraws : kShownDraws, 0);
    const auto add_future = [&](const std::string& caption, const torch::Tensor& future) {
      add(caption, after_context(clips, future), true);
    };
    add_future(cell.arm, futures[0]);
    if (!arm.ceiling) continue;
    const auto values = futures.to(torch::kFloat32);
    add_future("same latents again", futures[1]);
    add_future("mean of 8", values.mean(0).round().to(torch::kUInt8));
    add_future("deviation x2", values.std(0).mul(2).clamp_max(255).to(torch::kUInt8));
    add_future("encoder's latents", arm.ceiling(clips, 0));
    add_future("shuffled latents", arm.floor(clips, 0));
  }
  return rows;
}

}  // namespace jepa::eval::comparison
